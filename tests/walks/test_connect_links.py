"""A call without a connection: each kind of MCP client is led to the connect page, and the repeated call works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from agents.models import Agent
from agents.services.agents import save_agent
from integrations.models import Connection, McpServer
from tests.conftest import Person
from tests.walks.conftest import at_gateway, callback_params, consent, first_of

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]

Opener = Callable[[str], str]


@pytest.fixture
def agent(alice: Person, notes: McpServer) -> Agent:
    return save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[notes.pk])


@pytest.fixture
def tool(alice: Person, notes: McpServer, aster: str) -> str:
    """A tool that is known because alice has connected; bob has not."""
    connect(alice, notes)
    alice.api().post(f"/api/v1/config/mcp-server/{notes.pk}/tools/refresh")
    return f"acme_notes_{notes.pk}__whoami"


def connect(person: Person, server: McpServer, name: str = "Ada Park") -> None:
    begun = person.api().post(f"/api/v1/config/mcp-server/{server.pk}/connect").json()
    done = person.api().get("/api/v1/oauth/callback", callback_params(consent(begun["authorization_url"], name)))
    assert done.status_code == 200


def call_with_elicitation(url: str, key: str, tool: str, mode: str, open_link: Opener) -> Any:
    """Call a tool as a client that opens URLs: `open_link` is the person, and says accept, decline or cancel."""

    async def opens(ctx: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestURLParams)
        return types.ElicitResult(action=await anyio.to_thread.run_sync(open_link, params.url))  # type: ignore[arg-type]

    async def run() -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=40) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode, elicitation_callback=opens) as client,
        ):
            return await client.call_tool(tool, {})

    try:
        return anyio.run(run)
    except BaseExceptionGroup as group:
        raise first_of(group) from None


def test_a_modern_client_is_asked_to_open_the_link_and_its_call_goes_through(
    agent: Agent, tool: str, bob: Person, notes: McpServer
) -> None:
    opened: list[str] = []

    def person(link: str) -> str:
        opened.append(link)
        connect(bob, notes, "Ben Okafor")
        return "accept"

    result = call_with_elicitation(agent.gateway_url, bob.key(), tool, "auto", person)
    assert result.structured_content["name"] == "Ben Okafor"
    assert len(opened) == 1
    assert "/hub/servers/acme-notes/connect/?organization=acme&for=" in opened[0]


def test_who_declines_gets_the_link_as_text(agent: Agent, tool: str, bob: Person) -> None:
    result = call_with_elicitation(agent.gateway_url, bob.key(), tool, "auto", lambda link: "decline")
    assert result.is_error
    assert "Open this link to connect: http" in result.content[0].text
    assert not Connection.objects.filter(user=bob.user).exists()


def test_a_client_of_2025_11_25_that_opens_urls_gets_the_error_made_for_that(
    agent: Agent, tool: str, bob: Person, notes: McpServer
) -> None:
    with pytest.raises(MCPError) as caught:
        call_with_elicitation(agent.gateway_url, bob.key(), tool, "legacy", lambda link: "accept")
    assert caught.value.code == types.URL_ELICITATION_REQUIRED
    (asked,) = caught.value.data["elicitations"]
    assert asked["mode"] == "url"
    assert "/hub/servers/acme-notes/connect/" in asked["url"]
    assert asked["elicitationId"]
    connect(bob, notes, "Ben Okafor")
    result = call_with_elicitation(agent.gateway_url, bob.key(), tool, "legacy", lambda link: "accept")
    assert result.structured_content["name"] == "Ben Okafor"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_every_other_client_gets_the_link_as_text(agent: Agent, tool: str, bob: Person, mode: str) -> None:
    async def run(client: Client) -> Any:
        return await client.call_tool(tool, {})

    result = at_gateway(agent.gateway_url, bob.key(), run, mode)
    assert result.is_error
    assert "/hub/servers/acme-notes/connect/" in result.content[0].text


def test_the_page_refuses_everybody_but_the_person_the_link_was_made_for(
    agent: Agent, tool: str, alice: Person, bob: Person
) -> None:
    refused = bob.api().post(f"/api/v1/config/agent/{agent.pk}/tools/call", {"name": tool, "arguments": {}}).json()
    link = urlsplit(refused["connect_url"])
    page = f"{link.path}?{link.query}"
    assert bob.browser().get(page).status_code == 200
    for method in ("get", "post"):
        wrong = getattr(alice.browser(), method)(page)
        assert wrong.status_code == 403
        assert b"made for somebody else" in wrong.content
    assert bob.browser().get(f"{page}x").status_code == 403
    assert Connection.objects.filter(user=alice.user).count() == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_the_gateway_keeps_no_sessions(agent: Agent, aster: str, bob: Person, method: str) -> None:
    headers = {"Authorization": f"Bearer {bob.key()}", "accept": "text/event-stream"}
    answer = httpx2.request(method, agent.gateway_url, headers=headers, timeout=5)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
