"""A rich organization written down: the file changes nothing where it comes from, and makes the same elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pytest_django.fixtures import Settings

from agents.models import Agent, LlmConfig
from agents.services.agents import save_agent, save_llm_config
from agents.services.tool_scopes import set_tool_scopes
from aster.accounts.models import AuditEvent, Organization
from aster.accounts.services import update_organization
from connectors.services import Settings as ConnectorSettings
from connectors.services import enable_connector
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, McpServer, Tool, Transport
from integrations.services.servers import save_auth_config, save_server
from tests.configuration.stage import apply, export, globex, mcp, plan, write
from tests.conftest import Person

__all__ = ["globex"]

pytestmark = pytest.mark.django_db
KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()  # fmt: skip
URL = "https://93.184.216.34/mcp"


def make_auth_configs(alice: Person) -> dict[str, AuthConfig]:
    people = AuthConfig(
        name="People", auth_type=AuthType.AUTHORIZATION_CODE, client_id="app-1", client_secret="canary-secret-1",
        client_mode="known_credentials", authorization_url="https://93.184.216.34/authorize",
        token_url="https://93.184.216.34/token", scopes=["read", "write"], extra_authorize_params={"prompt": "consent"},
        extra_token_params={"tenant": "canary-tenant"}, allow_end_user_auth=False,
    )  # fmt: skip
    found = [
        AuthConfig(name="Headers", custom_headers={"X-Team": "canary-team"}),
        AuthConfig(name="Key", auth_type=AuthType.BEARER, token="canary-token"),
        AuthConfig(name="Password", auth_type=AuthType.BASIC, username="svc", password="canary-password"),
        AuthConfig(
            name="Robot", auth_type=AuthType.CLIENT_CREDENTIALS, client_id="robot", client_private_key=KEY,
            token_endpoint_auth_method="private_key_jwt", token_url="https://93.184.216.34/token",
        ),
        people,
        AuthConfig(
            name="Another sign-in", auth_type=AuthType.TOKEN_EXCHANGE, client_id="x", client_secret="canary-secret-2",
            subject_config=people, token_url="https://93.184.216.34/token", audience="https://api.test",
        ),
        AuthConfig(
            name="Assertion", auth_type=AuthType.ID_JAG, client_id="y", client_secret="canary-secret-3",
            subject_config=people, token_url="https://93.184.216.34/token",
        ),
    ]  # fmt: skip
    for auth in found:
        if auth.subject_config is not None:
            auth.subject_config = AuthConfig.objects.get(name="People")
        save_auth_config(auth, actor=alice.actor)
    return {auth.name: auth for auth in found}


@pytest.fixture
def rich(alice: Person, settings: Settings) -> Person:
    """Alice's organization, with one of everything."""
    settings.ASTER_STDIO_COMMANDS = ["python"]
    actor, organization = alice.actor, alice.organization
    organization.scope_hierarchy = {"admin": ["*"], "files:write": ["files:read"]}
    organization.keep_calls_days = 30
    update_organization(organization, actor=actor)
    made: dict[str, McpServer] = {}
    for number, auth in enumerate(make_auth_configs(alice).values()):
        server = McpServer(name=f"Server {number}", url=URL, tool_scopes={"query": ["db:read"]}, timeout_seconds=12)
        made[server.name] = save_server(server, auth=auth, actor=actor, test=False, discover=False).server
    local = McpServer(
        name="Local", transport=Transport.STDIO, command="python", args=["-m", "x"], env={"K": "canary-env"},
        is_enabled=False, takes_changes=True, expose_as_skills=True, source="registry:io.test/x@1",
    )  # fmt: skip
    save_server(local, actor=actor, test=False)
    enable_connector(
        "slack", ConnectorSettings(client_id="1.2", client_secret="canary-slack", require_auth=False), actor=actor
    )
    model = LlmConfig(name="Model", base_url="https://93.184.216.34/v1", model="m", api_key="canary-llm")
    save_llm_config(model, actor=actor)
    server = made["Server 1"]
    for name in ("query", "drop"):
        Tool.objects.create(server=server, name=name, definition={"name": name})
    agent = Agent(
        name="Helper", prompt="Be brief.\nBe kind: always.\n", llm_config=model, strict_scopes=True,
        input_json_schema={"type": "object", "properties": {"city": {"type": "string"}}},
    )  # fmt: skip
    slack = McpServer.objects.get(command="slack")
    save_agent(
        agent, actor=actor, server_ids=[server.pk, slack.pk], switched_off={server: ["drop"]},
        approvers={f"{server.slug}:query": "admin"},
    )  # fmt: skip
    set_tool_scopes(agent, {f"{server.slug}:query": ["db:read"], "slack:slack_send_message": ["chat"]}, actor=actor)
    return alice


