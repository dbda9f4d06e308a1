"""What an admin looks at before giving scopes: every tool of an agent, with the scopes it has and the one proposed."""

from __future__ import annotations

from dataclasses import dataclass

from agents.models import Agent
from agents.services.agents import assigned_servers
from agents.services.calls import known_tools
from agents.services.tool_scopes import needed_scopes, proposed
from integrations.models import McpServer, Tool


@dataclass(frozen=True)
class ScopeRow:
    """One tool. `tool` is None for a name in the agent's map that no server of the agent offers now."""

    name: str
    server: McpServer | None = None
    tool: Tool | None = None
    proposed: tuple[str, ...] = ()
    by_agent: tuple[str, ...] = ()
    by_server: tuple[str, ...] = ()

    @property
    def tool_name(self) -> str:
        return self.tool.name if self.tool else self.name.partition("__")[2]

    @property
    def is_offered(self) -> bool:
        return self.tool is not None


def scope_rows(agent: Agent) -> list[ScopeRow]:
    """The tools of the agent's servers in their order, then the names that are kept for tools that are gone."""
    rows = []
    for each in known_tools(agent, assigned_servers(agent)):
        if each.tool is not None:
            needed = needed_scopes(agent, each)
            proposal = tuple(proposed(each.server, each.tool))
            rows.append(ScopeRow(each.name, each.server, each.tool, proposal, needed.by_agent, needed.by_server))
    gone = sorted(agent.tool_scopes.keys() - {row.name for row in rows})
    return rows + [ScopeRow(name, by_agent=tuple(agent.tool_scopes[name])) for name in gone]
