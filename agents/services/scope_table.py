"""What an admin looks at before giving scopes: every tool of an agent, with the scopes it has and the one proposed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agents.models import Agent
from agents.runtime.naming import server_prefix
from agents.services.agents import assigned_servers
from agents.services.calls import AgentTool, known_tools
from agents.services.tool_scopes import namespaced, needed_scopes, proposed
from integrations.models import McpServer


@dataclass(frozen=True)
class ScopeRow:
    """One tool. A name that stands in a map and is not offered now keeps its row."""

    name: str
    tool_name: str
    server: McpServer | None
    is_offered: bool = False
    proposed: tuple[str, ...] = ()
    by_agent: tuple[str, ...] = ()
    by_server: tuple[str, ...] = ()


def scope_rows(agent: Agent) -> list[ScopeRow]:
    """The tools of the agent's servers in their order, then the names that are kept for tools that are gone."""
    servers = assigned_servers(agent)
    rows = {each.name: _offered(agent, each) for each in known_tools(agent, servers) if each.tool}
    rows |= {row.name: row for row in _gone_at_servers(agent, servers) if row.name not in rows}
    for name in sorted(agent.tool_scopes.keys() - rows.keys()):
        prefix, _, own = name.partition("__")
        server = next((each for each in servers if server_prefix(each.slug, each.pk) == prefix), None)
        rows[name] = ScopeRow(name, own, server, by_agent=tuple(agent.tool_scopes[name]))
    return list(rows.values())


def _offered(agent: Agent, each: AgentTool) -> ScopeRow:
    tool, needed = each.tool, needed_scopes(agent, each)
    if tool is None:
        raise ValueError(f"{each.name} stands in for tools that are not known yet.")
    proposal = tuple(proposed(each.server, tool))
    return ScopeRow(each.name, tool.name, each.server, True, proposal, needed.by_agent, needed.by_server)


def _gone_at_servers(agent: Agent, servers: list[McpServer]) -> Iterator[ScopeRow]:
    for server in servers:
        for own in server.tool_scopes:
            name = namespaced(server, own)
            asked = tuple(agent.tool_scopes.get(name, ()))
            yield ScopeRow(name, own, server, by_agent=asked, by_server=tuple(server.tool_scopes[own]))
