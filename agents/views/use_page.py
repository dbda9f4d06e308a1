"""“Use it”: what an MCP client is told to use an agent, per client, and the tools it will see."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from agents.models import Agent
from agents.services import agents, calls
from agents.services.calls import AgentTool
from agents.services.client_setups import CLIENTS, Endpoint, find_client, name_fits, short_name
from agents.views.agent_pages import agent_tabs
from agents.views.use_a2a import a2a_curl
from aster.accounts.access import ActorRequest
from aster.pages import hub_page
from aster.paging import page_of_list, query_without
from integrations.models import McpServer


@require_GET
@hub_page
def show_use(request: ActorRequest, slug: str) -> HttpResponse:
    agent = agents.find_agent(slug, actor=request.actor)
    tools = calls.agent_tools(agent, actor=request.actor)
    servers = sorted({tool.server.pk: tool.server for tool in tools}.values(), key=lambda each: each.name.lower())
    server = next((each for each in servers if each.slug == request.GET.get("server")), None)
    rows = [(tool, _shown_name(tool, server)) for tool in tools if server in (None, tool.server)]
    longest = max((len(name) for _, name in rows), default=0)
    endpoint, client = _endpoint(agent, server, longest), find_client(request.GET.get("client"))
    context = {
        "agent": agent,
        "tabs": agent_tabs(agent, "agent-use"),
        "page": page_of_list(request, rows),
        "query": query_without(request),
        "servers": servers,
        "server": server,
        "clients": CLIENTS,
        "client": client,
        "endpoint": endpoint,
        "setup": client.setup(endpoint),
        "unreachable": client.why_unreachable(endpoint),
        "a2a_curl": a2a_curl(agent),
        "too_long": bool(rows) and not name_fits(endpoint.name, longest),
    }
    return render(request, "agents/agent_use.html", context)


def _shown_name(offered: AgentTool, server: McpServer | None) -> str:
    """The tool's name at the agent's address, or its own at the address of `server` alone."""
    if server is None:
        return offered.name
    return offered.tool.name if offered.tool else calls.CONNECT_TOOL


def _endpoint(agent: Agent, server: McpServer | None, longest: int) -> Endpoint:
    if server is None:
        return Endpoint(agent.gateway_url, agent.name, short_name(agent.slug, longest))
    title = f"{server.name} ({agent.name})"
    return Endpoint(f"{agent.gateway_url}/{server.slug}", title, short_name(server.slug, longest))
