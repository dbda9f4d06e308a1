"""An agent's rules as one value, for whoever must decide about many calls without asking the database for each."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Max

from agents.models import Agent, AgentServer, ToolGrant
from agents.services import approvals, calls
from agents.services.agents import assigned_servers
from agents.services.calls import AgentTool
from agents.services.endpoints import Endpoint
from aster.rows import stored_rows
from integrations.mcp_client import KnownTool, Target
from integrations.models import AuthConfig, McpServer, Tool
from integrations.services.targets import build_target

# Organization and agent, by their slugs
Address = tuple[str, str]


@dataclass(frozen=True)
class Rules:
    """What an agent has, switched off tools too, and whose calls wait for a person. `version` tells it from others."""

    agent: Agent
    servers: Mapping[int, McpServer]
    tools: Mapping[str, AgentTool]
    guarded: frozenset[tuple[int, str]]
    version: tuple[Any, ...] = field(repr=False)
    # What was put together from them once
    pages: dict[Hashable, bytes] = field(default_factory=dict, repr=False)
    _targets: dict[int, Target] = field(default_factory=dict, repr=False)
    _known: dict[str, KnownTool] = field(default_factory=dict, repr=False)

    def endpoint(self, slug: str | None) -> Endpoint | None:
        """The whole agent, or its server `slug`; None if it has no such server."""
        if slug is None:
            return Endpoint(self.agent)
        server = next((each for each in self.servers.values() if each.slug == slug), None)
        return Endpoint(self.agent, server) if server else None

    def target(self, server: McpServer) -> Target:
        """What reaches a server that takes no personal token, put together once."""
        target = self._targets.get(server.pk)
        if target is None:
            target = self._targets[server.pk] = build_target(server)
        return target

    def known_tool(self, found: AgentTool) -> KnownTool:
        known = self._known.get(found.name)
        if known is None:
            known = self._known[found.name] = KnownTool(found.tool.definition if found.tool else {})
        return known


def load_rules(wanted: Mapping[Address, Rules | None]) -> dict[Address, Rules]:
    """The rules of these agents; those whose rows are what they were are given back. Six queries if all are.

    The rows themselves are the version: no change can be missed, whoever made it, and nothing is decrypted or parsed to
    find out that there was none.
    """
    organizations, slugs = {each[0] for each in wanted}, {each[1] for each in wanted}
    found = Agent.objects.filter(slug__in=slugs, organization__slug__in=organizations).select_related("organization")
    agents = {(agent.organization.slug, agent.slug): agent for agent in found}
    agents = {address: agent for address, agent in agents.items() if address in wanted}
    versions = _versions(agents.values())
    loaded = {}
    for address, agent in agents.items():
        known, version = wanted[address], versions[agent.pk]
        loaded[address] = known if known and known.version == version else _load(agent, version)
    return loaded


def _load(agent: Agent, version: tuple[Any, ...]) -> Rules:
    servers = assigned_servers(agent)
    tools = calls.known_tools(agent, servers)
    guarded = frozenset(approvals.approvers(agent))
    return Rules(
        agent, {server.pk: server for server in servers}, {each.name: each for each in tools}, guarded, version
    )


def _versions(agents: Iterable[Agent]) -> dict[int, tuple[Any, ...]]:
    """By agent: every row that its rules are made of, as stored; of its tools, what changes when one of them does."""
    by_pk = {agent.pk: agent for agent in agents}
    rows: dict[int, list[object]] = {pk: [_stored_values(agent)] for pk, agent in by_pk.items()}
    servers: dict[int, list[int]] = {pk: [] for pk in by_pk}
    for row in stored_rows(AgentServer.objects.filter(agent__in=by_pk).order_by("server_id")):
        rows[row["agent_id"]].append(row["id"])
        servers[row["agent_id"]].append(row["server_id"])
    for row in stored_rows(ToolGrant.objects.filter(agent__in=by_pk).order_by("pk")):
        rows[row["agent_id"]].append(tuple(row.values()))
    behind = _server_versions({pk for assigned in servers.values() for pk in assigned})
    return {pk: (*rows[pk], *(behind.get(server) for server in servers[pk])) for pk in by_pk}


def _server_versions(pks: Collection[int]) -> dict[int, tuple[Any, ...]]:
    servers = {row["id"]: row for row in stored_rows(McpServer.objects.filter(pk__in=pks).order_by("pk"))}
    signs_in = {row["auth_config_id"] for row in servers.values()} - {None}
    configs = {row["id"]: tuple(row.values()) for row in stored_rows(AuthConfig.objects.filter(pk__in=signs_in))}
    # store_tools() stamps the server's row; accepting a change moves the other two.
    tools = Tool.objects.filter(server__in=pks).values("server_id").order_by("server_id")
    counted = tools.annotate(
        known=Count("pk"), waiting=Count("changed_definition"), changed=Max("changed_at"), gone=Count("gone_at")
    )
    stamps = {row["server_id"]: tuple(row.values()) for row in counted} if pks else {}
    return {
        pk: (tuple(row.values()), configs.get(row["auth_config_id"]), stamps.get(pk)) for pk, row in servers.items()
    }


def _stored_values(agent: Agent) -> tuple[str, ...]:
    organization = agent.organization
    return tuple(repr(row.__dict__[f.attname]) for row in (agent, organization) for f in row._meta.concrete_fields)
