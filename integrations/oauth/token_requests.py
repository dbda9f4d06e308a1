"""What a token endpoint is asked: RFC 6749 §4.1.3 (code), §4.4 (client), §6 (refresh), RFC 8693 (exchange), RFC 7523
(assertion), and RFC 7009 (revoke).

A `TokenRequest` is a value: `ask` sends it from a thread, `ask_async` from an event loop.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, quote_plus, urlencode

from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc7009 import prepare_revoke_token_request

from aster import egress
from aster.errors import InvalidInput, UpstreamError
from integrations.oauth.authorization import refuse_reserved
from integrations.oauth.client_assertion import encode_private_key_jwt
from integrations.oauth.sender import (
    TOTAL_SECONDS,
    Answer,
    Http,
    NoAnswer,
    read_json_object,
    send,
    send_async,
)
from integrations.oauth.tokens import TokenSet, TokenUnavailable, parse_token_response
from integrations.oauth.wording import describe_error, name_host, read_error

# What only Aster sets. A configured value could swap the grant or point the token at another resource.
TOKEN_PARAMETERS = frozenset(
    {
        "grant_type",
        "code",
        "redirect_uri",
        "code_verifier",
        "refresh_token",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "assertion",
        "scope",
        "resource",
        "username",
        "password",
        "subject_token",
        "subject_token_type",
        "actor_token",
        "actor_token_type",
        "requested_token_type",
    }
)
CLIENT_ID = "{client_id}"  # in a revocation address
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"


@dataclass(frozen=True)
class TokenEndpoint:
    """Where tokens come from, and as which client. `extra` are configured parameters for every token request.

    `auth_method` is one of `registration.AUTH_METHODS` or `private_key_jwt`, which signs with `private_key` (PEM or
    JWK) for the authorization server called `issuer`.
    """

    url: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    auth_method: str = "none"
    private_key: str | None = field(default=None, repr=False)
    issuer: str = ""
    resource: str | None = None
    audience: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class TokenRequest:
    """One request for tokens, ready to be sent, and what its answer is read with."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    # Before the request is sent: the lifetime counts from when the provider issued the token.
    now: datetime
    hide: tuple[str | None, ...] = field(default=(), repr=False)
    token_types: tuple[str, ...] = ()
    issued: str = ""


class Revocation(NamedTuple):
    """How a revocation ended, and the words for it. It never keeps a token from being deleted here."""

    outcome: Literal["revoked", "unsupported", "failed"]
    words: str


def exchange_code(
    endpoint: TokenEndpoint,
    *,
    code: str,
    redirect_uri: str,
    code_verifier: str | None,
    http: Http,
    now: datetime | None = None,
) -> TokenSet:
    """Turn an authorization code into tokens. `redirect_uri` is the one of the authorization request.

    Raises TokenRefused, TokenUnavailable or UpstreamError(step="token"); InvalidInput for unusable client settings.
    """
    sent = {"code": code, "redirect_uri": redirect_uri, "code_verifier": code_verifier}
    return ask(_build(endpoint, "authorization_code", sent, now, hide=(code, code_verifier)), http)


def refresh_request(
    endpoint: TokenEndpoint, *, refresh_token: str, scope: str | None = None, now: datetime | None = None
) -> TokenRequest:
    """Asks for new tokens for a refresh token: store `ask(…).merged_with(previous)`.

    Raises InvalidInput for unusable client settings.
    """
    sent = {"refresh_token": refresh_token, "scope": scope}
    return _build(endpoint, "refresh_token", sent, now, hide=(refresh_token,))


def client_credentials_request(
    endpoint: TokenEndpoint, *, scope: str | None = None, now: datetime | None = None
) -> TokenRequest:
    """Asks for tokens for the client itself. Raises InvalidInput for unusable client settings."""
    return _build(endpoint, "client_credentials", {"scope": scope}, now, hide=())