def with_references(document: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same, every secret given by a variable of the environment."""
    secrets = {
        ("auth_configs", "Robot", "client_private_key"): KEY,
        ("auth_configs", "Key", "token"): "canary-token",
    }

    def change(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {name: change(each, (*path, name)) for name, each in value.items()}
        if value != "stored":
            return value
        name = f"SECRET_{abs(hash(path))}"
        monkeypatch.setenv(name, secrets.get(path, f"value-{len(path)}"))
        return f"env:{name}"

    return change(document, ())


def test_a_rich_organization_is_written_down_without_a_secret_and_plans_to_nothing(
    rich: Person, tmp_path: Path
) -> None:
    file = export(tmp_path)
    text = file.read_text()
    assert "canary" not in text
    assert "PRIVATE KEY" not in text
    document = yaml.safe_load(text)
    assert document["agents"]["helper"]["approvals"] == {"server-1": {"query": "admin"}}
    assert document["agents"]["helper"]["disabled_tools"] == {"server-1": ["drop"]}
    assert document["agents"]["helper"]["tool_scopes"] == {
        "server-1:query": ["db:read"], "slack:slack_send_message": ["chat"],
    }  # fmt: skip
    assert document["connectors"]["slack"]["client_secret"] == "stored"
    assert "Slack" not in document["auth_configs"]
    code, told = plan(file)
    assert (code, told["changes"]) == (0, [])


def test_elsewhere_the_file_makes_the_same_organization(
    rich: Person, globex: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = export(tmp_path)
    document = with_references(yaml.safe_load(first.read_text()), monkeypatch)
    moved = write(tmp_path, yaml.safe_dump(document))
    before = AuditEvent.objects.filter(organization=rich.organization).count()
    told = apply(moved, organization="globex")
    assert "canary" not in told
    second = export(tmp_path, "globex")
    assert yaml.safe_load(second.read_text()) == yaml.safe_load(first.read_text())
    assert plan(moved, organization="globex")[0] == 0
    assert AuditEvent.objects.filter(organization=rich.organization).count() == before
    assert AuthConfig.objects.get(organization=globex, name="Key").token == "canary-token"
    trail = str(list(AuditEvent.objects.filter(organization=globex).values_list("changes", flat=True)))
    assert "canary-token" not in trail
    assert "created" in AuditEvent.objects.filter(organization=globex).values_list("action", flat=True)


def test_what_is_deleted_by_pruning_is_what_a_section_of_the_file_does_not_have(rich: Person, tmp_path: Path) -> None:
    document = yaml.safe_load(export(tmp_path).read_text())
    del document["agents"], document["connectors"], document["llm_configs"]
    document["servers"] = {"server-1": document["servers"]["server-1"]}
    document["auth_configs"] = {name: document["auth_configs"][name] for name in ("Key", "Password")}
    file = write(tmp_path, yaml.safe_dump(document))
    code, told = plan(file)
    assert (code, told["changes"]) == (0, [])
    assert {"kind": "server", "key": "local"} in told["not_in_file"]
    apply(file, "--prune")
    assert set(McpServer.objects.values_list("slug", flat=True)) == {"server-1", "slack"}
    assert set(AuthConfig.objects.values_list("name", flat=True)) == {"Key", "Password", "Slack"}
    assert Agent.objects.get().slug == "helper"
    assert plan(file, "--prune")[0] == 0


def test_a_connector_is_pruned_when_the_file_has_connectors_and_not_this_one(rich: Person, tmp_path: Path) -> None:
    file = write(tmp_path, "version: 1\nconnectors: {}\n")
    assert plan(file)[0] == 0
    auth = AuthConfig.objects.get(name="Slack")
    Connection.objects.create(
        auth_config=auth,
        user=rich.user,
        access_token="t",
        status=ConnectionStatus.CONNECTED,
        connected_at=auth.created_at,
    )
    told = mcp("plan", file, "--prune")
    assert told == (2, "- connector slack\n    connected people: 1 → 0\n1 to delete.\n")
    assert Connection.objects.exists()
    assert "connector slack is off. 0 of 1 connections revoked at the provider" in apply(file, "--prune")
    assert not Connection.objects.exists()
    assert not McpServer.objects.filter(command="slack").exists()
    assert mcp("plan", file, "--prune") == (0, "Nothing to change.\n")


NASTY = (
    *("yes", "null", "1e3", "0x1F", "2026-11-21", "12:30:45", "~", "- a", "a: b", "# no comment", "*alias", "&anchor"),
    *(
        "!tag",
        "'",
        '"',
        "%",
        "@x",
        "`",
        "{a}",
        "[b]",
        "env:HOME",
        "stored",
        "Zoë – ☃",
        "trailing \nspaces\t\n\n",
        "  lead",
    ),
)


def test_texts_that_yaml_reads_in_its_own_way_come_back_as_they_were(
    alice: Person, globex: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = alice.actor
    for number, text in enumerate(NASTY):
        agent = Agent(name=f"Agent {number}", prompt=text, input_json_schema={"type": "object", "title": text})
        save_agent(agent, actor=actor)
        if name := text.strip():
            save_auth_config(AuthConfig(name=name, custom_headers={"X-Y": "v"}), actor=actor)
    first = export(tmp_path)
    assert plan(first)[0] == 0
    monkeypatch.setenv("ANY", "v")
    moved = write(tmp_path, first.read_text().replace("X-Y: stored", "X-Y: env:ANY"))
    apply(moved, organization="globex")
    prompts = Agent.objects.filter(organization=globex).order_by("pk").values_list("prompt", flat=True)
    assert set(prompts) == set(NASTY)
    second = export(tmp_path, "globex").read_text().partition("\n")[2]
    assert second == first.read_text().partition("\n")[2]


def test_a_tool_that_is_called_like_its_server_and_a_colon_keeps_its_scopes(rich: Person, tmp_path: Path) -> None:
    server = McpServer.objects.get(slug="server-2")
    Tool.objects.create(server=server, name="server-2:odd", definition={"name": "server-2:odd"})
    set_tool_scopes(server, {"server-2:odd": ["a:b"], "even": ["c:d"]}, actor=rich.actor)
    assert McpServer.objects.get(slug="server-2").tool_scopes == {"server-2:odd": ["a:b"], "even": ["c:d"]}
    assert plan(export(tmp_path))[0] == 0


def test_of_what_is_long_the_part_that_differs_is_shown(rich: Person, tmp_path: Path) -> None:
    long = "word " * 80
    agent = Agent.objects.get()
    agent.prompt = f"{long}red {long}"
    save_agent(agent, actor=rich.actor)
    servers = [f"server-{number}" for number in range(6)]
    text = (
        f'version: 1\nagents: {{helper: {{prompt: "{long}green {long}", servers: {[*servers, "local", "slack"]}}}}}\n'
    )
    told = mcp("plan", write(tmp_path, text))[1]
    assert 'prompt: "…word word word word red word' in told
    assert '→ "…word word word word green word' in told
    assert "servers: 2 → 8; without [], with" in told


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\r", "\r\n", "\ufeff", "\t"])
def test_unusual_line_ends_come_back_as_they_were(alice: Person, tmp_path: Path, end: str) -> None:
    agent = Agent(name=f"A{end}b", prompt=f"One{end}two\n  three{end}\n{end}")
    save_agent(agent, actor=alice.actor)
    assert plan(export(tmp_path)) == (
        0,
        {"changes": [], "not_in_file": [], "notes": [], "summary": "Nothing to change."},
    )
