"""Calls that wait for a person: the list, and a page for each, which the refusal of the call leads to."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from agents.models import Approval
from agents.services import approvals
from aster.accounts.access import Actor, ActorRequest
from aster.accounts.audit_words import via_words
from aster.pages import hub_page
from aster.paging import page_of, query_without

MAX_WAITING = 50
STATES = {
    "pending": ("info", "Waiting"),
    "approved": ("ok", "Approved, not used yet"),
    "denied": ("error", "Denied"),
    "used": ("ok", "Approved and used"),
    "expired": ("neutral", "Expired"),
}


@dataclass(frozen=True)
class Card:
    """One approval as one person sees it."""

    row: Approval
    actor: Actor

    @property
    def tone(self) -> str:
        return STATES[self.row.state][0]

    @property
    def label(self) -> str:
        return STATES[self.row.state][1]

    @property
    def state(self) -> str:
        return self.row.state

    @property
    def is_over(self) -> bool:
        return self.row.expires_at <= timezone.now()

    @property
    def arguments(self) -> str:
        return approvals.readable(self.row.arguments)

    @property
    def may_decide(self) -> bool:
        return approvals.may_decide(self.row, self.actor)

    @property
    def is_own(self) -> bool:
        return self.row.user_id == self.actor.person.pk

    @property
    def via(self) -> str:
        return via_words(self.row)


@require_GET
@hub_page
def list_approvals(request: ActorRequest) -> HttpResponse:
    rows = approvals.visible_approvals(request.actor)
    waiting = rows.open().order_by("expires_at", "pk")
    shown = list(waiting[:MAX_WAITING])
    page = page_of(request, rows.exclude(pk__in=waiting.values("pk")).defer("arguments"), 25)
    context = {
        "waiting": [Card(row, request.actor) for row in shown],
        "waiting_count": waiting.count(),
        "page": page,
        "history": [Card(row, request.actor) for row in page],
        "query": query_without(request),
    }
    return render(request, "agents/approvals.html", context)


@require_GET
@hub_page
def show_approval(request: ActorRequest, pk: int) -> HttpResponse:
    approval = approvals.find_approval(pk, actor=request.actor)
    return render(request, "agents/approval.html", {"card": Card(approval, request.actor)})


@require_POST
@hub_page
def approve_call(request: ActorRequest, pk: int) -> HttpResponse:
    approval = approvals.approve(approvals.find_approval(pk, actor=request.actor), actor=request.actor)
    return _onwards(request, pk, f"Approved. The same call of {approval.tool_name} goes through once.")


@require_POST
@hub_page
def deny_call(request: ActorRequest, pk: int) -> HttpResponse:
    approval = approvals.deny(approvals.find_approval(pk, actor=request.actor), actor=request.actor)
    return _onwards(request, pk, f"Denied. This call of {approval.tool_name} is refused.")


def _onwards(request: ActorRequest, pk: int, words: str) -> HttpResponse:
    """Back to where the button was; the page of one approval says itself what became of it."""
    if request.POST.get("from") != "list":
        return redirect("admin:approval", pk)
    messages.success(request, words)
    return redirect("admin:approvals")
