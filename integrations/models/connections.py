"""Who is signed in where: grants, their ledger, and sign-ins under way."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.utils import timezone

from aster.accounts.access import Actor
from aster.accounts.models import AuditedModel, Organization, User
from aster.crypto import EncryptedTextField
from integrations.models.auth_configs import AuthConfig, AuthType
from integrations.models.servers import McpServer


class ConnectionStatus(models.TextChoices):
    CONNECTED = "connected", "Connected"
    ERROR = "connection_error", "Connection error"


class ConnectionQuerySet(models.QuerySet["Connection"]):
    def visible_to(self, actor: Actor) -> ConnectionQuerySet:
        """One's own connections, and for admins everybody's (never their tokens)."""
        mine = self.filter(auth_config__organization=actor.organization)
        return mine if actor.is_admin else mine.filter(user=actor.user)

    def due(self, now: datetime) -> ConnectionQuerySet:
        free = models.Q(claimed_until=None) | models.Q(claimed_until__lt=now)
        return self.filter(free, status=ConnectionStatus.CONNECTED, refresh_at__lte=now)


class Connection(AuditedModel):
    """A grant of one person (or, with `user` empty, of the organization) at one auth config.

    `generation` counts the stored grants; every write of a token compares and sets it. `claim` and `claimed_until`
    let exactly one process refresh at a time, by this row alone (docs/decisions/0003).
    """

    auth_config = models.ForeignKey(AuthConfig, on_delete=models.CASCADE, related_name="connections")
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, blank=True, related_name="connections")
    status = models.CharField(max_length=20, choices=ConnectionStatus.choices, default=ConnectionStatus.CONNECTED)
    # The grant
    access_token = EncryptedTextField(blank=True, default="")
    refresh_token = EncryptedTextField(blank=True, default="")
    expires_at = models.DateTimeField(null=True, blank=True)
    scopes = models.JSONField(default=list, blank=True)
    # What the consent asked for, and what a server has said since that its tools need (RFC 6750 §3.1): the next consent
    # asks for both, and `step_ups` counts the consents that a server was not content with
    requested_scopes = models.JSONField(default=list, blank=True)
    wanted_scopes = models.JSONField(default=list, blank=True)
    step_ups = models.PositiveSmallIntegerField(default=0)
    # What others are derived from: the ID token of this sign-in, or a token a script handed in (RFC 8693 §2.1)
    id_token = EncryptedTextField(blank=True, default="")
    subject_token = EncryptedTextField(blank=True, default="")
    subject_token_type = models.CharField(max_length=100, blank=True)
    # Where it came from: a grant is bound to the issuer and client that gave it (RFC 9700 §4.4)
    issuer = models.CharField(max_length=2000, blank=True)
    client_id = models.CharField(max_length=2000, blank=True)
    client_secret = EncryptedTextField(blank=True, default="")
    token_endpoint_auth_method = models.CharField(max_length=30, blank=True)
    token_url = models.CharField(max_length=2000, blank=True)
    revocation_url = models.CharField(max_length=2000, blank=True)
    resource = models.CharField(max_length=2000, blank=True)
    # The servers it may be sent to: those of the auth config when the person consented
    origins = models.JSONField(default=list, blank=True)
    # Keeping it alive
    generation = models.PositiveIntegerField(default=1)
    claim = models.UUIDField(null=True, blank=True, editable=False)
    claimed_until = models.DateTimeField(null=True, blank=True, editable=False)
    claimed_by = models.CharField(max_length=100, blank=True, editable=False)
    refresh_at = models.DateTimeField(null=True, blank=True)
    refreshed_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    connected_at = models.DateTimeField(default=timezone.now)

    AUDITED: ClassVar = ("user", "status", "scopes", "issuer")
    objects = ConnectionQuerySet.as_manager()

    class Meta:
        ordering = ["auth_config__name", "user__email"]
        constraints = [
            models.UniqueConstraint(fields=["auth_config", "user"], name="one_connection_per_person"),
            models.UniqueConstraint(
                fields=["auth_config"], condition=models.Q(user=None), name="one_connection_per_organization"
            ),
        ]
        indexes = [models.Index(fields=["refresh_at"], condition=models.Q(status="connected"), name="connection_due")]

    def __str__(self) -> str:
        return f"{self.user or self.auth_config.organization} at {self.auth_config}"

    def is_fresh(self, now: datetime, leeway: timedelta = timedelta(seconds=10)) -> bool:
        """The access token will still be good when the request arrives."""
        return bool(self.access_token) and (self.expires_at is None or self.expires_at - leeway > now)

    def reaches(self, server: McpServer) -> bool:
        """Whether the person consented when the server was where it is now.

        Otherwise pointing a server, or a second one with the same auth config, elsewhere would send tokens there. A
        grant made before there was any server has no origins yet; the first one saved with its auth config sets them.
        """
        return not self.origins or not server.url or server.origin in self.origins

    @property
    def can_refresh(self) -> bool:
        # Client credentials need no refresh token: asking again is the refresh (RFC 6749 §4.4.3).
        auth = self.auth_config
        return bool(self.refresh_token) or auth.is_derived or auth.auth_type == AuthType.CLIENT_CREDENTIALS


class RefreshOutcome(models.TextChoices):
    SIGNED_IN = "signed_in", "Signed in"
    RENEWED = "renewed", "Renewed"
    POSTPONED = "postponed", "Postponed"
    UNANSWERED = "unanswered", "No answer"
    REFUSED = "refused", "Refused"
    ABANDONED = "abandoned", "Abandoned"
    DROPPED = "dropped", "Dropped"


class RefreshAttempt(models.Model):
    """One line of a connection's ledger: when its grant was asked for or renewed, by whom, and how that ended.

    `unanswered` and `abandoned` (a process that died between asking and storing) are the cases that no client can rule
    out: the provider may have answered, and then the old refresh token is spent and the new one is lost.
    """

    KEPT = timedelta(days=90)

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="attempts")
    at = models.DateTimeField(default=timezone.now)
    outcome = models.CharField(max_length=12, choices=RefreshOutcome.choices)
    # Why it was asked for: "background", "call", "rejected" (a server refused the token), "sign-in"
    reason = models.CharField(max_length=20, blank=True)
    process = models.CharField(max_length=100, blank=True)
    generation = models.PositiveIntegerField()
    detail = models.CharField(max_length=500, blank=True)
    duration_ms = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["connection", "-id"], name="ledger_of_connection"),
            models.Index(fields=["at"], name="ledger_age"),
        ]

    def __str__(self) -> str:
        return f"{self.get_outcome_display()} at {self.at:%Y-%m-%d %H:%M}"


class PendingAuthorization(models.Model):
    """One journey to a provider's consent page: everything its callback needs, redeemed once, for ten minutes."""

    LIFETIME = timedelta(minutes=10)

    state_digest = models.CharField(max_length=64, unique=True)
    auth_config = models.ForeignKey(AuthConfig, on_delete=models.CASCADE)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    # The browser that started it, so that nobody can be made to finish somebody else's journey; empty for API flows.
    browser = models.CharField(max_length=64, blank=True)
    redirect_uri = models.CharField(max_length=2000)
    return_to = models.CharField(max_length=500, blank=True)
    verifier = EncryptedTextField(blank=True, default="")
    issuer = models.CharField(max_length=2000, blank=True)
    iss_required = models.BooleanField(default=False)
    client_id = models.CharField(max_length=2000)
    client_secret = EncryptedTextField(blank=True, default="")
    token_endpoint_auth_method = models.CharField(max_length=30, blank=True)
    token_url = models.CharField(max_length=2000)
    revocation_url = models.CharField(max_length=2000, blank=True)
    resource = models.CharField(max_length=2000, blank=True)
    origins = models.JSONField(default=list)
    scopes = models.JSONField(default=list)
    # The sign-in that is to be derived from this one as soon as it is finished
    derive = models.ForeignKey(AuthConfig, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.user} to {self.auth_config}"
