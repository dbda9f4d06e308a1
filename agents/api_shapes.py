"""The shapes of the answers about agents, models and calls, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from agents.models import ApprovalStatus, Approver, Author, CallOutcome, LlmProtocol, MessageState
from agents.serializers import ASKED
from agents.services.explain import STATUSES, TITLES
from aster.accounts.audit_words import VIAS
from integrations.api_shapes import ConnectionRequiredOut

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
    approvals = serializers.DictField(
        child=serializers.ChoiceField(choices=ASKED),
        help_text="A tool as the agent lists it → who approves each call of it: `caller` or `admin`",
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


class CallRefusedOut(ConnectionRequiredOut):
    """The call waits for the caller's sign-in or for somebody's approval, or an admin switched something off."""

    approval_id = serializers.IntegerField(required=False, allow_null=True)
    approval_url = serializers.URLField(required=False, help_text="The hub's page where a person approves the call")


class LlmConfigOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    base_url = serializers.CharField()
    model = serializers.CharField()
    protocol = serializers.ChoiceField(choices=LlmProtocol.choices)
    max_tokens = serializers.IntegerField(help_text="The longest answer, in tokens")
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
    via = serializers.CharField(help_text=", ".join(VIAS))
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
    via = serializers.CharField(help_text=", ".join(VIAS))
    request_id = serializers.CharField(allow_blank=True)
    agent_id = serializers.IntegerField(allow_null=True)
    server_id = serializers.IntegerField(allow_null=True)
    user = serializers.CharField()
    server = serializers.CharField(allow_blank=True)
    connection = serializers.CharField(allow_null=True, help_text="Whose grant was used")


class ConversationOut(serializers.Serializer[Any]):
    """A conversation of the caller's own. Nobody else sees it."""

    id = serializers.IntegerField()
    agent_id = serializers.IntegerField()
    title = serializers.CharField(allow_blank=True, help_text="The beginning of the first message")
    input = serializers.DictField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    is_running = serializers.BooleanField(help_text="Whether the agent is answering right now")


class RequestedCallOut(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    arguments = serializers.JSONField(help_text="An object; a text where the model wrote none")


class MessageOut(serializers.Serializer[Any]):
    """One entry: what the person said, what the model said and asked for, or what a tool answered."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    author = serializers.ChoiceField(choices=Author.choices)
    state = serializers.ChoiceField(choices=MessageState.choices)
    text = serializers.CharField(allow_blank=True)
    calls = RequestedCallOut(many=True, help_text="What the model asked for")
    call_id = serializers.CharField(allow_blank=True, help_text="The call that a tool's entry answers")
    tool_name = serializers.CharField(allow_blank=True)
    error = serializers.CharField(allow_blank=True, help_text="Why an answer failed or stopped")
    facts = serializers.DictField(
        help_text="Of a tool's entry: title, server, outcome, code, duration_ms, connection, and where to `connect`"
    )
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()


class ConversationWithMessagesOut(ConversationOut):
    messages = MessageOut(many=True, help_text="The last ones, in their order")


class AnswerOut(serializers.Serializer[Any]):
    """How a turn ended, and what was said in it."""

    conversation = serializers.IntegerField()
    state = serializers.ChoiceField(choices=MessageState.choices)
    error = serializers.CharField(allow_blank=True, help_text="In words, when the state is failed or stopped")
    messages = MessageOut(many=True)
