"""Programs that people have let in at an address of the gateway."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import models
from django.utils import timezone
from oauth2_provider.models import Application

from agents.models.agents import Agent
from aster.accounts.access import Actor
from aster.accounts.models import Membership
from integrations.models import McpServer

if TYPE_CHECKING:
    from collections.abc import Iterable


class ConnectedAppQuerySet(models.QuerySet["ConnectedApp"]):
    def visible_to(self, actor: Actor) -> ConnectedAppQuerySet:
        """One's own; for admins everybody's in the organization."""
        rows = self.filter(membership__organization=actor.organization)
        return rows if actor.is_admin else rows.filter(membership__user=actor.user)

    def usable(self) -> ConnectedAppQuerySet:
        """Those whose tokens open the door: of active people. Who is no member any more has none."""
        return self.filter(membership__user__is_active=True)

    def note_use(self, keys: Iterable[int]) -> None:
        """Remember that these were used. What was noted within the last minutes is not written again."""
        now = timezone.now()
        self.filter(pk__in=keys, last_used_at__lt=now - self.model.NOTED_EVERY).update(last_used_at=now)


class ConnectedApp(models.Model):
    """The consent of one member: this client may use this address, within these scopes. Its tokens are nothing without.

    The client's own words about itself (its name) are nobody's but its own; `redirect_host` is where its code was sent.
    """

    # Refresh tokens die when they have not been used for so long, and the row with the last of them.
    IDLE = timedelta(days=90)
    NOTED_EVERY = timedelta(minutes=5)

    membership = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="connected_apps")
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="connected_apps")
    # None: the organization's admin server
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, null=True, related_name="connected_apps")
    # None: all servers of the agent
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, null=True, related_name="+")
    # The exact URL its tokens are for
    resource = models.CharField(max_length=500)
    scopes = models.JSONField(default=list)
    redirect_host = models.CharField(max_length=300)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = ConnectedAppQuerySet.as_manager()

    class Meta:
        ordering = ["-last_used_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["membership", "application", "resource"], name="one_consent_per_resource")
        ]

    def __str__(self) -> str:
        return self.application.name or "An app without a name"

    def is_connected(self) -> bool:
        """Whether it still may act, asked of the database."""
        return ConnectedApp.objects.usable().filter(pk=self.pk).exists()
