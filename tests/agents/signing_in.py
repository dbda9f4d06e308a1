"""An MCP client that signs in at the gateway's authorization server, and the person who lets it in."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import re
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.conf import settings
from django.test import Client

_address = itertools.count()
LOOPBACK = "http://127.0.0.1:33418/"


def register(**metadata: Any) -> Any:
    """The answer to a registration, public and on loopback unless `metadata` says otherwise."""
    sent = {"client_name": "Trial", "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none", **metadata}
    # From another address each time: how many one address may make is a test of its own.
    number = next(_address)
    address = f"10.{number >> 8}.{number & 255}.1"
    return Client(REMOTE_ADDR=address).post("/oauth/register", sent, content_type="application/json")


@dataclass
class App:
    """A client with its PKCE secret: asks a person, exchanges the code, refreshes."""

    client_id: str = ""
    redirect_uri: str = LOOPBACK
    secret: str = ""
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    def __post_init__(self) -> None:
        if not self.client_id:
            self.client_id = register(redirect_uris=[self.redirect_uri]).json()["client_id"]

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()

    def asking(self, resource: str | list[str] | None, **changes: Any) -> str:
        """The address a client opens in the browser. A parameter that is None is left out."""
        params = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
            "state": self.state,
            "resource": resource,
            "scope": "aster:call",
            **changes,
        }
        return f"/oauth/authorize?{urlencode({k: v for k, v in params.items() if v is not None}, doseq=True)}"

    def allow(self, browser: Client, resource: str, *, grant: tuple[str, ...] = (), **changes: Any) -> dict[str, str]:
        """Have the person allow it; what their browser brings back."""
        address = self.asking(resource, **changes)
        shown = browser.get(address)
        assert shown.status_code == 200, shown.content.decode()
        return answer_of(browser.post(address, {"decision": "allow", "grant": grant}))

    def token(self, **sent: Any) -> Any:
        params = {"client_id": self.client_id, **({"client_secret": self.secret} if self.secret else {}), **sent}
        return Client().post("/oauth/token", {k: v for k, v in params.items() if v is not None})

    def exchange(self, code: str, /, **changes: Any) -> Any:
        sent = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect_uri}
        return self.token(**{**sent, "code_verifier": self.verifier, **changes})

    def refresh(self, token: str, **changes: Any) -> Any:
        return self.token(grant_type="refresh_token", refresh_token=token, **changes)

    def sign_in(self, browser: Client, resource: str, **how: Any) -> dict[str, Any]:
        """All of it; the token response."""
        answer = self.exchange(self.allow(browser, resource, **how)["code"], resource=resource)
        assert answer.status_code == 200, answer.content
        told: dict[str, Any] = answer.json()
        return told


def left_for(response: Any) -> str:
    """Where the page sends the browser on to."""
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', response.content.decode())
    assert found, response.content.decode()
    return html.unescape(found.group(1))


def answer_of(response: Any) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(left_for(response)).query))


def url(path: str) -> str:
    return f"{settings.ASTER_PUBLIC_URL}{path}"