def exchange_token(
    endpoint: TokenEndpoint,
    *,
    subject_token: str,
    subject_token_type: str,
    http: Http,
    scope: str | None = None,
    requested_token_type: str | None = None,
    audience: str | None = None,
    now: datetime | None = None,
) -> TokenSet:
    """A token for a token (RFC 8693 §2.1). Raises as exchange_code().

    With `requested_token_type` ID_JAG the answer is not a token to send but an assertion for `assert_identity()`.
    """
    sent = {
        **{"subject_token": subject_token, "subject_token_type": subject_token_type, "scope": scope},
        **{"requested_token_type": requested_token_type, "audience": audience},
    }
    request = _build(endpoint, TOKEN_EXCHANGE, sent, now, hide=(subject_token,))
    if requested_token_type == ID_JAG:
        request = replace(request, token_types=("n_a",), issued=ID_JAG)
    return ask(request, http)


def assert_identity(
    endpoint: TokenEndpoint, *, assertion: str, http: Http, scope: str | None = None, now: datetime | None = None
) -> TokenSet:
    """Tokens for the person a signed assertion names (RFC 7523 §2.1, ID-JAG). Raises as exchange_code()."""
    return ask(_build(endpoint, JWT_BEARER, {"assertion": assertion, "scope": scope}, now, hide=(assertion,)), http)


def revoke(
    endpoint: TokenEndpoint,
    *,
    url: str | None,
    token: str,
    http: Http,
    token_type_hint: Literal["access_token", "refresh_token"] | None = None,
) -> Revocation:
    """Ask the revocation endpoint `url` to end `token` (RFC 7009). Never raises: the token is deleted in any case.

    An address with `{client_id}` in it is asked as GitHub wants it, which has no endpoint of the RFC.
    """
    if not url:
        return Revocation("unsupported", "The provider offers no revocation.")
    try:
        if CLIENT_ID in url:
            if token_type_hint == "refresh_token":
                return Revocation("unsupported", "Only access tokens are deleted there.")
            answer = _delete_token(endpoint, url, token, http)
        else:
            body, _headers = prepare_revoke_token_request(token, token_type_hint)
            url, headers, signed = _sign(endpoint, url, body)
            answer = send(http, "POST", url, step="token", headers=headers, content=signed)
    except (UpstreamError, InvalidInput) as error:
        return Revocation("failed", error.message)
    return _read_revocation(answer, [token, endpoint.client_secret])


def _delete_token(endpoint: TokenEndpoint, url: str, token: str, http: Http) -> Answer:
    """Delete an app's token (https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token)."""
    pair = base64.b64encode(f"{endpoint.client_id}:{endpoint.client_secret or ''}".encode()).decode()
    headers = {"authorization": f"Basic {pair}", "content-type": "application/json"}
    url = url.replace(CLIENT_ID, quote(endpoint.client_id, safe=""))
    content = json.dumps({"access_token": token}).encode()
    return send(http, "DELETE", url, step="token", headers=headers, content=content)


def _read_revocation(answer: Answer, hide: list[str | None]) -> Revocation:
    document = read_json_object(answer.body) or {}
    error = read_error(document)
    if 200 <= answer.status < 300 and not error:
        return Revocation("revoked", "The provider revoked the token.")
    if error == "unsupported_token_type" or answer.status in (404, 405, 501):
        return Revocation("unsupported", f"{name_host(answer.url)} does not revoke this kind of token.")
    words = describe_error(document, hide=hide) if error else f"HTTP {answer.status}"
    return Revocation("failed", f"{name_host(answer.url)} did not revoke the token: {words}")


def ask(request: TokenRequest, http: Http) -> TokenSet:
    """Send a request for tokens. Raises TokenRefused, TokenUnavailable or UpstreamError(step="token")."""
    with _unavailable_if_silent():
        answer = send(http, "POST", request.url, step="token", headers=request.headers, content=request.body)
    return _read(request, answer)


