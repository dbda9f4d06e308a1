"""Verbs on connectors: enable, change, disable. A connector is a server whose tools are Aster's own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from django.db.models import QuerySet

from aster.accounts.access import CONNECT, Actor
from aster.accounts.models import unique_slug
from aster.errors import Conflict, InvalidInput, NotFound
from connectors.base import Connector, Kind
from connectors.registry import all_connectors, find_connector
from integrations.models import AuthConfig, AuthType, ClientMode, McpServer, PendingAuthorization, ResourceMode
from integrations.oauth.token_requests import Revocation
from integrations.services import servers
from integrations.services.disconnection import disconnect
from integrations.services.validation import unique_auth_name, unique_server_name


@dataclass(frozen=True)
class Settings:
    """What an admin gives for a connector; None leaves a setting as it is. Its repr shows no secrets."""

    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    scopes: list[str] | None = None
    # An installation of the organization's own, such as GitHub Enterprise Server: its API, and where people sign in
    url: str | None = None
    authorization_url: str | None = None
    token_url: str | None = None
    revocation_url: str | None = None
    is_enabled: bool | None = None
    allow_end_user_auth: bool | None = None
    require_auth: bool | None = None


@dataclass(frozen=True)
class Disabled:
    """What came of a connector's connections: how many were revoked at the provider, and what it said to the others.

    `kept_for` is a server or a derived sign-in that the sign-in is also for: then nobody was disconnected.
    """

    revoked: int
    not_revoked: list[str]
    kept_for: str = ""

    def __str__(self) -> str:
        if self.kept_for:
            return f"{self.kept_for} uses the same sign-in, so people stay connected."
        total = self.revoked + len(self.not_revoked)
        if not total:
            return "Nobody was connected."
        if not self.not_revoked:
            return f"{total} connection{'' if total == 1 else 's'} revoked at the provider."
        reasons = "; ".join(sorted(set(self.not_revoked))[:3])
        return f"{self.revoked} of {total} connections revoked at the provider, the others only here: {reasons}"


ADDRESSES = ("authorization_url", "token_url", "revocation_url")
AUTH_SETTINGS = ("client_id", "client_secret", "scopes", "allow_end_user_auth", "require_auth", *ADDRESSES)
SOURCE = "catalog:"  # of the servers that are made from the catalogue


def enabled_connectors(actor: Actor) -> QuerySet[McpServer]:
    rows = McpServer.objects.visible_to(actor).filter(source__startswith=SOURCE)
    return rows.select_related("auth_config", "organization").order_by("source", "pk")


def catalogue(actor: Actor) -> list[tuple[Connector, McpServer | None]]:
    """Every connector there is, with its server if the organization has enabled it."""
    actor.require_admin()
    enabled = {server.source: server for server in enabled_connectors(actor)}
    return [(each, enabled.get(SOURCE + each.slug)) for each in all_connectors()]


def find_server_of(slug: str, *, actor: Actor) -> McpServer | None:
    return enabled_connectors(actor).filter(source=SOURCE + slug).first()


def find_enabled(slug: str, *, actor: Actor) -> McpServer:
    """The server of an enabled connector. Another organization's does not exist."""
    server = find_server_of(slug, actor=actor)
    if server is None:
        raise NotFound(f"{find_connector(slug).name} is not enabled.")
    return server


def enable_connector(slug: str, settings: Settings, *, actor: Actor) -> McpServer:
    """Make a connector's tools available to agents of the organization: a server and how to sign in, or neither.

    Raises NotFound, NotAllowed, Conflict (it is enabled already) or InvalidInput.
    """
    actor.require_admin()
    connector = find_connector(slug)
    if find_server_of(slug, actor=actor):
        raise Conflict(f"{connector.name} is enabled already. Change its settings instead.", code="already_enabled")
    fields = _auth_fields(connector)
    auth = AuthConfig(name=unique_auth_name(connector.name, actor=actor), **fields) if fields else None
    server = McpServer(
        name=unique_server_name(connector.name, actor=actor),
        slug=unique_slug(slug, McpServer.objects.filter(organization=actor.organization)),
        description=connector.description,
        transport=connector.transport,
        command="" if connector.is_remote else slug,
        url=connector.url,
        source=SOURCE + slug,
        takes_changes=not connector.is_remote,  # Aster's own change with its releases
    )
    _apply(settings, server, auth)
    servers.save_server(server, actor=actor, auth=auth, by_connectors=True)
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
    actor.require_scope(CONNECT)
    auth = server.auth_config
    servers.set_enabled(server, False, actor=actor)
    if auth and (kept_for := _also_used_by(auth, server)):
        servers.delete_server(server, actor=actor, by_connectors=True)
        return Disabled(0, [], kept_for=kept_for)
    outcomes = _disconnect_all(auth, actor)
    servers.delete_server(server, actor=actor, by_connectors=True)
    if auth and AuthConfig.objects.filter(pk=auth.pk).exists():
        # Somebody came back from the provider in between.
        outcomes += _disconnect_all(auth, actor)
        servers.delete_auth_config(auth, actor=actor)
    failed = [outcome.words for outcome in outcomes if outcome.outcome != "revoked"]
    return Disabled(len(outcomes) - len(failed), failed)


def _also_used_by(auth: AuthConfig, server: McpServer) -> str:
    """Another server at the same sign-in, or a sign-in that is derived from it."""
    others = auth.servers.exclude(pk=server.pk).values_list("name", flat=True)
    return others.first() or auth.derived_configs.values_list("name", flat=True).first() or ""


def _disconnect_all(auth: AuthConfig | None, actor: Actor) -> list[Revocation]:
    """End every grant, and those that people are at the provider for."""
    if auth is None:
        return []
    PendingAuthorization.objects.filter(auth_config=auth).delete()
    outcomes = []
    for each in auth.connections.select_related("auth_config__organization", "user"):
        with suppress(NotFound):  # its person disconnected meanwhile
            outcomes.append(disconnect(each, actor=actor))
    return outcomes


def _auth_fields(connector: Connector) -> dict[str, Any]:
    if connector.is_remote:
        return dict(connector.auth)
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


def check_api_url(url: str) -> str:
    """Where an API is: what its paths come after. Raises InvalidInput for what is no such address."""
    url = url.strip()
    problem = ""
    if not url:
        problem = "Enter the address of the API, for example https://api.example.com/v1."
    elif "{" in url or "}" in url:
        problem = "Fill in what is in braces."
    elif "?" in url or "#" in url:
        problem = "Leave out what follows the ? or # in the address."
    elif not _is_address(url):
        problem = "This is no address. Enter one such as https://api.example.com/v1."
    if problem:
        raise InvalidInput(problem, fields={"url": [problem]})
    return url


def _is_address(url: str) -> bool:
    try:
        urlsplit(url)
    except ValueError:
        return False
    return True


def _apply(settings: Settings, server: McpServer, auth: AuthConfig | None) -> None:
    if settings.url is not None:
        server.url = check_api_url(settings.url)
    if settings.is_enabled is not None:
        server.is_enabled = settings.is_enabled
    for name in AUTH_SETTINGS:
        if auth and (value := getattr(settings, name)) is not None:
            setattr(auth, name, value)
    if auth and settings.api_key is not None:
        auth.token = settings.api_key
    if auth and auth.auth_type == AuthType.BEARER and not (auth.token or auth.custom_headers):
        message = "Paste the API key."
        raise InvalidInput(message, fields={"api_key": [message]})
