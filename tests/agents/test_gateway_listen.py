"""Clients of 2026-07-28 hear that the tools of their agent changed, whoever changed them and wherever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
from django.utils import timezone

from agents.authorization_server import connected_apps, tokens
from agents.gateway.listening import MOST_PER_PERSON, Stream, list_print, look_at
from agents.models import Agent
from agents.services.agents import assign_servers, delete_agent, save_agent, switch_tools
from agents.services.endpoints import Endpoint
from integrations.models import McpServer
from tests.agents.gateway_wire import add_agent, add_server, ask, modern_body, modern_headers, strictly_async
from tests.agents.signing_in import App
from tests.conftest import Person
from tests.fakes.mcp_servers import modern_and_legacy_app, serve

__all__ = ["strictly_async"]
pytestmark = pytest.mark.django_db(transaction=True)

TOOLS = {"toolsListChanged": True}
CHANGED = "notifications/tools/list_changed"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


@pytest.fixture
def server(alice: Person) -> Iterator[McpServer]:
    with serve(modern_and_legacy_app()) as base:
        yield add_server(alice, "Fake", base)


@pytest.fixture
def agent(alice: Person, server: McpServer) -> Agent:
    return add_agent(alice, server)


Messages = Iterator[dict[str, Any]]


@contextmanager
def listening(url: str, key: str, wanted: dict[str, Any] = TOOLS, number: int = 1) -> Iterator[Messages]:
    """The messages of an open stream, as they come."""
    body = {**modern_body("subscriptions/listen", {"notifications": wanted}), "id": number}
    with (
        httpx2.Client(timeout=10) as http,
        http.stream("POST", url, json=body, headers=modern_headers(body, key)) as answer,
    ):
        if answer.headers["content-type"].startswith("text/event-stream"):
            assert answer.headers["x-accel-buffering"] == "no"
            lines = answer.iter_lines()
            yield (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))
        else:
            yield iter([json.loads(answer.read())])


def test_the_list_that_changed_is_told_with_the_streams_id(
    aster: str, agent: Agent, server: McpServer, alice: Person, bob: Person
) -> None:
    with listening(agent.gateway_url, bob.key(), number=7) as messages:
        first = next(messages)
        assert (first["method"], first["params"]["notifications"]) == (ACKNOWLEDGED, TOOLS)
        for off in (["echo"], []):
            switch_tools(agent, server, off=off, actor=alice.actor)
            said = next(messages)
            assert said["method"] == CHANGED
            assert said["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 7
        assign_servers(agent, [], actor=alice.actor)
        assert next(messages)["method"] == CHANGED


def test_what_leaves_the_list_as_it_is_is_not_told(agent: Agent, server: McpServer, alice: Person) -> None:
    endpoint = Endpoint(agent)
    stream = Stream(endpoint, alice.actor, list_print(endpoint, alice.actor))
    assert look_at([stream]) == []
    alice.api().post(f"/api/v1/config/mcp-server/{server.pk}/tools/refresh")
    agent.description = "Another description"
    save_agent(agent, actor=alice.actor)
    assert look_at([stream]) == []
    switch_tools(agent, server, off=["add"], actor=alice.actor)
    assert look_at([stream]) == [stream] and look_at([stream]) == []


def test_a_tool_that_a_server_changed_or_took_away_is_told(agent: Agent, server: McpServer, alice: Person) -> None:
    endpoint = Endpoint(agent)
    stream = Stream(endpoint, alice.actor, list_print(endpoint, alice.actor))
    assert look_at([stream]) == []
    server.tools.filter(name="add").update(gone_at=timezone.now())
    assert look_at([stream]) == [stream]
    server.tools.filter(name="echo").update(changed_definition={"name": "echo"}, changed_at=timezone.now())
    assert look_at([stream]) == [stream] and not stream.is_over
    delete_agent(agent, actor=alice.actor)
    assert look_at([stream]) == [stream] and stream.is_over


def test_only_what_is_kept_is_promised(aster: str, agent: Agent, server: McpServer, alice: Person) -> None:
    wanted = {"promptsListChanged": True, "resourcesListChanged": True, "resourceSubscriptions": ["note://1"]}
    key = alice.key()
    with listening(agent.gateway_url, key, wanted) as messages:
        assert next(messages)["params"]["notifications"] == {}
        switch_tools(agent, server, off=["echo"], actor=alice.actor)
        alice.organization.api_keys.update(revoked_at="2026-01-01T00:00:00Z")
        assert "result" in next(messages)  # and nothing about tools before it


def test_a_stream_ends_when_its_key_is_revoked(aster: str, agent: Agent, alice: Person) -> None:
    with listening(agent.gateway_url, alice.key()) as messages:
        next(messages)
        alice.organization.api_keys.update(revoked_at="2026-01-01T00:00:00Z")
        ended = next(messages)
        assert ended["id"] == 1 and "result" in ended
        assert list(messages) == []


def test_of_two_apps_of_one_person_the_revoked_one_hears_no_more(agent: Agent, bob: Person) -> None:
    endpoint = Endpoint(agent)
    texts = [App().sign_in(bob.browser(), agent.gateway_url)["access_token"] for _ in range(2)]
    actors = [tokens.holders_of([text])[text].actor for text in texts]
    kept, revoked = (Stream(endpoint, each, list_print(endpoint, each)) for each in actors)
    assert look_at([kept, revoked]) == []
    connected_apps.revoke(connected_apps.visible_apps(bob.actor).get(pk=actors[1].app.pk), actor=bob.actor)  # type: ignore[union-attr]
    assert look_at([kept, revoked]) == [revoked] == look_at([revoked, kept])
    assert revoked.is_over and not kept.is_over


def test_a_key_has_a_bounded_number_of_streams_and_gets_them_back(
    aster: str, agent: Agent, alice: Person, bob: Person
) -> None:
    key = alice.key()
    with ExitStack() as stack:
        for number in range(MOST_PER_PERSON):
            assert next(stack.enter_context(listening(agent.gateway_url, key, number=number)))["method"] == ACKNOWLEDGED
        with listening(agent.gateway_url, key) as messages:
            assert "streams are open" in next(messages)["error"]["message"]
        with listening(agent.gateway_url, bob.key()) as messages:
            assert next(messages)["method"] == ACKNOWLEDGED
    for _ in range(50):  # the gateway hears of a closed stream a moment later
        with listening(agent.gateway_url, key) as messages:
            if "error" not in (again := next(messages)):
                break
    assert again["method"] == ACKNOWLEDGED


def test_the_handshake_of_the_older_eras_promises_no_such_stream(aster: str, agent: Agent, alice: Person) -> None:
    capabilities = ask(agent.gateway_url, alice.key(), "server/discover")["result"]["capabilities"]
    assert capabilities["tools"]["listChanged"] is True
    headers = {"authorization": f"Bearer {alice.key()}", "accept": "text/event-stream"}
    assert httpx2.get(agent.gateway_url, headers=headers).status_code == 405
