"""Agents: a prompt, the servers they may use, and the rules for each tool."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower

from agents.models.llm_configs import LlmConfig
from aster.accounts.access import Actor
from aster.accounts.models import AuditedModel, Organization, User, slug_validator
from integrations.models import McpServer


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
    # What a caller must hold to call a tool, by its namespaced name; beside what the tool's server asks for.
    tool_scopes = models.JSONField(default=dict, blank=True)
    strict_scopes = models.BooleanField("only tools with scopes", default=False)
    is_enabled = models.BooleanField("enabled", default=True)
    servers: models.ManyToManyField[McpServer, AgentServer] = models.ManyToManyField(
        McpServer, through="AgentServer", related_name="agents", blank=True
    )
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, editable=False, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    AUDITED: ClassVar = (
        *("name", "slug", "description", "prompt", "llm_config", "input_json_schema", "is_enabled"),
        *("tool_scopes", "strict_scopes"),
    )
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
    def a2a_url(self) -> str:
        """Where A2A clients talk to it; its card is below, at .well-known/agent-card.json."""
        return f"{settings.ASTER_PUBLIC_URL}/a2a/{self.organization.slug}/{self.slug}"

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


class Approver(models.TextChoices):
    NOBODY = "", "Nobody"
    CALLER = "caller", "The person who calls"
    ADMIN = "admin", "An admin"


class ToolGrant(models.Model):
    """An agent's rules for one tool, kept by name so that they outlive its absence. No row: on, and nobody is asked."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="tool_grants")
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="+")
    tool_name = models.CharField(max_length=128)
    is_enabled = models.BooleanField(default=True)
    approver = models.CharField(max_length=10, choices=Approver.choices, blank=True, default=Approver.NOBODY)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["agent", "server", "tool_name"], name="one_grant_per_tool")]

    def __str__(self) -> str:
        return f"{self.tool_name} for {self.agent}: {'on' if self.is_enabled else 'off'}"
