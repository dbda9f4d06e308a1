"""Who changed what: the audit trail as a page and as a file. Tool calls, the other half, are the agents app's."""

from __future__ import annotations

from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from aster.accounts import services
from aster.accounts.access import ActorRequest
from aster.accounts.audit_words import TONES, action_words, describe_changes, object_words, via_words
from aster.accounts.forms import ChangesFilter
from aster.accounts.models import AuditEvent
from aster.accounts.retention import changes_rule
from aster.exports import Columns, export_rows
from aster.pages import hub_page
from aster.paging import page_of, query_without

COLUMNS: Columns = {
    "at": lambda event: event.at.isoformat(),
    "actor": lambda event: event.actor_label,
    "via": lambda event: event.via,
    "action": lambda event: event.action,
    "object_type": lambda event: event.object_type,
    "object_id": lambda event: event.object_id,
    "object": lambda event: event.object_label,
    "changes": lambda event: event.changes,
    "request_id": lambda event: event.request_id,
}
WORDS: Columns = {"via": via_words, "action": action_words, "object_type": object_words}


@require_GET
@hub_page
def show_changes(request: ActorRequest) -> HttpResponse:
    filters = ChangesFilter(request.GET, actor=request.actor)
    rows = filters.apply(services.visible_events(request.actor)).select_related("actor", "api_key")
    page = page_of(request, rows)
    context = {
        "page": page,
        "events": [_show(event) for event in page],
        "filters": filters,
        "chips": [(label, words, query_without(request, name)) for name, label, words in filters.chips],
        "query": query_without(request),
        "export_url": reverse("admin:activity-export"),
        "kept": changes_rule(request.actor.organization).in_words("Changes"),
    }
    return render(request, "accounts/activity.html", context)


def _show(event: AuditEvent) -> dict[str, object]:
    changes = describe_changes(event)
    tone, icon = TONES.get(event.action, ("", "edit"))
    return {
        "row": event,
        "who": str(event.actor) if event.actor else event.actor_label,
        "action": action_words(event),
        # "connected Ada Park at Acme ID" says it all; "the connection" would be said twice.
        "object": "" if event.object_type == "connection" else object_words(event),
        "changes": changes,
        "brief": 0 < len(changes) <= 2 and not any(change.is_long for change in changes),
        "via": via_words(event),
        "tone": tone,
        "icon": icon,
    }


@require_GET
@hub_page
def export_changes(request: ActorRequest) -> HttpResponseBase:
    filters = ChangesFilter(request.GET, actor=request.actor)
    rows = filters.apply(services.visible_events(request.actor))
    return export_rows(request, rows, COLUMNS, name="changes", words=WORDS)
