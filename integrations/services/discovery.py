"""What a URL says about how to sign in, and filling an auth config with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.utils import timezone

from aster import egress
from aster.accounts.access import Actor
from aster.errors import AsterError, UpstreamError
from integrations.mcp_client import AuthChallenge, Target, check_target
from integrations.models import AuthConfig, AuthType, McpServer
from integrations.oauth import challenges, discovery

DISCOVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Discovered:
    """The answer of the discovery endpoint: does this server want sign-in, and everything found about where."""

    requires_auth: bool
    oauth: discovery.Discovery | None
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        found = self.oauth
        return {
            "requires_auth": self.requires_auth,
            "recommended_auth_mode": self._recommended_mode(),
            "auth_url": found.authorization_endpoint if found else None,
            "token_url": found.token_endpoint if found else None,
            "register_url": found.registration_endpoint if found else None,
            "resource": found.resource if found else None,
            "scopes": list(found.scopes) if found else [],
            "token_endpoint_auth_methods_supported": list(found.token_endpoint_auth_methods) if found else [],
            "authorization_servers": list(found.authorization_servers) if found else [],
            "resource_metadata_url": found.resource_metadata_url if found else None,
        }

    def _recommended_mode(self) -> str:
        if not self.requires_auth:
            return AuthType.NONE
        # A server that wants credentials but names no authorization server takes a key.
        return AuthType.AUTHORIZATION_CODE if self.oauth else AuthType.BEARER


def discover_server(url: str, *, actor: Actor) -> Discovered:
    """Ask `url` how to sign in (features S6). Admins only: the URL is arbitrary.

    Raises UpstreamError if nothing at `url` speaks MCP or says how to sign in: then nothing is known about it.
    """
    actor.require_admin()
    try:
        egress.check_url(url)
    except AsterError as error:
        error.fields.setdefault("url", [error.message])
        raise
    result = discover_url(url)
    if result.problem and not result.requires_auth:
        raise UpstreamError(result.problem, step="discovery", hint="Check the address: many servers answer at /mcp.")
    return result


def discover_url(url: str, *, issuer: str | None = None) -> Discovered:
    """Send one unauthenticated request to the server, then follow its challenge to the metadata."""
    try:
        target = Target(transport="streamable_http", url=url, timeout=DISCOVERY_SECONDS / 2, key=url)
        async_to_sync(check_target)(target)
        return Discovered(requires_auth=False, oauth=None)
    except AuthChallenge as wants:
        challenge = challenges.bearer_challenge(wants.www_authenticate)
    except AsterError as problem:
        # It may still publish metadata (an SSE server, or one that is down right now).
        found = _from_metadata(url, None, issuer, requires_auth=False)
        return found if found.oauth else Discovered(False, None, problem.message)
    return _from_metadata(url, challenge, issuer, requires_auth=True)


def _from_metadata(
    url: str, challenge: challenges.BearerChallenge | None, issuer: str | None, *, requires_auth: bool
) -> Discovered:
    try:
        with egress.deadline(DISCOVERY_SECONDS):
            found = discovery.discover(url, http=egress.client(), challenge=challenge, issuer=issuer)
    except AsterError as problem:
        return Discovered(requires_auth, None, problem.message)
    return Discovered(True, found)


def needs_discovery(auth: AuthConfig) -> bool:
    """Whether something is missing that only the provider's metadata can tell."""
    if auth.auth_type == AuthType.CLIENT_CREDENTIALS:
        return not auth.token_url
    missing = not (auth.authorization_url and auth.token_url)
    return auth.auth_type == AuthType.AUTHORIZATION_CODE and (missing or not auth.discovered_at)


def hydrate(auth: AuthConfig, server: McpServer) -> Discovered | None:
    """Fill the empty OAuth fields of `auth` from the server's metadata (features S7); what an admin typed stays."""
    if not needs_discovery(auth) or not server.url:
        return None
    result = discover_url(server.url, issuer=auth.issuer or None)
    if result.oauth:
        apply_discovery(auth, result.oauth)
    return result


def apply_discovery(auth: AuthConfig, found: discovery.Discovery) -> None:
    auth.discovered_at = timezone.now()
    # What an admin typed belongs to another authorization server unless it is what was found: mixing the two would send
    # codes and secrets of one to the other.
    typed = ((auth.issuer, found.issuer), (auth.authorization_url, found.authorization_endpoint))
    if any(mine and mine != theirs for mine, theirs in (*typed, (auth.token_url, found.token_endpoint))):
        return
    auth.issuer = found.issuer or auth.issuer
    auth.authorization_url = auth.authorization_url or found.authorization_endpoint or ""
    auth.token_url = auth.token_url or found.token_endpoint or ""
    auth.registration_url = auth.registration_url or found.registration_endpoint or ""
    auth.revocation_url = auth.revocation_url or found.revocation_endpoint or ""
    auth.resource = auth.resource or found.resource or ""
    auth.scopes = auth.scopes or list(found.scopes)
    auth.provider_metadata = dict(found.metadata)
