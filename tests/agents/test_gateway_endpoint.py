"""The address of one server of an agent: the same rules under the server's own names."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from agents.models import Agent, ToolCall
from agents.services.agents import assign_servers, set_enabled, switch_tools
from integrations.models import McpServer
from tests.agents.gateway_wire import ACCEPT, add_agent, add_server, ask, ask_legacy, strictly_async
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, modern_and_legacy_app, serve

__all__ = ["strictly_async"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def fake() -> FakeServer:
    return modern_and_legacy_app()


@pytest.fixture
def server(alice: Person, fake: FakeServer) -> Iterator[McpServer]:
    with serve(fake) as base:
        yield add_server(alice, "Fake", base)


@pytest.fixture
def agent(alice: Person, server: McpServer) -> Agent:
    return add_agent(alice, server)


def names(said: dict[str, object]) -> list[str]:
    return [tool["name"] for tool in said["result"]["tools"]]  # type: ignore[index]


@pytest.mark.parametrize("era", [ask, ask_legacy])
def test_tools_have_the_servers_own_names_there_and_are_called_by_them(
    aster: str, agent: Agent, server: McpServer, bob: Person, era: object
) -> None:
    url, key = f"{agent.gateway_url}/fake", bob.key()
    assert {"echo", "add"} <= set(names(era(url, key, "tools/list")))  # type: ignore[operator]
    said = era(url, key, "tools/call", {"name": "echo", "arguments": {"text": "hello"}})  # type: ignore[operator]
    assert said["result"]["content"][0]["text"] == "hello"
    recorded = ToolCall.objects.get()
    assert (recorded.agent, recorded.server, recorded.tool_name, recorded.user) == (agent, server, "echo", bob.user)
    assert f"fake_{server.pk}__echo" in names(ask(agent.gateway_url, key, "tools/list"))


def test_the_switches_of_the_agent_hold_there(
    aster: str, agent: Agent, server: McpServer, alice: Person, fake: FakeServer
) -> None:
    url, key = f"{agent.gateway_url}/fake", alice.key()
    switch_tools(agent, server, off=["echo"], actor=alice.actor)
    assert "echo" not in names(ask(url, key, "tools/list"))
    refused = ask(url, key, "tools/call", {"name": "echo", "arguments": {"text": "x"}})
    assert refused["error"]["code"] == -32602 and "switched off" in refused["error"]["message"]
    set_enabled(agent, False, actor=alice.actor)
    assert "error" in ask(url, key, "tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})
    assert fake.calls() == []


def test_an_unassigned_server_an_unknown_one_and_another_organizations_are_the_same_answer(
    aster: str, agent: Agent, server: McpServer, alice: Person, charlie: Person
) -> None:
    ask_body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    foreign = {**ACCEPT, "authorization": f"Bearer {charlie.key()}"}
    own = {**ACCEPT, "authorization": f"Bearer {alice.key()}"}
    assert httpx2.post(f"{agent.gateway_url}/fake", json=ask_body, headers=own).status_code == 200
    assign_servers(agent, [], actor=alice.actor)
    answers = [
        httpx2.post(f"{agent.gateway_url}/{slug}", json=ask_body, headers=headers)
        for slug, headers in (("fake", own), ("nonsense", own), ("fake", foreign))
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert len({answer.text for answer in answers}) == 1
    assert httpx2.post(f"{agent.gateway_url}/fake", json=ask_body, headers=ACCEPT).status_code == 401
