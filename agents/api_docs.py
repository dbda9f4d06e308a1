"""What the OpenAPI document says about each operation on agents, models and calls."""

from __future__ import annotations

from typing import Any

from agents import api_shapes as shapes
from agents.models import CallOutcome
from agents.serializers import AgentIn, LlmConfigIn
from aster.accounts.audit import REDACTED
from aster.accounts.audit_words import VIAS
from aster.openapi import (
    PAGE_PARAMETERS,
    ErrorOut,
    Operation,
    filter_parameter,
    id_parameter,
    key_parameter,
    operation,
    page_example,
    page_of,
    refusal,
)
from integrations import api_examples as examples
from integrations.api_docs import CONNECTION_REQUIRED
from integrations.api_shapes import CallResultOut
from integrations.serializers import CallIn

AGENTS, SERVERS, APPROVALS = "Agents", "MCP servers", "Approvals"
_AGENT = (key_parameter("agent"),)
_LLM_CONFIG = (key_parameter("LLM config", slug=False),)

AGENT_BODY: dict[str, Any] = {
    "name": "My agent",
    "description": "Agent with remote MCP tools",
    "prompt": "You are a helpful assistant.",
    "llm_config_id": 2,
    "mcp_server_config_ids": [12],
    "input_json_schema": {
        "type": "object",
        "properties": {"message": {"type": "string"}},
        "required": ["message"],
    },
}
AGENT: dict[str, Any] = {
    **{"id": 5, "slug": "my-agent", **AGENT_BODY, "is_enabled": True, "disabled_tools": {"12": ["delete_note"]}},
    "approvals": {"acme_notes_12__delete_note": "admin"},
    "tool_scopes": {"acme_notes_12__delete_note": ["notes:delete"]},
    "strict_scopes": False,
    "gateway_url": "https://aster.example.com/mcp/acme/my-agent",
    **{"created_at": "2026-11-20T09:00:00Z", "updated_at": "2026-11-20T09:00:00Z"},
}
AGENT_TOOL = {
    **examples.TOOL, "name": "acme_notes_12__search_notes", "server_id": 12, "server": "Acme Notes",
    "tool_name": "search_notes",
}  # fmt: skip
SCOPE_ROW = {
    **{"name": "acme_notes_12__delete_note", "tool_name": "delete_note", "server_id": 12},
    **{"proposed": ["acme-notes:delete"], "by_agent": ["notes:delete"], "by_server": [], "is_offered": True},
}
_LACKS = "This API key lacks the scope notes:delete, which delete_note needs. Make a key with it, or ask an admin."
EXPLANATION = {
    **{"person": "ben@acme.example", "api_key": "CI", "agent": "my-agent", "tool": "acme-notes:delete_note"},
    **{"allowed": False, "code": "missing_tool_scope", "advice": "Give them a key with these scopes."},
    "verdict": f"ben@acme.example with the key CI cannot call delete_note of Acme Notes through My agent: {_LACKS}",
    "steps": [
        {"name": "member", "title": "Person", "status": "ok", "found": "Ben is a member of Acme.", "advice": "",
         "code": ""},
        {"name": "scopes", "title": "Scopes", "status": "failed", "found": _LACKS,
         "advice": "Give them a key with these scopes.", "code": "missing_tool_scope"},
    ],
}  # fmt: skip
LLM_BODY = {"name": "Local", "base_url": "https://llm.acme.example/v1", "model": "small-1", "api_key": "your-key"}
ANTHROPIC_BODY = {
    **{"name": "Claude", "protocol": "anthropic", "base_url": "https://api.anthropic.com/v1", "model": "claude-sonnet"},
    **{"api_key": "your-key", "max_tokens": 8192},
}
LLM_CONFIG = {
    **{"id": 2, **LLM_BODY, "api_key": REDACTED, "protocol": "openai", "max_tokens": 4096},
    **{"created_at": "2026-11-20T09:00:00Z", "updated_at": "2026-11-20T09:00:00Z"},
}
TOOL_CALL = {
    **{"id": 900, "at": "2026-11-20T09:30:00Z", "tool_name": "search_notes", "outcome": "ok", "error_code": ""},
    **{"duration_ms": 120, "via": "api", "request_id": "9f2c1d0e8b7a6543", "agent_id": 5, "server_id": 12},
    **{"user": "ada@acme.example", "server": "Acme Notes", "connection": "Ada at Acme ID"},
}

