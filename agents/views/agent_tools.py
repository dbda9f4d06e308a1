"""The Tools tab: which servers an agent may use, and which of their tools are on.

One form saves everything. With JavaScript a switch saves its server's tools in place. What is posted says which tools
were on the page (`shown-…`), so that a tool that appeared meanwhile, was filtered out or is on another page keeps its
state; a button for all of a server's tools means those too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django_htmx.http import HttpResponseClientRefresh

from agents.models import Agent, Approver
from agents.runtime.finding import MOST_OFFERED, SEARCH
from agents.services import agents, approvals, calls
from agents.services.tool_budget import MANY_TOOLS, is_too_much, tokens_of
from agents.views.agent_pages import agent_tabs
from aster.accounts.access import Actor, ActorRequest
from aster.accounts.models import is_row_id
from aster.errors import AsterError, InvalidInput
from aster.pages import flash_error, hub_page, is_htmx
from integrations.models import McpServer, Tool
from integrations.services.catalogue import tools_of
from integrations.services.servers import find_server
from integrations.services.state import ServerState, connections_by_server, server_state

SEARCH_FROM, TOOLS_ON_PAGE = 20, 60
# So many tools are drawn with the page; those of further servers when they are opened.
MOST_DRAWN = 200
# Buttons for what a search in a server found
FOUND = ("found_on", "found_off")
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
        return tokens_of(self.tool.definition)


@dataclass(frozen=True)
class ServerRow:
    """A server with all of its tools, those that fit `words`, and the page of these that is shown; None: not drawn."""

    server: McpServer
    assigned: bool
    state: ServerState
    tools: list[ToolRow]
    found: list[ToolRow]
    page: Page[ToolRow] | None
    words: str = ""

    @property
    def on_count(self) -> int:
        return sum(row.on for row in self.tools)

    @cached_property
    def offered(self) -> list[ToolRow]:
        """What a model is offered of it, to somebody who holds every scope."""
        return [row for row in self.tools if row.on and not row.tool.is_quarantined] if self.server.is_enabled else []

    @cached_property
    def tokens(self) -> int:
        return sum(row.tokens for row in self.offered)

    @property
    def about_tokens(self) -> str:
        return _about(self.tokens)

    @property
    def shown_names(self) -> str:
        return json.dumps([row.tool.name for row in self.page or ()])

    @property
    def query(self) -> str:
        """Of the pages of these tools."""
        return urlencode({"server": self.server.pk, **({"q": self.words} if self.words else {})})

    @property
    def can_search(self) -> bool:
        return len(self.tools) > SEARCH_FROM

    @property
    def wants_connection(self) -> bool:
        return self.server.needs_person and self.state.code in ("not_connected", "connection_error")


@dataclass(frozen=True)
class Look:
    """Which server's tools somebody looks at, in full: those that fit the words, on this page."""

    server_id: int | None = None
    words: str = ""
    page: str = ""


def server_rows(agent: Agent, actor: Actor, look: Look) -> list[ServerRow]:
    """Every server of the organization, assigned ones first; six queries, however many there are."""
    with_tools = {server.pk: server for server in agents.assigned_servers(agent)}
    servers = sorted(
        McpServer.objects.visible_to(actor).select_related("auth_config"), key=lambda each: each.pk not in with_tools
    )
    connections, off = connections_by_server(servers, actor), agents.tools_switched_off(agent)
    asked = approvals.approvers(agent)
    rows, room = [], MOST_DRAWN
    for server in servers:
        known: list[Tool] = with_tools[server.pk].known_tools if server.pk in with_tools else []  # type: ignore[attr-defined]
        keys = [(server.pk, tool.name) for tool in known]
        tools = [ToolRow(tool, key not in off, asked.get(key, "")) for key, tool in zip(keys, known, strict=True)]
        looked_at = server.pk == look.server_id
        found = [row for row in tools if _fits(row.tool, look.words)] if looked_at else tools
        page = Paginator(found, TOOLS_ON_PAGE).get_page(look.page if looked_at else 1)
        if drawn := looked_at or len(page) <= room:
            room -= len(page)
        state = server_state(server, connections.get(server.pk))
        words = look.words if looked_at else ""
        rows.append(ServerRow(server, server.pk in with_tools, state, tools, found, page if drawn else None, words))
    return rows


def _fits(tool: Tool, words: str) -> bool:
    text = f"{tool.name} {tool.title} {tool.description}".lower()
    return all(word in text for word in words.lower().split())


def _about(tokens: int) -> str:
    return f"{round(tokens, -2) or 100:,}"


