"""Verbs on connectors: enable, change, disable. A connector is a server whose tools are Aster's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import QuerySet

from aster.accounts.access import Actor
from aster.errors import Conflict, NotFound
from connectors.base import Connector, Kind
from connectors.registry import find_connector
from integrations.models import AuthConfig, AuthType, ClientMode, McpServer, ResourceMode, Transport
from integrations.services import servers
from integrations.services.disconnection import disconnect


@dataclass(frozen=True)
class Settings:
    """What an admin gives for a connector; None leaves a setting as it is. Its repr shows no secrets."""

    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    scopes: list[str] | None = None
    url: str | None = None
    is_enabled: bool | None = None
    allow_end_user_auth: bool | None = None
    require_auth: bool | None = None


@dataclass(frozen=True)
class Disabled:
    """What came of a connector's connections: how many were revoked at the provider, and what it said to the others."""

    revoked: int
    not_revoked: list[str]

    def __str__(self) -> str:
        total = self.revoked + len(self.not_revoked)
        if not total:
            return "Nobody was connected."
        if not self.not_revoked:
            return f"{total} connection{'' if total == 1 else 's'} revoked at the provider."
        reasons = "; ".join(sorted(set(self.not_revoked))[:3])
        return f"{self.revoked} of {total} connections revoked at the provider, the others only here: {reasons}"


def enabled_connectors(actor: Actor) -> QuerySet[McpServer]:
    rows = McpServer.objects.visible_to(actor).filter(transport=Transport.CONNECTOR)
    return rows.select_related("auth_config", "organization").order_by("command")


def find_enabled(slug: str, *, actor: Actor) -> McpServer:
    """The server of an enabled connector. Another organization's does not exist."""
    server = enabled_connectors(actor).filter(command=slug).first()
    if server is None:
        raise NotFound(f"{find_connector(slug).name} is not enabled.")
    return server


def enable_connector(slug: str, settings: Settings, *, actor: Actor) -> McpServer:
    """Make a connector's tools available to agents of the organization: a server and how to sign in, or neither.

    Raises NotFound, NotAllowed, Conflict (it is enabled already) or InvalidInput.
    """
    actor.require_admin()
    connector = find_connector(slug)
    if enabled_connectors(actor).filter(command=slug).exists():
        raise Conflict(f"{connector.name} is enabled already. Change its settings instead.", code="already_enabled")
    auth = AuthConfig(name=servers.unique_auth_name(connector.name, actor=actor), **_auth_fields(connector))
    server = McpServer(
        name=connector.name,
        slug=slug,
        description=connector.description,
        transport=Transport.CONNECTOR,
        command=slug,
        url=connector.url,
        takes_changes=True,  # they change with Aster's own releases
    )
    _apply(settings, server, auth)
    servers.save_server(server, actor=actor, auth=auth)
    return server


def update_connector(slug: str, settings: Settings, *, actor: Actor) -> McpServer:
    """Change credentials, scopes or settings; people stay connected as long as the app is the same."""
    actor.require_admin()
    server = find_enabled(slug, actor=actor)
    _apply(settings, server, server.auth_config)
    servers.save_server(server, actor=actor, auth=server.auth_config)
    return server


def disable_connector(slug: str, *, actor: Actor) -> Disabled:
    """Revoke every person's tokens at the provider, then take the connector's tools from every agent."""
    actor.require_admin()
    return disable_server(find_enabled(slug, actor=actor), actor=actor)


def disable_server(server: McpServer, *, actor: Actor) -> Disabled:
    """The same for a connector's server. The switch comes first: nobody connects or calls while it goes on, and if it
    is cut short it can be done again."""
    actor.require_admin()
    auth = server.auth_config
    servers.set_enabled(server, False, actor=actor)
    connections = list(auth.connections.select_related("auth_config__organization", "user")) if auth else []
    outcomes = [disconnect(each, actor=actor) for each in connections]
    servers.delete_server(server, actor=actor)
    failed = [outcome.words for outcome in outcomes if outcome.outcome != "revoked"]
    return Disabled(len(outcomes) - len(failed), failed)


def _auth_fields(connector: Connector) -> dict[str, Any]:
    if connector.kind == Kind.API_KEY:
        return {"auth_type": AuthType.BEARER, **connector.auth}
    own: Mapping[str, Any] = {
        "auth_type": AuthType.AUTHORIZATION_CODE,
        "client_mode": ClientMode.KNOWN,
        # REST APIs are no MCP resources (RFC 8707), and their providers promise PKCE nowhere that can be asked.
        "resource_mode": ResourceMode.OMIT,
        "assume_pkce": True,
        "scopes": list(connector.scopes),
    }
    return {**own, **connector.auth}


def _apply(settings: Settings, server: McpServer, auth: AuthConfig | None) -> None:
    if settings.url is not None:
        server.url = settings.url
    if settings.is_enabled is not None:
        server.is_enabled = settings.is_enabled
    for name in ("client_id", "client_secret", "scopes", "allow_end_user_auth", "require_auth"):
        if auth and (value := getattr(settings, name)) is not None:
            setattr(auth, name, value)
    if auth and settings.api_key is not None:
        auth.token = settings.api_key
