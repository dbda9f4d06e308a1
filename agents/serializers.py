"""The shapes of API bodies about agents and models."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from agents.models import Agent, LlmConfig, ToolCall
from agents.services.calls import AgentTool
from integrations.serializers import StrictSerializer, redacted


class AgentIn(StrictSerializer):
    names = {"enabled": "is_enabled", "mcp_server_ids": "mcp_server_config_ids"}
    ignored = frozenset({"id", "slug", "gateway_url", "created_at", "updated_at", "tool_count"})

    name = serializers.CharField(max_length=100)
    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    prompt = serializers.CharField(max_length=100_000, required=False, allow_blank=True, trim_whitespace=False)
    llm_config_id = serializers.CharField(required=False, allow_null=True)
    input_json_schema = serializers.JSONField(required=False)
    is_enabled = serializers.BooleanField(required=False)
    mcp_server_config_ids = serializers.ListField(child=serializers.CharField(), required=False)
    disabled_tools = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), required=False,
        help_text="Server id or slug → names of its tools that are off for this agent.",
    )  # fmt: skip


class LlmConfigIn(StrictSerializer):
    ignored = frozenset({"id", "created_at", "updated_at"})

    name = serializers.CharField(max_length=100)
    base_url = serializers.CharField(max_length=2000)
    model = serializers.CharField(max_length=200)
    api_key = serializers.CharField(required=False, allow_blank=True)


def show_agent(agent: Agent) -> dict[str, Any]:
    """An agent. `assignments` and `tool_grants` should be prefetched on lists."""
    off: dict[str, list[str]] = {}
    for grant in agent.tool_grants.all():
        if not grant.is_enabled:
            off.setdefault(str(grant.server_id), []).append(grant.tool_name)
    return {
        **{name: getattr(agent, name) for name in ("id", "slug", "name", "description", "prompt", "llm_config_id")},
        "input_json_schema": agent.input_json_schema,
        "is_enabled": agent.is_enabled,
        "mcp_server_config_ids": sorted(assignment.server_id for assignment in agent.assignments.all()),
        "disabled_tools": off,
        "gateway_url": agent.gateway_url,
        "created_at": agent.created_at,
        "updated_at": agent.updated_at,
    }


def show_agent_tool(offered: AgentTool) -> dict[str, Any]:
    return {
        **offered.definition,
        "server_id": offered.server.pk,
        "server": offered.server.name,
        "tool_name": offered.tool.name if offered.tool else None,
    }


def show_llm_config(config: LlmConfig) -> dict[str, Any]:
    names = ("id", "name", "base_url", "model", "created_at", "updated_at")
    return {**{name: getattr(config, name) for name in names}, "api_key": redacted(config.api_key)}


def show_call(call: ToolCall) -> dict[str, Any]:
    names = ("id", "at", "tool_name", "outcome", "error_code", "duration_ms", "via", "request_id", "agent_id")
    labels = {"user": call.user_label, "server": call.server_label, "connection": call.connection_label or None}
    return {**{name: getattr(call, name) for name in names}, "server_id": call.server_id, **labels}
