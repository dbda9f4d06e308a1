"""Whose token a call uses. The one place where a server and a person become a source of access tokens."""

from __future__ import annotations

import time
from collections.abc import Mapping

from django.utils import timezone

from aster.accounts.access import Actor
from aster.errors import ConnectionRequired
from aster.threads import in_waiting_thread
from integrations.mcp_client.target import TokenSource
from integrations.models import Connection, ConnectionStatus, McpServer
from integrations.services import refresh
from integrations.services.connections import connect_organization
from integrations.services.targets import TokenOf, connection_for

# By server: what connections_for() found a moment ago. Given, nothing is asked for again.
Known = Mapping[int, Connection]
# So long a grant that was read counts as read now. What a person ends may still be used by what began before that.
MOMENT_SECONDS = 0.5


def held_token(connection: Connection) -> TokenSource:
    """The token of a grant that was read within the last second, at once while it lasts. Renewing asks the database."""

    async def token(rejected: str | None) -> str | None:
        now = timezone.now()
        in_hand = rejected is None and connection.status == ConnectionStatus.CONNECTED and connection.is_fresh(now)
        if in_hand and refresh.is_use_noted(connection, now):
            return str(connection.access_token)
        return await in_waiting_thread(refresh.fresh_access_token, connection, rejected=rejected, just_read=in_hand)

    return token


def token_source(server: McpServer, actor: Actor, *, known: Known | None = None) -> TokenOf | None:
    """Sync code that yields the token for a call by `actor`; None when the server takes no token, or there is none.

    For client credentials the organization's connection is made when the first token is asked for.
    """
    auth = server.auth_config
    if auth is None or not auth.is_oauth:
        return None
    if not auth.needs_person:
        return lambda rejected: refresh.fresh_access_token(_organization_connection(server), rejected=rejected)
    connection = _connection(server, actor, known)
    if connection is None or not connection.reaches(server):
        return None
    until = time.monotonic() + MOMENT_SECONDS

    def token(rejected: str | None) -> str:
        just_read = rejected is None and time.monotonic() < until and connection.is_fresh(timezone.now())
        return refresh.fresh_access_token(connection, rejected=rejected, just_read=just_read)

    return token


def _organization_connection(server: McpServer) -> Connection:
    found = connection_for(server, None)
    if found is None and server.auth_config:
        organization = server.auth_config.organization
        found = connect_organization(server.auth_config, actor=Actor.system(organization))
    if found is None or not found.reaches(server):
        raise connection_required(server)
    return found


def _connection(server: McpServer, actor: Actor, known: Known | None) -> Connection | None:
    return connection_for(server, actor.user) if known is None else known.get(server.pk)


def require_connection(server: McpServer, actor: Actor, *, known: Known | None = None) -> Connection | None:
    """The connection a call by `actor` uses, if there is one already. A missing or broken personal one is an error."""
    connection = _connection(server, actor, known)
    if connection is not None and not connection.reaches(server):
        raise connection_required(server)
    if server.auth_config and server.needs_person and connection is None and server.auth_config.require_auth:
        raise connection_required(server)
    if server.needs_person and connection and connection.status == ConnectionStatus.ERROR:
        raise at_server(refresh.needs_reconnect(connection), server)
    return connection


def at_server(missing: ConnectionRequired, server: McpServer) -> ConnectionRequired:
    """The same refusal, naming the server that was asked for: one sign-in may open several."""
    missing.extra |= {"server_id": server.pk, "auth_config_id": server.auth_config_id}
    return missing


def connection_required(server: McpServer) -> ConnectionRequired:
    words = f"Connect your account at {server.name} before using its tools."
    return at_server(ConnectionRequired(words, extra={"status": "not_connected"}), server)
