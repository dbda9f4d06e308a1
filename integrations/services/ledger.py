"""The ledger of a connection: every time its grant was asked for or renewed, by whom, and how that ended."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import cache

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from integrations.models import Connection, RefreshAttempt, RefreshOutcome

LOST = (RefreshOutcome.ABANDONED, RefreshOutcome.UNANSWERED)


@cache
def _host() -> str:
    return socket.gethostname()[:80]


def this_process() -> str:
    """How the ledger names the process that asks: `host:pid`."""
    return f"{_host()}:{os.getpid()}"


def write(
    connection: Connection, outcome: str, reason: str, *, generation: int, detail: str = "", seconds: float = 0.0
) -> None:
    """Add a line. `generation` is the grant's after the attempt; `detail` is safe to show."""
    keep(entry(connection, outcome, reason, generation=generation, detail=detail, seconds=seconds))


def keep(line: RefreshAttempt) -> None:
    """Store a line, unless its connection was deleted meanwhile."""
    with suppress(IntegrityError), transaction.atomic():
        line.save()


def entry(
    connection: Connection,
    outcome: str,
    reason: str,
    *,
    generation: int,
    detail: str = "",
    seconds: float = 0.0,
    process: str = "",
) -> RefreshAttempt:
    """A line that is not stored yet."""
    return RefreshAttempt(
        connection=connection,
        outcome=outcome,
        reason=reason,
        process=process or this_process(),
        generation=generation,
        detail=detail[:500],
        duration_ms=milliseconds(seconds),
    )


def milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def abandoned(connection: Connection, process: str) -> RefreshAttempt:
    """A line about a process whose claim ran out before it said how its request had ended."""
    words, generation = "It ended without saying whether the provider had answered.", connection.generation
    return entry(connection, RefreshOutcome.ABANDONED, "", generation=generation, detail=words, process=process)


def lost_answer(connection: Connection) -> bool:
    """Whether an answer to the present grant may have been lost: its refresh token may be spent without our knowing."""
    return connection.attempts.filter(generation=connection.generation, outcome__in=LOST).exists()


def attempts_of(connection: Connection) -> QuerySet[RefreshAttempt]:
    """The lines of one connection, newest first."""
    return connection.attempts.order_by("-pk")


def delete_old() -> None:
    RefreshAttempt.objects.filter(at__lt=timezone.now() - RefreshAttempt.KEPT).delete()
