"""What of a diagnosis may be shown to whom: no secret to anybody, to members nothing that only admins see."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from urllib.parse import urlsplit

from aster.accounts.access import Actor
from integrations.models import AuthConfig, Connection, McpServer
from integrations.oauth.wording import clean_words
from integrations.services.doctor.report import APPLY, ASK, COPY, EDIT, PERSONAL, SKIPPED, Diagnosis, Fix, Step

_URL = re.compile(r"https?://[^\s\"'<>“”,;]+", re.IGNORECASE)
_SOMEBODY_ELSES = "This was another person's run. Run the doctor yourself to have your own sign-in looked at."
_SECRETS = ("token", "password", "client_secret", "client_private_key")
_GRANT_SECRETS = ("access_token", "refresh_token", "id_token", "subject_token", "client_secret")


# --- Secrets ----------------------------------------------------------------------------------------------------------


def cleaner(server: McpServer, connections: Iterable[Connection | None], token: str) -> Callable[[str], str]:
    """A function that makes a text fit to be stored: one line, bounded, without any secret Aster sends there.

    Servers and providers may repeat what they were sent, in whatever words they answer with.
    """
    hide = {token, *server.env.values()}
    auth = server.auth_config
    if auth is not None:
        hide |= {getattr(auth, name) for name in _SECRETS}
        hide |= {*auth.custom_headers.values(), *auth.extra_token_params.values()}
        hide |= set(auth.registrations.values_list("client_secret", flat=True))
    for connection in filter(None, connections):
        hide |= {getattr(connection, name) for name in _GRANT_SECRETS}
    # The longest first: a secret may be a part of another one.
    secrets = sorted((str(secret) for secret in hide if secret), key=len, reverse=True)
    return lambda text: clean_words(text, hide=secrets, limit=600)


# --- Rights -----------------------------------------------------------------------------------------------------------


def seen_by(diagnosis: Diagnosis, server: McpServer, actor: Actor) -> Diagnosis:
    """The diagnosis as `actor` may see it. Admins see everything; the sign-ins of others are none of a member's."""
    if actor.is_admin:
        return diagnosis
    own = actor.user is not None and diagnosis.by == actor.user.email
    hide = _concealer(server, diagnosis)
    steps = [_for_member(step, hide) for step in diagnosis.steps]
    if server.needs_person and not own:
        steps = [Step(s.name, SKIPPED, _SOMEBODY_ELSES) if s.name in PERSONAL else s for s in steps]
    return replace(diagnosis, steps=tuple(steps), by=diagnosis.by if own else "")


def _for_member(step: Step, hide: Callable[[str], str]) -> Step:
    shown = step.with_texts(hide)
    # An address that is not the server's own is for admins: the answer that came from there is told without it.
    return replace(shown, fixes=tuple(_ask_admin(fix) for fix in shown.fixes))


def _ask_admin(fix: Fix) -> Fix:
    if fix.kind not in (APPLY, COPY, EDIT):
        return fix
    # The id of what Aster does itself may name a provider.
    return Fix(fix.id.partition(":")[0], ASK, f"An admin can do this: {fix.text}")


def _concealer(server: McpServer, diagnosis: Diagnosis) -> Callable[[str], str]:
    """Puts words in the place of every address but the server's own, as its page does for members."""
    home = urlsplit(server.url)
    others = _urls_of(server.auth_config, diagnosis)
    hosts = {*map(_host, others), *map(_netloc, others)} - {"", home.hostname, home.netloc.lower()}
    names = [re.escape(host) for host in sorted(hosts, key=len, reverse=True)]
    bare = re.compile(rf"(?<![\w.-])(?:{'|'.join(names)})(?::\d+)?(?![\w-])", re.IGNORECASE) if names else None

    def conceal_url(found: re.Match[str]) -> str:
        return found[0] if _netloc(found[0]) == home.netloc.lower() else "(the provider's address)"

    def conceal(text: str) -> str:
        text = _URL.sub(conceal_url, text)
        return bare.sub("the provider", text) if bare else text

    return conceal


def _urls_of(auth: AuthConfig | None, diagnosis: Diagnosis) -> set[str]:
    texts = [text for step in diagnosis.steps for text in (step.found, step.advice, *_texts_of(step))]
    if auth is not None:
        texts += [auth.issuer, auth.authorization_url, auth.token_url, auth.registration_url, auth.revocation_url]
    return {url for text in texts for url in _URL.findall(text)}


def _texts_of(step: Step) -> list[str]:
    shown = [text for each in step.evidence for text in (each.url, each.words)]
    return [*shown, *(text for fix in step.fixes for text in (fix.text, fix.value))]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
