"""Sessions that outlive a call, for servers where opening one costs a handshake or a process.

One belongs to one person at one server: what a server remembers of a session is nobody else's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType

from integrations.mcp_client.session import Session
from integrations.mcp_client.target import Target

IDLE_SECONDS = 60.0
SWEEP_SECONDS = 5.0
MOST_KEPT = 200


@dataclass(eq=False)
class _Kept:
    target: Target
    session: Session
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    used_at: float = 0.0
    is_retired: bool = False


class SharedSession:
    """A session at a server that wants no connection, for one call after the other and several at once: `async with`
    for each. It belongs to one person, as kept ones do.

    Should the server turn out to want one after all, what was opened for that is closed with the last call.
    """

    __slots__ = ("_opening", "_session", "_target", "_users")

    def __init__(self, target: Target) -> None:
        self._target, self._opening = target, asyncio.Lock()
        self._session: Session | None = None
        self._users = 0

    async def __aenter__(self) -> Session:
        session = self._session
        if session is None:
            session = self._session = Session(self._target)
        self._users += 1
        if not session.is_open:
            try:
                async with self._opening:
                    await session.open()
            except BaseException as error:
                await self._leave(error)
                raise
        session.assume()
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._leave(error)

    async def _leave(self, error: BaseException | None) -> None:
        self._users -= 1
        session = self._session
        if session and not self._users and not session.is_free:
            self._session = None
            # Cancelled: no time for goodbyes
            await session.close(politely=error is None or isinstance(error, Exception))


class KeptSessions:
    """For one event loop; `aclose()` when it ends. `clock` in seconds; only tests have another one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, sweep_seconds: float = SWEEP_SECONDS) -> None:
        self._clock, self._sweep_seconds = clock, sweep_seconds
        self._kept: dict[Hashable, _Kept] = {}
        self._open: list[_Kept] = []  # retired ones too, while a call goes over them
        self._sweeper: asyncio.Task[None] | None = None
        self._closing = set[asyncio.Task[None]]()

    @asynccontextmanager
    async def use(self, key: Hashable, target: Target) -> AsyncIterator[Session]:
        """The open session of `key`. Another target than last time, as after a change of the server, opens a new one.

        Raises what open_target() raises.
        """
        kept = self._kept.get(key)
        if kept is None or not (kept.target is target or kept.target == target):
            if kept:
                self._retire(key, kept)
            kept = self._kept[key] = _Kept(target, Session(target))
            self._open.append(kept)
            self._make_room()
        kept.users += 1
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        try:
            async with kept.opening:
                await kept.session.open()
            yield kept.session
        finally:
            kept.users -= 1
            kept.used_at = self._clock()
            if kept.is_retired:
                self._retire(key, kept)

    async def aclose(self) -> None:
        if self._sweeper:
            self._sweeper.cancel()
        self._kept.clear()
        for kept in list(self._open):
            self._close(kept)  # calls that still go over it fail: a process must not outlive this one
        if self._closing:
            await asyncio.wait(self._closing)

    def _make_room(self) -> None:
        idle = [(key, kept) for key, kept in self._kept.items() if not kept.users and kept.used_at]
        idle.sort(key=lambda item: item[1].used_at)
        for key, kept in idle[: max(0, len(self._kept) - MOST_KEPT)]:
            self._retire(key, kept)

    def _retire(self, key: Hashable, kept: _Kept) -> None:
        """Close it, once the last call over it has ended."""
        if self._kept.get(key) is kept:
            del self._kept[key]
        kept.is_retired = True
        if not kept.users:
            self._close(kept)

    def _close(self, kept: _Kept) -> None:
        if kept in self._open:
            self._open.remove(kept)
            task = asyncio.create_task(kept.session.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _sweep(self) -> None:
        while self._kept:
            await asyncio.sleep(self._sweep_seconds)
            oldest = self._clock() - IDLE_SECONDS
            for key, kept in list(self._kept.items()):
                if not kept.users and kept.used_at < oldest:
                    self._retire(key, kept)
        self._sweeper = None
