"""A person with a browser and a client application, as the tests of the demo world need them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2

from aster.demo.records import Client

CALLBACK = "http://127.0.0.1:8000/oauth/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
PUBLIC = Client("app", name="Aster", redirect_uris=(CALLBACK,))
ADA = "Ada Park"


@dataclass
class Visitor:
    """A browser and a client application at one provider."""

    issuer: str
    http: httpx2.Client
    defaults: dict[str, str] = field(default_factory=dict)

    def ask(self, **changes: str) -> dict[str, str]:
        """Return the parameters of a good authorization request; "" removes one."""
        base = {
            "response_type": "code",
            "client_id": "app",
            "redirect_uri": CALLBACK,
            "state": "s1",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in {**base, **self.defaults, **changes}.items() if value}

    def open_page(self, **changes: str) -> httpx2.Response:
        return self.http.get(f"{self.issuer}/authorize", params=self.ask(**changes))

    def decide(self, decision: str = "allow", person: str = ADA, **changes: str) -> httpx2.Response:
        form = {**self.ask(**changes), "decision": decision, "person": person}
        return self.http.post(f"{self.issuer}/authorize", data=form)

    def get_code(self, **changes: str) -> str:
        return answer_of(self.decide(**changes))["code"]

    def post_token(self, **form: str) -> httpx2.Response:
        resource = {"resource": self.defaults["resource"]} if "resource" in self.defaults else {}
        return self.http.post(f"{self.issuer}/token", data={**resource, "client_id": "app", **form})

    def exchange(self, code: str, **changes: str) -> httpx2.Response:
        form = {"code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER, **changes}
        return self.post_token(grant_type="authorization_code", **form)

    def refresh(self, token: str, **changes: str) -> httpx2.Response:
        return self.post_token(grant_type="refresh_token", refresh_token=token, **changes)

    def sign_in(self, **changes: str) -> dict[str, Any]:
        tokens: dict[str, Any] = self.exchange(self.get_code(**changes)).json()
        return tokens


def answer_of(response: httpx2.Response) -> dict[str, str]:
    """Return the parameters of a redirect to the callback."""
    assert response.status_code == 303
    assert response.headers["location"].startswith(f"{CALLBACK}?")
    return dict(parse_qsl(urlsplit(response.headers["location"]).query))


def error_of(response: httpx2.Response, status: int = 400) -> str:
    assert response.status_code == status
    error: str = response.json()["error"]
    return error
