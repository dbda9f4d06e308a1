"""The nouns of the demo world's sign-in provider, as plain values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Person:
    """Somebody who can sign in at the provider without a password; `name` is the key."""

    name: str
    email: str = ""


DEMO_PEOPLE = (
    Person("Ada Park", "ada@acme.example"),
    Person("Ben Okafor", "ben@acme.example"),
    Person("Chloe Laurent", "chloe@acme.example"),
)

DEMO_SCOPES = {
    "notes:read": "See and search your notes",
    "notes:write": "Create and delete notes for you",
}


@dataclass(frozen=True)
class Client:
    """A client of the provider; only the digest of its secret is kept.

    `scope` limits what the client may ever ask for (RFC 7591 section 2); empty means every scope of the provider.
    """

    client_id: str
    name: str = ""
    redirect_uris: tuple[str, ...] = ()
    auth_method: str = "none"
    secret_digest: str = field(default="", repr=False)
    grant_types: tuple[str, ...] = ("authorization_code", "refresh_token")
    scope: str = ""
    issued_at: int = 0

    @classmethod
    def with_secret(cls, client_id: str, secret: str, **fields: Any) -> Client:
        """Make a confidential client; it authenticates with `client_secret_basic` unless `auth_method` says other."""
        return cls(client_id, secret_digest=digest(secret), **{"auth_method": "client_secret_basic", **fields})


@dataclass(frozen=True)
class Grant:
    """What one access token stands for. `person` is empty for client credentials, `resource` when none was named."""

    person: str
    client_id: str
    scopes: tuple[str, ...]
    resource: str
    family: str


@dataclass(frozen=True)
class Code:
    """An authorization code that waits for its one exchange."""

    grant: Grant
    redirect_uri: str
    challenge: str
    expires_at: float


@dataclass
class TokenRequest:
    """One line of the log of the token endpoint; `status` is None while the request is being answered.

    `refresh_token_id` is the start of the token's digest: equal for equal tokens, useless for anything else.
    """

    grant_type: str
    client_id: str
    refresh_token_id: str = ""
    resource: str = ""
    scope: str = ""
    status: int | None = None
    error: str = ""


@dataclass(frozen=True)
class Revocation:
    """One line of the log of the revocation endpoint; `found` tells whether the token was alive."""

    client_id: str
    token_type_hint: str
    token_id: str
    found: bool


def digest(secret: str) -> str:
    """Return the only form in which tokens and secrets are kept or compared (SHA-256, hex)."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
