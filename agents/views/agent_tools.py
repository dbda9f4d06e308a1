"""The Tools tab: which servers an agent may use, and which of their tools are on.

One form saves everything. With JavaScript a switch saves its server's tools in place. What is posted says which tools
were on the page (`shown-…`), so that a tool that appeared meanwhile, or was filtered out, keeps its state.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django_htmx.http import HttpResponseClientRefresh

from agents.models import Agent, Approver
from agents.services import agents, approvals, calls
from agents.views.agent_pages import agent_tabs
from aster.accounts.access import Actor, ActorRequest
from aster.accounts.models import is_row_id
from aster.errors import AsterError, InvalidInput
from aster.pages import flash_error, hub_page, is_htmx
from integrations.models import McpServer, Tool
from integrations.services.servers import find_server
from integrations.services.state import ServerState, connections_by_server, server_state

MANY_TOOLS = 40
SEARCH_FROM = 20
APPROVER_CHOICES = [
    (Approver.NOBODY.value, "No approval"),
    (Approver.CALLER.value, "Caller approves"),
    (Approver.ADMIN.value, "Admin approves"),
]


@dataclass(frozen=True)
class ToolRow:
    tool: Tool
    on: bool
    approver: str

    @property
    def tokens(self) -> int:
        """About what a model reads of it in each request: four characters make a token."""
        read = {name: self.tool.definition.get(name) for name in ("name", "description", "inputSchema")}
        return len(json.dumps(read)) // 4


@dataclass(frozen=True)
class ServerRow:
    server: McpServer
    assigned: bool
    state: ServerState
    tools: list[ToolRow]
    found: list[ToolRow]
    words: str = ""

    @property
    def on_count(self) -> int:
        return sum(row.on for row in self.tools)

    @property
    def shown_names(self) -> str:
        return json.dumps([row.tool.name for row in self.found])

    @property
    def can_search(self) -> bool:
        return len(self.tools) > SEARCH_FROM

    @property
    def wants_connection(self) -> bool:
        return self.server.needs_person and self.state.code in ("not_connected", "connection_error")


def server_rows(agent: Agent, actor: Actor, *, search_at: int | None = None, words: str = "") -> list[ServerRow]:
    """Every server of the organization, assigned ones first; six queries, however many there are."""
    with_tools = {server.pk: server for server in agents.assigned_servers(agent)}
    servers = list(McpServer.objects.visible_to(actor).select_related("auth_config"))
    connections, off = connections_by_server(servers, actor), agents.tools_switched_off(agent)
    asked = approvals.approvers(agent)
    rows = []
    for server in servers:
        known: list[Tool] = with_tools[server.pk].known_tools if server.pk in with_tools else []  # type: ignore[attr-defined]
        keys = [(server.pk, tool.name) for tool in known]
        tools = [ToolRow(tool, key not in off, asked.get(key, "")) for key, tool in zip(keys, known, strict=True)]
        wanted = words if server.pk == search_at else ""
        found = [row for row in tools if _fits(row.tool, wanted)]
        state = server_state(server, connections.get(server.pk))
        rows.append(ServerRow(server, server.pk in with_tools, state, tools, found, wanted))
    return sorted(rows, key=lambda row: not row.assigned)


def _fits(tool: Tool, words: str) -> bool:
    text = f"{tool.name} {tool.title} {tool.description}".lower()
    return all(word in text for word in words.lower().split())


def _context(agent: Agent, rows: list[ServerRow]) -> dict[str, Any]:
    offered = [row for each in rows if each.server.is_enabled for row in each.tools if not row.tool.is_quarantined]
    on = [row for row in offered if row.on]
    return {
        "agent": agent,
        "rows": rows,
        "tools_on": len(on),
        "tokens": f"{round(sum(row.tokens for row in on), -2) or 100:,}",
        "too_many": len(on) > MANY_TOOLS,
        "many": MANY_TOOLS,
        "approver_choices": APPROVER_CHOICES,
    }


@hub_page
def edit_tools(request: ActorRequest, slug: str) -> HttpResponse:
    agent = agents.find_agent(slug, actor=request.actor)
    if request.method == "POST":
        return _save_all(request, agent)
    search_at, words = request.GET.get("server", ""), request.GET.get("q", "").strip()[:100]
    found_at = int(search_at) if is_row_id(search_at) else None
    rows = server_rows(agent, request.actor, search_at=found_at, words=words)
    context = {**_context(agent, rows), "tabs": agent_tabs(agent, "agent-tools"), "open_at": found_at}
    return render(request, "agents/agent_tools.html", context)


def _save_all(request: ActorRequest, agent: Agent) -> HttpResponse:
    request.actor.require_admin()
    chosen = request.POST.getlist("server")
    if not all(map(is_row_id, chosen)):
        raise InvalidInput("Choose servers from the list.")
    assigned = {int(each) for each in chosen}
    off = agents.tools_switched_off(agent)
    switched_off = {
        server: _names_off(request.POST, server, {name for pk, name in off if pk == server.pk})
        for server in agents.assigned_servers(agent, with_tools=False)
        if server.pk in assigned and f"shown-{server.pk}" in request.POST
    }
    before = set(agent.assignments.values_list("server_id", flat=True))
    servers = McpServer.objects.visible_to(request.actor).filter(pk__in=assigned)
    changed = {server: _changed_approvers(request.POST, agent, server) for server in servers}
    agents.save_agent(
        agent, actor=request.actor, server_ids=assigned, switched_off=switched_off, changed_approvers=changed
    )
    if assigned - before:
        calls.learn_tools(agent, actor=request.actor)
    messages.success(request, "Saved.")
    return redirect("admin:agent-tools", agent.slug)


def _names_off(posted: QueryDict, server: McpServer, off: set[str]) -> set[str]:
    """The tools of `server` to have off: shown and not checked, or off already and not shown."""
    try:
        shown = {str(name) for name in json.loads(posted.get(f"shown-{server.pk}", "[]"))}
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput("The page was out of date. Nothing was changed; try again.") from None
    checked = set(posted.getlist(f"tool-{server.pk}"))
    if posted.get("all") == str(server.pk):
        checked = shown
    if posted.get("none") == str(server.pk):
        checked = set()
    return (shown - checked) | (off - shown)


@hub_page
def edit_server_tools(request: ActorRequest, slug: str, server_id: int) -> HttpResponse:
    """The tools of one server, for htmx: a search in them, one switch, or all of them at once."""
    agent = agents.find_agent(slug, actor=request.actor)
    # "All on" while a search is open means all that it found.
    words = (request.POST if request.method == "POST" else request.GET).get("q", "").strip()[:100]
    if not is_htmx(request):
        return redirect("admin:agent-tools", agent.slug)
    if request.method == "POST":
        try:
            _change(request, agent, find_server(server_id, actor=request.actor))
        except AsterError as error:
            flash_error(request, error)
            return HttpResponseClientRefresh()
    rows = server_rows(agent, request.actor, search_at=server_id, words=words)
    row = next((row for row in rows if row.server.pk == server_id), None)
    if row is None:
        return HttpResponseClientRefresh()
    context = {**_context(agent, rows), "row": row, "saved": request.method == "POST"}
    # A single switch is drawn already; drawing the grid again would undo one that was pressed meanwhile.
    context["with_grid"] = request.method == "GET" or {"all", "none"} & request.POST.keys()
    return render(request, "agents/_server_tools_update.html", context)


def _change(request: ActorRequest, agent: Agent, server: McpServer) -> None:
    """One thing of a server's tools: what comes with the switches of a page says nothing new of who approves."""
    request.actor.require_admin()
    if f"shown-{server.pk}" not in request.POST:
        changed = {server: _changed_approvers(request.POST, agent, server)}
        approvals.change_approvers(agent, changed, actor=request.actor)
        return
    off = {name for pk, name in agents.tools_switched_off(agent) if pk == server.pk}
    agents.switch_tools(agent, server, off=_names_off(request.POST, server, off), actor=request.actor)


def _changed_approvers(posted: QueryDict, agent: Agent, server: McpServer) -> dict[str, str]:
    """Who approves, for the tools whose choice was changed on the page: an old one must not take a rule back."""
    asked, changed = approvals.approvers(agent), {}
    for tool in server.tools.filter(gone_at=None):
        before = posted.get(f"approver-was-{tool.pk}", asked.get((server.pk, tool.name), ""))
        chosen = posted.get(f"approver-{tool.pk}", before)
        if chosen != before:
            changed[tool.name] = chosen
    return changed
