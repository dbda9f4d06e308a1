"""The record of tool calls: the second half of the activity, and one agent's part of it."""

from __future__ import annotations

from typing import Any

from django.db.models import Avg, Count, Q, QuerySet
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from agents.forms import CallsFilter
from agents.models import CallOutcome, ToolCall
from agents.services import agents
from agents.services.calls import visible_calls
from agents.views.agent_pages import agent_tabs
from aster.accounts.access import ActorRequest
from aster.accounts.audit_words import via_words
from aster.accounts.retention import calls_rule
from aster.exports import Columns, export_rows
from aster.pages import hub_page
from aster.paging import page_of, query_without

OUTCOME_TONES = {
    CallOutcome.OK: "ok",
    CallOutcome.TOOL_ERROR: "warn",
    CallOutcome.FAILED: "error",
    CallOutcome.REFUSED: "error",
    CallOutcome.CONNECTION_REQUIRED: "info",
}
COLUMNS: Columns = {
    "at": lambda call: call.at.isoformat(),
    "user": lambda call: call.user_label,
    "via": lambda call: call.via,
    "agent": lambda call: call.agent.name if call.agent else None,
    "server": lambda call: call.server_label,
    "tool": lambda call: call.tool_name,
    "connection": lambda call: call.connection_label,
    "outcome": lambda call: call.outcome,
    "error_code": lambda call: call.error_code,
    "duration_ms": lambda call: call.duration_ms,
    "request_id": lambda call: call.request_id,
}
WORDS: Columns = {"via": via_words, "outcome": lambda call: call.get_outcome_display()}


def _show(call: ToolCall) -> dict[str, Any]:
    return {
        "row": call,
        "who": str(call.user) if call.user else call.user_label,
        "tone": OUTCOME_TONES.get(CallOutcome(call.outcome), "neutral"),
        "via": via_words(call),
    }


def _summary(rows: QuerySet[ToolCall]) -> dict[str, Any]:
    """The numbers above the list, in one query."""
    bad = Q(outcome__in=[CallOutcome.FAILED, CallOutcome.TOOL_ERROR, CallOutcome.REFUSED])
    return rows.order_by().aggregate(
        total=Count("id"),
        failed=Count("id", filter=bad),
        sign_in=Count("id", filter=Q(outcome=CallOutcome.CONNECTION_REQUIRED)),
        average=Avg("duration_ms", filter=Q(outcome=CallOutcome.OK)),
    )


@require_GET
@hub_page
def show_calls(request: ActorRequest) -> HttpResponse:
    filters = CallsFilter(request.GET, actor=request.actor)
    rows = filters.apply(visible_calls(request.actor)).select_related("user", "agent", "server")
    page = page_of(request, rows)
    context = {
        "tab": "calls",
        "page": page,
        "calls": [_show(call) for call in page],
        "summary": _summary(rows),
        "filters": filters,
        "chips": [(label, words, query_without(request, name)) for name, label, words in filters.chips],
        "query": query_without(request),
        "export_url": reverse("admin:activity-calls-export"),
        "kept": calls_rule(request.actor.organization).in_words("Calls"),
    }
    return render(request, "agents/calls.html", context)


@require_GET
@hub_page
def export_calls(request: ActorRequest) -> HttpResponseBase:
    filters = CallsFilter(request.GET, actor=request.actor)
    rows = filters.apply(visible_calls(request.actor)).select_related("agent")
    return export_rows(request, rows, COLUMNS, name="tool-calls", words=WORDS)


@require_GET
@hub_page
def show_agent_calls(request: ActorRequest, slug: str) -> HttpResponse:
    agent = agents.find_agent(slug, actor=request.actor)
    rows = visible_calls(request.actor).filter(agent=agent).select_related("user", "server")
    page = page_of(request, rows, 25)
    context = {
        "agent": agent,
        "tabs": agent_tabs(agent, "agent-calls"),
        "page": page,
        "calls": [_show(call) for call in page],
        "query": query_without(request),
    }
    return render(request, "agents/agent_calls.html", context)
