"""Agents: the list, and each one's general settings, how to use it, and its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Count, Exists, OuterRef, Prefetch
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from agents.forms import AgentForm
from agents.models import Agent, AgentServer, ToolGrant
from agents.services import agents
from agents.services.consequences import lost_with
from aster.accounts.access import Actor, ActorRequest
from aster.errors import AsterError
from aster.pages import add_errors, ask_first, hub_page
from aster.paging import page_of, query_without
from integrations.models import McpServer, Tool
from integrations.services.state import ServerState, connections_by_server, offered_counts, server_state


@dataclass(frozen=True)
class AgentCard:
    """One agent as its card shows it to one person."""

    agent: Agent
    server_count: int
    tools_on: int
    to_connect: list[McpServer]
    troubled: list[tuple[McpServer, ServerState]]


@require_GET
@hub_page
def list_agents(request: ActorRequest) -> HttpResponse:
    with_servers = Prefetch("servers", queryset=McpServer.objects.select_related("auth_config"))
    rows = Agent.objects.visible_to(request.actor).select_related("organization").prefetch_related(with_servers)
    page = page_of(request, rows, 24)
    context = {"cards": _cards(list(page), request.actor), "page": page, "query": query_without(request)}
    return render(request, "agents/agents.html", context)


def _cards(listed: list[Agent], actor: Actor) -> list[AgentCard]:
    """Cards for these agents in four queries, however many there are."""
    servers = {server.pk: server for agent in listed for server in agent.servers.all()}
    connections = connections_by_server(servers.values(), actor)
    states = {pk: server_state(server, connections.get(pk)) for pk, server in servers.items()}
    known, off = offered_counts(servers.values()), _tools_off(listed)
    cards = []
    for agent in listed:
        own = sorted(agent.servers.all(), key=lambda server: server.name.lower())
        enabled = [server for server in own if server.is_enabled]
        broken = [server for server in enabled if states[server.pk].code in ("not_connected", "connection_error")]
        cards.append(
            AgentCard(
                agent,
                len(own),
                max(0, sum(known.get(server.pk, 0) for server in enabled) - off.get(agent.pk, 0)),
                [server for server in broken if server.needs_person],
                [(server, states[server.pk]) for server in broken if not server.needs_person],
            )
        )
    return cards


def _tools_off(listed: list[Agent]) -> dict[int, int]:
    """How many tools that could be offered now are switched off, per agent."""
    present = Tool.objects.offered().filter(server=OuterRef("server"), name=OuterRef("tool_name"))
    assigned = AgentServer.objects.filter(agent=OuterRef("agent"), server=OuterRef("server"), server__is_enabled=True)
    rows = ToolGrant.objects.filter(Exists(present), Exists(assigned), agent__in=listed, is_enabled=False)
    return {row["agent_id"]: row["n"] for row in rows.values("agent_id").annotate(n=Count("id"))}


def agent_tabs(agent: Agent, active: str) -> list[dict[str, Any]]:
    pages = {"agent-chat": "Chat", "agent": "General", "agent-tools": "Tools", "agent-scopes": "Scopes"}
    pages |= {"agent-use": "Use it", "agent-calls": "Calls"}
    return [
        {"label": label, "url": reverse(f"admin:{name}", args=[agent.slug]), "active": name == active}
        for name, label in pages.items()
    ]


@hub_page
def add_agent(request: ActorRequest) -> HttpResponse:
    request.actor.require_admin()
    form = AgentForm(request.POST or None, instance=Agent(organization=request.actor.organization), actor=request.actor)
    if request.method == "POST" and form.is_valid() and _saved(request, form):
        messages.success(request, f"{form.instance} was added. Now choose the servers it may use.")
        return redirect("admin:agent-tools", form.instance.slug)
    return render(request, "agents/agent_add.html", {"form": form}, status=400 if form.errors else 200)


@hub_page
def edit_agent(request: ActorRequest, slug: str) -> HttpResponse:
    agent = agents.find_agent(slug, actor=request.actor)
    if request.method == "POST":
        request.actor.require_admin()
    form = AgentForm(request.POST or None, instance=agent, actor=request.actor)
    if request.method == "POST" and form.is_valid() and _saved(request, form):
        messages.success(request, "Saved.")
        return redirect("admin:agent", agent.slug)
    context = {"agent": agent, "form": form, "tabs": agent_tabs(agent, "agent")}
    return render(request, "agents/agent_general.html", context, status=400 if form.errors else 200)


def _saved(request: ActorRequest, form: AgentForm) -> bool:
    form.instance.input_json_schema = form.cleaned_data["input_json_schema"]
    try:
        agents.save_agent(form.instance, actor=request.actor)
    except AsterError as error:
        add_errors(form, error)
        return False
    return True


@hub_page
def delete_agent(request: ActorRequest, slug: str) -> HttpResponse:
    request.actor.require_admin()
    agent = agents.find_agent(slug, actor=request.actor)
    if request.method == "POST":
        agents.delete_agent(agent, actor=request.actor)
        messages.success(request, f"{agent} was deleted.")
        return redirect("admin:agents")
    return ask_first(
        request,
        f"Delete {agent}?",
        "This cannot be undone.",
        parent=(reverse("admin:agent", args=[agent.slug]), agent.name),
        items=lost_with(agent),
        confirm_text="Delete agent",
    )
