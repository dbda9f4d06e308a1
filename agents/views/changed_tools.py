"""The drift inbox: what changed in the tools of servers, side by side, waiting for an admin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from agents.models import Agent
from agents.services.agents import agents_by_tool
from agents.views.side_by_side import Line, line_of
from aster.accounts.access import ActorRequest
from aster.accounts.models import is_row_id
from aster.errors import InvalidInput
from aster.pages import back, hub_page
from aster.paging import page_of, query_without
from integrations.models import McpServer, Tool
from integrations.services import drift
from integrations.services.definitions import differences
from integrations.services.servers import find_server

# What a person can look at on one page; further differences are in the definitions below.
MAX_CHANGES, MAX_DIFFERENCES = 20, 60


@dataclass(frozen=True)
class Change:
    """One changed tool as its card shows it."""

    tool: Tool
    digest: str
    lines: list[Line]
    further: int
    agents: list[Agent]


@dataclass(frozen=True)
class Group:
    server: McpServer
    changes: list[Change]


@require_GET
@hub_page
def list_changes(request: ActorRequest) -> HttpResponse:
    rows = drift.waiting_changes(request.actor)
    server = request.GET.get("server", "")
    chosen = find_server(server, actor=request.actor) if server else None
    page = page_of(request, rows.filter(server=chosen) if chosen else rows, MAX_CHANGES)
    context = {
        "title": "Changed tools",
        "groups": _groups(page),
        "page": page,
        "query": query_without(request),
        "chosen": chosen,
    }
    return render(request, "agents/changed_tools.html", context)


def _groups(tools: Iterable[Tool]) -> list[Group]:
    tools = list(tools)
    affected = agents_by_tool(tools)
    return [
        Group(same[0].server, [_change(tool, affected[tool.pk]) for tool in same])
        for _, each in groupby(tools, key=lambda tool: tool.server_id)
        if (same := list(each))
    ]


def _change(tool: Tool, agents: list[Agent]) -> Change:
    found = differences(tool.definition, tool.changed_definition or {})
    lines = [line_of(each) for each in found[:MAX_DIFFERENCES]]
    return Change(tool, drift.shown_digest(tool), lines, len(found) - len(lines), agents)


@require_POST
@hub_page
def accept_change(request: ActorRequest, pk: int) -> HttpResponse:
    tool = drift.find_change(pk, actor=request.actor)
    drift.accept_change(tool, actor=request.actor, seen=request.POST.get("seen", ""))
    messages.success(request, f"{tool} of {tool.server} was accepted. Agents are offered it as it is now.")
    return back(request, reverse("admin:changed-tools"))


@require_POST
@hub_page
def accept_all(request: ActorRequest, slug: str) -> HttpResponse:
    """Accept the changes of one server that were on the page."""
    server = find_server(slug, actor=request.actor)
    accepted = drift.accept_all(server, actor=request.actor, seen=_seen(request.POST.getlist("seen")))
    if accepted.tools:
        names = ", ".join(tool.name for tool in accepted.tools[:5])
        more = f" and {len(accepted.tools) - 5} more" if len(accepted.tools) > 5 else ""
        messages.success(request, f"Accepted at {server}: {names}{more}. Agents are offered them as they are now.")
    if accepted.left:
        names = ", ".join(tool.name for tool in accepted.left[:5])
        messages.warning(request, f"Changed again meanwhile, and waiting still: {names}.")
    return back(request, reverse("admin:changed-tools"))


def _seen(posted: list[str]) -> dict[int, str]:
    """Tool id → digest, as the page had them."""
    pairs = [each.partition(":") for each in posted]
    if not all(is_row_id(pk) for pk, _, _ in pairs):
        raise InvalidInput("The page was out of date. Nothing was accepted; try again.")
    return {int(pk): digest for pk, _, digest in pairs}
