"""One connection: what it is good for, and its ledger."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from aster.accounts.access import ActorRequest
from aster.pages import hub_page
from aster.paging import page_of, query_without
from integrations.models import Connection, RefreshAttempt, RefreshOutcome
from integrations.services.connections import find_connection
from integrations.services.ledger import attempts_of
from integrations.views.connections import connection_rows

TONES = {
    RefreshOutcome.SIGNED_IN: "ok",
    RefreshOutcome.RENEWED: "ok",
    RefreshOutcome.POSTPONED: "warn",
    RefreshOutcome.UNANSWERED: "warn",
    RefreshOutcome.ABANDONED: "warn",
    RefreshOutcome.DROPPED: "neutral",
    RefreshOutcome.REFUSED: "error",
}
REASONS = {
    "background": "Renewed ahead of time",
    "call": "A call needed it",
    "rejected": "The server refused the token",
    "sign-in": "Consent at the provider",
    "": "–",
}


@require_GET
@hub_page
def show_connection(request: ActorRequest, pk: int) -> HttpResponse:
    connection = find_connection(pk, actor=request.actor)
    (row,) = connection_rows(Connection.objects.filter(pk=connection.pk))
    page = page_of(request, attempts_of(connection))
    context = {
        "title": row.name,
        "row": row,
        "connection": row.connection,
        "own": connection.user == request.actor.user,
        "page": page,
        "attempts": [_show(attempt) for attempt in page],
        "query": query_without(request),
    }
    return render(request, "integrations/connection.html", context)


def _show(attempt: RefreshAttempt) -> dict[str, object]:
    return {
        "row": attempt,
        "tone": TONES.get(RefreshOutcome(attempt.outcome), "neutral"),
        "reason": REASONS.get(attempt.reason, attempt.reason),
    }
