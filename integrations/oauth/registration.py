"""Dynamic client registration (RFC 7591): how Aster gets a client id where nobody made one by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from aster.errors import UpstreamError
from integrations.oauth.sender import Answer, Http, read_json_object, send
from integrations.oauth.wording import clean_words, describe_error, name_host

AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")
_SECRET_FIELDS = {"client_secret", "registration_access_token"}


@dataclass(frozen=True)
class RegisteredClient:
    """A client as the authorization server recorded it; it counts at that server only.

    `client_secret_expires_at` is None if it never does. `raw` is the answer without its secrets.
    """

    client_id: str
    client_secret: str | None = field(repr=False)
    token_endpoint_auth_method: str
    client_secret_expires_at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


def choose_auth_method(supported: Sequence[str], *, prefer_public: bool) -> str:
    """How the client shall authenticate at the token endpoint: the first of our methods that the server supports.

    `supported` is `token_endpoint_auth_methods_supported`; RFC 8414 §2 says what its absence means, but servers made
    for MCP that leave it out take public clients. Raises UpstreamError if there is no common method.
    """
    if not supported:
        return "none" if prefer_public else "client_secret_basic"
    order = ("none", *AUTH_METHODS[:2]) if prefer_public else AUTH_METHODS
    for method in order:
        if method in supported:
            return method
    raise _failed(
        f"The provider supports none of Aster's ways to authenticate, only {clean_words(', '.join(supported))}.",
        hint="Register a client at the provider by hand and enter its id and secret.",
    )


def registration_request(
    *,
    redirect_uris: Sequence[str],
    token_endpoint_auth_method: str,
    client_name: str = "Aster",
    client_uri: str | None = None,
) -> dict[str, Any]:
    """The body of a registration (RFC 7591 §2).

    There is no `scope`: it would cap what the client may ever ask for, and a later step-up would be refused.
    """
    is_web = all(urlsplit(uri).scheme == "https" for uri in redirect_uris)
    body: dict[str, Any] = {
        "client_name": client_name,
        "redirect_uris": list(redirect_uris),
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        # OpenID Connect Registration §2: a "web" client has https redirects only; http on loopback makes it "native".
        "application_type": "web" if is_web else "native",
        "token_endpoint_auth_method": token_endpoint_auth_method,
    }
    return {**body, "client_uri": client_uri} if client_uri else body


def register_client(endpoint: str, request: Mapping[str, Any], *, http: Http) -> RegisteredClient:
    """Register at `endpoint` with a `registration_request()`.

    Raises UpstreamError(step="registration"); a refusal has the code `registration_failed`, the provider's own words,
    and a hint that names the redirect URIs to allow there.
    """
    answer = send(
        http,
        "POST",
        endpoint,
        step="registration",
        headers={"content-type": "application/json"},
        content=json.dumps(request).encode(),
    )
    document = read_json_object(answer.body)
    if answer.status not in (200, 201) or document is None or not document.get("client_id"):
        raise _refusal(answer, document, request)
    return _read_client(document, request)


def _read_client(document: dict[str, Any], request: Mapping[str, Any]) -> RegisteredClient:
    client_id, secret = document["client_id"], document.get("client_secret") or None
    for value in (client_id, secret):
        if value is not None and not (isinstance(value, str) and value.isprintable()):
            raise _failed("The provider's registration holds a client id or secret that is not text.")
    # RFC 7591 §3.2.1: the server may assign another method than the one that was asked for. One that does not say, but
    # hands a secret to a public client, has put it on the default of §2.
    asked = request["token_endpoint_auth_method"]
    method = document.get("token_endpoint_auth_method") or ("client_secret_basic" if asked == "none" else asked)
    if method not in AUTH_METHODS:
        raise _failed(
            f"The provider registered Aster for {clean_words(method) or 'an unknown method'}, which Aster cannot do.",
            hint="Register a client at the provider by hand and enter its id and secret.",
        )
    return RegisteredClient(
        client_id=client_id,
        client_secret=secret,
        token_endpoint_auth_method=method if secret else "none",
        client_secret_expires_at=_read_expiry(document.get("client_secret_expires_at")) if secret else None,
        raw={name: value for name, value in document.items() if name not in _SECRET_FIELDS},
    )


def _read_expiry(value: object) -> datetime | None:
    """RFC 7591 §3.2.1: seconds since 1970, 0 for never. What is no such number is not worth losing a client for."""
    if not isinstance(value, (int, float, str)):
        return None
    try:
        seconds = float(value)
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


def _refusal(answer: Answer, document: dict[str, Any] | None, request: Mapping[str, Any]) -> UpstreamError:
    host = name_host(answer.url)
    if answer.status == 429 or answer.status >= 500:
        return _failed(f"{host} could not register Aster now (HTTP {answer.status}).", retryable=True)
    words = describe_error(document) if document else ""
    if not words and answer.headers.get("content-type", "").startswith("text/plain"):
        words = clean_words(answer.body.decode(errors="replace"))
    reason = words or f"no reason given (HTTP {answer.status})"
    uris = ", ".join(request["redirect_uris"])
    return _failed(
        f"{host} refused to register Aster: {reason}",
        hint=f"Ask the provider to allow the redirect URI {uris}, or register a client there by hand with that "
        "redirect URI and enter its id.",
    )


def _failed(message: str, **kw: Any) -> UpstreamError:
    return UpstreamError(message, step="registration", code="registration_failed", **kw)
