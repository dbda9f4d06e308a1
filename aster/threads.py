"""The crossing from async code to the database: a few threads of our own, each keeping its connection.

Plain `sync_to_async` puts every caller into one thread; a thread per request opens a database connection per request.
This pool does neither (docs/decisions/0001).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections

P = ParamSpec("P")
T = TypeVar("T")

_pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="aster-db")


KEEP_SECONDS = 60.0


def _keep_connections() -> None:
    """Let this thread's connections live on, although those of requests end with their thread (CONN_MAX_AGE is 0)."""
    for connection in connections.all(initialized_only=True):
        if connection.close_at is not None:
            connection.close_at = time.monotonic() + KEEP_SECONDS


async def in_db_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that uses the ORM from async code."""

    def call() -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            _keep_connections()

    return await sync_to_async(call, thread_sensitive=False, executor=_pool)()
