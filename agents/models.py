"""Agents: a prompt, the servers they may use, the switch of each tool, and the record of every call."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from aster.accounts.access import Actor
from aster.accounts.models import AuditedModel, Organization, User, slug_validator
from aster.crypto import EncryptedTextField
from integrations.models import Connection, McpServer


class LlmConfig(AuditedModel):
    """Where an agent's model is: any OpenAI-compatible endpoint."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="llm_configs")
    name = models.CharField(max_length=100)
    base_url = models.CharField("base URL", max_length=2000)
    model = models.CharField(max_length=200)
    api_key = EncryptedTextField("API key", blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    AUDITED: ClassVar = ("name", "base_url", "model", "api_key")

    class Meta:
        ordering = [Lower("name")]
        verbose_name = "LLM config"
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="llm_config_name_once")]

    def __str__(self) -> str:
        return self.name


class AgentQuerySet(models.QuerySet["Agent"]):
    def visible_to(self, actor: Actor) -> AgentQuerySet:
        return self.filter(organization=actor.organization)

    def usable_by(self, actor: Actor) -> AgentQuerySet:
        return self.visible_to(actor).filter(is_enabled=True)


class Agent(AuditedModel):
    """What a person talks to or an MCP client connects to. It reaches the servers assigned to it and no others."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="agents")
    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=50, blank=True, validators=[slug_validator])
    description = models.CharField(max_length=500, blank=True)
    prompt = models.TextField(blank=True, max_length=100_000)
    llm_config = models.ForeignKey(LlmConfig, on_delete=models.PROTECT, null=True, blank=True, related_name="agents")
    input_json_schema = models.JSONField("input JSON schema", default=dict, blank=True)
    is_enabled = models.BooleanField("enabled", default=True)
    servers: models.ManyToManyField[McpServer, AgentServer] = models.ManyToManyField(
        McpServer, through="AgentServer", related_name="agents", blank=True
    )
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, editable=False, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    AUDITED: ClassVar = ("name", "slug", "description", "prompt", "llm_config", "input_json_schema", "is_enabled")
    objects = AgentQuerySet.as_manager()

    class Meta:
        ordering = [Lower("name"), "id"]
        constraints = [models.UniqueConstraint(fields=["organization", "slug"], name="agent_slug_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def gateway_path(self) -> str:
        return f"/mcp/{self.organization.slug}/{self.slug}"

    @property
    def gateway_url(self) -> str:
        """The one URL an MCP client needs."""
        return f"{settings.ASTER_PUBLIC_URL}{self.gateway_path}"


class AgentServer(models.Model):
    """The assignment of a server to an agent."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="assignments")
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="assignments")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["agent", "server"], name="server_assigned_once")]

    def __str__(self) -> str:
        return f"{self.server} for {self.agent}"


class ToolGrant(models.Model):
    """An agent's switch for one tool, kept by name so that it outlives the tool's absence. No row means on."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="tool_grants")
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="+")
    tool_name = models.CharField(max_length=128)
    is_enabled = models.BooleanField(default=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["agent", "server", "tool_name"], name="one_grant_per_tool")]

    def __str__(self) -> str:
        return f"{self.tool_name} for {self.agent}: {'on' if self.is_enabled else 'off'}"


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
