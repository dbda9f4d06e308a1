"""MCP servers, how to sign in to them, who is signed in, and the tools they were seen to offer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone

from aster.accounts.access import Actor
from aster.accounts.models import AuditedModel, Organization, User, slug_validator
from aster.crypto import EncryptedJSONField, EncryptedTextField


class AuthType(models.TextChoices):
    NONE = "NONE", "None"
    BEARER = "BEARER", "API key"
    BASIC = "BASIC", "Username and password"
    CLIENT_CREDENTIALS = "CLIENT_CREDENTIALS", "OAuth, as the organization"
    AUTHORIZATION_CODE = "AUTHORIZATION_CODE", "OAuth, each person signs in"


class ClientMode(models.TextChoices):
    KNOWN = "known_credentials", "Pre-created app"
    DYNAMIC = "dynamic", "Register automatically"
    CIMD = "cimd", "Client ID metadata document"


class TokenAuthMethod(models.TextChoices):
    AUTO = "", "Choose from the provider's metadata"
    BASIC = "client_secret_basic", "client_secret_basic"
    POST = "client_secret_post", "client_secret_post"
    NONE = "none", "none (public client)"


class ResourceMode(models.TextChoices):
    SEND = "send", "Send (RFC 8707)"
    OMIT = "omit", "Leave out"


class AuthConfigQuerySet(models.QuerySet["AuthConfig"]):
    def visible_to(self, actor: Actor) -> AuthConfigQuerySet:
        return self.filter(organization=actor.organization)


class AuthConfig(AuditedModel):
    """How Aster signs in to a server: shared headers, or OAuth for the organization or for each person."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="auth_configs")
    name = models.CharField(max_length=100)
    auth_type = models.CharField(max_length=20, choices=AuthType.choices, default=AuthType.NONE)
    # Shared credentials
    custom_headers = EncryptedJSONField(default=dict, blank=True)
    token = EncryptedTextField(blank=True, default="")
    username = models.CharField(max_length=200, blank=True)
    password = EncryptedTextField(blank=True, default="")
    # The OAuth client
    client_mode = models.CharField(max_length=20, choices=ClientMode.choices, default=ClientMode.DYNAMIC, blank=True)
    client_id = models.CharField(max_length=2000, blank=True)
    client_secret = EncryptedTextField(blank=True, default="")
    token_endpoint_auth_method = models.CharField(
        max_length=30, choices=TokenAuthMethod.choices, default=TokenAuthMethod.AUTO, blank=True
    )
    use_pkce = models.BooleanField("use PKCE", default=True)
    allowed_redirect_uris = models.JSONField(default=list, blank=True)
    # The provider; empty fields are filled in by discovery
    issuer = models.CharField(max_length=2000, blank=True)
    authorization_url = models.CharField("authorization URL", max_length=2000, blank=True)
    token_url = models.CharField("token URL", max_length=2000, blank=True)
    registration_url = models.CharField("registration URL", max_length=2000, blank=True)
    revocation_url = models.CharField("revocation URL", max_length=2000, blank=True)
    resource = models.CharField(max_length=2000, blank=True)
    scopes = models.JSONField(default=list, blank=True)
    provider_metadata = models.JSONField(default=dict, blank=True, editable=False)
    discovered_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Provider quirks, as fields
    resource_mode = models.CharField(max_length=10, choices=ResourceMode.choices, default=ResourceMode.SEND)
    audience = models.CharField(max_length=2000, blank=True)
    extra_authorize_params = models.JSONField(default=dict, blank=True)
    extra_token_params = EncryptedJSONField(default=dict, blank=True)
    scope_on_refresh = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    AUDITED: ClassVar = (
        *("name", "auth_type", "custom_headers", "token", "username", "password", "client_mode", "client_id"),
        *("client_secret", "token_endpoint_auth_method", "use_pkce", "allowed_redirect_uris", "issuer"),
        *("authorization_url", "token_url", "registration_url", "revocation_url", "resource", "scopes"),
        *("resource_mode", "audience", "extra_authorize_params", "extra_token_params", "scope_on_refresh"),
    )
    objects = AuthConfigQuerySet.as_manager()

    class Meta:
        ordering = [Lower("name")]
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="auth_config_name_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def needs_person(self) -> bool:
        """Each person has a connection of their own."""
        return self.auth_type == AuthType.AUTHORIZATION_CODE

    @property
    def is_oauth(self) -> bool:
        return self.auth_type in (AuthType.AUTHORIZATION_CODE, AuthType.CLIENT_CREDENTIALS)

    @property
    def iss_required(self) -> bool:
        # RFC 9207 §3: a provider that announces the parameter must send it.
        return bool(self.provider_metadata.get("authorization_response_iss_parameter_supported"))


class ClientRegistration(models.Model):
    """An OAuth client Aster registered by itself (RFC 7591); valid at one issuer only."""

    auth_config = models.ForeignKey(AuthConfig, on_delete=models.CASCADE, related_name="registrations")
    issuer = models.CharField(max_length=2000)
    client_id = models.CharField(max_length=2000)
    client_secret = EncryptedTextField(blank=True, default="")
    token_endpoint_auth_method = models.CharField(max_length=30)
    redirect_uris = models.JSONField(default=list)
    secret_expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["auth_config", "issuer"], name="one_registration_per_issuer")]

    def __str__(self) -> str:
        return f"{self.client_id} at {self.issuer}"


