"""The background refresh: all grants whose time has come, many at once on one event loop (docs/decisions/0007).

Each grant goes the way of `refresh`: claimed, asked for with no transaction open, stored over the generation it came
from. A lane asks for one grant after the other over a connection of its own. It asks for the next one only when the
answer before is stored: what exists in memory alone is never more than one answer a lane.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from django.utils import timezone

from aster import egress
from aster.errors import AsterError
from aster.threads import in_db_thread, in_waiting_thread
from integrations.models import Connection
from integrations.oauth.token_requests import ask_async
from integrations.oauth.tokens import TokenRefused
from integrations.services import batches, grants, refresh

logger = logging.getLogger(__name__)

LANES = 96
LANES_PER_PROVIDER = 64
# A provider gets a lane more for every answer: one that hangs holds few of them.
FIRST_LANES = 8
# What is claimed, but not asked for yet. Claims run out, so it is given back if its turn does not come soon.
CLAIMED_AHEAD = 200
START_SECONDS = 5.0
RUN_SECONDS = 45.0
# What one provider may cost a run in requests that fail: one that hangs must not hold up the grants of all others.
PATIENCE_SECONDS = 5.0
# Between two transactions that store answers. An answer that waits could be lost with the process, so not for long.
REST_SECONDS = 0.03

_running = threading.Lock()


def refresh_due(*, stopping: Callable[[], bool] = lambda: False) -> None:
    """Renew every grant whose time has come; returns when none is left, after a while, or soon after `stopping()`.

    Any number of processes may do so at once. Within one, a second run leaves the work to the first.
    """
    if not _running.acquire(blocking=False):
        return
    try:
        anything = Connection.objects.due(timezone.now()).exists()
        refresh.leave_database()
        if anything:
            asyncio.run(_Run(stopping).work())
    finally:
        _running.release()


@dataclass(eq=False)
class _Provider:
    """What one run knows about the host of a token endpoint."""

    urls: set[str] = field(default_factory=set)
    waiting: deque[tuple[float, Connection]] = field(default_factory=deque)  # with when it was claimed
    lanes: int = 0
    limit: int = FIRST_LANES
    wasted: float = 0.0

    @property
    def is_left_alone(self) -> bool:
        return self.wasted >= PATIENCE_SECONDS

    @property
    def is_crowded(self) -> bool:
        """Has enough to do: more must not be claimed for it, or it would take the place of others."""
        return self.is_left_alone or len(self.waiting) > self.limit

    def answered(self) -> None:
        self.limit = min(self.limit + 1, LANES_PER_PROVIDER)

    def failed(self, seconds: float) -> None:
        self.limit = max(self.limit // 2, 1)
        self.wasted += seconds


def _is_late(claimed: tuple[float, Connection]) -> bool:
    return claimed[0] < time.monotonic() - START_SECONDS


class _Run:
    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._until = time.monotonic() + RUN_SECONDS
        self._providers: dict[str, _Provider] = {}
        self._lanes: set[asyncio.Task[None]] = set()
        self._store = _Store()
        # Rows that our own code fails at: still due, but not for this run.
        self._broken: set[int] = set()
        self._changed = asyncio.Event()
        self._exhausted = False
        self._has_ended = False
        self._look_again = 0.0

    async def work(self) -> None:
        try:
            await self._hand_out()
        finally:
            # Also when the database is away: what was asked for is waited for, whatever happens, and then stored.
            self._has_ended = True
            try:
                await self._give_back()
            finally:
                if self._lanes:
                    await asyncio.wait(self._lanes)

    async def _hand_out(self) -> None:
        while not self._is_over():
            self._changed.clear()
            await self._give_back(late=True)
            room = self._room()
            if room and not await self._claim(room) and not self._lanes:
                break
            try:
                await asyncio.wait_for(self._changed.wait(), 0.5)
            except TimeoutError:
                continue

    def _is_over(self) -> bool:
        return self._has_ended or time.monotonic() > self._until or self._stopping()

    def _room(self) -> int:
        """How many rows to claim now."""
        crowded = any(provider.is_crowded for provider in self._providers.values())
        if self._lanes and (time.monotonic() < self._look_again if crowded else self._exhausted):
            return 0
        open_to_more = (provider for provider in self._providers.values() if not provider.is_crowded)
        room = CLAIMED_AHEAD - sum(len(provider.waiting) for provider in open_to_more)
        return room if room >= CLAIMED_AHEAD // 2 else 0

    async def _claim(self, room: int) -> int:
        """Claim what is due and get lanes going for it."""
        crowded = [provider for provider in self._providers.values() if provider.is_crowded]
        not_at = [url for provider in crowded for url in provider.urls]
        started = time.monotonic()
        rows = await in_db_thread(batches.claim_due, room, not_at=not_at, not_these=self._broken)
        if len(rows) < room:
            # There is no more; where some were left out, there soon may be.
            self._exhausted, self._look_again = not crowded, started + 1
        for row in rows:
            provider = self._providers.setdefault(_host(row.token_url), _Provider())
            provider.urls.add(row.token_url)
            provider.waiting.append((started, row))
        for provider in self._providers.values():
            self._open_lanes(provider)
        return len(rows)

    async def _give_back(self, *, late: bool = False) -> None:
        """Release claimed rows nothing was asked for: of providers that are left alone, and what is `late` or all."""
        given = []
        for provider in self._providers.values():
            while provider.waiting and (not late or provider.is_left_alone or _is_late(provider.waiting[0])):
                given.append(provider.waiting.popleft()[1])
        if given:
            await in_db_thread(batches.release, given)

    def _open_lanes(self, provider: _Provider) -> None:
        while provider.lanes < provider.limit and len(self._lanes) < LANES and (row := self._next(provider)):
            provider.lanes += 1
            lane = asyncio.create_task(self._serve(provider, row))
            self._lanes.add(lane)
            lane.add_done_callback(partial(self._lane_ended, provider))

    def _lane_ended(self, provider: _Provider, lane: asyncio.Task[None]) -> None:
        provider.lanes -= 1
        self._lanes.discard(lane)
        for other in self._providers.values():
            self._open_lanes(other)
        self._changed.set()

    def _next(self, provider: _Provider) -> Connection | None:
        if not provider.waiting or provider.is_left_alone or self._is_over():
            return None
        if _is_late(provider.waiting[0]):
            # Something held us up. Its claim may have run out, and another process may be asking for it.
            self._changed.set()
            return None
        row = provider.waiting.popleft()[1]
        if len(provider.waiting) in (0, provider.limit):
            self._changed.set()
        return row

    async def _serve(self, provider: _Provider, row: Connection | None) -> None:
        """One lane."""
        async with egress.AsyncLine() as line:
            while row:
                await self._renew(provider, row, line)
                self._open_lanes(provider)
                row = self._next(provider) if provider.lanes <= provider.limit else None

    async def _renew(self, provider: _Provider, held: Connection, line: egress.AsyncLine) -> None:
        """One exchange with the provider, under the claim. Whatever goes wrong, the others go on."""
        started = time.monotonic()
        try:
            trouble = await self._ask(held, line)
        except Exception:
            logger.exception("The refresh of connection %s failed.", held.pk)
            self._broken.add(held.pk)
            provider.failed(time.monotonic() - started)
            return
        if trouble is None:
            provider.answered()
            return
        logger.warning("The refresh of connection %s failed: %s", held.pk, trouble.code)
        # A clear no is an answer like any other.
        if isinstance(trouble, TokenRefused) and trouble.permanent:
            provider.answered()
        else:
            provider.failed(time.monotonic() - started)

    async def _ask(self, held: Connection, line: egress.AsyncLine) -> AsterError | None:
        if held.auth_config.is_derived:
            # Several requests, perhaps after a refresh of its source: too rare for a way of its own.
            await in_db_thread(batches.release, [held])
            return await in_waiting_thread(refresh.refresh_if_due, held.pk)
        started = time.monotonic()
        try:
            request = grants.renewal_request(held.auth_config, held)
            answer = await ask_async(request, line, seconds=grants.TOKEN_REQUEST_SECONDS)
        except AsterError as trouble:
            seconds = time.monotonic() - started
            await in_db_thread(batches.note_trouble, held, trouble, seconds)
            return trouble
        except Exception:
            await in_db_thread(batches.release, [held])
            raise
        await self._store.put(batches.Renewed(held, answer, time.monotonic() - started))
        return None


class _Store:
    """Stores answers as they come: at once if it is idle, otherwise all that came meanwhile in one transaction.

    A transaction and the way to its thread cost as much as storing ten rows, so the next one comes after a short rest.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[batches.Renewed, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, renewed: batches.Renewed) -> None:
        """Returns when it is stored."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((renewed, stored))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await stored

    async def _write(self) -> None:
        while self._pending:
            taken, self._pending = self._pending, []
            try:
                await in_db_thread(batches.store_renewed, [renewed for renewed, _stored in taken])
            except Exception as error:
                for _renewed, stored in taken:
                    stored.set_exception(error)
            else:
                for _renewed, stored in taken:
                    stored.set_result(None)
            await asyncio.sleep(REST_SECONDS)
        self._writing = None


def _host(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])
