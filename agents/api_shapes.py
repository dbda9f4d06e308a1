"""The shapes of the answers about agents, models and calls, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from agents.models import CallOutcome


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


class LlmConfigOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    base_url = serializers.CharField()
    model = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    api_key = serializers.CharField(allow_blank=True, help_text="`[REDACTED]` if set")


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
