"""What a URL says about how to sign in, and filling an auth config with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.utils import timezone

from aster import egress
from aster.accounts.access import Actor
from aster.errors import AsterError, UpstreamError
from integrations.mcp_client import AuthChallenge, Target, check_target
from integrations.models import AuthConfig, AuthType, ClientMode, McpServer
from integrations.oauth import challenges, discovery
from integrations.services.presets import apply_found_preset

DISCOVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Discovered:
    """The answer of the discovery endpoint: does this server want sign-in, and everything found about where."""

    requires_auth: bool
    oauth: discovery.Discovery | None
    problem: str = ""
    problem_code: str = ""

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


def discover_url(url: str, *, issuer: str | None = None, allow_legacy: bool = False) -> Discovered:
    """Send one unauthenticated request to the server, then follow its challenge to the metadata.

    `issuer` pins one of its authorization servers; `allow_legacy` takes a server that names
    none for its own (2025-03-26).
    """
    try:
        target = Target(transport="streamable_http", url=url, timeout=DISCOVERY_SECONDS / 2, key=url)
        async_to_sync(check_target)(target)
        return Discovered(requires_auth=False, oauth=None)
    except AuthChallenge as wants:
        challenge = challenges.bearer_challenge(wants.www_authenticate)
    except AsterError as problem:
        # It may still publish metadata (an SSE server, or one that is down right now).
        found = _from_metadata(url, None, issuer, requires_auth=False, allow_legacy=allow_legacy)
        return found if found.oauth else Discovered(False, None, problem.message)
    return _from_metadata(url, challenge, issuer, requires_auth=True, allow_legacy=allow_legacy)


def _from_metadata(
    url: str,
    challenge: challenges.BearerChallenge | None,
    issuer: str | None,
    *,
    requires_auth: bool,
    allow_legacy: bool,
) -> Discovered:
    try:
        found = discovery.discover(
            url, http=egress.client(), challenge=challenge, issuer=issuer, allow_legacy=allow_legacy
        )
    except AsterError as problem:
        return Discovered(requires_auth, None, problem.message, problem.code)
    return Discovered(True, found)


def client_mode_for(provider: discovery.Discovery) -> str:
    """Automatic where the provider knows a way to get a client by itself; otherwise an admin has to make one there."""
    by_document = provider.client_id_metadata_document_supported and settings.ASTER_CLIENT_METADATA_URL
    return ClientMode.AUTO if provider.registration_endpoint or by_document else ClientMode.KNOWN


def needs_discovery(auth: AuthConfig) -> bool:
    """Whether something is missing that only the provider's metadata can tell."""
    missing = not auth.token_url or (auth.auth_type == AuthType.AUTHORIZATION_CODE and not auth.authorization_url)
    never = auth.auth_type == AuthType.AUTHORIZATION_CODE and not auth.discovered_at
    return auth.is_oauth and (missing or never)


def hydrate(auth: AuthConfig, server: McpServer) -> Discovered | None:
    """Fill the empty OAuth fields of `auth` from the server's metadata (features S7); what an admin typed stays."""
    if not needs_discovery(auth) or not server.says_how_to_sign_in:
        return None
    result = discover_url(server.url, issuer=auth.issuer or None, allow_legacy=auth.allow_legacy_endpoints)
    if result.oauth:
        apply_discovery(auth, result.oauth)
    return result


def follow_provider(auth: AuthConfig, server: McpServer) -> Discovered:
    """Ask again who protects `server`, and follow it there if that has changed.

    Credentials belong to one issuer: registered clients are left behind, but a pasted one is the admin's to replace, so
    then nothing changes and UpstreamError (`issuer_changed`) is raised.
    """
    pinned = auth.issuer or None
    result = discover_url(server.url, issuer=pinned, allow_legacy=auth.allow_legacy_endpoints)
    if result.problem_code == "issuer_changed":
        if auth.client_id or not _was_found(auth, "issuer"):
            hint = "An admin can check the new provider, then enter its issuer and the client made there."
            raise UpstreamError(result.problem, step="discovery", code="issuer_changed", hint=hint)
        result = discover_url(server.url, allow_legacy=auth.allow_legacy_endpoints)
        if result.oauth and result.oauth.scopes:
            # Scopes are words of one authorization server; the next one may not know them (RFC 6749 §3.3).
            auth.scopes = []
    if result.oauth:
        take_over(auth, result.oauth)
    return result


def take_over(auth: AuthConfig, found: discovery.Discovery) -> None:
    """Put what the metadata says now in the place of what it said before; what an admin typed stays."""
    _forget_found(auth)
    apply_discovery(auth, found)


# Which fields discovery fills from which entries of the authorization server's metadata.
_FOUND = {
    "issuer": "issuer",
    "authorization_url": "authorization_endpoint",
    "token_url": "token_endpoint",
    "registration_url": "registration_endpoint",
    "revocation_url": "revocation_endpoint",
}


def _was_found(auth: AuthConfig, name: str) -> bool:
    """Whether a field says what the metadata said, and not something an admin typed."""
    return bool(getattr(auth, name)) and getattr(auth, name) == auth.provider_metadata.get(_FOUND[name])


def found_by_discovery(auth: AuthConfig) -> list[str]:
    """The fields that say what the metadata said."""
    return [name for name in _FOUND if _was_found(auth, name)]


def _forget_found(auth: AuthConfig) -> None:
    for name in found_by_discovery(auth):
        setattr(auth, name, "")


def apply_discovery(auth: AuthConfig, found: discovery.Discovery) -> None:
    auth.discovered_at = timezone.now()
    # What an admin typed belongs to another authorization server unless it is what was found: mixing the two would send
    # codes and secrets of one to the other.
    typed = ((auth.issuer, found.issuer), (auth.authorization_url, found.authorization_endpoint))
    if any(mine and mine != theirs for mine, theirs in (*typed, (auth.token_url, found.token_endpoint))):
        return
    metadata = dict(found.metadata)
    if auth.issuer and not auth.token_url:
        # An issuer without endpoints is an admin's choice, not what a look-up filled in: it is not "found" (above).
        metadata.pop("issuer", None)
    auth.issuer = found.issuer or auth.issuer
    auth.authorization_url = auth.authorization_url or found.authorization_endpoint or ""
    auth.token_url = auth.token_url or found.token_endpoint or ""
    auth.registration_url = auth.registration_url or found.registration_endpoint or ""
    auth.revocation_url = auth.revocation_url or found.revocation_endpoint or ""
    auth.resource = auth.resource or found.resource or ""
    auth.scopes = auth.scopes or list(found.scopes)
    auth.provider_metadata = metadata
    apply_found_preset(auth)


def check_pkce(auth: AuthConfig) -> None:
    """Refuse a provider whose metadata does not promise S256 (MCP authorization, §Authorization Code Protection).

    Endpoints typed by hand have no metadata: whoever typed them vouches for them. Raises UpstreamError.
    """
    methods = auth.provider_metadata.get("code_challenge_methods_supported")
    promised = isinstance(methods, list) and "S256" in methods
    if auth.use_pkce and auth.provider_metadata and not promised and not auth.assume_pkce:
        raise UpstreamError(
            "The provider's metadata does not promise PKCE with S256, without which sign-in codes can be stolen.",
            step="discovery",
            code="pkce_unsupported",
            hint="If the provider supports it all the same, an admin can say so: “Provider supports PKCE”.",
        )
