"""Background work of agents. What is due is in rows; a lost message costs no more than the scheduler's next round."""

from __future__ import annotations

import threading

from celery import shared_task
from django.utils import timezone

from agents.authorization_server import cleaning
from agents.runtime import scheduled
from agents.services import approvals, calls, schedules, tickets
from agents.services.notices import tell_of_failure
from aster.accounts import retention
from aster.celery import enqueue

# A run may take minutes. It must not take the workers that keep connections alive.
_runs = threading.BoundedSemaphore(2)


@shared_task(name="agents.tasks.run_due_tasks")
def run_due_tasks() -> None:
    now = timezone.now()
    for pk in schedules.due_tasks(now).values_list("pk", flat=True)[:100]:
        enqueue("agents.tasks.run_task", pk)
    for run in schedules.give_up_dead_runs(now):
        tell_of_failure(
            run.task, "Its last run ended with its process. What it did until then stays done.", stopped=False
        )


@shared_task(name="agents.tasks.run_task")
def run_task(pk: int) -> None:
    if not _runs.acquire(blocking=False):
        return  # still due: the next round comes in half a minute
    try:
        scheduled.run_task(pk)
    finally:
        _runs.release()


@shared_task(name="agents.tasks.delete_old")
def delete_old() -> None:
    """Drop what has been kept for as long as it should be. docs/operations.md has all these rules."""
    schedules.delete_old_runs()
    approvals.delete_old()
    tickets.delete_old()
    cleaning.delete_old()
    calls.delete_old_calls()
    retention.delete_old_changes()
