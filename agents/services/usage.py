"""What calls amount to: how many, how many failed, how long they took; over time, per server and per tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Q, QuerySet
from django.db.models.functions import TruncDay, TruncHour

from agents.models import CallOutcome, ToolCall

MOST_ROWS = 15
# Upper bounds in milliseconds. Counting into these finds a share's duration in the same query that counts the calls.
BOUNDS = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 600_000)
BAD = Q(outcome__in=[CallOutcome.FAILED, CallOutcome.TOOL_ERROR])
HELD_UP = Q(outcome__in=[CallOutcome.REFUSED, CallOutcome.CONNECTION_REQUIRED])


@dataclass(frozen=True)
class Slot:
    """An hour or a day."""

    start: datetime
    ok: int = 0
    failed: int = 0
    held_up: int = 0

    @property
    def total(self) -> int:
        return self.ok + self.failed + self.held_up


@dataclass(frozen=True)
class Line:
    """A server or a tool. Durations are those within which half and 95 % of the successful calls ended, if any did."""

    server: str
    tool: str
    total: int
    failed: int
    held_up: int
    half_ms: int | None
    most_ms: int | None
    last_at: datetime

    @property
    def failed_percent(self) -> float:
        return 100 * self.failed / self.total


@dataclass(frozen=True)
class Usage:
    slots: list[Slot]
    by_hour: bool
    servers: list[Line]
    tools: list[Line]


def usage_of(calls: QuerySet[ToolCall], since: datetime, until: datetime) -> Usage:
    """What these calls amount to between two times: three queries, however many calls there are."""
    calls = calls.filter(at__gte=since, at__lt=until).order_by()
    by_hour = until - since <= timedelta(days=3)
    return Usage(
        _slots(calls, since, until, by_hour=by_hour),
        by_hour,
        _lines(calls, "server_label"),
        _lines(calls, "server_label", "tool_name"),
    )


def _slots(calls: QuerySet[ToolCall], since: datetime, until: datetime, *, by_hour: bool) -> list[Slot]:
    step = timedelta(hours=1) if by_hour else timedelta(days=1)
    start_of = (TruncHour if by_hour else TruncDay)("at", tzinfo=UTC)
    counted = calls.annotate(slot=start_of).values("slot").annotate(**_counts())
    known: dict[datetime, Any] = {row["slot"]: row for row in counted}
    first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    start = first if by_hour else first.replace(hour=0)
    slots = []
    while start < until:
        row = known.get(start, {})
        slots.append(Slot(start, row.get("ok", 0), row.get("failed", 0), row.get("held_up", 0)))
        start += step
    return slots


def _lines(calls: QuerySet[ToolCall], *names: str) -> list[Line]:
    ended = Q(outcome=CallOutcome.OK)
    within: dict[str, Any] = {f"ms_{bound}": Count("id", filter=ended & Q(duration_ms__lte=bound)) for bound in BOUNDS}
    counted = calls.values(*names).annotate(total=Count("id"), last_at=Max("at"), **_counts(), **within)
    return [
        Line(
            row["server_label"], row.get("tool_name", ""), row["total"], row["failed"], row["held_up"],
            _duration_of(row, 0.5), _duration_of(row, 0.95), row["last_at"],
        )
        for row in counted.order_by("-total", *names)[:MOST_ROWS]
    ]  # fmt: skip


def _counts() -> dict[str, Any]:
    outcomes = {"ok": Q(outcome=CallOutcome.OK), "failed": BAD, "held_up": HELD_UP}
    return {name: Count("id", filter=which) for name, which in outcomes.items()}


def _duration_of(row: Mapping[str, Any], share: float) -> int | None:
    if not row["ok"]:
        return None
    return next((bound for bound in BOUNDS if row[f"ms_{bound}"] >= share * row["ok"]), BOUNDS[-1])
