"""What one address of the gateway shows: a whole agent, or one of its servers under that server's own names."""

from __future__ import annotations

from dataclasses import dataclass

from agents.models import Agent
from agents.runtime.naming import server_prefix
from agents.services import calls
from agents.services.agents import assigned_servers
from agents.services.calls import CONNECT_TOOL, AgentTool, ReadyCall
from agents.services.tool_scopes import namespaced
from aster.accounts.access import CALL, Actor
from aster.errors import AsterError, NotFound
from integrations.models import McpServer
from integrations.services.targets import connections_for

CAPABILITIES = ("prompts", "resources", "completions")


@dataclass(frozen=True)
class Endpoint:
    """`server` None: the whole agent, everything named `prefix__name`. The rules are the agent's either way."""

    agent: Agent
    server: McpServer | None = None

    def shows(self, server: McpServer) -> bool:
        return self.server is None or self.server.pk == server.pk

    def outward(self, each: AgentTool) -> str:
        """The name of a tool as this endpoint lists it."""
        own = each.tool.name if each.tool else CONNECT_TOOL
        return each.name if self.server is None else own

    def inward(self, name: str) -> str:
        """The agent's name of the tool that is called `name` here; it need not exist."""
        return name if self.server is None else namespaced(self.server, name)

    def named(self, server: McpServer, own_name: str) -> str:
        """The name here of what a server calls `own_name` (a prompt)."""
        return own_name if self.server else namespaced(server, own_name)


def find_endpoint(agent: Agent, slug: str | None) -> Endpoint:
    """The endpoint of an agent, or of its server `slug`. Unassigned and unknown are the same answer: NotFound."""
    if slug is None:
        return Endpoint(agent)
    assigned = McpServer.objects.filter(assignments__agent=agent, slug=slug)
    server = assigned.select_related("auth_config", "organization").first()
    if server is None:
        raise NotFound("There is no such server.")
    return Endpoint(agent, server)


def tools_at(endpoint: Endpoint, *, actor: Actor) -> list[AgentTool]:
    """Every tool the endpoint offers `actor`, in a stable order."""
    return [each for each in calls.agent_tools(endpoint.agent, actor=actor) if endpoint.shows(each.server)]


# --- Prompts and resources ------------------------------------------------------------------------------------------


def sources(endpoint: Endpoint, capability: str | None, *, actor: Actor) -> list[McpServer]:
    """The servers whose prompts or resources the endpoint passes on, in a stable order; without a `capability` all.

    Scopes are given to tools alone: an agent that offers only what has scopes offers none of these.
    """
    actor.require_scope(CALL)
    calls.require_agent_on(endpoint.agent)
    if endpoint.agent.strict_scopes:
        return []
    assigned = assigned_servers(endpoint.agent, with_tools=False)
    shown = [each for each in assigned if endpoint.shows(each) and each.is_enabled]
    return [each for each in shown if capability is None or may_offer(each, capability)]


def may_offer(server: McpServer, capability: str) -> bool:
    """Whether it is worth asking: modern servers say beforehand what they have."""
    said = (server.discover_result or {}).get("capabilities")
    return server.era != "modern" or not isinstance(said, dict) or capability in said


def capabilities_of(endpoint: Endpoint, *, actor: Actor) -> set[str]:
    """What, besides tools, any server behind the endpoint may have."""
    try:
        servers = sources(endpoint, None, actor=actor)
    except AsterError:
        return set()
    return {each for each in CAPABILITIES if any(may_offer(server, each) for server in servers)}


def ready_sources(endpoint: Endpoint, capability: str, *, actor: Actor) -> list[ReadyCall]:
    """The same, as far as the caller can reach them: what they are not connected to is left out."""
    servers = sources(endpoint, capability, actor=actor)
    known = connections_for(servers, actor.user)
    found = []
    for server in servers:
        try:
            found.append(calls.prepare_call(server, "", actor=actor, known=known))
        except AsterError:
            continue
    return found


def prepare_source(endpoint: Endpoint, server: McpServer, capability: str, *, actor: Actor) -> ReadyCall:
    """Check that `actor` may ask this server for a prompt or resource through the endpoint now.

    Raises NotAllowed, Conflict (the agent is off), ConnectionRequired, or NotFound.
    """
    if server.pk not in {each.pk for each in sources(endpoint, capability, actor=actor)}:
        raise NotFound(f"{endpoint.agent} has no {capability} of {server}.")
    return calls.prepare_call(server, "", actor=actor)


def named_source(endpoint: Endpoint, name: str, *, actor: Actor) -> tuple[McpServer, str] | None:
    """The server that a namespaced name belongs to, and the rest of it: its own name, unless that had to be changed."""
    servers = sources(endpoint, "prompts", actor=actor)
    if endpoint.server:
        return (servers[0], name) if servers else None
    for server in servers:
        prefix = f"{server_prefix(server.slug, server.pk)}__"
        if name.startswith(prefix):
            return server, name.removeprefix(prefix)
    return None
