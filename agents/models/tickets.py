"""Session tickets: what a page of another app may do for one person, and the sign-ins begun with one."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

from agents.models.agents import Agent
from aster.accounts.access import Actor
from aster.accounts.models import ApiKey, Organization, User
from integrations.models import McpServer


class SessionTicketQuerySet(models.QuerySet["SessionTicket"]):
    def visible_to(self, actor: Actor) -> SessionTicketQuerySet:
        """Tickets one made or that act for one; for admins all of the organization."""
        rows = self.filter(organization=actor.organization)
        return rows if actor.is_admin else rows.filter(models.Q(user=actor.user) | models.Q(made_by=actor.user))


class SessionTicket(models.Model):
    """Lets pages of one origin act for one person, with some agents, for a short time. The text is shown once."""

    PREFIX = "ast"
    DEFAULT_SECONDS, MAX_SECONDS = 15 * 60, 12 * 3600

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="session_tickets")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="session_tickets")
    made_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    # It ends with the key it was made with
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="session_tickets")
    agents = models.ManyToManyField(Agent, related_name="session_tickets")
    scopes = models.JSONField(default=list)
    # The embedding page's: scheme://host[:port]
    origin = models.CharField(max_length=200)
    lookup = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)
    revoked_at = models.DateTimeField(null=True)

    objects = SessionTicketQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.user.email} at {self.origin}"

    def state(self, now: datetime | None = None) -> str:
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at <= (now or timezone.now()) else "active"


class EmbeddedSignIn(models.Model):
    """One press of Connect on a page of another app, from there to the provider and back.

    Its address carries the `code`. `proof` stays with the page that asked and is handed to the window it opened, so
    that a link that was sent to somebody else begins nothing. `state_digest` is set once the sign-in has begun.
    """

    LIFETIME = timedelta(minutes=5)

    ticket = models.ForeignKey(SessionTicket, on_delete=models.CASCADE, related_name="sign_ins")
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="+")
    code_digest = models.CharField(max_length=64, unique=True)
    proof_digest = models.CharField(max_length=64)
    state_digest = models.CharField(max_length=64, blank=True, db_index=True)
    expires_at = models.DateTimeField()
    begun_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.ticket} to {self.server}"
