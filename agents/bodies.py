"""From a body about an agent to what is stored: for the API and the admin MCP server alike."""

from __future__ import annotations

from typing import Any

from agents.models import Agent, LlmConfig
from agents.services import agents
from aster.accounts.access import Actor
from aster.accounts.models import is_row_id
from aster.errors import InvalidInput, NotFound
from integrations.models import McpServer
from integrations.services import servers


def save_from_body(agent: Agent, values: dict[str, Any], *, actor: Actor) -> Agent:
    """Store the agent as the body says, with its servers, switches and approvals; all or nothing."""
    server_ids = values.pop("mcp_server_config_ids", None)
    disabled, approvers = values.pop("disabled_tools", None), values.pop("approvals", None)
    if values.get("slug", agent.slug) != agent.slug and agent.slug:
        raise InvalidInput("The slug cannot be changed.", fields={"slug": ["The slug cannot be changed."]})
    if "llm_config_id" in values:
        agent.llm_config = _llm_config(values.pop("llm_config_id"), actor)
    for name, value in values.items():
        setattr(agent, name, value)
    chosen = None if server_ids is None else [_server_id(key, actor) for key in server_ids]
    switches = {_server(key, "disabled_tools", actor): names for key, names in (disabled or {}).items()}
    return agents.save_agent(agent, actor=actor, server_ids=chosen, switched_off=switches, approvers=approvers)


def _llm_config(key: Any, actor: Actor) -> LlmConfig | None:
    try:
        return agents.find_llm_config(key, actor=actor) if key else None
    except NotFound as error:
        raise InvalidInput(error.message, fields={"llm_config_id": [error.message]}) from None


def _server_id(key: str, actor: Actor) -> int:
    # Plain ids are looked up together, when they are assigned.
    return int(key) if is_row_id(key) else _server(key, "mcp_server_config_ids", actor).pk


def _server(key: str, field: str, actor: Actor) -> McpServer:
    try:
        return servers.find_server(key, actor=actor)
    except NotFound:
        message = f"There is no MCP server {key[:50]}."
        raise InvalidInput(message, fields={field: [message]}) from None
