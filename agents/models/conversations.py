"""Conversations of people with agents."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone

from agents.models.agents import Agent
from aster.accounts.access import Actor
from aster.accounts.models import Organization, User


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def visible_to(self, actor: Actor) -> ConversationQuerySet:
        """A conversation is its person's alone: admins read the record of calls, not what people write.

        On another app's page there are only those that were begun on its pages.
        """
        if actor.user is None:
            return self.none()
        mine = self.filter(organization=actor.organization, user=actor.user)
        return mine.filter(origin=actor.origin) if actor.origin else mine


class Conversation(models.Model):
    """One person's conversation with one agent. `running_until` is set while an answer is being made."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="conversations")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="conversations")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=200, blank=True)
    # The other app on whose page it was begun with a session ticket, if it was
    origin = models.CharField(max_length=200, blank=True, default="", editable=False)
    # What A2A clients call it by; those of other ways have none
    context_id = models.CharField(max_length=200, blank=True, default="", editable=False)
    # Values for the agent's input_json_schema
    input = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    # The turn that is being answered, and until when it counts as alive if nobody says otherwise
    turn = models.UUIDField(null=True, editable=False)
    turn_until = models.DateTimeField(null=True, editable=False)
    stop_requested = models.BooleanField(default=False, editable=False)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ["-updated_at", "-id"]
        indexes = [models.Index(fields=["user", "agent", "-updated_at"], name="conversation_of_person")]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "agent", "context_id"], condition=~models.Q(context_id=""), name="a2a_context_once"
            )
        ]

    def __str__(self) -> str:
        return self.title or f"Conversation with {self.agent}"


class Author(models.TextChoices):
    PERSON = "user", "You"
    MODEL = "assistant", "Agent"
    TOOL = "tool", "Tool"


class MessageState(models.TextChoices):
    WRITING = "writing", "Writing"
    COMPLETE = "complete", "Complete"
    STOPPED = "stopped", "Stopped"
    FAILED = "failed", "Failed"


class Message(models.Model):
    """One entry of a conversation, in the order of its id.

    The model's entries carry the calls it asked for: `{"id", "name", "arguments"}`. A tool's entry answers one of them
    (`call_id`); `facts` is what people are shown about it: outcome, duration_ms, server, connection, code, connect,
    approval.
    """

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    author = models.CharField(max_length=10, choices=Author.choices)
    state = models.CharField(max_length=10, choices=MessageState.choices, default=MessageState.COMPLETE)
    text = models.TextField(blank=True)
    calls: models.JSONField[list[dict[str, Any]]] = models.JSONField(default=list, blank=True)
    call_id = models.CharField(max_length=200, blank=True)
    tool_name = models.CharField(max_length=200, blank=True)
    facts: models.JSONField[dict[str, Any]] = models.JSONField(default=dict, blank=True)
    error = models.CharField(max_length=500, blank=True)
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.get_author_display()}: {self.text[:50]}"
