"""Governed calls: which tools an agent has for a caller, whether a call may go out, and the record of how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import IntegrityError
from django.db.models import Model, QuerySet
from django.utils import timezone

from agents.models import Agent, CallOutcome, ToolCall
from agents.runtime.naming import name_tools, server_prefix
from agents.services import approvals, tool_scopes
from agents.services.agents import assigned_servers, tools_switched_off
from agents.services.approvals import Leave
from aster.accounts import retention
from aster.accounts.access import CALL, MANAGE, Actor, require_still_here
from aster.accounts.models import Organization, User
from aster.errors import AsterError, Conflict, ConnectionRequired, NotAllowed, NotFound
from aster.rows import insert_rows, storable
from integrations.mcp_client import KnownTool, Target
from integrations.models import Connection, McpServer, Tool
from integrations.services import drift
from integrations.services import servers as server_services
from integrations.services.access import Known, require_connection, token_source
from integrations.services.catalogue import tools_of
from integrations.services.targets import build_target

# (server id, tool name) of what is switched off
Off = set[tuple[int, str]]
# A ToolCall that is to be stored: its columns by attribute name
CallRow = Mapping[str, Any]
CONNECT_TOOL = "connect_account"
BAD_STATE = "bad_request_state"
# The codes of calls that nothing but a person's change or word can make possible; no server was asked.
REFUSALS = frozenset(
    {
        *("not_allowed", "missing_scope", "unknown_tool", "tool_disabled", "agent_disabled", "server_disabled"),
        *("tool_quarantined", "missing_tool_scope", "unmapped_tool", "approval_required", "approval_denied"),
        BAD_STATE,
    }
)


@dataclass(frozen=True)
class AgentTool:
    """One tool behind an agent: its namespaced name, its switch, and the server and definition behind it.

    `tool` is None for the stand-in that a server nobody has signed in to yet offers instead of an empty list: calling
    it answers with the link to connect.
    """

    name: str
    server: McpServer
    tool: Tool | None
    is_on: bool = True

    @property
    def is_quarantined(self) -> bool:
        return self.tool is not None and self.tool.is_quarantined

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
    """A call that passed every check: what to open, what to send, and the approval that it spends.

    Its target holds credentials; never log it.
    """

    server: McpServer
    tool_name: str
    definition: KnownTool | dict[str, Any] | None
    connection: Connection | None
    target: Target = field(repr=False)
    leave: Leave | None = field(default=None, repr=False)


def agent_tools(agent: Agent, *, actor: Actor | None = None) -> list[AgentTool]:
    """Every tool the agent offers `actor`, in a stable order, from the catalogue alone (four queries, no network).

    Without an actor, those it offers somebody who holds every scope.
    """
    return offered_of(agent, known_tools(agent, assigned_servers(agent)), actor=actor)


def offered_of(agent: Agent, known: Iterable[AgentTool], *, actor: Actor | None = None) -> list[AgentTool]:
    """Those of the `known` tools that are on, at servers that are on, have not changed since they were approved, and
    that the scopes of `actor` are enough for.

    A disabled agent offers none.
    """
    if not agent.is_enabled:
        return []
    on = (each for each in known if each.is_on and each.server.is_enabled and not each.is_quarantined)
    return [each for each in on if tool_scopes.allows(agent, each, actor)]


def known_tools(agent: Agent, servers: Iterable[McpServer]) -> list[AgentTool]:
    """Every tool of these assigned servers, switched off ones too: a call of one is told why it is refused."""
    off = tools_switched_off(agent)
    return [each for server in servers for each in _tools_behind(server, off)]


def _tools_behind(server: McpServer, off: set[tuple[int, str]]) -> list[AgentTool]:
    prefix = server_prefix(server.slug, server.pk)
    known: dict[str, Tool] = {tool.name: tool for tool in server.known_tools}  # type: ignore[attr-defined]
    if not known and server.needs_person:
        return [_stand_in(server)]
    named = name_tools(prefix, known)
    return [AgentTool(name, server, known[own], (server.pk, own) not in off) for name, own in named.items()]


def _stand_in(server: McpServer) -> AgentTool:
    return AgentTool(f"{server_prefix(server.slug, server.pk)}__{CONNECT_TOOL}", server, None)


def find_tool(agent: Agent, name: str, *, actor: Actor, known: Iterable[AgentTool] | None = None) -> AgentTool:
    """The tool behind `name`, on or off. `known` saves asking the database for what a turn has read already.

    Raises NotAllowed (scope), Conflict (the agent is disabled) or NotFound (unknown or unassigned: the same answer).
    """
    actor.require_scope(CALL)
    require_agent_on(agent)
    found = tool_behind(agent, name) if known is None else next((each for each in known if each.name == name), None)
    if found is None:
        raise no_such_tool(agent, name)
    return found


def tool_behind(agent: Agent, name: str) -> AgentTool | None:
    """What known_tools() has of that name, without reading the definitions of thousands of tools for one of them."""
    for server in assigned_servers(agent, with_tools=False):
        prefix = server_prefix(server.slug, server.pk)
        if not name.startswith(f"{prefix}__"):
            continue
        names = list(tools_of(server).order_by("name").values_list("name", flat=True))
        if not names and server.needs_person and name == _stand_in(server).name:
            return _stand_in(server)
        if tool := tools_of(server).filter(name=name_tools(prefix, names).get(name)).first():
            tool.server = server
            is_off = agent.tool_grants.filter(server=server, tool_name=tool.name, is_enabled=False).exists()
            return AgentTool(name, server, tool, not is_off)
    return None


def require_agent_on(agent: Agent) -> None:
    if not agent.is_enabled:
        raise Conflict(f"{agent} is switched off. An admin can switch it on.", code="agent_disabled")


def rules_now(agent: Agent, found: Iterable[AgentTool], *, actor: Actor) -> tuple[Agent, dict[int, McpServer], Off]:
    """What is switched, mapped and assigned at this moment, for tools that were read minutes ago (four queries).

    Raises NotAllowed (locked out) or Conflict (the agent was switched off).
    """
    require_still_here(actor)
    now = Agent.objects.filter(pk=agent.pk).select_related("organization").first()
    if now is None:
        raise NotFound("This agent was deleted.", code="unknown_tool")
    require_agent_on(now)
    assigned = McpServer.objects.filter(assignments__agent=now, pk__in={each.server.pk for each in found})
    servers = assigned.select_related("auth_config", "organization").in_bulk()
    return now, servers, tools_switched_off(now)


def under_rules(agent: Agent, found: AgentTool, servers: Mapping[int, McpServer], off: Off) -> AgentTool:
    """The same tool as rules_now() has it. Raises NotFound if its server was taken from the agent."""
    if found.server.pk not in servers:
        raise no_such_tool(agent, found.name)
    is_on = found.tool is None or (found.server.pk, found.tool.name) not in off
    return replace(found, server=servers[found.server.pk], is_on=is_on)


def no_such_tool(agent: Agent, name: str) -> NotFound:
    return NotFound(f"{agent} has no tool called {name[:100]}.", code="unknown_tool")


def require_allowed(
    agent: Agent,
    found: AgentTool,
    arguments: Mapping[str, Any],
    *,
    actor: Actor,
    require_reachable: Callable[[], None],
) -> Leave | None:
    """Every rule of Aster's own about one call, in the order in which a person can do something about them.

    `require_reachable` raises what is known to be wrong with the server. Returns the approval to spend when the call
    goes out, if its tool needs one. Raises Conflict (switched off, or waits for approval), NotAllowed, or
    ConnectionRequired for a call that would wait for approval. No server has been asked, and none is.
    """
    require_on(agent, found)
    if found.tool:
        drift.require_settled(found.tool)
    tool_scopes.require_scopes(agent, found, actor=actor)
    require_reachable()
    # Last: nobody should have to judge a call that cannot go out.
    return approvals.require_approval(agent, found, arguments, actor=actor)


def require_rules(agent: Agent, found: AgentTool, *, actor: Actor) -> None:
    """Every rule that can be told from what was read of the agent: all but the connection and a person's approval."""
    actor.require_scope(CALL)
    require_agent_on(agent)
    require_on(agent, found)
    if found.tool and found.is_quarantined:
        raise drift.quarantined(found.tool)
    tool_scopes.require_scopes(agent, found, actor=actor)


