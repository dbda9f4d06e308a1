"""Prompts, resources and completion through the gateway: named, routed, paged, and each server's trouble its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from agents.models import Agent, ToolCall
from agents.runtime import offers
from agents.services.agents import save_agent, set_enabled
from integrations.models import McpServer
from tests.agents.gateway_wire import (
    add_agent,
    add_server,
    ask,
    ask_legacy,
    offering_app,
    prompts,
    reads,
    resources,
    strictly_async,
    templates,
)
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, broken_app, legacy_only_app, modern_and_legacy_app, serve

__all__ = ["strictly_async"]
pytestmark = pytest.mark.django_db(transaction=True)


def says(words: str) -> Any:
    def get(params: dict[str, Any]) -> dict[str, Any]:
        given = params.get("arguments", {}).get("who", "")
        content = {"type": "text", "text": f"{words} {params['name']} {given}".strip()}
        stamp = {"io.modelcontextprotocol/serverInfo": {"name": "upstream", "version": "9"}, "com.example/kept": 1}
        return {"messages": [{"role": "user", "content": content}], "resultType": "complete", "_meta": stamp}

    return get


@pytest.fixture
def fakes() -> dict[str, FakeServer]:
    completion = {"completion": {"values": ["paris", "park"]}, "resultType": "complete"}
    return {
        "one": offering_app(
            prompts_list=prompts("greet", "a.dotted/name"),
            prompts_get=says("one"),
            resources_list=resources("note://1", "note://shared"),
            resources_templates_list=templates("note://by-id/{id}"),
            resources_read=reads("from one"),
            completion_complete=completion,
        ),
        "two": offering_app(
            prompts_list=prompts("greet"),
            prompts_get=says("two"),
            resources_list=resources("note://shared", "note://2"),
            resources_templates_list=templates("file:///{+path}{?x}"),
            resources_read=reads("from two"),
        ),
        "tools": modern_and_legacy_app(),
    }


@pytest.fixture
def servers(alice: Person, fakes: dict[str, FakeServer]) -> Iterator[dict[str, McpServer]]:
    offers._known.clear()
    with ExitStack() as stack:
        yield {name: add_server(alice, name, stack.enter_context(serve(fake))) for name, fake in fakes.items()}


@pytest.fixture
def agent(alice: Person, servers: dict[str, McpServer]) -> Agent:
    return add_agent(alice, *servers.values())


@pytest.mark.parametrize("era", [ask, ask_legacy])
def test_prompts_are_named_as_tools_are_and_got_from_their_server(
    aster: str, agent: Agent, servers: dict[str, McpServer], bob: Person, era: Any
) -> None:
    key = bob.key()
    listed = [prompt["name"] for prompt in era(agent.gateway_url, key, "prompts/list")["result"]["prompts"]]
    one, two = servers["one"].pk, servers["two"].pk
    assert listed[0] == f"one_{one}__greet" and listed[2] == f"two_{two}__greet"
    assert listed[1].startswith(f"one_{one}__a_dotted_name_") and len(listed) == 3
    said = era(agent.gateway_url, key, "prompts/get", {"name": listed[2], "arguments": {"who": "Ada"}})["result"]
    assert said["messages"][0]["content"]["text"] == "two greet Ada"
    assert said["_meta"]["com.example/kept"] == 1
    assert said["_meta"].get("io.modelcontextprotocol/serverInfo", {"name": "aster"})["name"] == "aster"
    said = era(agent.gateway_url, key, "prompts/get", {"name": listed[1]})["result"]
    assert said["messages"][0]["content"]["text"] == "one a.dotted/name"
    assert [(row.tool_name, row.outcome, row.user) for row in ToolCall.objects.order_by("pk")] == [
        ("prompts/get greet", "ok", bob.user), ("prompts/get a.dotted/name", "ok", bob.user),
    ]  # fmt: skip


def test_one_servers_address_lists_its_own_under_its_own_names(
    aster: str, agent: Agent, alice: Person, fakes: dict[str, FakeServer]
) -> None:
    url, key = f"{agent.gateway_url}/one", alice.key()
    assert [each["name"] for each in ask(url, key, "prompts/list")["result"]["prompts"]] == ["greet", "a.dotted/name"]
    assert [each["uri"] for each in ask(url, key, "resources/list")["result"]["resources"]] == [
        "note://1", "note://shared",
    ]  # fmt: skip
    fakes["two"].requests.clear()
    assert ask(url, key, "prompts/get", {"name": "greet"})["result"]["messages"]
    assert ask(url, key, "resources/read", {"uri": "note://anything"})["result"]["contents"]
    assert fakes["two"].requests == []


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("note://1", "from one"),
        ("note://2", "from two"),
        ("note://shared", "from one"),  # the first that lists it
        ("note://by-id/7", "from one"),  # a template
        ("file:///a/b%20c?x=1", "from two"),
    ],
)
def test_a_resource_is_read_where_it_is_listed_or_where_a_template_fits(
    aster: str, agent: Agent, alice: Person, fakes: dict[str, FakeServer], uri: str, words: str
) -> None:
    read = ask(agent.gateway_url, alice.key(), "resources/read", {"uri": uri})["result"]
    assert read["contents"] == [{"uri": uri, "text": words}]
    assert (read["cacheScope"], read["ttlMs"]) == ("private", 0)
    sent = [seen for fake in fakes.values() for seen in fake.requests if seen.rpc == "resources/read"]
    assert [(seen.body["params"]["uri"], seen.headers["mcp-name"]) for seen in sent] == [(uri, uri)]
    # What follows a question mark may be a secret.
    assert ToolCall.objects.get().tool_name == f"resources/read {uri.partition('?')[0]}"


@pytest.mark.parametrize(("era", "code"), [(ask, -32602), (ask_legacy, -32002)])
def test_a_resource_that_no_server_has_is_not_found(
    aster: str, agent: Agent, alice: Person, era: Any, code: int
) -> None:
    refused = era(agent.gateway_url, alice.key(), "resources/read", {"uri": "other://x"})["error"]
    assert refused["code"] == code and refused["data"] == {"uri": "other://x"}


def test_resources_keep_their_uri_and_are_listed_once_in_a_stable_order(
    aster: str, agent: Agent, alice: Person
) -> None:
    key = alice.key()
    listed = [ask(agent.gateway_url, key, "resources/list")["result"] for _ in range(2)]
    assert listed[0] == listed[1]
    assert [each["uri"] for each in listed[0]["resources"]] == ["note://1", "note://shared", "note://2"]
    found = ask(agent.gateway_url, key, "resources/templates/list")["result"]["resourceTemplates"]
    assert [each["uriTemplate"] for each in found] == ["note://by-id/{id}", "file:///{+path}{?x}"]


def test_completion_asks_the_server_of_the_prompt_by_its_own_name(
    aster: str, agent: Agent, alice: Person, servers: dict[str, McpServer], fakes: dict[str, FakeServer]
) -> None:
    reference = {"type": "ref/prompt", "name": f"one_{servers['one'].pk}__greet"}
    params = {"ref": reference, "argument": {"name": "who", "value": "pa"}}
    said = ask(agent.gateway_url, alice.key(), "completion/complete", params)
    assert said["result"]["completion"]["values"] == ["paris", "park"]
    sent = next(seen.body["params"] for seen in fakes["one"].requests if seen.rpc == "completion/complete")
    assert sent["ref"]["name"] == "greet" and not ToolCall.objects.exists()
    unknown = {**params, "ref": {**reference, "name": f"two_{servers['two'].pk}__greet"}}
    assert ask(agent.gateway_url, alice.key(), "completion/complete", unknown)["result"]["completion"]["values"] == []


def test_a_dead_and_a_hanging_server_cost_their_own_part_only(
    aster: str, agent: Agent, alice: Person, servers: dict[str, McpServer], fakes: dict[str, FakeServer]
) -> None:
    McpServer.objects.filter(pk=servers["tools"].pk).update(url="http://127.0.0.1:1/mcp", era="legacy")
    McpServer.objects.filter(pk=servers["one"].pk).update(timeout_seconds=1)
    fakes["one"].serve_instead(broken_app("hang").app)
    listed = ask(agent.gateway_url, alice.key(), "resources/list")["result"]["resources"]
    assert [each["uri"] for each in listed] == ["note://shared", "note://2"]


def test_one_bad_item_does_not_cost_a_client_the_list(aster: str, alice: Person) -> None:
    items = [
        {"uri": "a://1", "name": "a"},
        {"uri": 5},
        "nonsense",
        {"uri": "a://2", "name": 7},
        {"uri": "a://3", "name": "c"},
    ]
    with serve(offering_app(resources_list={"resources": items})) as base:
        agent = add_agent(alice, add_server(alice, "Bad", base))
        listed = ask(agent.gateway_url, alice.key(), "resources/list")["result"]["resources"]
    assert [each["uri"] for each in listed] == ["a://1", "a://3"]


@pytest.mark.parametrize("era", [ask, ask_legacy])
def test_lists_come_in_pages_with_cursors_of_our_own(aster: str, alice: Person, era: Any) -> None:
    uris, key = [f"note://{number}" for number in range(501)], alice.key()
    with serve(offering_app(resources_list=resources(*uris), prompts_list=prompts("greet"))) as base:
        url = add_agent(alice, add_server(alice, "Many", base)).gateway_url
        first = era(url, key, "resources/list")["result"]
        second = era(url, key, "resources/list", {"cursor": first["nextCursor"]})["result"]
        assert [each["uri"] for each in [*first["resources"], *second["resources"]]] == uris
        assert len(first["resources"]) == 500 and "nextCursor" not in second
        for cursor in ("", "nonsense", f"{first['nextCursor']}x"):
            assert era(url, key, "resources/list", {"cursor": cursor})["error"]["code"] == -32602
        assert era(url, key, "prompts/list", {"cursor": first["nextCursor"]})["error"]["code"] == -32602


def test_only_what_a_server_behind_the_address_has_is_announced(aster: str, agent: Agent, alice: Person) -> None:
    key = alice.key()
    every = ask(agent.gateway_url, key, "server/discover")["result"]["capabilities"]
    assert set(every) == {"tools", "prompts", "resources", "completions"}
    assert not every["resources"].get("subscribe") and not every["prompts"].get("listChanged")
    tools = ask(f"{agent.gateway_url}/tools", key, "server/discover")["result"]["capabilities"]
    assert set(tools) == {"tools"}
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    told = ask_legacy(f"{agent.gateway_url}/one", key, "initialize", hello)["result"]["capabilities"]
    assert set(told) == {"tools", "prompts", "resources", "completions"} and not told["tools"].get("listChanged")


@pytest.mark.parametrize("method", ["prompts/list", "resources/list"])
def test_an_agent_that_is_off_or_strict_and_a_key_that_may_not_call_get_nothing(
    aster: str, agent: Agent, alice: Person, fakes: dict[str, FakeServer], method: str
) -> None:
    for fake in fakes.values():
        fake.requests.clear()
    assert "aster:call" in ask(agent.gateway_url, alice.key("aster:read"), method)["error"]["message"]
    agent.strict_scopes = True
    save_agent(agent, actor=alice.actor)
    key = "prompts" if method == "prompts/list" else "resources"
    assert ask(agent.gateway_url, alice.key(), method)["result"][key] == []
    agent.strict_scopes = False
    save_agent(agent, actor=alice.actor)
    set_enabled(agent, False, actor=alice.actor)
    assert "switched off" in ask(agent.gateway_url, alice.key(), method)["error"]["message"]
    assert not any(fake.requests for fake in fakes.values())


def test_a_legacy_server_without_prompts_has_none(aster: str, alice: Person) -> None:
    with serve(legacy_only_app()) as base:
        agent = add_agent(alice, add_server(alice, "Old", base))
        assert ask(agent.gateway_url, alice.key(), "prompts/list")["result"]["prompts"] == []
        assert "error" in ask(agent.gateway_url, alice.key(), "prompts/get", {"name": "x"})
