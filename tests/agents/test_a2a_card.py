"""Agent cards and the catalog: who may read them, what they say to clients of both versions, which skills they name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from a2a.client.card_resolver import parse_agent_card
from a2a.compat.v0_3 import types as old_types
from a2a.types import a2a_pb2 as pb
from django.test import Client
from google.protobuf.json_format import ParseDict

from agents.models import Agent, ToolGrant
from agents.services.agents import save_agent, set_enabled
from integrations.models import McpServer
from integrations.services.servers import save_server
from tests.agents.signing_in import App
from tests.aster.api_contract import api
from tests.conftest import Person
from tests.fakes.mcp_servers import modern_and_legacy_app, serve

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def tools_url() -> Iterator[str]:
    with serve(modern_and_legacy_app()) as base:
        yield f"{base}/mcp"


@pytest.fixture
def server(alice: Person, tools_url: str) -> McpServer:
    return save_server(McpServer(name="Fake Files", url=tools_url, expose_as_skills=True), actor=alice.actor).server


@pytest.fixture
def agent(alice: Person, server: McpServer) -> Agent:
    made = Agent(name="Bot", slug="bot", description="Knows the files.")
    return save_agent(made, actor=alice.actor, server_ids=[server.pk])


def read(path: str, key: str = "", **headers: str) -> Any:
    sent = {"X-API-Key": key} if key else {}
    return Client().get(path, headers={**sent, **headers})


CARD, CATALOG = "/a2a/acme/bot/.well-known/agent-card.json", "/a2a/acme/.well-known/ai-catalog.json"


def card(person: Person, *scopes: str) -> dict[str, Any]:
    response = read(CARD, person.key(*scopes))
    assert response.status_code == 200, response.content
    return dict(response.json())


def test_a_client_of_one_zero_reads_the_card(agent: Agent, bob: Person) -> None:
    shown = card(bob)
    read_by_sdk = parse_agent_card(card(bob))
    strictly = ParseDict(
        {name: shown[name] for name in ("name", "supportedInterfaces", "skills")}, pb.AgentCard(), True
    )
    assert [(each.url, each.protocol_binding, each.protocol_version) for each in strictly.supported_interfaces] == [
        (agent.a2a_url, "JSONRPC", "1.0"), (agent.a2a_url, "JSONRPC", "0.3"),
    ]  # fmt: skip
    assert (read_by_sdk.name, read_by_sdk.description, read_by_sdk.provider.organization) == (
        "Bot", "Knows the files.", "Acme",
    )  # fmt: skip
    assert read_by_sdk.version and list(read_by_sdk.default_input_modes) == ["text/plain"]
    able = read_by_sdk.capabilities
    assert (able.streaming, able.push_notifications, able.extended_agent_card) == (True, False, True)
    assert read_by_sdk.security_schemes["apiKey"].api_key_security_scheme.name == "X-API-Key"
    assert read_by_sdk.security_schemes["bearer"].http_auth_security_scheme.scheme == "Bearer"
    needed = [dict(each.schemes) for each in read_by_sdk.security_requirements]
    assert [list(each) for each in needed] == [["bearer"], ["apiKey"]]
    assert list(needed[0]["bearer"].list) == ["aster:call"]
    # The same without the SDK's own reading of older forms
    schemes = {
        name: {k: v for k, v in each.items() if k.endswith("Scheme")} for name, each in shown["securitySchemes"].items()
    }
    plain = ParseDict(
        {"securitySchemes": schemes, "securityRequirements": shown["securityRequirements"]}, pb.AgentCard()
    )
    assert plain.security_schemes["apiKey"].api_key_security_scheme.location == "header"


def test_a_client_of_zero_three_reads_the_card(agent: Agent, bob: Person) -> None:
    old = old_types.AgentCard.model_validate(card(bob))
    assert (old.url, old.protocol_version, old.preferred_transport) == (agent.a2a_url, "0.3.0", "JSONRPC")
    assert old.security == [{"bearer": ["aster:call"]}, {"apiKey": ["aster:call"]}]
    assert old.security_schemes
    key, bearer = old.security_schemes["apiKey"].root, old.security_schemes["bearer"].root
    assert isinstance(key, old_types.APIKeySecurityScheme) and (key.name, key.in_.value) == ("X-API-Key", "header")
    assert isinstance(bearer, old_types.HTTPAuthSecurityScheme) and bearer.scheme == "Bearer"
    assert old.skills[0].input_modes == ["text/plain"] and old.supports_authenticated_extended_card


def test_skills_are_named_after_the_tools_and_inherit_their_scopes(
    agent: Agent, server: McpServer, bob: Person
) -> None:
    server.tool_scopes = {"add": ["files:write"]}
    server.save()
    skills = {each["id"]: each for each in card(bob)["skills"]}
    add = skills["mcp_add"]
    assert (add["name"], add["tags"]) == ("fake-files:add", ["mcp", "Fake Files"])
    assert add["description"] and add["outputModes"] == ["text/plain"]
    assert add["securityRequirements"][0] == {"schemes": {"bearer": {"list": ["files:write"]}}}
    assert add["security"][1] == {"apiKey": ["files:write"]}
    assert skills["mcp_echo"]["security"][0] == {"bearer": ["aster:call"]}


def test_a_tool_that_the_caller_may_not_call_is_no_skill(
    agent: Agent, server: McpServer, alice: Person, bob: Person
) -> None:
    server.tool_scopes = {"add": ["files:write"]}
    server.save()
    ToolGrant.objects.create(agent=agent, server=server, tool_name="slow", is_enabled=False)
    limited = {each["id"] for each in card(bob, "aster:call")["skills"]}
    assert "mcp_echo" in limited and not {"mcp_add", "mcp_slow"} & limited
    assert "mcp_add" in {each["id"] for each in card(bob, "files:write")["skills"]}
    set_enabled(agent, False, actor=alice.actor)
    assert card(bob)["skills"] == []


def test_tools_are_skills_only_where_the_server_says_so(agent: Agent, server: McpServer, alice: Person) -> None:
    assert card(alice)["skills"]
    changed = api(alice).patch(f"/api/v1/config/mcp-server/{server.slug}", {"expose_as_skills": False})
    assert (changed.status_code, changed.json()["expose_as_skills"]) == (200, False)
    assert card(alice)["skills"] == []


def test_ids_stay_apart_when_two_servers_have_the_same_tool(
    agent: Agent, server: McpServer, alice: Person, tools_url: str
) -> None:
    other = save_server(McpServer(name="Other", url=tools_url, expose_as_skills=True), actor=alice.actor).server
    save_agent(agent, actor=alice.actor, server_ids=[server.pk, other.pk])
    ids = [each["id"] for each in card(alice)["skills"]]
    assert {"mcp_echo_fake-files", "mcp_echo_other"} <= set(ids) and len(set(ids)) == len(ids)


def test_colons_in_a_tools_name_become_underscores(agent: Agent, server: McpServer, alice: Person) -> None:
    for name in ("files:read", "files_read"):
        server.tools.create(name=name, definition={"name": name, "inputSchema": {"type": "object"}})
    found = {each["name"]: each["id"] for each in card(alice)["skills"]}
    assert found["fake-files:files:read"] != found["fake-files:files_read"]
    assert all(
        found[f"fake-files:{name}"].startswith("mcp_files_read_fake-files") for name in ("files:read", "files_read")
    )


def test_an_agent_with_an_input_takes_data(agent: Agent, alice: Person) -> None:
    agent.input_json_schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    agent.save()
    assert card(alice)["defaultInputModes"] == ["text/plain", "application/json"]


# --- Who may read them ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CARD, CATALOG, "/a2a/acme/nobody/.well-known/agent-card.json"])
def test_strangers_learn_nothing(agent: Agent, charlie: Person, path: str) -> None:
    for key in ("", "ask_wrong"):
        refused = read(path, key)
        assert refused.status_code == 401 and refused["WWW-Authenticate"].startswith("Bearer ")
        assert "API key" in refused.json()["detail"] and b"Bot" not in refused.content
    assert read(path, charlie.key()).status_code == 404


def test_an_app_reads_the_card_with_a_token_for_this_agent_alone(agent: Agent, alice: Person) -> None:
    refused = read(CARD, "")
    metadata = urlsplit(refused["WWW-Authenticate"].split('resource_metadata="')[1].split('"')[0]).path
    assert Client().get(metadata).json()["resource"] == agent.a2a_url
    token = App().sign_in(alice.browser(), agent.a2a_url)["access_token"]
    assert read(CARD, token).status_code == 200
    for_mcp = App().sign_in(alice.browser(), agent.gateway_url)["access_token"]
    elsewhere = read(CARD, for_mcp)
    assert elsewhere.status_code == 401 and "invalid_token" in elsewhere["WWW-Authenticate"]


def test_being_signed_in_to_the_hub_does_not_count(agent: Agent, alice: Person) -> None:
    assert alice.browser().get(CARD).status_code == 401


def test_a_key_reads_cards_with_either_scope_and_not_without(agent: Agent, alice: Person) -> None:
    for scope in ("aster:read", "aster:call"):
        assert read(CARD, alice.key(scope)).status_code == 200
    refused = read(CARD, alice.key("aster:tickets"))
    assert read(CARD, alice.key("aster:connect")).status_code == 200  # includes reading
    assert refused.status_code == 200  # so does this one


def test_a_card_is_kept_by_its_reader_and_asked_for_again_at_little_cost(agent: Agent, alice: Person) -> None:
    first = read(CARD, alice.key())
    assert first["Cache-Control"] == "private, max-age=60" and "X-API-Key" in first["Vary"]
    again = read(CARD, alice.key(), **{"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    set_enabled(agent, False, actor=alice.actor)
    assert read(CARD, alice.key(), **{"If-None-Match": first["ETag"]}).status_code == 200


def test_the_catalog_names_the_cards_of_agents_that_are_on(agent: Agent, alice: Person, bob: Person) -> None:
    save_agent(Agent(name="Off", is_enabled=False), actor=alice.actor)
    listed = read(CATALOG, bob.key("aster:read")).json()
    assert (listed["specVersion"], listed["host"]) == ("1.0", {"displayName": "Acme"})
    (entry,) = listed["entries"]
    assert (entry["displayName"], entry["url"]) == ("Bot", f"{agent.a2a_url}/.well-known/agent-card.json")
    assert entry["type"] == "application/a2a-agent-card+json"


def test_the_root_says_where_cards_are(db: None) -> None:
    answer = Client().get("/.well-known/agent-card.json")
    assert answer.status_code == 404 and "/a2a/ORGANIZATION/AGENT" in answer.json()["detail"]
