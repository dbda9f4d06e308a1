"""Worker and scheduler as threads of the server process, so that one command is a whole installation.

The queue is in memory: a message lost with the process costs nothing, because due work is rows (docs/decisions/0004).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import beat
from celery import worker as celery_worker
from celery.worker import state as worker_state

from aster.celery import app

state: Any = worker_state
logger = logging.getLogger(__name__)

STOP_SECONDS = 3.0


@contextmanager
def background_work(enabled: bool) -> Iterator[None]:
    """Run one Celery worker and one beat scheduler in threads while the block runs; stop both within three seconds."""
    if not enabled:
        yield
        return
    state.should_stop = None
    work = threading.Thread(target=_run_worker, name="aster-worker", daemon=True)
    scheduler: Any = beat.EmbeddedService(app, thread=True, scheduler_cls=beat.Scheduler, max_interval=1)
    scheduler.daemon = True
    work.start()
    scheduler.start()
    try:
        yield
    finally:
        state.should_stop = 0
        scheduler.service.stop(wait=False)
        # The worker waits for messages two seconds at a time, and once more after it has seen that it should stop.
        for _ in range(2):
            wake_up.delay()
        work.join(STOP_SECONDS)
        if work.is_alive():
            logger.warning("Background work did not end in time; what was due stays due.")


@app.task(name="aster.embedded.wake_up")
def wake_up() -> None:
    """Nothing: its message alone makes a waiting worker look around."""


def _run_worker() -> None:
    # Built in its own thread: Celery closes database connections while it starts, which an event loop's thread refuses.
    worker = celery_worker.WorkController(
        app=app, pool_cls="threads", concurrency=4, loglevel="WARNING",
        without_heartbeat=True, without_mingle=True, without_gossip=True, hostname="embedded@aster",
    )  # fmt: skip
    with suppress(SystemExit):
        worker.start()
