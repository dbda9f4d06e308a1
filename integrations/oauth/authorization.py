"""The authorization request and its answer: RFC 6749 §4.1, RFC 7636 (PKCE), RFC 8707 (resource), RFC 9207 (iss)."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from aster.errors import InvalidInput, UpstreamError
from integrations.oauth.wording import clean_words

# What only Aster sets: a configured value could undo PKCE, the state, or where the code is sent.
AUTHORIZATION_PARAMETERS = frozenset(
    {
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
        "resource",
    }
)
_MAX_CODE = 8 * 1024
_TRANSIENT = ("temporarily_unavailable", "server_error")


@dataclass(frozen=True)
class Pkce:
    """A PKCE pair (RFC 7636): the verifier stays here until the exchange, the S256 challenge goes into the URL."""

    verifier: str = field(repr=False)
    challenge: str


class AuthorizationRefused(UpstreamError):
    """The person came back without a usable code. `error` is the provider's word; "" if it gave none we may believe."""

    code = "authorization_refused"
    http_status = 400

    def __init__(self, message: str, *, error: str = "", error_description: str = "", **kw: Any) -> None:
        super().__init__(message, step="auth", **kw)
        self.error = error
        self.error_description = error_description


def new_pkce() -> Pkce:
    verifier = secrets.token_urlsafe(64)  # 86 characters; RFC 7636 §4.1 allows 43 to 128
    return Pkce(verifier, str(create_s256_code_challenge(verifier)))


def new_state() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def refuse_reserved(extra: Mapping[str, str], reserved: Collection[str]) -> None:
    """Raise InvalidInput if configured `extra` parameters contain one that the protocol sets (also for forms)."""
    taken = sorted(name for name in extra if name in reserved)
    if taken:
        words = f"Remove {', '.join(taken)} from the extra parameters: Aster sets it."
        raise InvalidInput(words, code="reserved_parameter", fields={"extra_parameters": [words]})


def add_offline_access(scopes: Sequence[str], scopes_supported: Collection[str]) -> tuple[str, ...]:
    """`scopes` and `offline_access`, if the authorization server has it: some issue no refresh token without.

    Nothing is added to an empty list: that asks for the provider's default, which one scope would replace.
    """
    wanted = scopes and "offline_access" in scopes_supported and "offline_access" not in scopes
    return (*scopes, "offline_access") if wanted else tuple(scopes)


def authorization_url(
    endpoint: str,
    *,
    client_id: str,
    redirect_uri: str,
    scope: str | None,
    state: str,
    code_challenge: str | None,
    resource: str | None = None,
    audience: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> str:
    """Where to send the person. The query of `endpoint` is kept (RFC 6749 §3.1), except for what the protocol sets.

    Raises InvalidInput if `extra` holds a parameter of the protocol.
    """
    extra = extra or {}
    refuse_reserved(extra, AUTHORIZATION_PARAMETERS)
    configured = {**extra, "audience": audience} if audience else extra
    parts = urlsplit(endpoint)
    taken = {*AUTHORIZATION_PARAMETERS, *configured}
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in taken]
    base = urlunsplit((*parts[:3], urlencode([*kept, *configured.items()]), ""))
    url: str = prepare_grant_uri(
        base,
        client_id,
        "code",
        redirect_uri=redirect_uri,
        scope=scope,
        state=state,
        code_challenge=code_challenge,
        code_challenge_method="S256" if code_challenge else None,
        resource=resource or None,
    )
    return url


def check_callback(params: Mapping[str, str], *, issuer: str | None, iss_required: bool) -> str:
    """The authorization code in the callback's query `params`. Raises AuthorizationRefused.

    `issuer` is the one recorded before the redirect (None for endpoints entered by hand without one); `iss_required`
    if its metadata advertises RFC 9207. The state was checked before: without it nobody knows which issuer to expect.
    """
    _check_issuer(params.get("iss"), issuer, iss_required)
    if params.get("error"):
        raise _refusal(clean_words(params["error"], limit=80), clean_words(params.get("error_description")))
    code = params.get("code", "")
    if not code or len(code) > _MAX_CODE or not (code.isascii() and code.isprintable()):
        raise AuthorizationRefused("The provider sent you back without an authorization code. Start again.")
    return code


def _check_issuer(iss: str | None, issuer: str | None, iss_required: bool) -> None:
    """RFC 9207 §2.4: compared as it is, without normalising; also for error answers, whose words are then not shown."""
    if iss is None and iss_required:
        raise AuthorizationRefused(
            "The answer does not say which provider it is from, although the provider promises that. Start again.",
            code="issuer_missing",
        )
    if iss is not None and issuer is not None and iss != issuer:
        raise AuthorizationRefused(
            "The answer came from another provider than the one you were sent to. Start again, and tell your "
            "administrator if it happens twice.",
            code="issuer_mismatch",
        )


def _refusal(error: str, description: str) -> AuthorizationRefused:
    if error == "access_denied":
        message = "Access was declined at the provider. Start again if that was not intended."
        message = f"{message} It says: {description}" if description else message
    else:
        message = f"The provider refused: {': '.join(part for part in (error, description) if part)}"
    return AuthorizationRefused(message, error=error, error_description=description, retryable=error in _TRANSIENT)
