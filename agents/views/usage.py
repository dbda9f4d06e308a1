"""The third part of the activity: what the calls amount to, as charts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from agents.forms import CallsFilter
from agents.services.calls import visible_calls
from agents.services.usage import Slot, usage_of
from aster.accounts.access import ActorRequest
from aster.accounts.retention import calls_rule
from aster.pages import hub_page
from aster.paging import query_without

DEFAULT_DAYS = 30
LONGEST = timedelta(days=366)
# The chart is drawn in a box of this size and scales with the page.
WIDTH, HEIGHT, GAP = 960, 160, 0.25


@dataclass(frozen=True)
class Bar:
    """One slot as three stacked boxes, each (y, height)."""

    slot: Slot
    x: float
    width: float
    ok: tuple[float, float]
    failed: tuple[float, float]
    held_up: tuple[float, float]


@require_GET
@hub_page
def show_usage(request: ActorRequest) -> HttpResponse:
    filters = CallsFilter(request.GET, actor=request.actor)
    since, until = _period(filters)
    usage = usage_of(filters.apply(visible_calls(request.actor)), since, until)
    context = {
        "tab": "usage",
        "filters": filters,
        "chips": [(label, words, query_without(request, name)) for name, label, words in filters.chips],
        "query": query_without(request),
        "usage": usage,
        "bars": draw(usage.slots),
        "most": max((slot.total for slot in usage.slots), default=0),
        "total": sum(slot.total for slot in usage.slots),
        "since": since,
        "last": usage.slots[-1],
        "kept": calls_rule(request.actor.organization).in_words("Calls"),
    }
    return render(request, "agents/usage.html", context)


def _period(filters: CallsFilter) -> tuple[datetime, datetime]:
    """What was asked for, otherwise the last thirty days; at most a year."""
    wanted, today = filters.wanted, timezone.now().astimezone(UTC).date()
    last = wanted.get("until") or today
    first = wanted.get("since") or last - timedelta(days=DEFAULT_DAYS - 1)
    until = datetime.combine(last + timedelta(days=1), time(), UTC)
    return max(datetime.combine(first, time(), UTC), until - LONGEST), until


def draw(slots: list[Slot]) -> list[Bar]:
    """The slots as boxes, the highest as high as the chart."""
    most = max((slot.total for slot in slots), default=0) or 1
    step = WIDTH / max(len(slots), 1)
    bars = []
    for number, slot in enumerate(slots):
        boxes, top = [], float(HEIGHT)
        for count in (slot.ok, slot.held_up, slot.failed):
            height = HEIGHT * count / most
            top -= height
            boxes.append((round(top, 2), round(height, 2)))
        ok, held_up, failed = boxes
        bars.append(Bar(slot, round(number * step, 2), round(step * (1 - GAP), 2), ok, failed, held_up))
    return bars
