"""Background work on agents. What is due is in rows; a task calls a service."""

from __future__ import annotations

from celery import shared_task

from agents.services import approvals


@shared_task(name="agents.tasks.delete_expired")
def delete_expired() -> None:
    """Drop approvals, with the arguments in them, that ended long ago."""
    approvals.delete_old()
