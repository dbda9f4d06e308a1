"""The API of agents and models: create, assign, switch tools, put, delete."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from agents.models import Agent, LlmConfig
from aster.accounts.models import AuditEvent
from aster.demo.world import DemoWorld
from tests.aster.api_contract import ContractClient, api
from tests.conftest import Person

pytestmark = pytest.mark.django_db
AGENTS, SERVERS = "/api/v1/config/agent", "/api/v1/config/mcp-server"


@pytest.fixture
def weather(alice: Person, world: DemoWorld) -> dict[str, Any]:
    made: dict[str, Any] = api(alice).post(SERVERS, {"name": "Weather", "url": world.weather_url}).json()
    return made


@pytest.fixture
def client(alice: Person) -> ContractClient:
    return api(alice)


def test_an_agent_is_made_with_its_servers_and_shows_its_address(
    client: ContractClient, alice: Person, weather: dict[str, Any]
) -> None:
    schema = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    body = {"name": "My Agent", "prompt": " Be kind.\n", "mcp_server_config_ids": [str(weather["id"])]}
    made = client.post(AGENTS, {**body, "input_json_schema": schema})
    assert made.status_code == 201
    agent = made.json()
    assert (agent["slug"], agent["prompt"], agent["input_json_schema"]) == ("my-agent", " Be kind.\n", schema)
    assert agent["mcp_server_config_ids"] == [weather["id"]]
    assert agent["gateway_url"].endswith("/mcp/acme/my-agent")
    assert client.get(f"{AGENTS}/my-agent").json() == client.get(f"{AGENTS}/{agent['id']}").json() == agent


@pytest.mark.parametrize("how", ["number", "text", "slug"])
def test_servers_are_named_by_id_or_slug(client: ContractClient, weather: dict[str, Any], how: str) -> None:
    key = {"number": weather["id"], "text": str(weather["id"]), "slug": "weather"}[how]
    made = client.post(AGENTS, {"name": "A", "mcp_server_config_ids": [key], "disabled_tools": {key: ["list_cities"]}})
    assert made.json()["mcp_server_config_ids"] == [weather["id"]]
    assert made.json()["disabled_tools"] == {str(weather["id"]): ["list_cities"]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"nmae": 1}, "nmae"),
        ({"name": ""}, "name"),
        ({"slug": "a b"}, "slug"),
        ({"prompt": "x" * 100_001}, "prompt"),
        ({"llm_config_id": 4711}, "llm_config_id"),
        ({"input_json_schema": {"type": "string"}}, "input_json_schema"),
        ({"input_json_schema": {"type": "object", "properties": 1}}, "input_json_schema"),
        ({"input_json_schema": []}, "input_json_schema"),
        ({"mcp_server_config_ids": [4711]}, "mcp_server_config_ids"),
        ({"mcp_server_config_ids": ["²"]}, "mcp_server_config_ids"),
        ({"mcp_server_config_ids": 1}, "mcp_server_config_ids"),
        ({"disabled_tools": {"4711": []}}, "disabled_tools"),
        ({"disabled_tools": {"weather": ["list_cities"]}}, "disabled_tools"),
        ({"mcp_server_config_ids": ["weather"], "disabled_tools": {"weather": ["no_such"]}}, "disabled_tools"),
    ],
)
def test_a_bad_body_is_refused_by_the_name_of_its_field(
    client: ContractClient, weather: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    for send in (lambda body: client.post(AGENTS, body), lambda body: client.put(f"{AGENTS}/new", body)):
        response = send({"name": "A", **change})
        assert (response.status_code, list(response.json()["fields"])) == (400, [field])
        assert not Agent.objects.exists()


def test_what_is_left_out_is_kept_and_servers_are_replaced(client: ContractClient, weather: dict[str, Any]) -> None:
    client.post(AGENTS, {"name": "A", "description": "d", "mcp_server_config_ids": ["weather"]})
    changed = client.patch(f"{AGENTS}/a", {"prompt": "New"}).json()
    assert (changed["description"], changed["prompt"], len(changed["mcp_server_config_ids"])) == ("d", "New", 1)
    assert client.patch(f"{AGENTS}/a", {"mcp_server_config_ids": []}).json()["mcp_server_config_ids"] == []
    assert list(client.patch(f"{AGENTS}/a", {"slug": "b"}).json()["fields"]) == ["slug"]


def test_put_by_slug_creates_once_and_changes_nothing_the_second_time(
    client: ContractClient, weather: dict[str, Any]
) -> None:
    body = {"name": "A", "mcp_server_config_ids": ["weather"], "disabled_tools": {"weather": ["list_cities"]}}
    first = client.put(f"{AGENTS}/bot", body)
    events = AuditEvent.objects.count()
    second = client.put(f"{AGENTS}/bot", body)
    assert (first.status_code, second.status_code) == (201, 200)
    assert {**second.json(), "updated_at": None} == {**first.json(), "updated_at": None}
    assert (Agent.objects.count(), AuditEvent.objects.count()) == (1, events)
    assert client.put(f"{AGENTS}/bot", first.json()).status_code == 200


def test_switches_wait_for_a_server_that_was_taken_away(client: ContractClient, weather: dict[str, Any]) -> None:
    off = {"weather": ["list_cities"]}
    client.post(AGENTS, {"name": "A", "mcp_server_config_ids": ["weather"], "disabled_tools": off})
    without = client.patch(f"{AGENTS}/a", {"mcp_server_config_ids": []}).json()
    assert without["disabled_tools"] == {}
    assert client.put(f"{AGENTS}/a", without).status_code == 200
    again = client.patch(f"{AGENTS}/a", {"mcp_server_config_ids": ["weather"]}).json()
    assert again["disabled_tools"] == {str(weather["id"]): ["list_cities"]}


def test_an_agent_goes_for_good(client: ContractClient) -> None:
    client.post(AGENTS, {"name": "A"})
    assert client.delete(f"{AGENTS}/a").status_code == 204
    assert client.delete(f"{AGENTS}/a").status_code == 404


def test_members_see_agents_and_change_none(client: ContractClient, bob: Person) -> None:
    client.post(AGENTS, {"name": "A"})
    member = api(bob)
    assert member.get(f"{AGENTS}/a").status_code == 200
    assert member.patch(f"{AGENTS}/a", {"name": "B"}).status_code == 403
    assert member.delete(f"{AGENTS}/a").status_code == 403


def test_an_agents_tools_are_those_that_are_on(client: ContractClient, weather: dict[str, Any]) -> None:
    body = {"name": "A", "mcp_server_config_ids": ["weather"], "disabled_tools": {"weather": ["list_cities"]}}
    client.post(AGENTS, body)
    shown = client.get(f"{AGENTS}/a/tools").json()["results"]
    assert {tool["tool_name"] for tool in shown} == {"get_forecast", "compare_cities"}
    assert all(tool["name"].startswith(f"weather_{weather['id']}__") for tool in shown)
    client.patch(f"{SERVERS}/weather", {"is_enabled": False})
    assert client.get(f"{AGENTS}/a/tools").json()["results"] == []


def test_many_agents_cost_as_many_queries_as_few(
    client: ContractClient, weather: dict[str, Any], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(8):
        off = {"weather": ["list_cities"]}
        client.post(AGENTS, {"name": f"A{number}", "mcp_server_config_ids": ["weather"], "disabled_tools": off})
    with django_assert_max_num_queries(5):
        assert len(client.get(AGENTS).json()["results"]) == 8
    with django_assert_max_num_queries(7):
        client.get(f"{AGENTS}/a0/tools")


class TestModels:
    BODY = {"name": "Local", "base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key": "canary-key"}

    def test_one_is_made_changed_and_deleted_and_its_key_stays_hidden(self, client: ContractClient) -> None:
        made = client.post("/api/v1/config/llm", self.BODY)
        where = f"/api/v1/config/llm/{made.json()['id']}"
        assert (made.status_code, made.json()["api_key"]) == (201, "[REDACTED]")
        assert client.patch(where, {"model": "n", "api_key": "[REDACTED]"}).json()["model"] == "n"
        assert LlmConfig.objects.get().api_key == "canary-key"
        client.patch(where, {"api_key": ""})
        assert client.get(where).json()["api_key"] == LlmConfig.objects.get().api_key == ""
        shown = client.patch(where, {"protocol": "anthropic", "max_tokens": 900}).json()
        assert (made.json()["protocol"], shown["protocol"], shown["max_tokens"]) == ("openai", "anthropic", 900)
        assert client.delete(where).status_code == 204

    def test_a_bad_one_is_refused(self, client: ContractClient) -> None:
        for change, field in (
            ({"base_url": "nonsense"}, "base_url"),
            ({"api_key": "[REDACTED]"}, "api_key"),
            ({"x": 1}, "x"),
            ({"protocol": "telnet"}, "protocol"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_tokens": 200_001}, "max_tokens"),
        ):
            response = client.post("/api/v1/config/llm", {**self.BODY, **change})
            assert (response.status_code, list(response.json()["fields"])) == (400, [field])
        client.post("/api/v1/config/llm", self.BODY)
        assert client.post("/api/v1/config/llm", self.BODY).status_code == 409

    def test_one_that_an_agent_uses_stays(self, client: ContractClient, bob: Person) -> None:
        pk = client.post("/api/v1/config/llm", self.BODY).json()["id"]
        assert client.post(AGENTS, {"name": "A", "llm_config_id": pk}).json()["llm_config_id"] == pk
        assert client.delete(f"/api/v1/config/llm/{pk}").json()["code"] == "in_use"
        assert client.patch(f"{AGENTS}/a", {"llm_config_id": None}).json()["llm_config_id"] is None
        assert api(bob).delete(f"/api/v1/config/llm/{pk}").status_code == 403
