"""Governed calls: which tools an agent has for a caller, whether a call may go out, and the record of how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import QuerySet

from agents.models import Agent, CallOutcome, ToolCall
from agents.runtime.naming import name_tools, server_prefix
from agents.services.agents import assigned_servers, tools_switched_off
from aster.accounts.access import CALL, Actor
from aster.errors import AsterError, Conflict, ConnectionRequired, NotFound
from integrations.mcp_client import Target
from integrations.models import Connection, McpServer, Tool
from integrations.services import servers as server_services
from integrations.services.access import require_connection, token_source
from integrations.services.targets import build_target

CONNECT_TOOL = "connect_account"


@dataclass(frozen=True)
class AgentTool:
    """One tool an agent offers: its namespaced name, and the server and definition behind it.

    `tool` is None for the stand-in that a server nobody has signed in to yet offers instead of an empty list: calling
    it answers with the link to connect.
    """

    name: str
    server: McpServer
    tool: Tool | None

    @property
    def definition(self) -> dict[str, Any]:
        """The definition as MCP clients see it: as the server gave it, under the namespaced name."""
        if self.tool is None:
            return {
                "name": self.name,
                "title": f"Connect {self.server.name}",
                "description": f"{self.server.name} needs you to sign in before its tools can be listed. "
                "Call this for the link.",
                "inputSchema": {"type": "object", "properties": {}},
            }
        return {**self.tool.definition, "name": self.name}


@dataclass(frozen=True)
class ReadyCall:
    """A call that passed every check: what to open and what to send. Its target holds credentials; never log it."""

    actor: Actor
    agent: Agent | None
    server: McpServer
    tool_name: str
    definition: dict[str, Any] | None
    connection: Connection | None
    target: Target = field(repr=False)


def agent_tools(agent: Agent, *, servers: Iterable[McpServer] | None = None) -> list[AgentTool]:
    """Every tool the agent has switched on, in a stable order, from the catalogue alone (four queries, no network)."""
    off = tools_switched_off(agent)
    offered: list[AgentTool] = []
    for server in servers if servers is not None else assigned_servers(agent):
        if server.is_enabled:
            offered += _offered_by(server, off)
    return offered


def _offered_by(server: McpServer, off: set[tuple[int, str]]) -> list[AgentTool]:
    prefix = server_prefix(server.slug, server.pk)
    known: dict[str, Tool] = {tool.name: tool for tool in server.known_tools}  # type: ignore[attr-defined]
    if not known and server.needs_person:
        return [AgentTool(f"{prefix}__{CONNECT_TOOL}", server, None)]
    named = name_tools(prefix, known)
    return [AgentTool(name, server, known[own]) for name, own in named.items() if (server.pk, own) not in off]


def authorize_call(agent: Agent, name: str, *, actor: Actor) -> ReadyCall:
    """Find the tool behind `name` and check that `actor` may call it through `agent` now.

    Raises NotFound (unknown, unassigned or switched off: the same answer), NotAllowed (scope), Conflict (the agent or
    server is switched off) or ConnectionRequired.
    """
    actor.require_scope(CALL)
    if not agent.is_enabled:
        raise Conflict(f"{agent} is switched off.", code="agent_disabled")
    found = next((offered for offered in agent_tools(agent) if offered.name == name), None)
    if found is None:
        raise NotFound(f"{agent} has no tool called {name[:100]}.", code="unknown_tool")
    if found.tool is None:
        require_connection(found.server, actor)
        raise NotFound("You are connected. List the tools again to see what the server offers.", code="unknown_tool")
    return prepare_call(found.server, found.tool.name, actor=actor, agent=agent, definition=found.tool.definition)


def is_connected(agent: Agent, name: str, *, actor: Actor) -> bool:
    """Whether a call of the tool `name` would find the caller's connection; asks the database alone."""
    found = next((offered for offered in agent_tools(agent) if offered.name == name), None)
    if found is None:
        return True
    try:
        connection = require_connection(found.server, actor)
    except ConnectionRequired:
        return False
    return connection is None or not connection.wanted_scopes


def prepare_call(
    server: McpServer,
    tool_name: str,
    *,
    actor: Actor,
    agent: Agent | None = None,
    definition: dict[str, Any] | None = None,
) -> ReadyCall:
    """Check a call straight to a server (no agent between) and put together what reaches it."""
    actor.require_scope(CALL)
    if not server.is_enabled:
        raise Conflict(f"{server} is switched off.", code="server_disabled")
    connection = require_connection(server, actor)
    if definition is None:
        # A modern server wants some arguments in headers, and only the tool's schema says which (x-mcp-header).
        known = server.tools.filter(name=tool_name).first()
        definition = known.definition if known else None
    target = build_target(server, token_of=token_source(server, actor))
    return ReadyCall(actor, agent, server, tool_name, definition, connection, target)


def record_call(
    *,
    actor: Actor,
    tool_name: str,
    outcome: str,
    duration_ms: int,
    agent: Agent | None = None,
    server: McpServer | None = None,
    connection: Connection | None = None,
    error: AsterError | None = None,
) -> ToolCall:
    """One row per attempted call, refused ones included. Arguments and results are not kept."""
    return ToolCall.objects.create(
        organization=actor.organization,
        user=actor.user,
        user_label=actor.user.email if actor.user else "Aster",
        agent=agent,
        server=server,
        server_label=server.name if server else "",
        tool_name=tool_name[:200],
        connection=connection,
        connection_label=str(connection)[:200] if connection else "",
        via=actor.via,
        outcome=outcome,
        error_code=error.code if error else "",
        duration_ms=max(0, duration_ms),
        request_id=actor.request_id,
    )


def outcome_of(result: Mapping[str, Any] | None, error: AsterError | None) -> str:
    if error is not None:
        refused = {"connection_required": CallOutcome.CONNECTION_REQUIRED}
        refused |= dict.fromkeys(("not_allowed", "missing_scope", "unknown_tool"), CallOutcome.REFUSED)
        refused |= dict.fromkeys(("agent_disabled", "server_disabled"), CallOutcome.REFUSED)
        return refused.get(error.code, CallOutcome.FAILED)
    return CallOutcome.TOOL_ERROR if result and result.get("isError") else CallOutcome.OK


def learn_tools(agent: Agent, *, actor: Actor) -> None:
    """List the servers that `actor` was just the first to connect to, so that no list waits for a task."""
    never = McpServer.objects.filter(assignments__agent=agent, is_enabled=True, tools_synced_at=None, tested_at=None)
    for server in never.select_related("auth_config", "organization"):
        if server.needs_person:
            server_services.learn_tools(server, actor=actor)


def visible_calls(actor: Actor) -> QuerySet[ToolCall]:
    """The record of calls: all of it for admins, one's own calls for members."""
    rows = ToolCall.objects.filter(organization=actor.organization)
    return rows if actor.is_admin else rows.filter(user=actor.user)
