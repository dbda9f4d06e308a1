"""What a person who lacks a connection is told, and where they are led."""

from __future__ import annotations

from agents.models import Agent
from agents.services.agents import assigned_servers
from aster.accounts.access import Actor
from aster.errors import ConnectionRequired
from integrations.models import McpServer
from integrations.services.links import connect_url
from integrations.services.state import connections_by_server, server_state


def connection_words(server: object, *, again: bool) -> str:
    """Said above a chat, to everybody in the same words. `again`: there was a connection, or it needs more rights."""
    todo = "reconnected" if again else "connected"
    return f"Your {server} connection needs to be {todo} before this agent can use its tools."


def connect_link(missing: ConnectionRequired, actor: Actor) -> str:
    """The connect page of the server that wants a sign-in, or one's connections if it was deleted meanwhile."""
    return connect_url(McpServer.objects.visible_to(actor).filter(pk=missing.extra["server_id"]).first(), actor)


def waiting_for_person(agent: Agent, actor: Actor) -> list[tuple[McpServer, bool]]:
    """The servers of the agent that wait for this person to connect, and whether it is for another time."""
    servers = [each for each in assigned_servers(agent, with_tools=False) if each.is_enabled and each.needs_person]
    connections = connections_by_server(servers, actor)
    waiting = []
    for server in servers:
        connection = connections.get(server.pk)
        state = server_state(server, connection).code
        # A tool may have asked for more rights.
        again = state == "connection_error" or bool(connection and connection.wanted_scopes)
        if again or state == "not_connected":
            waiting.append((server, again))
    return waiting