def require_on(agent: Agent, found: AgentTool) -> None:
    """Refuse a tool that an admin switched off, at the agent or with its whole server."""
    server_services.require_enabled(found.server)
    require_tool_on(agent, found)


def require_tool_on(agent: Agent, found: AgentTool) -> None:
    if not found.is_on:
        words = f"{found.tool} is switched off for {agent}. An admin can switch it on, on the agent's Tools page."
        raise Conflict(words, code="tool_disabled")


def authorize_call(
    agent: Agent,
    found: AgentTool,
    arguments: Mapping[str, Any],
    *,
    actor: Actor,
    require_reachable: Callable[[], None],
) -> ReadyCall:
    """Check that `actor` may call the tool through `agent` with these arguments now.

    Raises what require_allowed() raises, ConnectionRequired, or NotFound for a stand-in.
    """
    leave = require_allowed(agent, found, arguments, actor=actor, require_reachable=require_reachable)
    if found.tool is None:
        require_connection(found.server, actor)
        raise NotFound("You are connected. List the tools again to see what the server offers.", code="unknown_tool")
    ready = prepare_call(found.server, found.tool.name, actor=actor, definition=found.tool.definition)
    return replace(ready, leave=leave)


def is_connected(agent: Agent, name: str, *, actor: Actor) -> bool:
    """Whether a call of the tool `name` would find the caller's connection; asks the database alone."""
    found = next((offered for offered in agent_tools(agent, actor=actor) if offered.name == name), None)
    if found is None:
        return True
    try:
        connection = require_connection(found.server, actor)
    except ConnectionRequired:
        return False
    return connection is None or not connection.wanted_scopes