APPROVAL: dict[str, Any] = {
    **{"id": 31, "status": "pending", "approver": "admin", "agent_id": 5, "server_id": 12, "tool_name": "delete_note"},
    **{"arguments": {"note_id": 7}, "arguments_sha256": "9a8d1b7b6f0c5b4f" * 4, "user": "ada@acme.example"},
    **{"via": "gateway", "created_at": "2026-11-20T09:00:00Z", "expires_at": "2026-11-20T09:30:00Z"},
    **{"decided_by": None, "decided_at": None, "used_at": None},
}
_DECIDED = {"decided_by": "grace@acme.example", "decided_at": "2026-11-20T09:05:00Z"}
APPROVED, DENIED = {**APPROVAL, "status": "approved", **_DECIDED}, {**APPROVAL, "status": "denied", **_DECIDED}
_TOO_LATE = refusal(
    ErrorOut,
    "Somebody has decided it already (`already_decided`), or it has expired (`approval_expired`).",
    {"Decided": {"code": "already_decided", "detail": "Grace Wu has denied this already.", "fields": {}}},
)
_NOT_YET = refusal(
    shapes.CallRefusedOut,
    "The caller must connect first, or again: open `authorization_url` or `connect_url`, then repeat the request. "
    "Or a person must approve the call (`approval_required`): on the page at `approval_url`, then repeat the request. "
    "Or an admin switched it off (`server_disabled`, `agent_disabled`, `tool_disabled`, without these addresses).",
    {
        "Connection required": examples.CONNECTION_REQUIRED,
        "Approval required": {
            "code": "approval_required",
            "detail": "delete_note needs an admin's approval for this call. An admin approves it here: "
            "https://aster.example.com/hub/approvals/31/?organization=acme – then make exactly the same call again; it "
            "expires 30 minutes after it was first made.",
            "fields": {},
            "approval_id": 31,
            "approval_url": "https://aster.example.com/hub/approvals/31/?organization=acme",
        },
    },
)

