"""WWW-Authenticate, parsed as RFC 9110 §11.6.1 defines it (RFC 6750 §3 and RFC 9728 §5.1 say what is inside).

A search for `scope=` in the header finds it inside an `error_description` too; hence a parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from integrations.oauth.wording import clean_words

_MAX_HEADER = 16 * 1024
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# Wider than the grammar's token: URLs are sent without quotes, too.
_BARE = re.compile(r'[^\s,"]+')
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3
MAX_SCOPES = 100
_SPACES = re.compile(r"[ \t]+")
_BETWEEN = re.compile(r"[ \t,]*")
_JUNK = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)*', re.DOTALL)


@dataclass(frozen=True)
class Challenge:
    """One challenge. `scheme` and the parameter names are in lower case; values are as sent, without quotes."""

    scheme: str
    params: dict[str, str] = field(default_factory=dict)
    token68: str | None = None


@dataclass(frozen=True)
class BearerChallenge:
    """What a protected resource says about the token it wants. The error fields are cleaned for people."""

    resource_metadata: str | None = None
    scope: str | None = None
    error: str | None = None
    error_description: str | None = None

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes it names that can be sent."""
        return scope_tokens((self.scope or "").split())


def scope_tokens(tokens: Iterable[str]) -> tuple[str, ...]:
    """The scopes among `tokens` that can be sent, each once: strangers wrote them, and people see what is asked for."""
    return tuple(token for token in dict.fromkeys(tokens) if _SCOPE_TOKEN.fullmatch(token))[:MAX_SCOPES]


def parse_challenges(headers: Sequence[str]) -> list[Challenge]:
    """All challenges of all WWW-Authenticate `headers`, in order. What breaks the grammar is skipped, never raised."""
    return [challenge for header in headers for challenge in _parse_header(header[:_MAX_HEADER])]


def bearer_challenge(headers: Sequence[str]) -> BearerChallenge | None:
    """The Bearer challenge to act on: the first that names resource metadata, otherwise the first; None if none."""
    bearers = [challenge.params for challenge in parse_challenges(headers) if challenge.scheme == "bearer"]
    if not bearers:
        return None
    params = next((found for found in bearers if found.get("resource_metadata")), bearers[0])
    return BearerChallenge(
        resource_metadata=params.get("resource_metadata") or None,
        scope=" ".join(params.get("scope", "").split()) or None,
        error=clean_words(params.get("error")) or None,
        error_description=clean_words(params.get("error_description")) or None,
    )


def _parse_header(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = _end(_BETWEEN, text, 0)
    while at < len(text):
        name = _TOKEN.match(text, at)
        equals = _EQUALS.match(text, name.end()) if name else None
        if name and equals:
            at = _read_param(text, name, equals.end(), found[-1].params if found else {})
        elif name and text[name.end() : name.end() + 1] in ("", " ", "\t", ","):
            challenge, at = _read_scheme(text, name)
            found.append(challenge)
        else:
            at = _end(_JUNK, text, at)
        at = _end(_BETWEEN, text, at)
    return found


def _read_scheme(text: str, name: re.Match[str]) -> tuple[Challenge, int]:
    spaces = _SPACES.match(text, name.end())
    token68 = _TOKEN68.match(text, spaces.end()) if spaces else None
    if token68:
        return Challenge(name.group().lower(), token68=token68.group()), token68.end()
    return Challenge(name.group().lower()), name.end()


def _read_param(text: str, name: re.Match[str], at: int, params: dict[str, str]) -> int:
    """Put one auth-param into `params` and return where it ends; a broken one is skipped up to the next comma."""
    quoted, bare = _QUOTED.match(text, at), _BARE.match(text, at)
    if quoted:
        # RFC 9110 §11.2: a name occurs once. A second one does not overrule the first.
        params.setdefault(name.group().lower(), re.sub(r"\\(.)", r"\1", quoted.group(1), flags=re.DOTALL))
        return quoted.end()
    if bare:
        params.setdefault(name.group().lower(), bare.group())
        return bare.end()
    return _end(_JUNK, text, at)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
