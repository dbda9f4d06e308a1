"""The addresses of the gateway that tokens are for. A token opens exactly one of them (RFC 8707, audience)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.conf import settings

ADMIN = "admin"
PROTECTED_RESOURCE = "/.well-known/oauth-protected-resource"
AUTHORIZATION_SERVER = "/.well-known/oauth-authorization-server"
_SLUG = r"[a-z0-9]+(?:-[a-z0-9]+)*"
_PATH = re.compile(rf"/(mcp|a2a)/({_SLUG})/({_SLUG})(?:/({_SLUG}))?")
MAX_LENGTH = 500


def issuer() -> str:
    return str(settings.ASTER_PUBLIC_URL)


@dataclass(frozen=True)
class Endpoint:
    """One address: an agent, one server behind it, or the organization's admin server. It need not exist."""

    protocol: str
    organization: str
    agent: str
    server: str = ""

    @classmethod
    def at_path(cls, path: str) -> Endpoint | None:
        found = _PATH.fullmatch(path) if len(path) <= MAX_LENGTH else None
        if found is None:
            return None
        endpoint = cls(*(part or "" for part in found.groups()))
        # The admin server has nothing behind it, and A2A knows agents only.
        alone = endpoint.is_admin or endpoint.protocol == "a2a"
        return None if (alone and endpoint.server) or (endpoint.is_admin and endpoint.protocol == "a2a") else endpoint

    @classmethod
    def at_url(cls, url: str) -> Endpoint | None:
        """The endpoint with exactly this URL, letter by letter."""
        path = url.removeprefix(issuer())
        return cls.at_path(path) if path != url else None

    @property
    def is_admin(self) -> bool:
        return self.agent == ADMIN

    @property
    def path(self) -> str:
        return "/".join(["", *filter(None, (self.protocol, self.organization, self.agent, self.server))])

    @property
    def url(self) -> str:
        return f"{issuer()}{self.path}"

    @property
    def metadata_url(self) -> str:
        """Where a client finds out who signs people in for this endpoint (RFC 9728 §3.1)."""
        return f"{issuer()}{PROTECTED_RESOURCE}{self.path}"
