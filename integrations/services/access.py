"""Whose token a call uses. The one place where a server and a person become a source of access tokens."""

from __future__ import annotations

from aster.accounts.access import Actor
from aster.errors import ConnectionRequired
from integrations.models import AuthConfig, Connection, ConnectionStatus, McpServer
from integrations.services import refresh
from integrations.services.connections import connect_organization
from integrations.services.targets import TokenOf, connection_for


def token_source(server: McpServer, actor: Actor) -> TokenOf | None:
    """Sync code that yields the token for a call by `actor`; None when the server takes no token, or there is none."""
    connection = usable_connection(server, actor)
    if connection is None or not connection.reaches(server):
        return None
    return lambda rejected: refresh.fresh_access_token(connection, rejected=rejected)


def usable_connection(server: McpServer, actor: Actor) -> Connection | None:
    """The stored connection for a call. For client credentials it is made at the first call."""
    auth = server.auth_config
    if auth is None or not auth.is_oauth:
        return None
    found = connection_for(server, actor.user)
    if found is None and not auth.needs_person and not auth._state.adding:
        return connect_organization(auth, actor=Actor.system(auth.organization))
    return found


def require_connection(server: McpServer, actor: Actor) -> Connection | None:
    """Like `usable_connection`, but a missing or broken personal connection is an error that says so."""
    connection = usable_connection(server, actor)
    if server.needs_person:
        if connection is None or not connection.reaches(server):
            raise connection_required(server)
        if connection.status != ConnectionStatus.ERROR:
            return connection
        raise refresh.needs_reconnect(connection)
    return connection


def connection_required(server: McpServer) -> ConnectionRequired:
    auth: AuthConfig | None = server.auth_config
    return ConnectionRequired(
        f"Connect your account at {server.name} before using its tools.",
        extra={"server_id": server.pk, "auth_config_id": auth.pk if auth else None, "status": "not_connected"},
    )
