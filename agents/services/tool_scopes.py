"""Scopes that callers need for tools: the rule, the maps of agents and servers, and proposals for them.

A server's map holds wherever its tools are called, an agent's map for calls through this agent; a tool in both needs
the scopes of both. A person who is signed in to the hub holds every scope; an API key holds those it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction

from agents.models import Agent
from agents.runtime.naming import name_tools, server_prefix
from aster.accounts import audit
from aster.accounts.access import Actor
from aster.errors import AsterError, InvalidInput, NotAllowed
from integrations.models import McpServer, Tool
from integrations.services.catalogue import tools_of
from integrations.services.scope_maps import ScopeMap, clean_scope_map, clean_server_scopes, merge

if TYPE_CHECKING:  # calls asks here
    from agents.services.calls import AgentTool


# --- The rule -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Needed:
    """What a call of a tool takes, by who asks for it."""

    by_server: tuple[str, ...] = ()
    by_agent: tuple[str, ...] = ()

    @property
    def scopes(self) -> list[str]:
        return sorted({*self.by_server, *self.by_agent})


def needed_scopes(agent: Agent, found: AgentTool) -> Needed:
    """The stand-in for an unlisted server needs nothing: it hands out a link."""
    if found.tool is None:
        return Needed()
    by_server = found.server.tool_scopes.get(found.tool.name, ())
    return Needed(tuple(by_server), tuple(agent.tool_scopes.get(found.name, ())))


def require_scopes(agent: Agent, found: AgentTool, *, actor: Actor) -> None:
    """Refuse a caller who lacks a scope of the tool and, at a strict agent, a tool that has none."""
    if problem := _problem(agent, found, actor):
        raise problem


def allows(agent: Agent, found: AgentTool, actor: Actor | None) -> bool:
    """Whether the tool is offered to `actor`; without one, to somebody who holds every scope."""
    return _problem(agent, found, actor) is None


def _problem(agent: Agent, found: AgentTool, actor: Actor | None) -> AsterError | None:
    needed = needed_scopes(agent, found).scopes
    if found.tool is not None and not needed and agent.strict_scopes:
        words = f"{found.tool} has no scopes, and {agent} offers only tools with scopes."
        return NotAllowed(f"{words} An admin can give it some, on the agent's Scopes page.", code="unmapped_tool")
    return _lacking(str(found.tool), needed, actor) if actor else None


def require_server_scopes(server: McpServer, tool_name: str, *, actor: Actor) -> None:
    """The same for a call straight to a server, where no agent adds scopes or is strict."""
    if problem := _lacking(tool_name, server.tool_scopes.get(tool_name, ()), actor):
        raise problem


def _lacking(tool: str, needed: Iterable[str], actor: Actor) -> AsterError | None:
    missing = [scope for scope in needed if not actor.holds(scope)]
    if not missing:
        return None
    names = f"the scope{'' if len(missing) == 1 else 's'} {', '.join(missing)}"
    limited = actor.api_key or actor.app
    who = f"This {actor.means} lacks" if limited else "You lack"
    them = "it" if len(missing) == 1 else "them"
    more = f"Connect the app again and allow {them}," if actor.app else f"Make a key with {them},"
    words = f"{who} {names}, which {tool[:100]} needs. {more}"
    extra = {"missing_scopes": missing}
    return NotAllowed(f"{words} or ask an admin.", code="missing_tool_scope", extra=extra)


# --- The maps -------------------------------------------------------------------------------------------------------


def set_tool_scopes(owner: Agent | McpServer, scopes: Mapping[str, Any], *, actor: Actor) -> None:
    """Make an agent's or a server's map exactly this one. Names of tools that are gone may stay in it."""
    actor.require_admin()
    owner.tool_scopes = dict(scopes)
    if isinstance(owner, Agent):
        clean_agent_scopes(owner)
    else:
        clean_server_scopes(owner)
    audit.save_audited(owner, actor=actor)


def clean_agent_scopes(agent: Agent) -> None:
    """Check an agent's map. Names are those the agent offers; `github:create_issue` means the server github's."""
    servers = {server.slug: server for server in McpServer.objects.filter(organization_id=agent.organization_id)}
    cleaned: ScopeMap = {}
    for name, scopes in clean_scope_map(agent.tool_scopes).items():
        merge(cleaned, _offered_name(name, servers), scopes)
    agent.tool_scopes = cleaned


def _offered_name(name: str, servers: Mapping[str, McpServer]) -> str:
    slug, _, own = name.partition(":")
    if own and slug in servers:
        return namespaced(servers[slug], own)
    if "__" not in name:
        words = f"{name[:60]} is no tool of the agent. Write it as SERVER:TOOL, or as the agent lists it."
        raise InvalidInput(words, fields={"tool_scopes": [words]})
    return name


def namespaced(server: McpServer, own_name: str) -> str:
    """The name under which agents offer a server's tool."""
    return next(iter(name_tools(server_prefix(server.slug, server.pk), [own_name])))


