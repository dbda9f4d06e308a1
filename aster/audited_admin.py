"""Change lists whose rows have an audit trail: their history, and bulk actions that services carry out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from aster.accounts.audit_words import Change, action_words, describe_changes, via_words
from aster.accounts.models import AuditEvent
from aster.accounts.services import visible_events
from aster.scoped_admin import M, OrgScopedAdmin, actor_of


@dataclass(frozen=True)
class HistoryEntry:
    """An audit row in the shape that the history page of Django's admin shows."""

    event: AuditEvent

    @property
    def action_time(self) -> datetime:
        return self.event.at

    @property
    def user(self) -> HistoryEntry:
        return self

    @property
    def get_full_name(self) -> str:
        return f"{self.event.actor_label} ({via_words(self.event)})"

    @property
    def get_change_message(self) -> str:
        words = action_words(self.event)
        changes = describe_changes(self.event) if self.event.action == "updated" else []
        told = "; ".join(_tell(change) for change in changes[:8])
        return f"{words.capitalize()}: {told}" if told else words.capitalize()


def _tell(change: Change) -> str:
    if change.added or change.removed:
        return f"{change.field} {' '.join([*(f'+{x}' for x in change.added), *(f'−{x}' for x in change.removed)])}"
    if change.is_long:
        return change.field
    return f"{change.field} from {change.before or 'nothing'} to {change.after or 'nothing'}"


class AuditedAdmin(OrgScopedAdmin[M]):
    """History from the audit trail, and one service call for each chosen row."""

    keeps_history = True

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        obj = self.get_object(request, object_id)
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        if obj is None:
            raise Http404
        events = visible_events(actor_of(request)).filter(object_type=self.opts.model_name, object_id=str(obj.pk))
        paginator = Paginator(events.order_by("-at", "-id"), 50)
        page: Page[AuditEvent] = paginator.get_page(request.GET.get("p"))
        entries = Page([HistoryEntry(event) for event in page], page.number, cast(Any, paginator))
        context = {
            **self.admin_site.each_context(request),
            "title": f"History of {obj}",
            "action_list": entries,
            "pagination_required": paginator.num_pages > 1,
            "page_range": paginator.get_elided_page_range(page.number),
            "page_var": "p",
            "object": obj,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/object_history.html", context)
