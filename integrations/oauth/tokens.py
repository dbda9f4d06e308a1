"""What a token endpoint answers (RFC 6749 §5): a `TokenSet`, or an error that says whether trying again can help."""

from __future__ import annotations

import json
import math
from base64 import urlsafe_b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from aster.errors import UpstreamError
from integrations.oauth.sender import read_json_object
from integrations.oauth.wording import clean_words, describe_error, read_error

# Slack calls its bearer tokens "bot" and "user"; every other type needs a client that understands it (RFC 6749 §7.1).
_BEARER_TYPES = ("bearer", "bot", "user")
_LONGEST_LIFE = timedelta(days=3650)
_LONGEST_WAIT = 24 * 3600.0
_MAX_SCOPE = 8 * 1024
# Providers' own words for what RFC 6749 §5.2 has a word for.
_ALIASES = {
    "bad_refresh_token": "invalid_grant",
    "bad_verification_code": "invalid_grant",
    "expired_token": "invalid_grant",
    "invalid_code": "invalid_grant",
    "invalid_refresh_token": "invalid_grant",
    "token_expired": "invalid_grant",
    "token_revoked": "invalid_grant",
    "bad_client_secret": "invalid_client",
    "incorrect_client_credentials": "invalid_client",
    "invalid_client_id": "invalid_client",
    "ratelimited": "temporarily_unavailable",
}
_TRANSIENT = ("temporarily_unavailable", "server_error", "slow_down")


