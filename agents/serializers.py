"""The shapes of API bodies about agents and models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from agents.models import Agent, Approval, Approver, Conversation, LlmConfig, LlmProtocol, Message, ToolCall
from agents.services.calls import AgentTool
from agents.services.conversations import is_running
from agents.services.scope_table import ScopeRow
from agents.services.tool_scopes import namespaced
from aster.accounts.audit import REDACTED
from aster.accounts.models import slug_validator
from aster.api_bodies import IdField, StrictSerializer
from integrations.serializers import SLUG_HELP, ScopeMapField, nothing_stored, redacted

# What is shown of a tool's answer beside its text
FACTS = ("title", "server", "outcome", "code", "duration_ms", "connection", "connect")


ASKED = [each.value for each in Approver if each != Approver.NOBODY]


class AgentIn(StrictSerializer):
    names = {"enabled": "is_enabled", "mcp_server_ids": "mcp_server_config_ids"}
    ignored = frozenset({"id", "gateway_url", "created_at", "updated_at", "tool_count"})

    name = serializers.CharField(max_length=100)
    slug = serializers.CharField(max_length=50, validators=[slug_validator], required=False, help_text=SLUG_HELP)
    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    prompt = serializers.CharField(
        max_length=100_000, required=False, allow_blank=True, trim_whitespace=False,
        help_text="What its model is told first, in the hub's chat and in scheduled tasks.",
    )  # fmt: skip
    llm_config_id = IdField(required=False, allow_null=True, help_text="The model it talks with; null: none.")
    input_json_schema = serializers.JSONField(
        required=False, help_text="A JSON Schema of an object that a conversation begins with; {}: plain text."
    )
    is_enabled = serializers.BooleanField(required=False)
    mcp_server_config_ids = serializers.ListField(child=IdField(), required=False)
    disabled_tools = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), required=False,
        help_text="Server id or slug → names of its tools that are off for this agent.",
    )  # fmt: skip
    approvals = serializers.DictField(
        child=serializers.ChoiceField(choices=ASKED), required=False,
        help_text="A tool as the agent lists it, or SERVER:TOOL → who approves each call of it: its caller or an "
        "admin. Tools left out need no approval.",
    )  # fmt: skip
    tool_scopes = ScopeMapField(
        required=False,
        help_text="A tool as the agent lists it, or SERVER:TOOL → the scopes that a call through the agent takes.",
    )
    strict_scopes = serializers.BooleanField(required=False, help_text="Whether tools without scopes are blocked.")


class LlmConfigIn(StrictSerializer):
    ignored = frozenset({"id", "created_at", "updated_at"})

    name = serializers.CharField(max_length=100)
    base_url = serializers.CharField(max_length=2000)
    model = serializers.CharField(max_length=200)
    protocol = serializers.ChoiceField(
        choices=LlmProtocol.choices, required=False, help_text="`openai` is what most providers speak."
    )
    max_tokens = serializers.IntegerField(
        min_value=1, max_value=200_000, required=False, help_text="The longest answer, in tokens"
    )
    api_key = serializers.CharField(required=False, allow_blank=True)


class MessageIn(StrictSerializer):
    text = serializers.CharField(trim_whitespace=False, help_text="At most 20,000 characters")
    conversation = IdField(required=False, allow_null=True, help_text="Where to go on; a new one without it")
    input = serializers.DictField(
        required=False, help_text="Values for the agent's `input_json_schema`, with the first message"
    )


def fill_llm_config(config: LlmConfig, values: Mapping[str, Any]) -> LlmConfig:
    """Copy a body onto a row, keeping the key if it came back as `[REDACTED]`."""
    for name, value in values.items():
        if name == "api_key" and value == REDACTED:
            if not config.api_key:
                raise nothing_stored(name)
            continue
        setattr(config, name, value)
    return config


def show_agent(agent: Agent) -> dict[str, Any]:
    """An agent. `assignments__server` and `tool_grants` should be prefetched on lists.

    The rules for tools of a server that was taken away wait for its return; they are no part of the agent until then.
    """
    servers = {assignment.server_id: assignment.server for assignment in agent.assignments.all()}
    off: dict[str, list[str]] = {}
    asked: dict[str, str] = {}
    for grant in agent.tool_grants.all():
        if grant.server_id not in servers:
            continue
        if not grant.is_enabled:
            off.setdefault(str(grant.server_id), []).append(grant.tool_name)
        if grant.approver != Approver.NOBODY:
            asked[namespaced(servers[grant.server_id], grant.tool_name)] = grant.approver
    return {
        **{name: getattr(agent, name) for name in ("id", "slug", "name", "description", "prompt", "llm_config_id")},
        "input_json_schema": agent.input_json_schema,
        "is_enabled": agent.is_enabled,
        "mcp_server_config_ids": sorted(servers),
        "disabled_tools": off,
        "approvals": asked,
        "tool_scopes": agent.tool_scopes,
        "strict_scopes": agent.strict_scopes,
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


def show_scope_row(row: ScopeRow) -> dict[str, Any]:
    names = ("name", "tool_name", "proposed", "by_agent", "by_server", "is_offered")
    return {**{name: getattr(row, name) for name in names}, "server_id": row.server.pk if row.server else None}


def show_llm_config(config: LlmConfig) -> dict[str, Any]:
    names = ("id", "name", "protocol", "base_url", "model", "max_tokens", "created_at", "updated_at")
    return {**{name: getattr(config, name) for name in names}, "api_key": redacted(config.api_key)}


def show_call(call: ToolCall) -> dict[str, Any]:
    names = ("id", "at", "tool_name", "outcome", "error_code", "duration_ms", "via", "request_id", "agent_id")
    labels = {"user": call.user_label, "server": call.server_label, "connection": call.connection_label or None}
    return {**{name: getattr(call, name) for name in names}, "server_id": call.server_id, **labels}


def show_conversation(conversation: Conversation) -> dict[str, Any]:
    names = ("id", "agent_id", "title", "input", "created_at", "updated_at")
    return {**{name: getattr(conversation, name) for name in names}, "is_running": is_running(conversation)}


def show_message(message: Message) -> dict[str, Any]:
    names = ("id", "at", "author", "state", "text", "calls", "call_id", "tool_name", "error")
    counts = {"input_tokens": message.input_tokens, "output_tokens": message.output_tokens}
    facts = {name: message.facts[name] for name in FACTS if name in message.facts}
    return {**{name: getattr(message, name) for name in names}, "facts": facts, **counts}


def show_approval(approval: Approval) -> dict[str, Any]:
    """An approval; `agent`, `server`, `user` and `decided_by` should be joined."""
    names = ("id", "tool_name", "arguments", "approver", "via", "created_at", "expires_at", "decided_at", "used_at")
    return {
        **{name: getattr(approval, name) for name in names},
        "status": approval.state,
        "arguments_sha256": approval.digest,
        "agent_id": approval.agent_id,
        "server_id": approval.server_id,
        "user": approval.user.email,
        "decided_by": approval.decided_by.email if approval.decided_by else None,
    }
