"""The record of every tool call."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from agents.models.agents import Agent
from aster.accounts.models import Organization, User
from integrations.models import Connection, McpServer


class CallOutcome(models.TextChoices):
    OK = "ok", "OK"
    TOOL_ERROR = "tool_error", "Tool error"
    FAILED = "failed", "Failed"
    REFUSED = "refused", "Refused"
    CONNECTION_REQUIRED = "connection_required", "Connection required"


class ToolCall(models.Model):
    """One call of one tool: who, through what, with which connection, and how it ended. Arguments are not kept."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="tool_calls")
    at = models.DateTimeField(default=timezone.now)
    user = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    user_label = models.CharField(max_length=254)
    agent = models.ForeignKey(Agent, on_delete=models.SET_NULL, null=True, related_name="calls")
    server = models.ForeignKey(McpServer, on_delete=models.SET_NULL, null=True, related_name="calls")
    server_label = models.CharField(max_length=100, blank=True)
    tool_name = models.CharField(max_length=200)
    connection = models.ForeignKey(Connection, on_delete=models.SET_NULL, null=True, related_name="+")
    connection_label = models.CharField(max_length=200, blank=True)
    via = models.CharField(max_length=20)
    outcome = models.CharField(max_length=20, choices=CallOutcome.choices)
    error_code = models.CharField(max_length=50, blank=True)
    duration_ms = models.PositiveIntegerField(default=0, validators=[MinValueValidator(0)])
    request_id = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["organization", "-at"], name="call_by_time")]

    def __str__(self) -> str:
        return f"{self.user_label} called {self.tool_name}: {self.outcome}"
