"""The one word a server's card says to a person: Connected, Connection error, Not connected, Untested or Disabled.

A server without any sign-in says Ready for Connected: there is nothing one could be connected with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count, QuerySet

from aster.accounts.access import Actor
from integrations.models import AuthType, Connection, ConnectionStatus, McpServer, TestStatus, Tool
from integrations.services.targets import connections_for


@dataclass(frozen=True)
class ServerState:
    code: str
    label: str
    tone: str
    message: str = ""


DISABLED = ServerState("disabled", "Disabled", "neutral")
NOT_CONNECTED = ServerState("not_connected", "Not connected", "neutral")
UNTESTED = ServerState("untested", "Untested", "neutral")
CONNECTED = ServerState("connected", "Connected", "ok")
READY = ServerState("connected", "Ready", "ok")


def server_state(server: McpServer, connection: Connection | None) -> ServerState:
    """What to say about `server` to the person whose `connection` this is (None: they have none)."""
    if not server.is_enabled:
        return DISABLED
    if server.needs_person:
        if connection is None:
            return NOT_CONNECTED
        if connection.status == ConnectionStatus.ERROR:
            return _error(connection.last_error or "The provider no longer accepts your sign-in.")
        return CONNECTED
    if connection is not None and connection.status == ConnectionStatus.ERROR:
        return _error(connection.last_error)
    if server.test_status == TestStatus.UNTESTED:
        return UNTESTED
    if server.test_status == TestStatus.FAILED:
        words = (str(server.last_test.get("message", "")), str(server.last_test.get("hint", "")))
        return _error(" ".join(filter(None, words)))
    return CONNECTED if _signs_in(server) else READY


def _signs_in(server: McpServer) -> bool:
    """With an account, a key or a header of its own."""
    auth = server.auth_config
    return bool(auth and (auth.auth_type != AuthType.NONE or auth.custom_headers))


def _error(message: str) -> ServerState:
    return ServerState("connection_error", "Connection error", "error", message)


def connections_by_server(servers: Iterable[McpServer], actor: Actor) -> dict[int, Connection]:
    """The acting person's (or the organization's) connection for each server that takes one, in one query."""
    servers = list(servers)
    found = connections_for(servers, actor.user)
    return {each.pk: found[each.pk] for each in servers if each.pk in found and found[each.pk].reaches(each)}


def tool_counts(servers: Iterable[McpServer]) -> dict[int, int]:
    return _count(Tool.objects.filter(gone_at=None), servers)


def offered_counts(servers: Iterable[McpServer]) -> dict[int, int]:
    """Without the tools that changed and wait for an admin."""
    return _count(Tool.objects.offered(), servers)


def _count(tools: QuerySet[Tool], servers: Iterable[McpServer]) -> dict[int, int]:
    rows = tools.filter(server__in=list(servers)).values("server_id")
    return {row["server_id"]: row["n"] for row in rows.annotate(n=Count("id"))}
