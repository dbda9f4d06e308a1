"""The shapes of the answers about agents, models and calls, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from agents.models import CallOutcome
from agents.services.explain import STATUSES, TITLES

STEP_STATUS = list(STATUSES)


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
    tool_scopes = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="A tool as the agent lists it → the scopes that a call through the agent takes",
    )
    strict_scopes = serializers.BooleanField(help_text="Whether tools without scopes are blocked")
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


class ScopeRowOut(serializers.Serializer[Any]):
    """The scopes of one tool of an agent: those that count, and those that are proposed."""

    name = serializers.CharField(help_text="As the agent lists it")
    tool_name = serializers.CharField(help_text="The server's own name for it")
    server_id = serializers.IntegerField(allow_null=True, help_text="Null: the name belongs to no server of the agent")
    proposed = serializers.ListField(child=serializers.CharField())
    by_agent = serializers.ListField(child=serializers.CharField())
    by_server = serializers.ListField(child=serializers.CharField())
    is_offered = serializers.BooleanField(help_text="Whether a server of the agent offers it now")


class ExplainedStepOut(serializers.Serializer[Any]):
    name = serializers.ChoiceField(choices=list(TITLES.items()))
    title: Any = serializers.CharField()
    status = serializers.ChoiceField(choices=STEP_STATUS, help_text="skipped: what it needs failed")
    found = serializers.CharField(help_text="One sentence")
    advice = serializers.CharField(allow_blank=True, help_text="What to do")
    code = serializers.CharField(allow_blank=True, help_text="The code with which a call is refused here")


class ExplanationOut(serializers.Serializer[Any]):
    """Whether a person may call a tool through an agent now, and why."""

    person = serializers.CharField()
    api_key = serializers.CharField(allow_null=True, help_text="The key's name; null: signed in to the hub")
    agent = serializers.CharField()
    tool = serializers.CharField()
    allowed = serializers.BooleanField()
    verdict = serializers.CharField(help_text="One line")
    advice = serializers.CharField(allow_blank=True, help_text="What to do")
    code = serializers.CharField(allow_blank=True, help_text="The code with which a call is refused")
    steps = ExplainedStepOut(many=True)


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
