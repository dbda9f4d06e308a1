"""Agents at work without anybody watching."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from agents.models.agents import Agent
from agents.models.conversations import Conversation
from aster.accounts.access import Actor
from aster.accounts.models import AuditedModel, Organization, User


class Overlap(models.TextChoices):
    SKIP = "skip", "Skip the run"
    WAIT = "wait", "Run when the one before has ended"


class ScheduledTaskQuerySet(models.QuerySet["ScheduledTask"]):
    def visible_to(self, actor: Actor) -> ScheduledTaskQuerySet:
        """Admins see all of the organization, others their own."""
        rows = self.filter(organization=actor.organization)
        return rows if actor.is_admin else rows.filter(created_by=actor.user)


class ScheduledTask(AuditedModel):
    """An agent, a prompt and a schedule. It runs as the person who made it, with that person's connections.

    Either `cron` (five fields, in `time_zone`) or `every_seconds`. `stopped_because` is set when only its person or an
    admin can make it run again.
    """

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="scheduled_tasks")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="scheduled_tasks")
    created_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="scheduled_tasks", editable=False)
    name = models.CharField(max_length=100)
    prompt = models.TextField(max_length=20_000)
    input = models.JSONField(default=dict, blank=True)
    cron = models.CharField(max_length=100, blank=True)
    every_seconds = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(60)])
    time_zone = models.CharField(max_length=50, default="UTC")
    overlap = models.CharField(max_length=10, choices=Overlap.choices, default=Overlap.SKIP)
    is_enabled = models.BooleanField("enabled", default=True)
    notifies_failures = models.BooleanField("mail on failure", default=True)
    next_run_at = models.DateTimeField(null=True, blank=True, editable=False, db_index=True)
    stopped_because = models.CharField(max_length=500, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    AUDITED: ClassVar = (
        *("name", "prompt", "input", "cron", "every_seconds", "time_zone", "overlap", "is_enabled"),
        *("notifies_failures", "agent"),
    )
    objects = ScheduledTaskQuerySet.as_manager()

    class Meta:
        ordering = [Lower("name"), "id"]

    def __str__(self) -> str:
        return self.name


class RunStatus(models.TextChoices):
    RUNNING = "running", "Running"
    OK = "ok", "OK"
    FAILED = "failed", "Failed"
    SKIPPED = "skipped", "Skipped"
    MISSED = "missed", "Missed"
    ABANDONED = "abandoned", "Abandoned"


class TaskRun(models.Model):
    """One run: when it was due, how it ended, and the conversation that tells what happened."""

    task = models.ForeignKey(ScheduledTask, on_delete=models.CASCADE, related_name="runs")
    due_at = models.DateTimeField()
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)
    status = models.CharField(max_length=10, choices=RunStatus.choices, default=RunStatus.RUNNING)
    error = models.CharField(max_length=500, blank=True)
    process = models.CharField(max_length=100, blank=True)
    conversation = models.ForeignKey(Conversation, on_delete=models.SET_NULL, null=True, related_name="runs")

    class Meta:
        ordering = ["-id"]
        # Whoever stores this row runs the task: two schedulers, one run.
        constraints = [models.UniqueConstraint(fields=["task", "due_at"], name="one_run_per_due_time")]

    def __str__(self) -> str:
        return f"{self.task} at {self.due_at:%Y-%m-%d %H:%M}: {self.get_status_display()}"
