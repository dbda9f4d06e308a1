"""Calls that wait for a person's word."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone

from agents.models.agents import Agent, Approver
from aster.accounts.access import Actor
from aster.accounts.models import Organization, User
from aster.crypto import EncryptedJSONField
from integrations.models import McpServer


class ApprovalStatus(models.TextChoices):
    PENDING = "pending", "Waiting"
    APPROVED = "approved", "Approved"
    DENIED = "denied", "Denied"
    USED = "used", "Used"


class ApprovalQuerySet(models.QuerySet["Approval"]):
    def visible_to(self, actor: Actor) -> ApprovalQuerySet:
        """Admins see all of the organization, others what they asked for themselves."""
        rows = self.filter(organization=actor.organization)
        return rows if actor.is_admin else rows.filter(user=actor.user)

    def open(self) -> ApprovalQuerySet:
        return self.filter(status=ApprovalStatus.PENDING, expires_at__gt=timezone.now())


class Approval(models.Model):
    """Leave for one call: of this caller, of this tool, with exactly these arguments, once, and not for long."""

    VALID = timedelta(minutes=30)

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="approvals")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="approvals")
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="+")
    tool_name = models.CharField(max_length=128)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="approvals")
    # What is shown, and the SHA-256 of it in canonical JSON (RFC 8785), which a call is compared with
    arguments = EncryptedJSONField(default=dict, blank=True)
    digest = models.CharField(max_length=64)
    approver = models.CharField(max_length=10, choices=Approver.choices)
    via = models.CharField(max_length=20)
    status = models.CharField(max_length=10, choices=ApprovalStatus.choices, default=ApprovalStatus.PENDING)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(null=True)

    objects = ApprovalQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["organization", "status", "-id"], name="approval_by_status"),
            models.Index(fields=["user", "agent", "digest"], name="approval_of_call"),
        ]

    def __str__(self) -> str:
        return f"{self.tool_name} for {self.user}: {self.get_status_display()}"

    @property
    def is_open(self) -> bool:
        return self.status == ApprovalStatus.PENDING and self.expires_at > timezone.now()

    @property
    def state(self) -> str:
        """The status, or "expired" for what was not decided, or not used, in time."""
        ended = self.status in (ApprovalStatus.PENDING, ApprovalStatus.APPROVED) and self.expires_at <= timezone.now()
        return "expired" if ended else str(self.status)
