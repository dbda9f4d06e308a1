"""From what the file wants of an object to the service that stores it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from django.db import transaction

from agents.models import Agent, LlmConfig
from agents.services import agents
from aster.accounts.access import Actor
from aster.accounts.models import AuditedModel, Organization
from aster.accounts.services import update_organization
from aster.configuration.current import Current
from aster.configuration.document import Document
from aster.configuration.kinds import AS_SERVERS, BY_SECTION, CONNECTOR_AUTH, CONNECTOR_SERVER, REFERENCE, Values
from aster.configuration.plan import CREATE, DELETE, Change
from aster.configuration.secrets import Secret
from aster.errors import AsterError, InvalidInput
from connectors.base import Kind as ConnectorKind
from connectors.registry import all_connectors, find_connector
from connectors.services import SOURCE, Settings, enable_connector, find_enabled, update_connector
from integrations.models import AuthConfig, ClientMode, McpServer
from integrations.services import servers

Row = TypeVar("Row", bound=AuditedModel)


class _Depends(Exception):
    """On an object whose own problem is told already."""


class Writer:
    """Stores changes one after the other, inside a transaction; a failed one does not keep the others from trying."""

    def __init__(self, document: Document, current: Current, actor: Actor) -> None:
        self.document, self.current, self.actor = document, current, actor
        self.failed: set[tuple[str, str]] = set()

    def write(self, changes: Iterable[Change]) -> list[str]:
        """What went wrong, a line for each; the transaction must not be kept then."""
        problems = []
        for change in changes:
            try:
                with transaction.atomic():
                    self._write(change)
            except _Depends:
                self.failed.add((change.section, change.key))
            except AsterError as error:
                self.failed.add((change.section, change.key))
                problems.append(self.document.say(change.kind, change.key, _words(error)))
        return problems

    def _write(self, change: Change) -> None:
        if change.action == DELETE:
            self._delete(change)
            return
        write: Callable[[Change], Any] = getattr(self, f"_write_{change.section}")
        stored = write(change)
        self.current.rows[change.section][change.key] = stored
        if isinstance(stored, McpServer):
            self.current.servers[stored.slug] = stored

    def _row(self, change: Change) -> Any:
        return self.current.rows[change.section].get(change.key)

    # --- Each kind --------------------------------------------------------------------------------------------------

    def _write_organization(self, change: Change) -> Organization:
        organization: Organization = self._row(change)
        update_organization(self._fill(organization, change), actor=self.actor)
        return organization

    def _write_auth_configs(self, change: Change) -> AuthConfig:
        auth = self._row(change) or AuthConfig(name=change.key, organization=self.actor.organization)
        if change.action == CREATE and change.values.get("client_id"):
            auth.client_mode = ClientMode.KNOWN
        self._fill(auth, change)
        servers.save_auth_config(auth, actor=self.actor)
        return auth

    def _write_servers(self, change: Change) -> McpServer:
        server = self._row(change)
        if server is None and change.key in self.current.servers:
            raise InvalidInput("this slug belongs to a connector. Choose another one, or write it under connectors.")
        server = server or McpServer(slug=change.key, name=change.key)
        before = _origin(server)
        self._fill(server, change)
        if _origin(server) != before:
            _require_own_origin(server)
        servers.save_server(server, actor=self.actor, test=False, discover=False)
        return server

    def _write_connectors(self, change: Change) -> McpServer:
        kind, values = find_connector(change.key).kind, change.values
        foreign = ("api_key",) if kind == ConnectorKind.OAUTH else CONNECTOR_AUTH
        if wrong := [name for name in foreign if name in values]:
            raise InvalidInput(f"this connector has no {', '.join(wrong)}.")
        given = {name: values[name] for name in (*CONNECTOR_AUTH, *CONNECTOR_SERVER, "api_key") if name in values}
        settings = Settings(**{name: _plain(value) for name, value in given.items()})
        verb = enable_connector if change.action == CREATE else update_connector
        verb(change.key, settings, actor=self.actor)
        server = find_enabled(change.key, actor=self.actor)
        if as_server := {name: values[name] for name in AS_SERVERS if name in values}:
            for name, value in as_server.items():
                setattr(server, name, value)
            servers.save_server(server, actor=self.actor, test=False, discover=False)
        return server

    def _write_llm_configs(self, change: Change) -> LlmConfig:
        config = self._row(change) or LlmConfig(name=change.key)
        self._fill(config, change)
        agents.save_llm_config(config, actor=self.actor)
        return config

    def _write_agents(self, change: Change) -> Agent:
        agent = self._row(change) or Agent(slug=change.key, name=change.key, organization=self.actor.organization)
        stored, wanted = self.current.values["agents"].get(change.key, {}), change.values
        slugs: list[str] = wanted["servers"] if "servers" in wanted else self._still_there(stored.get("servers", []))
        assigned = {slug: self._server(slug) for slug in slugs}
        off: dict[str, list[str]] | None = wanted.get("disabled_tools")
        asked: dict[str, dict[str, str]] | None = wanted.get("approvals")
        named: tuple[tuple[str, Mapping[str, Any]], ...] = (("disabled_tools", off or {}), ("approvals", asked or {}))
        for name, rules in named:
            for slug in sorted(rules.keys() - assigned.keys()):
                raise InvalidInput(f"{name}: {slug[:60]} is not one of its servers.")
        self._fill(agent, change)
        agents.save_agent(
            agent,
            actor=self.actor,
            server_ids=[server.pk for server in assigned.values()] if "servers" in wanted else None,
            switched_off=None if off is None else {server: off.get(slug, []) for slug, server in assigned.items()},
            changed_approvers=None if asked is None else _approvers(assigned, asked, stored.get("approvals", {})),
            ahead=True,
        )
        return agent

    def _delete(self, change: Change) -> None:
        row = self._row(change)
        if isinstance(row, McpServer):
            auth = row.auth_config
            if auth is not None and self.document.keeps_auth_config(auth.name):
                # It would go with its last server.
                McpServer.objects.filter(pk=row.pk).update(auth_config=None)
                row.refresh_from_db()
            servers.delete_server(row, actor=self.actor)
            del self.current.servers[change.key]
        elif isinstance(row, AuthConfig):
            if AuthConfig.objects.filter(pk=row.pk).exists():  # else it went with its server
                servers.delete_auth_config(row, actor=self.actor)
        elif isinstance(row, LlmConfig):
            agents.delete_llm_config(row, actor=self.actor)
        else:
            agents.delete_agent(row, actor=self.actor)
        del self.current.rows[change.section][change.key]

    # --- Values -----------------------------------------------------------------------------------------------------

    def _fill(self, row: Row, change: Change) -> Row:
        fields = {each.name for each in row._meta.concrete_fields}
        for name, value in change.values.items():
            if name in fields:
                setting = change.kind.settings[name]
                setattr(row, name, self._referred(setting.to, value) if setting.shape == REFERENCE else _plain(value))
        return row

    def _referred(self, section: str, key: str | None) -> Any:
        if key is None:
            return None
        return self._found(section, key, self.current.rows[section])

    def _server(self, slug: str) -> McpServer:
        section = "connectors" if ("connectors", slug) in self.failed else "servers"
        found: McpServer = self._found(section, slug, self.current.servers)
        return found

    def _still_there(self, slugs: Iterable[str]) -> list[str]:
        return [slug for slug in slugs if slug in self.current.servers]

    def _found(self, section: str, key: str, rows: Mapping[str, Any]) -> Any:
        if (section, key) in self.failed:
            raise _Depends
        if key not in rows:
            near = difflib.get_close_matches(key, list(rows), n=1, cutoff=0.6)
            hint = f" Did you mean {near[0]}?" if near else ""
            word = BY_SECTION[section].word
            raise InvalidInput(f"there is no {word} {key[:60]}, neither in the file nor stored.{hint}")
        return rows[key]


def _origin(server: McpServer) -> tuple[str, str, str]:
    return server.source, server.url, server.transport


def _require_own_origin(server: McpServer) -> None:
    """The Connectors page takes a server for the connector that its source names."""
    if not server.source.startswith(SOURCE):
        return
    slug = server.source.removeprefix(SOURCE)
    connector = next((each for each in all_connectors() if each.slug == slug and each.is_remote), None)
    if connector is None:
        raise InvalidInput(f"source: {server.source[:60]} is no server of the catalogue. Leave the source out.")
    if (server.url, server.transport) != (connector.url, connector.transport):
        words = f"source: in the catalogue, {slug} is {connector.url} ({connector.transport}). Leave the source out."
        raise InvalidInput(words)


def _approvers(
    assigned: Mapping[str, McpServer], wanted: Mapping[str, Values], stored: Mapping[str, Values]
) -> dict[McpServer, dict[str, str]]:
    """Every rule that the file has, and nobody for those it has not."""
    return {
        server: {**dict.fromkeys(stored.get(slug, {}), ""), **wanted.get(slug, {})} for slug, server in assigned.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.text
    if isinstance(value, dict) and any(isinstance(each, Secret) for each in value.values()):
        return {name: _plain(each) for name, each in value.items()}
    return value


def _words(error: AsterError) -> str:
    if not error.fields:
        return error.message
    return "; ".join(f"{name}: {' '.join(said)}" for name, said in error.fields.items())
