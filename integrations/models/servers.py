"""MCP servers and the tools they were seen to offer."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from aster.accounts.access import Actor
from aster.accounts.models import AuditedModel, Organization, User, slug_validator
from aster.crypto import EncryptedJSONField
from integrations.models.auth_configs import AuthConfig, AuthType


class Transport(models.TextChoices):
    STREAMABLE_HTTP = "streamable_http", "Streamable HTTP (recommended)"
    SSE = "sse", "SSE (older servers)"
    STDIO = "stdio", "Local command (stdio)"
    CONNECTOR = "connector", "Connector"


# What an admin chooses from; a connector is enabled in the catalogue (connectors.services).
OWN_TRANSPORTS = [choice for choice in Transport.choices if choice[0] != Transport.CONNECTOR]


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
    # The program that is started; of a connector its name in the catalogue
    command = models.CharField(max_length=500, blank=True)
    args = models.JSONField(default=list, blank=True)
    env = EncryptedJSONField("environment", default=dict, blank=True)
    working_dir = models.CharField("working directory", max_length=500, blank=True)
    auth_config = models.ForeignKey(AuthConfig, on_delete=models.PROTECT, null=True, blank=True, related_name="servers")
    timeout_seconds = models.PositiveIntegerField(default=30, validators=[MinValueValidator(1), MaxValueValidator(600)])
    retry_attempts = models.PositiveIntegerField(default=1, validators=[MaxValueValidator(5)])
    # What a caller must hold to call a tool, by the server's own name for it
    tool_scopes = models.JSONField(default=dict, blank=True)
    takes_changes = models.BooleanField("take in changed tools without asking", default=False)
    expose_as_skills = models.BooleanField("tools are skills in A2A cards", default=False)
    # What it was made from: `registry:NAME@VERSION` of an MCP registry (with its address in brackets behind it, unless
    # that is the official one), `catalog:SLUG` of the curated list
    source = models.CharField(max_length=600, blank=True, editable=False)
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
    diagnosis = models.JSONField(null=True, blank=True, editable=False)
    diagnosed_at = models.DateTimeField(null=True, blank=True, editable=False)

    AUDITED: ClassVar = (
        *("name", "slug", "description", "transport", "url", "command", "args", "env", "working_dir"),
        *("auth_config", "timeout_seconds", "retry_attempts", "is_enabled", "tool_scopes", "takes_changes"),
        *("expose_as_skills", "source"),
    )
    LEARNED: ClassVar = ("era", "protocol_version", "discover_result", "test_status", "last_test", "tested_at")
    objects = McpServerQuerySet.as_manager()

    class Meta:
        ordering = [Lower("name"), "id"]
        verbose_name = "MCP server"
        constraints = [
            models.UniqueConstraint(fields=["organization", "slug"], name="server_slug_once"),
            models.UniqueConstraint(
                fields=["organization", "source"], condition=models.Q(source__startswith="catalog:"),
                name="connector_enabled_once", violation_error_message="This connector is enabled already.",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.name

    @property
    def auth_type(self) -> str:
        return self.auth_config.auth_type if self.auth_config else AuthType.NONE

    @property
    def needs_person(self) -> bool:
        return bool(self.auth_config and self.auth_config.needs_person)

    @property
    def lists_to_anybody(self) -> bool:
        """Whether its tools are known without a sign-in: those of a connector are Aster's own."""
        return self.transport == Transport.CONNECTOR or not self.needs_person

    @property
    def says_how_to_sign_in(self) -> bool:
        """Whether its address is that of an MCP server, which has metadata (RFC 9728): a provider's API has none."""
        return bool(self.url) and self.transport != Transport.CONNECTOR

    @property
    def origin(self) -> str:
        """Scheme, host and port of the URL (RFC 6454)."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}".lower()

    @property
    def address(self) -> str:
        """The one line that tells where the server is; of a connector, where its provider's API is."""
        return self.url or " ".join([self.command, *map(str, self.args)])


class ToolQuerySet(models.QuerySet["Tool"]):
    def offered(self) -> ToolQuerySet:
        """Those that are there, as they were approved."""
        return self.filter(gone_at=None, changed_definition__isnull=True)


class Tool(models.Model):
    """A tool as a server described it. Rows stay when a tool disappears, so that switches and history keep meaning."""

    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="tools")
    name = models.CharField(max_length=128)
    # The definition exactly as the server gave it (title, description, inputSchema, outputSchema, annotations, _meta)
    definition = models.JSONField()
    # What the server says now, if that is something else: nobody may call the tool until an admin has looked at it.
    changed_definition = models.JSONField(null=True, blank=True)
    changed_at = models.DateTimeField(null=True, blank=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    gone_at = models.DateTimeField(null=True, blank=True)

    objects = ToolQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["server", "name"], name="tool_name_once_per_server")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_quarantined(self) -> bool:
        return self.changed_definition is not None

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
