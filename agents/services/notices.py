"""Mail to people about what happened while they were not there."""

from __future__ import annotations

import logging

from django.conf import settings
from django.core.mail import send_mail
from django.urls import reverse

from agents.models import ScheduledTask

logger = logging.getLogger(__name__)


def tell_of_failure(task: ScheduledTask, error: str, *, stopped: bool) -> None:
    """Mail the task's person, if they want that and the operator has set EMAIL_URL. The page tells it in any case."""
    person = task.created_by
    if not (task.notifies_failures and settings.ASTER_SENDS_MAIL and person.is_active):
        return
    # A name may hold what people like; a header must be one line.
    subject = " ".join(f"{task.name} {'stopped' if stopped else 'failed'}".split())
    address = f"{settings.ASTER_PUBLIC_URL}{reverse('admin:schedule', args=[task.pk])}"
    after = "It does not run again until you switch it on." if stopped else "It runs again when it is due."
    text = f"{task.name}, which runs {task.agent} for you in {task.organization}:\n\n{error}\n\n{after}\n{address}\n"
    try:
        send_mail(subject, text, None, [person.email])
    except OSError as problem:  # smtplib's errors are OSErrors; a mail that does not go out fails nothing
        logger.warning("A notice about scheduled task %s was not sent: %s", task.pk, type(problem).__name__)
