"""What A2A clients asked of agents: a task is one message and its answer, or several if the first answers waited."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.utils import timezone

from agents.models.conversations import Conversation
from aster.accounts.access import Actor


class TaskState(models.TextChoices):
    """The words of A2A 0.3 (§6.3); 1.0 writes TASK_STATE_INPUT_REQUIRED for `input-required`."""

    WORKING = "working", "Working"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELED = "canceled", "Canceled"
    INPUT_REQUIRED = "input-required", "Waits for approval"
    AUTH_REQUIRED = "auth-required", "Waits for a connection"
    # Told, never stored
    REJECTED = "rejected", "Rejected"


class A2aTaskQuerySet(models.QuerySet["A2aTask"]):
    def visible_to(self, actor: Actor) -> A2aTaskQuerySet:
        """A task is its person's alone, as the conversation is that it belongs to."""
        return self.filter(conversation__in=Conversation.objects.visible_to(actor))


class A2aTask(models.Model):
    """One task. `turns` are the messages that were sent to it: `{"message": <row>, "id": <the client's id>}`.

    `state` is what was last seen: while `turn` is being answered the conversation knows better.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="a2a_tasks")
    state = models.CharField(max_length=20, choices=TaskState.choices, default=TaskState.WORKING)
    turn = models.UUIDField(null=True)
    turns: models.JSONField[list[dict[str, Any]]] = models.JSONField(default=list)
    # What the state means for the person, and where they can do something about it
    words = models.TextField(blank=True)
    links: models.JSONField[list[dict[str, str]]] = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = A2aTaskQuerySet.as_manager()

    class Meta:
        ordering = ["-updated_at", "-id"]
        indexes = [models.Index(fields=["conversation", "-updated_at"], name="a2a_task_of_context")]

    def __str__(self) -> str:
        return f"{self.id}: {self.get_state_display()}"

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be said to it (A2A 1.0 §3.1.1, terminal states)."""
        return self.state in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED)