def _context(agent: Agent, rows: list[ServerRow]) -> dict[str, Any]:
    count, tokens = sum(len(row.offered) for row in rows), sum(row.tokens for row in rows)
    return {
        "agent": agent,
        "rows": rows,
        "tools_on": count,
        "tokens": _about(tokens),
        "is_searched": is_too_much(count, tokens),
        "search_tokens": _about(tokens_of(SEARCH)),
        "found_tokens": _about(tokens // count * MOST_OFFERED) if count else "",
        "most_offered": MOST_OFFERED,
        "too_many": count > MANY_TOOLS,
        "approver_choices": APPROVER_CHOICES,
    }


@hub_page
def edit_tools(request: ActorRequest, slug: str) -> HttpResponse:
    agent = agents.find_agent(slug, actor=request.actor)
    if request.method == "POST":
        return _save_all(request, agent)
    server_id = request.GET.get("server", "")
    look = _look(request.GET, int(server_id) if is_row_id(server_id) else None)
    rows = server_rows(agent, request.actor, look)
    context = {**_context(agent, rows), "tabs": agent_tabs(agent, "agent-tools"), "open_at": look.server_id}
    return render(request, "agents/agent_tools.html", context)


def _look(query: QueryDict, server_id: int | None) -> Look:
    return Look(server_id, query.get("q", "").strip()[:100], query.get("page", ""))


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
        if server.pk in assigned and _says_which(request.POST, server)
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


def _pressed(posted: QueryDict, server: McpServer) -> tuple[str, str]:
    """The button that says what to do with many of a server's tools, and the words of the search it is about."""
    for button in (*agents.CHOICES, *FOUND):
        server_id, _, words = posted.get(button, "").partition(" ")
        if server_id == str(server.pk):
            return button, words
    return "", ""


def _says_which(posted: QueryDict, server: McpServer) -> bool:
    return f"shown-{server.pk}" in posted or bool(_pressed(posted, server)[0])


def _names_off(posted: QueryDict, server: McpServer, off: set[str]) -> set[str]:
    """The tools of `server` to have off: what a button says, or those shown and not checked; others as they are."""
    button, words = _pressed(posted, server)
    if button in agents.CHOICES:
        return agents.off_when(server, button, off)
    if button:
        found = {tool.name for tool in tools_of(server) if _fits(tool, words)}
        return off - found if button == "found_on" else off | found
    try:
        shown = {str(name) for name in json.loads(posted.get(f"shown-{server.pk}", "[]"))}
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput("The page was out of date. Nothing was changed; try again.") from None
    return (shown - set(posted.getlist(f"tool-{server.pk}"))) | (off - shown)


@hub_page
def edit_server_tools(request: ActorRequest, slug: str, server_id: int) -> HttpResponse:
    """The tools of one server, for htmx: opened, searched, one switched, or all of them at once."""
    agent = agents.find_agent(slug, actor=request.actor)
    if not is_htmx(request):
        return redirect("admin:agent-tools", agent.slug)
    if request.method == "POST":
        try:
            _change(request, agent, find_server(server_id, actor=request.actor))
        except AsterError as error:
            flash_error(request, error)
            return HttpResponseClientRefresh()
    rows = server_rows(agent, request.actor, _look(request.POST or request.GET, server_id))
    row = next((row for row in rows if row.server.pk == server_id), None)
    if row is None:
        return HttpResponseClientRefresh()
    context = {**_context(agent, rows), "row": row, "saved": request.method == "POST"}
    # A single switch is drawn already; drawing the grid again would undo one that was pressed meanwhile.
    context["with_grid"] = request.method == "GET" or {*agents.CHOICES, *FOUND} & request.POST.keys()
    return render(request, "agents/_server_tools_update.html", context)


def _change(request: ActorRequest, agent: Agent, server: McpServer) -> None:
    """One thing of a server's tools: what comes with the switches of a page says nothing new of who approves."""
    request.actor.require_admin()
    if not _says_which(request.POST, server):
        changed = {server: _changed_approvers(request.POST, agent, server)}
        approvals.change_approvers(agent, changed, actor=request.actor)
        return
    off = {name for pk, name in agents.tools_switched_off(agent) if pk == server.pk}
    agents.switch_tools(agent, server, off=_names_off(request.POST, server, off), actor=request.actor)


def _changed_approvers(posted: QueryDict, agent: Agent, server: McpServer) -> dict[str, str]:
    """Who approves, for the tools whose choice was changed on the page: an old one must not take a rule back."""
    named = (field.removeprefix("approver-") for field in posted if field.startswith("approver-"))
    tools = list(server.tools.filter(gone_at=None, pk__in=filter(is_row_id, named)))
    asked, changed = approvals.approvers(agent) if tools else {}, dict[str, str]()
    for tool in tools:
        before = posted.get(f"approver-was-{tool.pk}", asked.get((server.pk, tool.name), ""))
        chosen = posted.get(f"approver-{tool.pk}", before)
        if chosen != before:
            changed[tool.name] = chosen
    return changed
