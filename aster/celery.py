"""The Celery application, and the one way services ask for work to happen soon."""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import Celery
from django.db import transaction

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aster.settings")

logger = logging.getLogger(__name__)

app = Celery("aster")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def enqueue(task_name: str, *args: Any) -> None:
    """Send a task after the running transaction commits. `args` are ids, never objects or secrets.

    A queue that cannot be reached costs time, not work: what is due is a row, and the scheduler finds it.
    """

    def send() -> None:
        try:
            app.send_task(task_name, args=args, retry=False)
        except Exception as error:  # the broker's errors are many and none of them may fail the caller
            logger.warning("The queue did not take %s: %s", task_name, type(error).__name__)

    transaction.on_commit(send)
