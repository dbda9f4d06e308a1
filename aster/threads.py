"""The crossings from async code to sync code that uses the database: threads of our own, each keeping its connection.

Plain `sync_to_async` puts every caller into one thread; a thread per request opens a database connection per request.
These pools do neither (docs/decisions/0001). There are two, so that work that waits for a provider cannot hold up work
that only asks the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

KEEP_SECONDS = 60.0
_quick = ThreadPoolExecutor(max_workers=8, thread_name_prefix="aster-db")
_patient = ThreadPoolExecutor(max_workers=32, thread_name_prefix="aster-wait")


async def in_db_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that asks the database and nobody else."""
    return await _run(_quick, lambda: function(*args, **kwargs))


async def in_waiting_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that may also wait for a provider or server, such as one that refreshes a token."""
    return await _run(_patient, lambda: function(*args, **kwargs))


async def _run(pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    return await sync_to_async(_keeping_connections(function), thread_sensitive=False, executor=pool)()


class Grouped(Generic[T, R]):
    """What is asked of the database while it is busy with the same is done together next (group commit).

    `run` gets the items of one group, and gives as many outcomes; awaiting an item gives its own. What `run` raises,
    the whole group gets.
    """

    def __init__(self, run: Callable[[list[T]], Sequence[R]]) -> None:
        self._run = run
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, list[tuple[T, asyncio.Future[R]]]]
        self._waiting = WeakKeyDictionary()
        self._tasks = set[asyncio.Task[None]]()

    async def __call__(self, item: T) -> R:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[R] = loop.create_future()
        if loop in self._waiting:
            self._waiting[loop].append((item, outcome))
        else:
            self._waiting[loop] = [(item, outcome)]
            task = loop.create_task(self._through(loop))
            self._tasks.add(task)  # a loop holds its tasks weakly
            task.add_done_callback(self._tasks.discard)
        return await outcome

    async def _through(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while group := self._waiting[loop]:
                self._waiting[loop] = []
                await self._settle(group)
        finally:
            if left := self._waiting.pop(loop):  # the loop ends: what was asked for is done, as in `_settle`
                _quick.submit(_keeping_connections(lambda: self._run([item for item, _ in left])))
            for _, outcome in left:
                outcome.cancel()

    async def _settle(self, group: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            found = await in_db_thread(self._run, [item for item, _ in group])
        except BaseException as error:
            for _, outcome in group:
                if not outcome.done():
                    outcome.set_exception(error) if isinstance(error, Exception) else outcome.cancel()
            if not isinstance(error, Exception):
                raise
            return
        for (_, outcome), each in zip(group, found, strict=True):
            if not outcome.done():  # nobody waits for it any more
                outcome.set_result(each)


def wait_for(seconds: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a thread, and wait for it up to `seconds`; raises TimeoutError while it goes on to its end.

    For what must not be cut short, such as a token request, where the caller cannot wait that long.
    """
    work = _patient.submit(_keeping_connections(lambda: function(*args, **kwargs)))
    return work.result(timeout=seconds)


def _keeping_connections(function: Callable[[], T]) -> Callable[[], T]:
    def call() -> T:
        close_old_connections()
        try:
            return function()
        finally:
            _keep_connections()

    return call


def _keep_connections() -> None:
    """Let this thread's connections live on, although those of requests end with their thread (CONN_MAX_AGE is 0).

    Where connections are pooled they go back: there are fewer of them than threads.
    """
    for connection in connections.all(initialized_only=True):
        if "pool" in connection.settings_dict.get("OPTIONS", {}):
            connection.close()
        elif connection.close_at is not None:
            connection.close_at = time.monotonic() + KEEP_SECONDS