def require_direct_calls(actor: Actor) -> None:
    """No agent's switches, scopes or approvals hold for a call straight to a server: it is for those who set it up."""
    if not actor.is_admin:
        raise NotAllowed("Only an admin can call a server's tools directly. Use an agent that offers them.")
    actor.require_scope(MANAGE)
    actor.require_scope(CALL)


def authorize_server_call(server: McpServer, tool_name: str, *, actor: Actor) -> ReadyCall:
    """Check a call straight to a server: the scopes that its tools need hold there too."""
    require_direct_calls(actor)
    server_services.require_enabled(server)
    tool_scopes.require_server_scopes(server, tool_name, actor=actor)
    return prepare_call(server, tool_name, actor=actor)


def prepare_call(
    server: McpServer,
    tool_name: str,
    *,
    actor: Actor,
    definition: dict[str, Any] | None = None,
    known: Known | None = None,
) -> ReadyCall:
    """Check a call to a server, for which no agent has to be asked, and put together what reaches it."""
    actor.require_scope(CALL)
    server_services.require_enabled(server)
    if definition is None and tool_name and (stored := server.tools.filter(name=tool_name).first()):
        drift.require_settled(stored)
        # A modern server wants some arguments in headers, and only the tool's schema says which (x-mcp-header).
        definition = stored.definition
    connection = require_connection(server, actor, known=known)
    target = build_target(server, token_of=token_source(server, actor, known=known), connection=connection)
    return ReadyCall(server, tool_name, definition, connection, target)


def call_row(
    *,
    actor: Actor,
    tool_name: str,
    outcome: str,
    duration_ms: int,
    agent: Agent | None = None,
    server: McpServer | None = None,
    connection: Connection | None = None,
    error: AsterError | None = None,
    code: str = "",
    server_label: str = "",
) -> CallRow:
    """One row per attempted call, refused ones included. Arguments and results are not kept."""
    return {
        "organization_id": actor.organization.pk,
        "at": timezone.now(),
        "user_id": actor.user and actor.user.pk,
        "user_label": actor.user.email if actor.user else "Aster",
        "agent_id": agent and agent.pk,
        "server_id": server and server.pk,
        "server_label": server.name if server else server_label,
        # Anything that somebody called; rows are stored together, and one that cannot be would cost the others theirs.
        "tool_name": storable(tool_name)[:200],
        "connection_id": connection and connection.pk,
        "connection_label": str(connection)[:200] if connection else "",
        "via": actor.via,
        "outcome": str(outcome),
        "error_code": error.code if error else code,
        "duration_ms": max(0, duration_ms),
        "request_id": actor.request_id,
    }


def record_calls(made: list[Callable[[], CallRow]]) -> list[CallRow]:
    """Make the rows with call_row(), which may ask the database, and store them all at once."""
    rows = [make() for make in made]
    try:
        insert_rows(ToolCall, rows)
    except IntegrityError:
        for row in filter(None, map(_what_is_left, rows)):
            insert_rows(ToolCall, [row])
    return rows


def _what_is_left(row: CallRow) -> CallRow | None:
    """Something was deleted while the call ran. The labels tell of it, and the result must not be lost for it. None:
    the whole organization, and its records with it."""
    if not Organization.objects.filter(pk=row["organization_id"]).exists():
        return None
    kinds: dict[str, type[Model]] = {"user_id": User, "agent_id": Agent, "server_id": McpServer}
    kinds["connection_id"] = Connection
    gone = {
        name: None
        for name, kind in kinds.items()
        if row[name] and not kind._default_manager.filter(pk=row[name]).exists()
    }
    return {**row, **gone}


def outcome_of(result: Mapping[str, Any] | None, error: AsterError | None) -> str:
    if error is not None and error.code == ConnectionRequired.code:
        return CallOutcome.CONNECTION_REQUIRED
    if error is not None:
        return CallOutcome.REFUSED if error.code in REFUSALS else CallOutcome.FAILED
    return CallOutcome.TOOL_ERROR if result and result.get("isError") else CallOutcome.OK


def learn_tools(agent: Agent, *, actor: Actor) -> None:
    """List the servers that `actor` was just the first to connect to, so that no list waits for a task."""
    never = McpServer.objects.filter(assignments__agent=agent, is_enabled=True, tools_synced_at=None, tested_at=None)
    found = never.select_related("auth_config", "organization")
    server_services.learn_tools([server for server in found if server.needs_person], actor=actor)


def delete_old_calls() -> None:
    retention.delete_old(ToolCall.objects.all(), retention.calls_rule, action="deleted_old_calls")


def visible_calls(actor: Actor) -> QuerySet[ToolCall]:
    """The record of calls: all of it for admins, one's own calls for members."""
    rows = ToolCall.objects.filter(organization=actor.organization)
    return rows if actor.is_admin else rows.filter(user=actor.user)