LIST_AGENTS: Operation = operation(
    "list_agents", "List agents", tag=AGENTS, errors=(400, 404), parameters=PAGE_PARAMETERS,
    response=page_of("AgentPage", shapes.AgentOut), example=page_example(AGENT),
)  # fmt: skip
CREATE_AGENT: Operation = operation(
    "create_agent", "Create an agent", tag=AGENTS, errors=(400, 409), status=201,
    words="An agent reaches the servers in `mcp_server_config_ids` and no others. Its tools are all on, but for those "
    "in `disabled_tools`.",
    request=AgentIn, bodies={"With a server": AGENT_BODY}, response=shapes.AgentOut, example=AGENT,
)  # fmt: skip
GET_AGENT: Operation = operation(
    "get_agent", "Get an agent", tag=AGENTS, errors=(404,), parameters=_AGENT, response=shapes.AgentOut, example=AGENT,
)  # fmt: skip
UPDATE_AGENT: Operation = operation(
    "update_agent", "Update an agent", tag=AGENTS, errors=(400, 404, 409), parameters=_AGENT,
    words="`mcp_server_config_ids` replaces the whole list. `disabled_tools` replaces the switches of the servers it "
    "names, `approvals` and `tool_scopes` the whole map. Fields left out keep their value. All or nothing is stored.",
    request=AgentIn, response=shapes.AgentOut, example=AGENT,
    bodies={
        "Attach": {"mcp_server_config_ids": [12]},
        "Tools off": {"disabled_tools": {"12": ["delete_note"]}},
        "Approvals": {"approvals": {"acme-notes:delete_note": "admin"}},
        "Scopes": {"tool_scopes": {"acme-notes:delete_note": ["notes:delete"]}, "strict_scopes": True},
    },
)  # fmt: skip
PUT_AGENT: Operation = operation(
    "put_agent", "Create or update an agent by slug", tag=AGENTS, errors=(400, 404, 409), parameters=_AGENT,
    words="Creates the agent with this slug (201) or brings the stored one in line (200). Fields left out keep their "
    "value. The same request twice changes nothing.",
    request=AgentIn, bodies={"Desired state": AGENT_BODY}, response=shapes.AgentOut, example=AGENT,
)  # fmt: skip
PUT_AGENT["responses"][201] = CREATE_AGENT["responses"][201]
DELETE_AGENT: Operation = operation(
    "delete_agent", "Delete an agent", tag=AGENTS, errors=(404,), parameters=_AGENT, status=204,
)  # fmt: skip
AGENT_TOOLS: Operation = operation(
    "list_agent_tools", "List an agent's tools", tag=AGENTS, errors=(400, 404), parameters=(*_AGENT, *PAGE_PARAMETERS),
    words="As a caller of the agent sees them: those of servers that are on, without those switched off. There is no "
    "way back: `previous` is null.",
    response=page_of("AgentToolPage", shapes.AgentToolOut), example=page_example(AGENT_TOOL),
)  # fmt: skip
AGENT_SCOPES: Operation = operation(
    "list_agent_tool_scopes", "List the scopes of an agent's tools", tag=AGENTS, errors=(404,), parameters=_AGENT,
    words="Every tool of its servers with the scopes that count and those proposed from the tool's name and hints, "
    "then names that are kept for tools not offered now. Apply with `tool_scopes` of the agent (calls "
    "through it) or of the server (calls anywhere).",
    response=page_of("ScopeRowPage", shapes.ScopeRowOut), example=page_example(SCOPE_ROW),
)  # fmt: skip
AGENT_EXPLAIN: Operation = operation(
    "explain_access", "Explain why somebody may call a tool or not", tag=AGENTS, errors=(400, 404),
    parameters=(
        *_AGENT,
        filter_parameter("email", "Whose access. Required."),
        filter_parameter("tool", "The tool as the agent lists it, or SERVER:TOOL. Required."),
        filter_parameter("api_key_id", "With this API key of theirs; left out: signed in to the hub."),
    ),
    words="For admins. Every rule of a call in its order; the first that failed decides. Nothing is called.",
    response=shapes.ExplanationOut, example=EXPLANATION,
)  # fmt: skip
AGENT_CALL: Operation = operation(
    "call_agent_tool", "Call a tool through an agent", tag=AGENTS, errors=(400, 404, 422, 502, 504),
    refusals={409: _NOT_YET}, parameters=_AGENT,
    words="With the caller's own connection. The server's result comes back untouched; a failure of the tool itself is "
    "a 200 with `isError`. A tool that needs approval answers 409 `approval_required` until a person approves this "
    "very call; then the same request goes through once.",
    request=CallIn, bodies={"Call": {**examples.CALL_BODY, "name": "acme_notes_12__search_notes"}},
    response=CallResultOut, example=examples.CALL_RESULT,
)  # fmt: skip
SERVER_CALL: Operation = operation(
    "call_server_tool", "Call a tool of a server", tag=SERVERS, errors=(400, 404, 422, 502, 504),
    refusals={409: CONNECTION_REQUIRED}, parameters=(key_parameter("MCP server"),),
    words="For admins, to try a server; a key needs `aster:manage` and `aster:call`. Everybody else calls through an "
    "agent: its switches, scopes and approvals do not hold here. With the caller's own connection. The server's result "
    "comes back untouched; a failure of the tool itself is a 200 with `isError`.",
    request=CallIn, bodies={"Call": examples.CALL_BODY}, response=CallResultOut, example=examples.CALL_RESULT,
)  # fmt: skip
LIST_APPROVALS: Operation = operation(
    "list_approvals", "List approvals", tag=APPROVALS, errors=(400, 404),
    words="Newest first: of one's own calls; for admins, of everybody's in the organization.",
    parameters=(*PAGE_PARAMETERS, filter_parameter("waiting", "`true`: only calls that wait for a person now.")),
    response=page_of("ApprovalPage", shapes.ApprovalOut), example=page_example(APPROVAL),
)  # fmt: skip
GET_APPROVAL: Operation = operation(
    "get_approval", "Get an approval", tag=APPROVALS, errors=(404,), parameters=(id_parameter("approval"),),
    response=shapes.ApprovalOut, example=APPROVAL,
)  # fmt: skip
APPROVE: Operation = operation(
    "approve_call", "Approve a call", tag=APPROVALS, errors=(404,), refusals={409: _TOO_LATE},
    words="The same caller's same call goes through once until `expires_at`. For admins, with the scope "
    "`aster:manage`. Callers decide their own calls in the browser: what holds a caller's key makes the calls with it.",
    parameters=(id_parameter("approval"),), response=shapes.ApprovalOut, example=APPROVED,
)  # fmt: skip
DENY: Operation = operation(
    "deny_call", "Deny a call", tag=APPROVALS, errors=(404,), refusals={409: _TOO_LATE},
    words="The same call is refused with `approval_denied` until `expires_at`. Who may: as for approving.",
    parameters=(id_parameter("approval"),), response=shapes.ApprovalOut, example=DENIED,
)  # fmt: skip
LIST_CALLS: Operation = operation(
    "list_tool_calls", "List tool calls", tag=AGENTS, errors=(400, 404),
    words="Newest first: one's own; for admins, everybody's in the organization.",
    parameters=(
        *PAGE_PARAMETERS,
        filter_parameter("outcome", "Only calls that ended so.", CallOutcome.values),
        filter_parameter("tool_name", "Only calls of the tool with this name."),
        filter_parameter("via", f"Only calls that came this way: {', '.join(VIAS)}."),
    ),
    response=page_of("ToolCallPage", shapes.ToolCallOut), example=page_example(TOOL_CALL),
)  # fmt: skip

