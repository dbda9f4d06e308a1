"""What is wrong with an organization's servers and agents as they are configured. Nobody outside is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings

from agents.models import Agent
from agents.services.tool_scopes import namespaced
from aster.accounts.access import Actor
from aster.errors import AsterError
from integrations.models import McpServer, TestStatus, Transport
from integrations.services import targets, validation
from integrations.services.discovery import needs_discovery


@dataclass(frozen=True)
class Problem:
    """One thing that keeps something from working, and on what it is."""

    kind: str
    """server or agent"""
    slug: str
    code: str
    words: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def check_configuration(*, actor: Actor) -> list[Problem]:
    """Every problem of every server and agent of the organization, servers first."""
    actor.require_admin()
    rows = McpServer.objects.visible_to(actor).select_related("auth_config").prefetch_related("tools")
    servers = list(rows.order_by("slug"))
    by_pk = {server.pk: server for server in servers}
    agents = Agent.objects.filter(organization=actor.organization).prefetch_related("servers").order_by("slug")
    found = [Problem("server", server.slug, *each) for server in servers for each in _of_server(server)]
    for agent in agents:
        assigned = [by_pk[server.pk] for server in agent.servers.all()]
        found += [Problem("agent", agent.slug, *each) for each in _of_agent(agent, assigned)]
    return found


def _of_server(server: McpServer) -> Iterator[tuple[str, str]]:
    yield from _of_sign_in(server)
    if server.transport == Transport.STDIO and server.command not in settings.ASTER_STDIO_COMMANDS:
        yield "command_not_allowed", f"Its command {server.command} is not in ASTER_STDIO_COMMANDS."
    known = {tool.name for tool in server.tools.all() if tool.gone_at is None}
    if unknown := sorted(set(server.tool_scopes) - known) if server.tools_synced_at else []:
        yield "unknown_tools", f"It has scopes for tools that it does not offer: {_some(unknown)}."


def _of_sign_in(server: McpServer) -> Iterator[tuple[str, str]]:
    auth = server.auth_config
    if auth is None:
        if server.last_test.get("step") == "auth" and server.test_status == TestStatus.FAILED:
            yield "missing_auth", "It wants a sign-in, and has no auth config."
    else:
        for words in validation.missing_in(auth).values():
            yield "missing_auth", f"Its auth config {auth} is not complete. {words}"
        if needs_discovery(auth):
            yield "missing_auth", f"Where to sign in is not known yet (auth config {auth})."
    try:
        targets.static_headers(auth)
        for value in server.env.values():
            targets.expand_variables(value, "env")
    except AsterError as error:
        yield "missing_variable", error.message


def _of_agent(agent: Agent, servers: list[McpServer]) -> Iterator[tuple[str, str]]:
    for server in servers:
        if not server.is_enabled:
            yield "server_disabled", f"Its server {server.slug} is switched off."
        elif server.test_status == TestStatus.FAILED:
            yield "server_unreachable", f"Its server {server.slug} failed the last test: {server.last_test['message']}"
    offered = {
        namespaced(server, tool.name): bool(server.tool_scopes.get(tool.name))
        for server in servers
        for tool in server.tools.all()
        if tool.gone_at is None
    }
    all_listed = all(server.tools_synced_at for server in servers)
    if unknown := sorted(set(agent.tool_scopes) - set(offered)) if all_listed else []:
        yield "unknown_tools", f"It has scopes for tools that it does not offer: {_some(unknown)}."
    unmapped = sorted(name for name, mapped in offered.items() if not mapped and not agent.tool_scopes.get(name))
    if agent.strict_scopes and unmapped:
        yield "unmapped_tools", f"It offers only tools with scopes, and these have none: {_some(unmapped)}."


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
