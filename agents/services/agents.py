"""Verbs on agents: save, assign servers, switch tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Prefetch, ProtectedError, QuerySet
from django.db.models.functions import Lower
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from agents.models import Agent, AgentServer, Approver, LlmConfig, ToolGrant
from agents.services import approvals
from agents.services.tool_scopes import clean_agent_scopes, right_of
from aster.accounts import audit
from aster.accounts.access import Actor
from aster.accounts.models import is_row_id, unique_slug
from aster.errors import Conflict, InvalidInput, NotFound
from integrations.models import McpServer, Tool
from integrations.services.validation import check_field_url

CHOICES = ("all", "none", "reading")
_IS_ON: dict[str, Callable[[Tool], bool]] = {
    "all": lambda tool: True,
    "none": lambda tool: False,
    "reading": lambda tool: right_of(tool.name, tool.annotations) == "read",
}
# In one row of the audit trail
MOST_TOLD = 100


def find_agent(key: str | int, *, actor: Actor) -> Agent:
    """An agent by id or slug. Another organization's does not exist."""
    rows = Agent.objects.visible_to(actor).select_related("organization", "llm_config")
    agent = rows.filter(**({"pk": int(key)} if is_row_id(key) else {"slug": key})).first()
    if agent is None:
        raise NotFound("There is no such agent.")
    return agent


def save_agent(
    agent: Agent,
    *,
    actor: Actor,
    server_ids: Iterable[int] | None = None,
    switched_off: Mapping[McpServer, Iterable[str]] | None = None,
    approvers: Mapping[str, str] | None = None,
    changed_approvers: Mapping[McpServer, Mapping[str, str]] | None = None,
    ahead: bool = False,
) -> Agent:
    """Store an agent and, if given, exactly its servers, which of their tools are off, and who approves calls of them
    (all rules by the names of tools, or some by server and tool); all or nothing.

    `ahead`: of a server that was never listed any tool may be named."""
    actor.require_admin()
    if agent._state.adding:
        agent.organization = actor.organization
        agent.created_by = actor.user
    agent.name = agent.name.strip()
    siblings = Agent.objects.filter(organization=actor.organization).exclude(pk=agent.pk)
    if not agent.slug:
        agent.slug = unique_slug(agent.name, siblings)
    if agent.llm_config and agent.llm_config.organization_id != actor.organization.pk:
        raise InvalidInput("There is no such LLM config.", fields={"llm_config_id": ["There is no such LLM config."]})
    check_input_schema(agent.input_json_schema)
    if agent._state.adding or "tool_scopes" in agent.changed_fields():
        clean_agent_scopes(agent)
    with transaction.atomic():
        audit.save_audited(agent, actor=actor)
        if server_ids is not None:
            assign_servers(agent, server_ids, actor=actor)
        for server, names in (switched_off or {}).items():
            switch_tools(agent, server, off=names, actor=actor, ahead=ahead)
        if approvers is not None:
            approvals.replace_approvers(agent, approvers, actor=actor)
        approvals.change_approvers(agent, changed_approvers or {}, actor=actor, ahead=ahead)
    return agent


def set_enabled(agent: Agent, enabled: bool, *, actor: Actor) -> None:
    actor.require_admin()
    if agent.is_enabled != enabled:
        agent.is_enabled = enabled
        audit.save_audited(agent, actor=actor, action="enabled" if enabled else "disabled")


def check_input_schema(schema: object) -> None:
    """The schema of an agent's input: a JSON Schema for an object, or empty for plain text."""
    problem = ""
    if not isinstance(schema, dict):
        problem = "Must be a JSON object."
    elif schema and schema.get("type") != "object":
        problem = 'Must describe an object: "type": "object".'
    elif len(json.dumps(schema)) > 100_000:
        problem = "Is larger than 100 kB."
    else:
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            problem = f"Is not a JSON Schema: {error.message[:200]}"
    if problem:
        raise InvalidInput(
            f"The input schema {problem[0].lower()}{problem[1:]}", fields={"input_json_schema": [problem]}
        )