@transaction.atomic
def change_scopes(
    agent: Agent,
    changes: Mapping[str, list[str]],
    *,
    strict: bool,
    actor: Actor,
    at_servers: Mapping[int, Mapping[str, list[str]]] | None = None,
) -> None:
    """Give these tools these scopes (none: take them away), leave the others as they are, and set the switch.

    `at_servers` are changes of servers' own maps, by server id and the server's names.
    """
    actor.require_admin()
    # Two admins on the page at once must not undo each other's tools.
    stored = Agent.objects.select_for_update().get(pk=agent.pk)
    stored.strict_scopes = strict
    set_tool_scopes(stored, _changed(stored.tool_scopes, changes), actor=actor)
    wanted = at_servers or {}
    for server in McpServer.objects.visible_to(actor).select_for_update().filter(pk__in=wanted).order_by("pk"):
        set_tool_scopes(server, _changed(server.tool_scopes, wanted[server.pk]), actor=actor)


def change_named_scopes(
    owner: Agent | McpServer, named: Mapping[str, list[str]], *, actor: Actor, strict: bool | None = None
) -> None:
    """The same by the names that people use: of an agent as it lists its tools or SERVER:TOOL, of a server its own.

    A name that no tool has is refused: whoever misspells one would believe the tool guarded.
    """
    actor.require_admin()
    if isinstance(owner, Agent):
        servers = {server.slug: server for server in McpServer.objects.filter(organization_id=owner.organization_id)}
        changes = {_offered_name(name, servers): scopes for name, scopes in named.items()}
        assigned = McpServer.objects.filter(assignments__agent=owner)
        known = {namespaced(server, own) for server in assigned for own in server.tools.values_list("name", flat=True)}
        _refuse_unknown(owner, {name for name, scopes in changes.items() if scopes} - known)
        change_scopes(owner, changes, strict=owner.strict_scopes if strict is None else strict, actor=actor)
        return
    _refuse_unknown(owner, {*named} - {*owner.tools.values_list("name", flat=True), *owner.tool_scopes})
    with transaction.atomic():
        stored = McpServer.objects.visible_to(actor).select_for_update().get(pk=owner.pk)
        set_tool_scopes(stored, _changed(stored.tool_scopes, named), actor=actor)


def _refuse_unknown(owner: Agent | McpServer, names: set[str]) -> None:
    if names:
        words = f"{owner} has no tool {min(names)[:100]}."
        raise InvalidInput(words, fields={"scopes": [words]})


def _changed(scopes: ScopeMap, changes: Mapping[str, list[str]]) -> ScopeMap:
    kept = {name: each for name, each in scopes.items() if name not in changes}
    return kept | {name: each for name, each in changes.items() if each}


# --- Proposals ------------------------------------------------------------------------------------------------------

RIGHTS = ("read", "write", "delete", "admin")
_WORDS = {
    "read": "check count describe download explain export fetch find get has list lookup preview query read search "
    "select show status summarize validate view whoami",
    "write": "add append assign book call cancel change close commit copy create edit execute fill import "
    "insert invite make merge modify move open patch post publish push put rename reply reset restore run save "
    "schedule send set start stop submit sync update upload upsert write",
    "delete": "clear delete destroy discard drop erase purge remove trash truncate uninstall unlink wipe",
    "admin": "admin configure deploy disable enable grant impersonate permission permissions revoke rotate shutdown "
    "sudo",
}
_RIGHT_OF = {word: right for right, words in _WORDS.items() for word in words.split()}
_NAME_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def propose_scopes(server: McpServer) -> ScopeMap:
    """A scope for each tool that the server offers, by its own names: a start for an admin, applied by nobody else."""
    return {tool.name: proposed(server, tool) for tool in tools_of(server)}


def proposed(server: McpServer, tool: Tool) -> list[str]:
    return [f"{server.slug}:{right_of(tool.name, tool.annotations)}"]


def right_of(name: str, hints: Mapping[str, Any]) -> str:
    """read, write, delete or admin. A server's hints are claims (MCP 2026-07-28, Tools): a harsher name beats them."""
    parts = [part.lower() for part in _NAME_PARTS.findall(name)]
    named = next((_RIGHT_OF[part] for part in parts if part in _RIGHT_OF), "")
    if named in ("delete", "admin"):
        return named
    if hints.get("readOnlyHint") is True:
        return named or "read"
    if hints.get("destructiveHint") is True:
        return "delete"
    return "read" if named == "read" and hints.get("readOnlyHint") is not False else "write"