class Transport(models.TextChoices):
    STREAMABLE_HTTP = "streamable_http", "Streamable HTTP (recommended)"
    SSE = "sse", "SSE (older servers)"
    STDIO = "stdio", "Local command (stdio)"


class TestStatus(models.TextChoices):
    UNTESTED = "", "Untested"
    OK = "ok", "Works"
    FAILED = "failed", "Failed"
    SIGN_IN = "sign_in", "Needs a person's sign-in"


class McpServerQuerySet(models.QuerySet["McpServer"]):
    def visible_to(self, actor: Actor) -> McpServerQuerySet:
        return self.filter(organization=actor.organization)

    def usable_by(self, actor: Actor) -> McpServerQuerySet:
        return self.visible_to(actor).filter(is_enabled=True)


class McpServer(AuditedModel):
    """A server whose tools agents may be given."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="mcp_servers")
    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=50, blank=True, validators=[slug_validator])
    description = models.CharField(max_length=500, blank=True)
    transport = models.CharField(max_length=20, choices=Transport.choices, default=Transport.STREAMABLE_HTTP)
    url = models.CharField("URL", max_length=2000, blank=True)
    command = models.CharField(max_length=500, blank=True)
    args = models.JSONField(default=list, blank=True)
    env = EncryptedJSONField("environment", default=dict, blank=True)
    working_dir = models.CharField("working directory", max_length=500, blank=True)
    auth_config = models.ForeignKey(AuthConfig, on_delete=models.PROTECT, null=True, blank=True, related_name="servers")
    timeout_seconds = models.PositiveIntegerField(default=30, validators=[MinValueValidator(1), MaxValueValidator(600)])
    retry_attempts = models.PositiveIntegerField(default=1, validators=[MaxValueValidator(5)])
    is_enabled = models.BooleanField("enabled", default=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, editable=False, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    # Learned by talking to it
    era = models.CharField(max_length=10, blank=True, editable=False)
    protocol_version = models.CharField(max_length=20, blank=True, editable=False)
    discover_result = models.JSONField(null=True, blank=True, editable=False)
    test_status = models.CharField(max_length=10, choices=TestStatus.choices, blank=True, editable=False)
    last_test = models.JSONField(default=dict, blank=True, editable=False)
    tested_at = models.DateTimeField(null=True, blank=True, editable=False)
    tools_synced_at = models.DateTimeField(null=True, blank=True, editable=False)
    sync_due_at = models.DateTimeField(null=True, blank=True, editable=False, db_index=True)

    AUDITED: ClassVar = (
        *("name", "slug", "description", "transport", "url", "command", "args", "env", "working_dir"),
        *("auth_config", "timeout_seconds", "retry_attempts", "is_enabled"),
    )
    LEARNED: ClassVar = ("era", "protocol_version", "discover_result", "test_status", "last_test", "tested_at")
    objects = McpServerQuerySet.as_manager()

    class Meta:
        ordering = [Lower("name"), "id"]
        verbose_name = "MCP server"
        constraints = [models.UniqueConstraint(fields=["organization", "slug"], name="server_slug_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def auth_type(self) -> str:
        return self.auth_config.auth_type if self.auth_config else AuthType.NONE

    @property
    def needs_person(self) -> bool:
        return bool(self.auth_config and self.auth_config.needs_person)

    @property
    def connect_url(self) -> str:
        """The hub page where a person connects. It carries no state and no rights: the person signs in there."""
        path = reverse("admin:server-connect", args=[self.slug])
        return f"{settings.ASTER_PUBLIC_URL}{path}?organization={self.organization.slug}"

    @property
    def origin(self) -> str:
        """Scheme, host and port of the URL (RFC 6454)."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}".lower()

    @property
    def address(self) -> str:
        """The one line that tells where the server is."""
        return self.url or " ".join([self.command, *map(str, self.args)])


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
        return bool(self.refresh_token) or self.auth_config.auth_type == AuthType.CLIENT_CREDENTIALS


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
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.user} to {self.auth_config}"


class Tool(models.Model):
    """A tool as a server described it. Rows stay when a tool disappears, so that switches and history keep meaning."""

    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="tools")
    name = models.CharField(max_length=128)
    # The definition exactly as the server gave it (title, description, inputSchema, outputSchema, annotations, _meta)
    definition = models.JSONField()
    first_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["server", "name"], name="tool_name_once_per_server")]

    def __str__(self) -> str:
        return self.name

    @property
    def title(self) -> str:
        return str(self.definition.get("title") or self.annotations.get("title") or self.name)

    @property
    def description(self) -> str:
        return str(self.definition.get("description") or "")

    @property
    def input_schema(self) -> dict[str, Any]:
        schema = self.definition.get("inputSchema")
        return schema if isinstance(schema, dict) else {}

    @property
    def annotations(self) -> dict[str, Any]:
        value = self.definition.get("annotations")
        return value if isinstance(value, dict) else {}


def callback_url() -> str:
    """The one redirect URI to whitelist at every provider."""
    return f"{settings.ASTER_PUBLIC_URL}/api/mcp/oauth/callback"
