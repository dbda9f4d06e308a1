"""The record of calls, written behind: a call is answered first, and its row stored within a quarter of a second.

A process that is killed loses the rows of its last quarter of a second; one that stops stores them. Who wants each row
stored before its answer sets ASTER_CALLS_WRITTEN_THROUGH=1 (docs/operations.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.db import InterfaceError, OperationalError

from agents.services.calls import CallRow, record_calls
from aster.threads import in_db_thread

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.1
AGAIN_SECONDS = 1.0
LOSABLE_SECONDS = 0.25
MOST_AT_ONCE = 500
Row = Callable[[], CallRow]


class CallLog:
    """For one event loop; `aclose()` stores what waits. A row that cannot be stored keeps its call waiting."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Row]] = []
        self._storing_since = 0.0  # when the oldest of those was noted that are being stored; 0: none is
        self._writer: asyncio.Task[None] | None = None
        self._stored = asyncio.Event()

    async def note(self, row: Row) -> None:
        """Have a row stored soon. Waits while storing lags behind: what a crash may cost stays what it is."""
        now = time.monotonic()
        self._waiting.append((now, row))
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())
        oldest = self._storing_since or self._waiting[0][0]
        if settings.ASTER_CALLS_WRITTEN_THROUGH or now - oldest > LOSABLE_SECONDS:
            await self._stored.wait()

    async def aclose(self) -> None:
        if self._writer:
            await self._writer

    async def _write(self) -> None:
        while self._waiting:
            if not settings.ASTER_CALLS_WRITTEN_THROUGH:
                await asyncio.sleep(PAUSE_SECONDS)
            stored, self._stored = self._stored, asyncio.Event()
            noted, self._waiting = self._waiting, []
            self._storing_since = noted[0][0]
            rows = [row for _, row in noted]
            for start in range(0, len(rows), MOST_AT_ONCE):
                await self._store(rows[start : start + MOST_AT_ONCE])
            self._storing_since = 0.0
            stored.set()
        self._writer = None

    async def _store(self, rows: list[Row]) -> None:
        while True:
            try:
                await in_db_thread(record_calls, rows)
                return
            except (OperationalError, InterfaceError):
                # Meanwhile no call is answered: none goes out that nothing tells of.
                log.exception("The record of calls cannot be written; trying again")
                await asyncio.sleep(AGAIN_SECONDS)
            except Exception:
                if len(rows) == 1:
                    log.exception("A call could not be recorded")
                    return
                for row in rows:
                    await self._store([row])
                return
