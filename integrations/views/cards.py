"""What the pages show of a server and of a connection, gathered in a constant number of queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count, QuerySet
from django.db.models.functions import Lower

from aster.accounts.access import Actor
from aster.errors import NotFound
from integrations.models import AuthType, Connection, ConnectionStatus, McpServer, TestStatus
from integrations.services.state import ServerState, connections_by_server, server_state, tool_counts

STATE_ICONS = {"not_connected": "unlink", "disabled": "pause"}
AUTH_LABELS = {
    AuthType.NONE: "No sign-in",
    AuthType.BEARER: "API key",
    AuthType.BASIC: "Password",
    AuthType.CLIENT_CREDENTIALS: "OAuth, organization",
    AuthType.AUTHORIZATION_CODE: "OAuth",
    AuthType.TOKEN_EXCHANGE: "OAuth, exchanged",
    AuthType.ID_JAG: "OAuth, vouched for",
}


@dataclass(frozen=True)
class ServerCard:
    """One server as the acting person sees it."""

    server: McpServer
    state: ServerState
    connection: Connection | None
    tool_count: int
    agent_count: int
    is_admin: bool

    @property
    def icon(self) -> str:
        return STATE_ICONS.get(self.state.code, "")

    @property
    def auth_label(self) -> str:
        auth = self.server.auth_config
        if auth and auth.auth_type == AuthType.NONE and auth.custom_headers:
            return AUTH_LABELS[AuthType.BEARER]
        return AUTH_LABELS[AuthType(self.server.auth_type)]

    @property
    def primary(self) -> str:
        """The one thing to do next: connect, enable or test; empty when only an admin could."""
        if not self.server.is_enabled:
            return "enable" if self.is_admin else ""
        broken = self.connection is not None and self.connection.status == ConnectionStatus.ERROR
        wants_person = self.server.needs_person and (self.connection is None or broken)
        wants_admin = not self.server.needs_person and broken and self.is_admin
        return "connect" if wants_person or wants_admin else "test"

    @property
    def can_disconnect(self) -> bool:
        return self.connection is not None and (self.server.needs_person or self.is_admin)

    @property
    def error(self) -> str:
        """What went wrong, with what to do about it."""
        if self.state.code != "connection_error":
            return ""
        todo = "Connect again to keep using its tools." if self.primary == "connect" else ""
        return f"{self.state.message} {todo}".strip()

    @property
    def warning(self) -> str:
        """A failed test that the badge does not tell of, because the sign-in itself is fine."""
        if not self.server.is_enabled or self.state.code == "connection_error":
            return ""
        if self.server.test_status != TestStatus.FAILED:
            return ""
        return f"The last test failed: {self.server.last_test.get('message', '')}"

    @property
    def renews(self) -> bool:
        return self.connection is not None and self.connection.can_refresh


def server_rows(actor: Actor) -> QuerySet[McpServer]:
    rows = McpServer.objects.visible_to(actor).select_related("auth_config", "organization")
    # A grouped query does not take the model's own order.
    return rows.annotate(agent_count=Count("agents", distinct=True)).order_by(Lower("name"), "pk")


def cards_of(servers: Iterable[McpServer], actor: Actor) -> list[ServerCard]:
    """A card for each of `servers` (rows of `server_rows`), in two further queries."""
    servers = list(servers)
    mine, counts = connections_by_server(servers, actor), tool_counts(servers)
    return [
        ServerCard(
            server=server,
            state=server_state(server, mine.get(server.pk)),
            connection=mine.get(server.pk),
            tool_count=counts.get(server.pk, 0),
            agent_count=int(getattr(server, "agent_count", 0)),
            is_admin=actor.is_admin,
        )
        for server in servers
    ]


def card_of(server: McpServer, actor: Actor) -> ServerCard:
    """The card of one server. Raises NotFound when it was deleted meanwhile."""
    found = cards_of(server_rows(actor).filter(pk=server.pk), actor)
    if not found:
        raise NotFound("There is no such MCP server.")
    return found[0]
