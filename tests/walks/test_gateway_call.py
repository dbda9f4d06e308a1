"""Walk 3: an MCP client calls an agent's tools with the caller's own connection."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR

from agents.models import Agent, ToolCall
from agents.services.agents import save_agent, switch_tools
from aster.accounts.services import revoke_api_key
from integrations.models import McpServer
from tests.conftest import Person
from tests.walks.conftest import at_gateway, callback_params, consent

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def agent(alice: Person, notes: McpServer, weather: McpServer) -> Agent:
    return save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[notes.pk, weather.pk])


def connect(person: Person, server: McpServer, name: str = "Ada Park") -> None:
    begun = person.api().post(f"/api/v1/config/mcp-server/{server.pk}/connect").json()
    done = person.api().get("/api/v1/oauth/callback", callback_params(consent(begun["authorization_url"], name)))
    assert done.status_code == 200


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


def call(name: str, **arguments: Any) -> Any:
    async def do(client: Client) -> Any:
        return await client.call_tool(name, arguments)

    return do


@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_a_client_of_either_era_lists_and_calls(
    aster: str, agent: Agent, alice: Person, notes: McpServer, weather: McpServer, mode: str, version: str
) -> None:
    connect(alice, notes)
    key = alice.key()
    listed = at_gateway(agent.gateway_url, key, names, mode)
    assert f"acme_weather_{weather.pk}__get_forecast" in listed
    assert f"acme_notes_{notes.pk}__whoami" in listed

    async def run(client: Client) -> Any:
        assert client.protocol_version == version
        return await client.call_tool(f"acme_notes_{notes.pk}__whoami", {})

    result = at_gateway(agent.gateway_url, key, run, mode)
    assert result.structured_content["name"] == "Ada Park"
    recorded = ToolCall.objects.get()
    assert (recorded.outcome, recorded.user, recorded.via) == ("ok", alice.user, "gateway")
    assert recorded.connection_label == "Alice at Acme ID"


def test_two_people_use_one_agent_with_their_own_accounts(
    aster: str, agent: Agent, alice: Person, bob: Person, notes: McpServer
) -> None:
    connect(alice, notes, "Ada Park")
    connect(bob, notes, "Ben Okafor")
    tool = f"acme_notes_{notes.pk}__whoami"
    for person, name in ((alice, "Ada Park"), (bob, "Ben Okafor"), (alice, "Ada Park")):
        result = at_gateway(agent.gateway_url, person.key(), call(tool))
        assert result.structured_content["name"] == name


def test_without_a_connection_the_call_answers_with_a_link_and_works_after_it(
    aster: str, agent: Agent, bob: Person, alice: Person, notes: McpServer
) -> None:
    connect(alice, notes)
    alice.api().post(f"/api/v1/config/mcp-server/{notes.pk}/tools/refresh")
    tool = f"acme_notes_{notes.pk}__list_notes"
    refused = at_gateway(agent.gateway_url, bob.key(), call(tool))
    assert refused.is_error
    assert f"{aster}/hub/servers/acme-notes/connect/?organization=acme" in refused.content[0].text
    recorded = ToolCall.objects.latest("pk")
    assert (recorded.outcome, recorded.server, recorded.tool_name) == ("connection_required", notes, "list_notes")
    connect(bob, notes, "Ben Okafor")
    assert not at_gateway(agent.gateway_url, bob.key(), call(tool)).is_error


def test_a_server_nobody_connected_offers_a_tool_that_leads_to_the_link(
    aster: str, agent: Agent, alice: Person, notes: McpServer
) -> None:
    name = f"acme_notes_{notes.pk}__connect_account"
    assert name in at_gateway(agent.gateway_url, alice.key(), names)
    answer = at_gateway(agent.gateway_url, alice.key(), call(name))
    assert "/hub/servers/acme-notes/connect/" in answer.content[0].text


def test_a_tool_that_is_switched_off_says_so_and_an_unassigned_one_is_unknown(
    aster: str, agent: Agent, alice: Person, weather: McpServer
) -> None:
    switch_tools(agent, weather, off=["get_forecast"], actor=alice.actor)
    tool = f"acme_weather_{weather.pk}__get_forecast"
    assert tool not in at_gateway(agent.gateway_url, alice.key(), names)
    with pytest.raises(MCPError, match=r"get_forecast is switched off for Helper. An admin can switch it on"):
        at_gateway(agent.gateway_url, alice.key(), call(tool))
    off = ToolCall.objects.get()
    assert (off.outcome, off.error_code, off.server, off.server_label, off.tool_name) == (
        "refused", "tool_disabled", weather, "Acme Weather", "get_forecast",
    )  # fmt: skip
    for name in ("get_forecast", "nonsense"):
        with pytest.raises(MCPError, match="has no tool called"):
            at_gateway(agent.gateway_url, alice.key(), call(name))
    assert set(ToolCall.objects.exclude(pk=off.pk).values_list("outcome", "error_code")) == {
        ("refused", "unknown_tool")
    }


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_bug_is_told_by_its_request_id_and_by_nothing_else(
    aster: str, agent: Agent, alice: Person, weather: McpServer, mode: str
) -> None:
    # What no service would store: the call fails where nobody expects it.
    McpServer.objects.filter(pk=weather.pk).update(args=5)
    with pytest.raises(MCPError) as failed:
        at_gateway(agent.gateway_url, alice.key(), call(f"acme_weather_{weather.pk}__list_cities"), mode)
    assert failed.value.code == INTERNAL_ERROR
    request_id = ToolCall.objects.get(error_code="internal_error").request_id
    assert request_id in failed.value.message and "iterable" not in failed.value.message


def test_nobody_gets_in_without_a_key_of_the_organization(
    aster: str, agent: Agent, alice: Person, charlie: Person
) -> None:
    ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"accept": "application/json, text/event-stream"}
    with httpx2.Client(headers=headers) as http:
        assert http.post(agent.gateway_url, json=ask).status_code == 401
        wrong = {"authorization": "Bearer ask_000000000000_nonsense"}
        assert http.post(agent.gateway_url, json=ask, headers=wrong).status_code == 401
        foreign = {"authorization": f"Bearer {charlie.key()}"}
        assert http.post(agent.gateway_url, json=ask, headers=foreign).status_code == 404
        evil = {"authorization": f"Bearer {alice.key()}", "origin": "https://evil.example"}
        assert http.post(agent.gateway_url, json=ask, headers=evil).status_code == 403


def test_a_key_that_may_not_call_is_told_so(aster: str, agent: Agent, alice: Person, weather: McpServer) -> None:
    with pytest.raises(MCPError, match="aster:call"):
        at_gateway(agent.gateway_url, alice.key("aster:read"), call(f"acme_weather_{weather.pk}__list_cities"))


def test_a_key_stops_working_when_it_is_revoked(aster: str, agent: Agent, alice: Person) -> None:
    key = alice.key()
    assert at_gateway(agent.gateway_url, key, names)
    revoke_api_key(alice.organization.api_keys.get(), actor=alice.actor)
    with httpx2.Client() as http:
        assert http.post(agent.gateway_url, headers={"x-api-key": key}, json={}).status_code == 401


def test_a_dead_server_costs_its_own_tools_only(
    aster: str, agent: Agent, alice: Person, weather: McpServer, notes: McpServer
) -> None:
    connect(alice, notes)
    McpServer.objects.filter(pk=weather.pk).update(url="http://127.0.0.1:1/mcp")
    dead = at_gateway(agent.gateway_url, alice.key(), call(f"acme_weather_{weather.pk}__list_cities"))
    assert dead.is_error
    assert "Nobody answers at 127.0.0.1:1" in dead.content[0].text
    assert not at_gateway(agent.gateway_url, alice.key(), call(f"acme_notes_{notes.pk}__whoami")).is_error
