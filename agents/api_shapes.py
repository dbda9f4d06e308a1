"""The shapes of the answers about agents, models and calls, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from agents.models import ApprovalStatus, Approver, CallOutcome
from integrations.api_shapes import ConnectionRequiredOut


class AgentOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    prompt = serializers.CharField(allow_blank=True)
    llm_config_id = serializers.IntegerField(allow_null=True)
    input_json_schema = serializers.DictField()
    is_enabled = serializers.BooleanField()
    mcp_server_config_ids = serializers.ListField(child=serializers.IntegerField())
    disabled_tools = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), help_text="Server id → tools that are off"
    )
    gateway_url = serializers.URLField(help_text="What an MCP client is given: this agent as an MCP server")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class AgentToolOut(serializers.Serializer[Any]):
    """A tool as its server described it, under the name that is unique in the agent."""

    name = serializers.CharField()
    inputSchema = serializers.DictField()
    server_id = serializers.IntegerField()
    server = serializers.CharField()
    tool_name = serializers.CharField(
        allow_null=True, help_text="The server's own name for it; null: a stand-in until the caller connects"
    )


class CallRefusedOut(ConnectionRequiredOut):
    """The call waits for the caller's sign-in or for somebody's approval, or an admin switched something off."""

    approval_id = serializers.IntegerField(required=False, allow_null=True)
    approval_url = serializers.URLField(required=False, help_text="The hub's page where a person approves the call")


class LlmConfigOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    base_url = serializers.CharField()
    model = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    api_key = serializers.CharField(allow_blank=True, help_text="`[REDACTED]` if set")


class ApprovalOut(serializers.Serializer[Any]):
    """Leave for one call: of this caller, of this tool, with exactly these arguments, once, and not for long."""

    id = serializers.IntegerField()
    status = serializers.ChoiceField(
        choices=[*ApprovalStatus.choices, ("expired", "Expired")],
        help_text="expired: not decided, or approved and not used, in time",
    )
    approver = serializers.ChoiceField(choices=Approver.choices, help_text="Who decides: the caller or an admin")
    agent_id = serializers.IntegerField()
    server_id = serializers.IntegerField()
    tool_name = serializers.CharField(help_text="The server's own name for it")
    arguments = serializers.DictField(help_text="Exactly what the call would send")
    arguments_sha256 = serializers.CharField(help_text="As the audit trail has it")
    user = serializers.CharField(help_text="Who made the call")
    via = serializers.CharField(help_text="api, gateway, page or task")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    decided_by = serializers.CharField(allow_null=True)
    decided_at = serializers.DateTimeField(allow_null=True)
    used_at = serializers.DateTimeField(allow_null=True)


class ToolCallOut(serializers.Serializer[Any]):
    """One attempted call. Arguments and results are not kept."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    tool_name = serializers.CharField()
    outcome = serializers.ChoiceField(choices=CallOutcome.choices)
    error_code = serializers.CharField(allow_blank=True)
    duration_ms = serializers.IntegerField()
    via = serializers.CharField(help_text="api, gateway, page or task")
    request_id = serializers.CharField(allow_blank=True)
    agent_id = serializers.IntegerField(allow_null=True)
    server_id = serializers.IntegerField(allow_null=True)
    user = serializers.CharField()
    server = serializers.CharField(allow_blank=True)
    connection = serializers.CharField(allow_null=True, help_text="Whose grant was used")