def assign_servers(agent: Agent, server_ids: Iterable[int], *, actor: Actor) -> None:
    """Make the agent's servers exactly these. Ids of other organizations are unknown here."""
    actor.require_admin()
    wanted = set(server_ids)
    servers = McpServer.objects.visible_to(actor).in_bulk(wanted)
    if unknown := wanted - servers.keys():
        message = f"There is no MCP server with id {', '.join(map(str, sorted(unknown)))}."
        raise InvalidInput(message, fields={"mcp_server_config_ids": [message]})
    with transaction.atomic():
        before = dict(agent.assignments.values_list("server_id", "server__name"))
        agent.assignments.exclude(server_id__in=wanted).delete()
        AgentServer.objects.bulk_create(
            [AgentServer(agent=agent, server_id=pk) for pk in sorted(wanted - before.keys())], ignore_conflicts=True
        )
        if before.keys() != wanted:
            names = sorted(server.name for server in servers.values())
            audit.record(actor, "assigned", agent, {"servers": [sorted(before.values()), names]})


def assign_server(agent: Agent, server: McpServer, *, actor: Actor, takes_away: bool = False) -> None:
    """Give an agent one more server, or take one away; the others stay."""
    actor.require_admin()
    with transaction.atomic():
        _lock(agent)
        others = set(agent.assignments.exclude(server=server).values_list("server_id", flat=True))
        assign_servers(agent, others if takes_away else others | {server.pk}, actor=actor)


def switch_some_tools(
    agent: Agent, server: McpServer, *, actor: Actor, on: Iterable[str] = (), off: Iterable[str] = (), choice: str = ""
) -> None:
    """Switch these tools of an assigned server, after all of them as `choice` says; the others stay as they are."""
    actor.require_admin()
    on, off = set(on), set(off)
    if both := sorted(on & off):
        words = f"{both[0][:100]} is to be on and off. Name it once."
        raise InvalidInput(words, fields={"on": [words]})
    with transaction.atomic():
        _lock(agent)
        _check_switches(agent, server, on | off)
        rows = ToolGrant.objects.filter(agent=agent, server=server, is_enabled=False)
        before = set(rows.values_list("tool_name", flat=True))
        wanted = off_when(server, choice, before) if choice else before
        switch_tools(agent, server, off=(wanted | off) - on, actor=actor)


def _lock(agent: Agent) -> None:
    """Two changes at once must not both start from what they have read."""
    if Agent.objects.select_for_update().filter(pk=agent.pk).order_by("pk").first() is None:
        raise NotFound("There is no such agent.")


def switch_tools(agent: Agent, server: McpServer, *, off: Iterable[str], actor: Actor, ahead: bool = False) -> None:
    """Have exactly these tools of an assigned server off for the agent, and every other one on.

    A tool that appears later is on: switches exist only for tools an admin has seen, or (`ahead`) has named before the
    server was listed for the first time.
    """
    actor.require_admin()
    wanted = set(off)
    with transaction.atomic():
        _lock(agent)
        rows = ToolGrant.objects.filter(agent=agent, server=server)
        before = set(rows.filter(is_enabled=False).values_list("tool_name", flat=True))
        _check_switches(agent, server, wanted - before, ahead=ahead)
        rows.filter(tool_name__in=before - wanted).update(is_enabled=True)
        rows.filter(tool_name__in=wanted - before).update(is_enabled=False)
        known = set(rows.values_list("tool_name", flat=True))
        ToolGrant.objects.bulk_create(
            [ToolGrant(agent=agent, server=server, tool_name=name, is_enabled=False) for name in sorted(wanted - known)]
        )
        rows.filter(is_enabled=True, approver=Approver.NOBODY).delete()
        if before != wanted:
            audit.record(actor, "switched_tools", agent, {f"off at {server}": _told(before, wanted)})


def _told(before: set[str], wanted: set[str]) -> list[Any]:
    """What was switched, for the audit trail: the tools that are off; of very many, which of them changed."""
    if max(len(before), len(wanted)) <= MOST_TOLD:
        return [sorted(before), sorted(wanted)]
    changed = sorted(before ^ wanted)
    left = len(changed) - MOST_TOLD
    names = ", ".join(changed[:MOST_TOLD]) + (f" and {left:,} more" if left > 0 else "")
    return [f"{len(before):,} tools", f"{len(wanted):,} tools; switched: {names}"]


