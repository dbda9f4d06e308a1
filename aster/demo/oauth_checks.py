"""The rules the demo provider holds its clients to: values in, a value or an OAuthError out."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit, urlunsplit

from starlette.requests import Request

from aster.demo.records import Client, digest

MAX_BODY_BYTES = 64 * 1024
AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post")
GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
APP_SCHEMES = ("cursor", "vscode")
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class OAuthError(Exception):
    """An answer of RFC 6749 section 4.1.2.1 or 5.2: `error` is the code, `description` is for the developer."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status

    def as_dict(self) -> dict[str, str]:
        """Return the two fields that go into a body or a redirect."""
        return {"error": self.error, "error_description": self.description}


async def read_form(request: Request) -> dict[str, str]:
    """Return the urlencoded body of a POST. Raises OAuthError for other media types, oversize and repeated fields."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "Send the request as application/x-www-form-urlencoded.")
    return _unique(parse_qsl((await _read_body(request)).decode("latin-1"), keep_blank_values=True))


def read_query(request: Request) -> dict[str, str]:
    """Return the query parameters; each may occur once (RFC 6749 section 3.1)."""
    return _unique(request.query_params.multi_items())


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object of a registration request."""
    try:
        body = json.loads(await _read_body(request))
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise OAuthError("invalid_client_metadata", "Send the client metadata as a JSON object.")
    return body


async def _read_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise OAuthError("invalid_request", "The request is too large.", status=413)
    return body


def _unique(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise OAuthError("invalid_request", f"The parameter {name[:40]!r} occurs more than once.")
        found[name] = value
    return found


def presented_credentials(authorization: str, form: Mapping[str, str]) -> tuple[str, str, str]:
    """Return (client_id, secret, method) as the request presents them, unchecked.

    Raises OAuthError if the Basic header cannot be read or two methods are mixed (RFC 6749 section 2.3).
    """
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        secret = form.get("client_secret", "")
        return form.get("client_id", ""), secret, "client_secret_post" if secret else "none"
    if "client_secret" in form:
        raise OAuthError("invalid_request", "Authenticate in one way only.")
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise OAuthError("invalid_client", "The Authorization header cannot be read.", status=401)
    # RFC 6749 section 2.3.1: both parts are form-urlencoded before they are joined.
    return unquote_plus(user), unquote_plus(password), "client_secret_basic"


def authenticate_client(clients: Mapping[str, Client], authorization: str, form: Mapping[str, str]) -> Client:
    """Return the client that the request proves to be. Raises OAuthError `invalid_client` (401)."""
    client_id, secret, method = presented_credentials(authorization, form)
    client = clients.get(client_id)
    if client is None:
        raise OAuthError("invalid_client", "This client is not registered here.", status=401)
    if client.auth_method != method:
        raise OAuthError("invalid_client", f"This client authenticates with {client.auth_method}.", status=401)
    if method != "none" and not hmac.compare_digest(client.secret_digest, digest(secret)):
        raise OAuthError("invalid_client", "The client secret is wrong.", status=401)
    return client


def check_verifier(challenge: str, verifier: str) -> None:
    """Raise OAuthError unless the verifier fits the S256 challenge (RFC 7636 section 4.6)."""
    if not challenge and not verifier:
        return
    if not re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier):
        raise OAuthError("invalid_grant", "The code_verifier is missing or malformed.")
    hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if not hmac.compare_digest(hashed, challenge):
        raise OAuthError("invalid_grant", "The code_verifier does not fit the code_challenge.")


def is_usable_redirect(uri: str) -> bool:
    """Tell whether a client may register this redirect URI: http(s), or the scheme of an app (RFC 8252 section 7.1)."""
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError:
        return False
    if not uri.isascii() or not uri.isprintable() or " " in uri or "#" in uri:
        return False
    if parts.scheme in ("http", "https"):
        return bool(host)
    return parts.scheme in APP_SCHEMES or "." in parts.scheme


def matches_redirect(registered: Sequence[str], uri: str) -> bool:
    """Compare exactly; only the port of a loopback address is free (RFC 8252 section 7.3)."""
    return uri in registered or (bool(portless := _without_port(uri)) and portless in map(_without_port, registered))


def _without_port(uri: str) -> str:
    """Return a loopback http URI without its port, or "" for everything else."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ""
    if parts.scheme != "http" or parts.hostname not in LOOPBACK or parts.username is not None:
        return ""
    return urlunsplit(("http", parts.hostname or "", parts.path, parts.query, parts.fragment))


def add_to_query(uri: str, params: Mapping[str, str]) -> str:
    """Return the URI with these parameters added to the ones it has."""
    parts = urlsplit(uri)
    query = "&".join(filter(None, (parts.query, urlencode(params))))
    return urlunsplit(parts._replace(query=query))


def host_of(uri: str) -> str:
    """Return what a person needs to see of a redirect URI: its host and port, or the scheme of an app."""
    parts = urlsplit(uri)
    return parts.netloc.rpartition("@")[2] or f"the app {parts.scheme}"


def chosen_scopes(asked: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes asked for in order, or all allowed ones if none were named. Raises OAuthError."""
    names = tuple(dict.fromkeys(asked.split())) or tuple(allowed)
    if unknown := [name for name in names if name not in allowed]:
        raise OAuthError("invalid_scope", f"This scope cannot be granted: {unknown[0][:60]}")
    return names


def read_client_metadata(metadata: Mapping[str, Any], *, now: float) -> tuple[Client, str]:
    """Check client metadata (RFC 7591 section 2) and return the client with its secret ("" for a public one).

    Raises OAuthError `invalid_client_metadata` or `invalid_redirect_uri`.
    """
    method = metadata.get("token_endpoint_auth_method", "client_secret_basic")
    grant_types = metadata.get("grant_types", ["authorization_code"])
    redirect_uris = metadata.get("redirect_uris", [])
    if method not in AUTH_METHODS:
        raise OAuthError("invalid_client_metadata", "This token_endpoint_auth_method is not supported.")
    if not isinstance(grant_types, list) or not all(kind in GRANT_TYPES for kind in grant_types):
        raise OAuthError("invalid_client_metadata", "One of the grant_types is not supported.")
    if not isinstance(redirect_uris, list) or not all(isinstance(uri, str) for uri in redirect_uris):
        raise OAuthError("invalid_redirect_uri", "redirect_uris must be a list of strings.")
    if "authorization_code" in grant_types and not redirect_uris:
        raise OAuthError("invalid_redirect_uri", "Name at least one redirect URI.")
    if not all(map(is_usable_redirect, redirect_uris)):
        raise OAuthError("invalid_redirect_uri", "A redirect URI must be http(s) or belong to an app.")
    secret = "" if method == "none" else secrets.token_urlsafe(32)
    client = Client(
        client_id=secrets.token_urlsafe(16),
        name=str(metadata.get("client_name", ""))[:120],
        redirect_uris=tuple(redirect_uris),
        auth_method=method,
        secret_digest=digest(secret) if secret else "",
        grant_types=tuple(grant_types),
        scope=str(metadata.get("scope") or ""),
        issued_at=int(now),
    )
    return client, secret
