"""What an organization is configured to be now, in the words of the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.db import models

from agents.models import Agent, Approver, LlmConfig
from agents.runtime.naming import server_prefix
from agents.services.tool_scopes import namespaced
from aster.accounts.access import Actor
from aster.accounts.models import AuditedModel, Organization
from aster.configuration.document import tidy_agent
from aster.configuration.kinds import (
    AGENTS,
    AS_SERVERS,
    AUTH_CONFIGS,
    CONNECTOR_AUTH,
    CONNECTOR_SERVER,
    KINDS,
    LLM_CONFIGS,
    ONLY,
    ORGANIZATION,
    REFERENCE,
    SECRET,
    SECRETS,
    SERVERS,
    Kind,
    Values,
    Wanted,
)
from aster.configuration.secrets import Secret
from connectors.base import Kind as ConnectorKind
from connectors.registry import CONNECTORS
from integrations.models import AuthConfig, McpServer, Tool, Transport

Row = TypeVar("Row", bound=AuditedModel)


@dataclass
class Current:
    """`rows` and `values` by section and key; `servers` are all by slug, connectors and others included.

    A secret that is not stored is no setting. `notes` are lines about what the file cannot say.
    """

    rows: dict[str, dict[str, Any]]
    values: Wanted = field(repr=False)
    servers: dict[str, McpServer]
    notes: list[str]

    def tools_of(self, section: str, key: str) -> set[str]:
        """The names of a server's tools, as far as they are known."""
        server = self.rows[section].get(key)
        return set(server.tools.values_list("name", flat=True)) if server else set()

    def file_name(self, name: str) -> str:
        """A tool of an agent as the file names it, SERVER:TOOL; a name that cannot be read back stays as it is."""
        prefix, _, rest = name.partition("__")
        server = next((each for each in self.servers.values() if server_prefix(each.slug, each.pk) == prefix), None)
        if server is None or not rest:
            return name
        own = [rest, *Tool.objects.filter(server=server).values_list("name", flat=True)]
        return next((f"{server.slug}:{each}" for each in own if namespaced(server, each) == name), name)


def read_current(actor: Actor, *, lock: bool = False) -> Current:
    """With `lock`, inside a transaction, nobody changes any of it until the transaction ends."""

    def rows(found: models.QuerySet[Row]) -> list[Row]:
        ordered = found.order_by("pk")
        # Rows that refer to these (audit, tools) may be added meanwhile; whoever held both would wait for us for ever.
        return list(ordered.select_for_update(no_key=True) if lock else ordered)

    organization = actor.organization
    [own] = rows(Organization.objects.filter(pk=organization.pk))
    auths = rows(AuthConfig.objects.filter(organization=organization))
    servers = rows(McpServer.objects.filter(organization=organization))
    llms = rows(LlmConfig.objects.filter(organization=organization))
    agents = rows(Agent.objects.filter(organization=organization))
    catalogue = {each.slug: each for each in CONNECTORS}
    made = [server for server in servers if server.transport == Transport.CONNECTOR]
    of_connectors = {server.auth_config_id for server in made}
    found: dict[str, dict[str, Any]] = {
        ORGANIZATION.section: {ONLY: own},
        AUTH_CONFIGS.section: {each.name: each for each in auths if each.pk not in of_connectors},
        "connectors": {each.command: each for each in made if each.command in catalogue},
        SERVERS.section: {each.slug: each for each in servers if each.transport != Transport.CONNECTOR},
        LLM_CONFIGS.section: {each.name: each for each in llms},
        AGENTS.section: {each.slug: each for each in agents},
    }
    current = Current(found, {}, {each.slug: each for each in servers}, _notes(made, catalogue))
    for kind in KINDS:
        if kind.section != "connectors":
            current.values[kind.section] = {key: _values(kind, row) for key, row in found[kind.section].items()}
    current.values["connectors"] = {
        slug: _connector(row, by_key=catalogue[slug].kind == ConnectorKind.API_KEY)
        for slug, row in found["connectors"].items()
    }
    _add_agents(current)
    return current


def _notes(made: Iterable[McpServer], catalogue: Mapping[str, object]) -> list[str]:
    words = "comes from an API's own description, which this file cannot say; it stays as it is"
    return [f"server {each.slug} {words}" for each in made if each.command not in catalogue]


def _values(kind: Kind, row: AuditedModel) -> Values:
    found: Values = {}
    for name, setting in kind.settings.items():
        if not _is_field(row, name):
            continue
        value = getattr(row, name)
        if setting.shape == SECRET:
            found |= {name: Secret(value)} if value else {}
        elif setting.shape == SECRETS:
            found[name] = {each: Secret(text) for each, text in value.items()}
        elif setting.shape == REFERENCE:
            found[name] = str(value) if value else None
        else:
            found[name] = value
    return found


def _is_field(row: AuditedModel, name: str) -> bool:
    return any(name == each.name for each in row._meta.concrete_fields)


def _connector(server: McpServer, *, by_key: bool) -> Values:
    auth = server.auth_config
    found = {name: getattr(server, name) for name in (*CONNECTOR_SERVER, *AS_SERVERS)}
    if auth is None:
        return found
    if by_key:
        return found | ({"api_key": Secret(auth.token)} if auth.token else {})
    found |= {name: getattr(auth, name) for name in CONNECTOR_AUTH if name != "client_secret"}
    return found | ({"client_secret": Secret(auth.client_secret)} if auth.client_secret else {})


def _add_agents(current: Current) -> None:
    by_pk = {server.pk: server for server in current.servers.values()}
    for slug, agent in current.rows[AGENTS.section].items():
        values = current.values[AGENTS.section][slug]
        assigned = set(agent.assignments.values_list("server_id", flat=True)) & by_pk.keys()
        off: dict[str, list[str]] = {}
        asked: dict[str, dict[str, str]] = {}
        # The rules for tools of a server that was taken away wait for its return.
        for grant in agent.tool_grants.filter(server__in=assigned).order_by("tool_name"):
            at = by_pk[grant.server_id].slug
            if not grant.is_enabled:
                off.setdefault(at, []).append(grant.tool_name)
            if grant.approver != Approver.NOBODY:
                asked.setdefault(at, {})[grant.tool_name] = grant.approver
        values["servers"] = sorted(by_pk[pk].slug for pk in assigned)
        values["disabled_tools"], values["approvals"] = off, asked
        values["tool_scopes"] = {current.file_name(name): scopes for name, scopes in agent.tool_scopes.items()}
        tidy_agent(values)