def off_when(server: McpServer, choice: str, off: set[str]) -> set[str]:
    """The tools of a server to have off so that all it offers are on, none is, or only those that read.

    `off` are those that are off now: what the server does not offer now keeps its switch.
    """
    offered = {tool.name: tool for tool in server.tools.filter(gone_at=None)}
    on = {name for name, tool in offered.items() if _IS_ON[choice](tool)}
    return (offered.keys() - on) | (off - offered.keys())


def _check_switches(agent: Agent, server: McpServer, names: set[str], *, ahead: bool = False) -> None:
    problem = ""
    if not agent.assignments.filter(server=server).exists():
        problem = f"{server} is not assigned to {agent}."
    elif ahead and server.tools_synced_at is None:
        return
    elif unknown := sorted(names - set(server.tools.values_list("name", flat=True))):
        problem = f"{server} has no tool {unknown[0][:100]}."
    if problem:
        raise InvalidInput(problem, fields={"disabled_tools": [problem]})


def assigned_servers(agent: Agent, *, with_tools: bool = True) -> list[McpServer]:
    """The agent's servers in a stable order, each with its known tools prefetched as `known_tools`."""
    servers = McpServer.objects.filter(assignments__agent=agent).select_related("auth_config", "organization")
    if with_tools:
        present = Tool.objects.filter(gone_at=None).order_by("name")
        servers = servers.prefetch_related(Prefetch("tools", queryset=present, to_attr="known_tools"))
    return list(servers.order_by("pk"))


def tools_switched_off(agent: Agent) -> set[tuple[int, str]]:
    """(server id, tool name) of every tool that is off for the agent."""
    return set(agent.tool_grants.filter(is_enabled=False).values_list("server_id", "tool_name"))


def agents_by_tool(tools: Iterable[Tool]) -> dict[int, list[Agent]]:
    """The agents that have each tool (by its id) on, by name; two queries, however many tools there are."""
    tools = list(tools)
    servers = {tool.server_id for tool in tools}
    by_server: dict[int, list[Agent]] = {}
    for row in AgentServer.objects.filter(server__in=servers).select_related("agent").order_by(Lower("agent__name")):
        by_server.setdefault(row.server_id, []).append(row.agent)
    off = set(
        ToolGrant.objects.filter(server__in=servers, is_enabled=False).values_list("agent_id", "server_id", "tool_name")
    )
    return {
        tool.pk: [
            agent for agent in by_server.get(tool.server_id, []) if (agent.pk, tool.server_id, tool.name) not in off
        ]
        for tool in tools
    }


def delete_agent(agent: Agent, *, actor: Actor) -> None:
    actor.require_admin()
    audit.delete_audited(agent, actor=actor)


# --- Models ---------------------------------------------------------------------------------------------------------


def visible_llm_configs(actor: Actor) -> QuerySet[LlmConfig]:
    return LlmConfig.objects.filter(organization=actor.organization)


def find_llm_config(pk: str | int, *, actor: Actor) -> LlmConfig:
    rows = visible_llm_configs(actor)
    config = rows.filter(pk=int(pk)).first() if is_row_id(pk) else rows.filter(name=pk).first()
    if config is None:
        raise NotFound("There is no such LLM config.")
    return config


def save_llm_config(config: LlmConfig, *, actor: Actor) -> None:
    actor.require_admin()
    if config._state.adding:
        config.organization = actor.organization
    check_field_url(config.base_url, "base_url")
    audit.save_audited(config, actor=actor)


def delete_llm_config(config: LlmConfig, *, actor: Actor) -> None:
    actor.require_admin()
    try:
        audit.delete_audited(config, actor=actor)
    except ProtectedError:
        names = ", ".join(config.agents.values_list("name", flat=True)[:5])
        raise Conflict(f"Still used by {names}. Choose another model there first.", code="in_use") from None