LIST_LLM_CONFIGS: Operation = operation(
    "list_llm_configs", "List LLM configs", tag=AGENTS, errors=(400, 404), parameters=PAGE_PARAMETERS,
    response=page_of("LlmConfigPage", shapes.LlmConfigOut), example=page_example(LLM_CONFIG),
)  # fmt: skip
CREATE_LLM_CONFIG: Operation = operation(
    "create_llm_config", "Create an LLM config", tag=AGENTS, errors=(400, 409, 422), status=201,
    words="Where an agent's model is: any OpenAI-compatible endpoint, or one that speaks Anthropic's messages.",
    request=LlmConfigIn, bodies={"OpenAI-compatible": LLM_BODY, "Anthropic": ANTHROPIC_BODY},
    response=shapes.LlmConfigOut, example=LLM_CONFIG,
)  # fmt: skip
GET_LLM_CONFIG: Operation = operation(
    "get_llm_config", "Get an LLM config", tag=AGENTS, errors=(404,), parameters=_LLM_CONFIG,
    response=shapes.LlmConfigOut, example=LLM_CONFIG,
)  # fmt: skip
UPDATE_LLM_CONFIG: Operation = operation(
    "update_llm_config", "Update an LLM config", tag=AGENTS, errors=(400, 404, 409, 422), parameters=_LLM_CONFIG,
    words="`[REDACTED]` as `api_key` keeps the stored one.",
    request=LlmConfigIn, bodies={"Another model": {"model": "large-1"}}, response=shapes.LlmConfigOut,
    example={**LLM_CONFIG, "model": "large-1"},
)  # fmt: skip
DELETE_LLM_CONFIG: Operation = operation(
    "delete_llm_config", "Delete an LLM config", tag=AGENTS, errors=(404, 409), parameters=_LLM_CONFIG, status=204,
    words="Refused with 409 while an agent uses it.",
)  # fmt: skip