async def ask_async(request: TokenRequest, line: egress.AsyncLine, *, seconds: float = TOTAL_SECONDS) -> TokenSet:
    """As `ask()`, on the event loop; all of it within `seconds`."""
    with _unavailable_if_silent():
        answer = await send_async(
            line, "POST", request.url, step="token", headers=request.headers, content=request.body, seconds=seconds
        )
    return _read(request, answer)


@contextmanager
def _unavailable_if_silent() -> Iterator[None]:
    try:
        yield
    except UpstreamError as error:
        if error.retryable:
            raise TokenUnavailable(error.message, hint=error.hint, lost=isinstance(error, NoAnswer)) from None
        raise


def _read(request: TokenRequest, answer: Answer) -> TokenSet:
    expected: dict[str, Any] = {"token_types": request.token_types, "issued": request.issued}
    return parse_token_response(
        answer.status, answer.headers, answer.body, now=request.now, hide=request.hide, **expected
    )


def _build(
    endpoint: TokenEndpoint,
    grant_type: str,
    sent: Mapping[str, str | None],
    now: datetime | None,
    *,
    hide: tuple[str | None, ...],
) -> TokenRequest:
    refuse_reserved(endpoint.extra, TOKEN_PARAMETERS)
    configured = dict(endpoint.extra)
    if endpoint.audience and not sent.get("audience"):
        configured["audience"] = endpoint.audience
    said = {"grant_type": grant_type, "resource": endpoint.resource, **sent}
    body = urlencode({**configured, **{name: value for name, value in said.items() if value}})
    url, headers, signed = _sign(endpoint, endpoint.url, body)
    hide = (*hide, endpoint.client_secret)
    return TokenRequest(url, headers, signed, now or datetime.now(UTC), hide)


def _sign(endpoint: TokenEndpoint, url: str, body: str) -> tuple[str, dict[str, str], bytes]:
    """URL, headers and body of a request in which the client says and proves who it is."""
    method = _AUTH_METHODS.get(endpoint.auth_method)
    if method is None:
        words = f"Aster cannot authenticate with {endpoint.auth_method}. Choose one of {', '.join(_AUTH_METHODS)}."
        raise InvalidInput(words, fields={"token_endpoint_auth_method": [words]})
    secret = endpoint.private_key if endpoint.auth_method == "private_key_jwt" else endpoint.client_secret
    if endpoint.auth_method != "none" and not secret:
        name, what = (
            ("client_private_key", "private key")
            if endpoint.auth_method == "private_key_jwt"
            else ("client_secret", "client secret")
        )
        words = f"Enter the {what}, or choose the authentication method “none”."
        raise InvalidInput(words, fields={name: [words]})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    # RFC 7523bis: an assertion names the authorization server by its issuer; strict ones refuse the endpoint's URL.
    client = ClientAuth(endpoint.client_id, secret, method)
    client.audience = endpoint.issuer or endpoint.url
    url, headers, body = client.prepare("POST", url, headers, body)
    return url, headers, body.encode()


def _encode_client_secret_basic(
    client: Any, method: str, uri: str, headers: dict[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    # RFC 6749 §2.3.1: both are form-encoded first. Authlib's own sends them bare: a ":" in the id then moves the
    # border between id and secret, and a character outside Latin-1 is an exception.
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    return uri, {**headers, "authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, body


def _encode_client_secret_post(
    client: Any, method: str, uri: str, headers: dict[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    return uri, headers, f"{body}&{urlencode({'client_id': client.client_id, 'client_secret': client.client_secret})}"


def _encode_none(
    client: Any, method: str, uri: str, headers: dict[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    # Appended: authlib's own take the whole body apart and put it together again, for every request.
    return uri, headers, f"{body}&{urlencode({'client_id': client.client_id})}"


_AUTH_METHODS: dict[str, Any] = {
    "client_secret_basic": _encode_client_secret_basic,
    "client_secret_post": _encode_client_secret_post,
    "none": _encode_none,
    "private_key_jwt": encode_private_key_jwt,
}
