"""Clients that register themselves (RFC 7591). Anybody may: it is a name for some redirect URIs, and no right."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from django.core.cache import cache
from oauth2_provider.generators import generate_client_id, generate_client_secret
from oauth2_provider.models import Application

from agents.authorization_server import redirects
from agents.authorization_server.tokens import digest
from aster.accounts.sign_in import cache_may_be_down, network_of
from aster.errors import AsterError

AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post")
GRANT_TYPES = ("authorization_code", "refresh_token")
MAX_NAME = 100
# Claude.ai registers anew for every connection, all from a few addresses.
MOST, WINDOW_SECONDS = 60, 600


class Refused(AsterError):
    """A registration or a client's document that cannot be used; `code` is RFC 7591's (§3.2.2)."""

    code = "invalid_client_metadata"


class TooMany(AsterError):
    code = "too_many_requests"
    http_status = 429


def brake(address: str) -> None:
    """Count a registration from this network address; refuse those after the first sixty in ten minutes."""
    key = f"client-registrations:{digest(network_of(address))}"
    with cache_may_be_down("Registrations of clients"):
        cache.add(key, 0, WINDOW_SECONDS)
        try:
            count = cache.incr(key)
        except ValueError:  # it expired in between
            count = 1
        if count > MOST:
            raise TooMany(f"Too many registrations from your address. Try again in {WINDOW_SECONDS // 60} minutes.")


def register(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Store a new client and return what it is told; its secret, if it wants one, is told only now.

    `application_type` is not looked at: Cursor calls itself `web` and has a scheme of its own.
    """
    uris = read_redirect_uris(metadata.get("redirect_uris"))
    method = metadata.get("token_endpoint_auth_method", "client_secret_basic")
    if method not in AUTH_METHODS:
        raise Refused(f"token_endpoint_auth_method is one of {', '.join(AUTH_METHODS)}.")
    check_grants(metadata)
    secret = "" if method == "none" else generate_client_secret()
    client = Application(
        client_id=generate_client_id(),
        name=read_name(metadata),
        redirect_uris=" ".join(uris),
        client_type=Application.CLIENT_PUBLIC if method == "none" else Application.CLIENT_CONFIDENTIAL,
        client_secret=digest(secret) if secret else "",
        hash_client_secret=False,  # it is a digest already
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        registration_source=Application.RegistrationSource.DCR,
    )
    client.save()
    told = {
        "client_id": client.client_id,
        "client_id_issued_at": int(time.time()),
        "client_name": client.name,
        "redirect_uris": uris,
        "grant_types": list(GRANT_TYPES),
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
    }
    return {**told, "client_secret": secret, "client_secret_expires_at": 0} if secret else told


def read_redirect_uris(sent: object) -> list[str]:
    if not isinstance(sent, list) or not 1 <= len(sent) <= redirects.MOST:
        raise Refused(f"redirect_uris is a list of 1 to {redirects.MOST} URIs.", code="invalid_redirect_uri")
    for uri in sent:
        if problem := redirects.problem_with(uri):
            raise Refused(problem, code="invalid_redirect_uri")
    return list(dict.fromkeys(sent))


def read_name(metadata: Mapping[str, Any]) -> str:
    """The client's own name for itself: one line of what can be printed."""
    name = metadata.get("client_name", "")
    if not isinstance(name, str):
        raise Refused("client_name is a text.")
    return " ".join("".join(char if char.isprintable() else " " for char in name[:1000]).split())[:MAX_NAME]


def check_grants(metadata: Mapping[str, Any]) -> None:
    """Codes are all there is; what else a client can do is its own affair."""
    for name, ours in (("grant_types", "authorization_code"), ("response_types", "code")):
        listed = metadata.get(name, [ours])
        if not isinstance(listed, list) or ours not in listed:
            raise Refused(f"{name} has to contain {ours}.")