@dataclass(frozen=True)
class TokenSet:
    """Tokens of one grant. `expires_at` is absolute, in UTC; None if the provider did not say (a 401 will)."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    token_type: str = "Bearer"
    expires_at: datetime | None = None
    scope: str | None = None
    id_token: str | None = field(default=None, repr=False)

    @property
    def scopes(self) -> list[str] | None:
        """What was granted; None if the provider did not say. Scopes are separated by spaces (RFC 6749 §3.3), at GitHub
        and Slack by commas."""
        return None if self.scope is None else self.scope.replace(",", " ").split()

    def merged_with(self, previous: TokenSet) -> TokenSet:
        """This answer to a refresh, with what it may leave out because it stays as it was (RFC 6749 §5.1, §6)."""
        return replace(
            self,
            refresh_token=self.refresh_token or previous.refresh_token,
            id_token=self.id_token or previous.id_token,
            scope=self.scope if self.scope is not None else previous.scope,
        )


class TokenRefused(UpstreamError):
    """The token endpoint said no. `error` is the RFC 6749 §5.2 code, providers' own words translated to it.

    `permanent`: the same request will never succeed. `invalid_grant` means the person must sign in again,
    `invalid_client` that the client's id or secret is wrong for everybody.
    """

    code = "token_refused"

    def __init__(self, message: str, *, error: str, **kw: Any) -> None:
        super().__init__(message, step="token", **kw)
        self.error = error

    @property
    def permanent(self) -> bool:
        return not self.retryable


class TokenUnavailable(UpstreamError):
    """The token endpoint cannot answer now: keep the tokens, try again after `retry_after` seconds (None: not said).

    `lost` if the request may have arrived: then the provider may have answered with tokens that nobody received.
    """

    code = "token_unavailable"

    def __init__(self, message: str, *, retry_after: float | None = None, lost: bool = False, **kw: Any) -> None:
        super().__init__(message, step="token", retryable=True, **kw)
        self.retry_after = retry_after
        self.lost = lost


def parse_token_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    hide: Collection[str | None] = (),
    token_types: Collection[str] = (),
    issued: str = "",
) -> TokenSet:
    """The tokens in a token endpoint's answer that was asked for at `now` (aware).

    `hide` lists the secrets of the request: they are blanked where the provider repeats them. `token_types` are
    accepted besides bearer (`n_a` for what is no access token), and `issued` is the type that an exchange must have
    given (RFC 8693 §2.2.1). Raises TokenRefused, TokenUnavailable (429 and 5xx, whatever the body says), or
    UpstreamError(step="token") for an answer that is none.
    """
    if status in (408, 425, 429) or status >= 500:
        raise TokenUnavailable(
            f"The provider's token endpoint cannot answer now (HTTP {status}).",
            retry_after=_read_retry_after(_header(headers, "retry-after"), now),
        )
    document = read_json_object(body) or _read_form(body)
    if document is None:
        kind = "a redirect" if 300 <= status < 400 else "something that is not an OAuth answer"
        raise _unusable(f"The provider's token endpoint answered with {kind} (HTTP {status}).")
    # Some providers report errors with status 200 (GitHub, Slack).
    if read_error(document):
        raise _refusal(document, hide)
    if not 200 <= status < 300:
        words = describe_error(document, hide=hide) or "no reason given"
        raise _unusable(f"The provider's token endpoint answered HTTP {status}: {words}")
    if issued and document.get("issued_token_type") != issued:
        # A token of another kind is good for something else: it must not be passed on as what was asked for.
        raise _unusable("The provider exchanged the token for one of another type than was asked for.")
    return _read_tokens(document, now, token_types)


def _read_tokens(document: Mapping[str, Any], now: datetime, token_types: Collection[str]) -> TokenSet:
    authed_user = document.get("authed_user")
    if "access_token" not in document and isinstance(authed_user, Mapping):
        document = authed_user  # Slack puts a user's token there when no bot was installed.
    access_token = _read_token(document, "access_token")
    if access_token is None:
        raise _unusable("The provider's token endpoint answered without an access token.")
    kind = document.get("token_type") or "bearer"
    if not isinstance(kind, str) or kind.lower() not in (*_BEARER_TYPES, *token_types):
        raise _unusable(f"The provider issued a token of the type {clean_words(kind) or 'unknown'}; only Bearer works.")
    return TokenSet(
        access_token=access_token,
        refresh_token=_read_token(document, "refresh_token"),
        id_token=_read_token(document, "id_token"),
        expires_at=_read_expiry(document.get("expires_in"), now),
        scope=_read_scope(document.get("scope")),
    )


def _read_token(document: Mapping[str, Any], name: str) -> str | None:
    """RFC 6749 §A.12: visible ASCII. Anything else would break the header it is sent in, or smuggle another one."""
    token = document.get(name)
    if token is None or token == "":
        return None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise _unusable(f"The provider's {name} holds characters that no token has.")
    return token


def _read_expiry(expires_in: object, now: datetime) -> datetime | None:
    """`expires_in` seconds after `now`. Zero and less mean "does not say": some providers write that for "never"."""
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float, str)):
        return None
    try:
        seconds = float(expires_in)
    except (ValueError, OverflowError):
        return None
    if math.isnan(seconds) or seconds <= 0:
        return None
    return now.astimezone(UTC) + timedelta(seconds=min(seconds, _LONGEST_LIFE.total_seconds()))


def id_token_ran_out(id_token: str, now: datetime, leeway: timedelta = timedelta(seconds=30)) -> bool:
    """Whether an ID token says that it ends before it could arrive. Read, not verified: its issuer does that."""
    try:
        claims = json.loads(urlsafe_b64decode(f"{id_token.split('.')[1]}=="))
        return bool(datetime.fromtimestamp(float(claims["exp"]), UTC) - leeway <= now)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return False


def _read_scope(scope: object) -> str | None:
    if isinstance(scope, list):
        scope = " ".join(part for part in scope if isinstance(part, str))
    return clean_words(scope, limit=_MAX_SCOPE) or None


def _read_form(body: bytes) -> dict[str, Any] | None:
    """A form-encoded answer: GitHub's default, and what some providers send whatever one accepts."""
    try:
        fields = dict(parse_qsl(body.decode(), max_num_fields=100))
    except ValueError:
        return None
    return dict(fields) if "access_token" in fields or "error" in fields else None


def _refusal(document: Mapping[str, Any], hide: Collection[str | None]) -> TokenRefused:
    error = read_error(document)
    error = _ALIASES.get(error, error)
    hints = {
        "invalid_grant": "Sign in again.",
        "invalid_client": "Check the client id and the client secret in the sign-in settings.",
    }
    return TokenRefused(
        f"The provider refused: {describe_error(document, hide=hide)}",
        error=clean_words(error, hide=hide),
        retryable=error in _TRANSIENT,
        hint=hints.get(error, ""),
    )


def _read_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from a Retry-After header (RFC 9110 §10.2.3: a number or a date), at most a day; None if unreadable."""
    if not value:
        return None
    try:
        seconds = float(value) if value.strip().isdigit() else (parsedate_to_datetime(value) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)


def _unusable(message: str) -> UpstreamError:
    return UpstreamError(message, step="token", code="token_answer_unusable")
