"""The playground: choosing a tool, filling its form, running it, and what can go wrong on the way."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from agents.models import Agent, ToolCall
from agents.schema_slots import Slot
from agents.services.agents import save_agent, switch_tools
from agents.views.results import MAX_TEXT, Block, describe_size, is_web_link, result_blocks
from aster.demo.world import DemoWorld
from integrations.models import McpServer, Tool
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.mcp_servers import modern_and_legacy_app, serve
from tests.walks.conftest import notes, weather

__all__ = ["notes", "weather"]
pytestmark = pytest.mark.django_db(transaction=True)


def name_of(*path: str) -> str:
    return Slot(path, {}, "string", False).field_name


def play(person: Person, query: str, entered: dict[str, Any] | None = None, **headers: str) -> Any:
    browser, url = person.browser(), f"/hub/playground/?{query}"
    return browser.get(url) if entered is None else browser.post(url, entered, headers=headers)


def text_of(response: Any) -> str:
    content: bytes = response.content
    return content.decode()


@pytest.fixture
def agent(alice: Person, weather: McpServer, notes: McpServer) -> Agent:
    made = Agent(name="Helper", organization=alice.organization)
    return save_agent(made, actor=alice.actor, server_ids=[weather.pk, notes.pk])


FORECAST = "server=acme-weather&tool=get_forecast"


def test_the_first_agent_is_there_at_once_with_its_tools_grouped(bob: Person, agent: Agent) -> None:
    page = text_of(play(bob, ""))
    assert "Get forecast" in page and "Acme Weather" in page
    assert "/hub/servers/acme-notes/connect/?next=%2Fhub%2Fplayground%2F%3Fagent%3Dhelper" in page


def test_without_agents_and_servers_it_says_so(alice: Person) -> None:
    assert "Nothing to try yet" in text_of(play(alice, ""))


def test_choosing_in_the_list_leads_to_an_address_that_can_be_shared(alice: Person, bob: Person, agent: Agent) -> None:
    assert play(alice, "through=server:acme-weather")["Location"] == "/hub/playground/?server=acme-weather"
    assert play(bob, "through=agent:helper")["Location"] == "/hub/playground/?agent=helper"


def test_members_try_agents_alone(alice: Person, bob: Person, agent: Agent) -> None:
    assert "MCP servers" in text_of(play(alice, "")) and "MCP servers" not in text_of(play(bob, ""))
    with serve(modern_and_legacy_app()) as base:
        save_server(McpServer(name="Fake", url=f"{base}/mcp"), actor=alice.actor)
    fake = modern_and_legacy_app()
    with serve(fake) as base:
        McpServer.objects.filter(slug="fake").update(url=f"{base}/mcp")
        for response in (
            play(bob, "server=fake"),
            play(bob, "server=fake&tool=echo"),
            play(bob, "server=fake&tool=echo", {"raw": '{"text": "x"}'}),
            play(bob, "server=fake&tool=echo", {"raw": '{"text": "x"}'}, HX_Request="true"),
        ):
            assert response.status_code == 403
            assert "Use an agent that offers them." in text_of(response)
        assert fake.requests == []
        assert "Succeeded" in text_of(play(alice, "server=fake&tool=echo", {"raw": '{"text": "x"}'}))
        assert fake.calls() == ["echo"]


def test_without_agents_a_member_hears_who_makes_them(alice: Person, bob: Person, weather: McpServer) -> None:
    assert "Once an admin has made an agent" in text_of(play(bob, ""))
    assert "Get forecast" in text_of(play(alice, ""))


def test_tools_are_found_by_words(alice: Person, weather: McpServer) -> None:
    page = text_of(play(alice, "server=acme-weather&q=RANK+cities"))
    assert "Compare cities" in page and "Get forecast" not in page
    assert "No tool found" in text_of(play(alice, "server=acme-weather&q=zzz"))


def test_a_tool_runs_with_what_the_form_says(alice: Person, weather: McpServer) -> None:
    response = play(alice, FORECAST, {name_of("city"): "Oslo", name_of("days"): "2", name_of("unit"): '"celsius"'})
    page = text_of(response)
    assert "Succeeded" in page and "Forecast for Oslo" in page
    call = ToolCall.objects.get()
    assert (call.tool_name, call.outcome, call.via, call.user) == ("get_forecast", "ok", "page", alice.user)
    shared = re.search(r'id="share-url" value="([^"]+)"', page)
    assert shared
    query = parse_qs(urlsplit(shared[1].replace("&amp;", "&")).query)
    assert json.loads(query["arguments"][0])["city"] == "Oslo"
    assert 'value="Oslo"' in text_of(alice.browser().get(shared[1].replace("&amp;", "&")))


def test_htmx_gets_the_form_and_the_result_alone(alice: Person, weather: McpServer) -> None:
    page = text_of(play(alice, FORECAST, {name_of("city"): "Oslo"}, HX_Request="true"))
    assert "<html" not in page
    assert 'id="run"' in page and "Succeeded after" in page


def test_through_an_agent_the_namespaced_name_is_called(bob: Person, agent: Agent, weather: McpServer) -> None:
    name = f"acme_weather_{weather.pk}__list_cities"
    assert "Succeeded" in text_of(play(bob, f"agent=helper&tool={name}", {}))
    assert ToolCall.objects.get().agent == agent


def test_wrong_arguments_are_not_sent(alice: Person, weather: McpServer) -> None:
    page = text_of(play(alice, FORECAST, {name_of("city"): "Oslo", name_of("days"): "99"}))
    assert "Must be at most 7." in page and "Not run" in page
    assert 'value="Oslo"' in page
    assert not ToolCall.objects.exists()


def test_raw_json_is_sent_as_it_is(alice: Person, weather: McpServer) -> None:
    page = text_of(play(alice, FORECAST, {"raw": '{"city": "Atlantis"}'}))
    assert "The tool reports an error" in page and "There is no weather for" in page
    assert ToolCall.objects.get().outcome == "tool_error"
    broken = text_of(play(alice, FORECAST, {"raw": '{"city": '}))
    assert "Not valid JSON at line 1" in broken
    assert "Must be a JSON object" in text_of(play(alice, FORECAST, {"raw": "[1]"}))
    assert ToolCall.objects.count() == 1


@pytest.mark.parametrize("words", ["Öl & more", "long " * 900])
def test_without_a_connection_the_arguments_survive_the_way_to_it(alice: Person, notes: McpServer, words: str) -> None:
    definition = {"name": "search", "inputSchema": {"type": "object", "properties": {"q": {"type": "string"}}}}
    Tool.objects.create(server=notes, name="search", definition=definition)
    browser = alice.browser()
    page = text_of(browser.post("/hub/playground/?server=acme-notes&tool=search", {name_of("q"): words}))
    assert "Connection required" in page
    link = re.search(r'href="(/hub/servers/acme-notes/connect/[^"]+)"', page)
    assert link
    back = parse_qs(urlsplit(link[1]).query)["next"][0]
    assert len(back) <= 500
    assert f'value="{html.escape(words)}"' in text_of(browser.get(back))
    assert ToolCall.objects.get().outcome == "connection_required"


def test_a_tool_that_is_known_only_after_connecting_leads_there(bob: Person, agent: Agent, notes: McpServer) -> None:
    response = play(bob, f"agent=helper&tool=acme_notes_{notes.pk}__connect_account")
    assert response["Location"].startswith("/hub/servers/acme-notes/connect/?next=")


def test_a_server_that_fails_is_explained_with_its_code(alice: Person, weather: McpServer, world: DemoWorld) -> None:
    McpServer.objects.update(url="http://127.0.0.1:9/mcp", retry_attempts=0)
    page = text_of(play(alice, FORECAST, {name_of("city"): "Oslo"}))
    assert "Failed" in page and "<code>upstream_error</code>" in page
    assert 'value="Oslo"' in page


def test_a_disabled_server_refuses_on_the_page(alice: Person, weather: McpServer) -> None:
    McpServer.objects.update(is_enabled=False)
    page = text_of(play(alice, FORECAST, {name_of("city"): "Oslo"}))
    assert "switched off" in page and "<code>server_disabled</code>" in page


def test_another_organization_has_no_such_agent_or_server(charlie: Person, agent: Agent) -> None:
    for query in ("agent=helper", "server=acme-weather", FORECAST):
        assert play(charlie, query).status_code == 404
        assert play(charlie, query, {}).status_code == 404


def test_a_tool_that_is_off_is_not_listed_and_says_who_can_switch_it_on(
    alice: Person, agent: Agent, weather: McpServer
) -> None:
    switch_tools(agent, weather, off=["list_cities"], actor=alice.actor)
    name = f"acme_weather_{weather.pk}__list_cities"
    assert "List cities" not in text_of(play(alice, "agent=helper"))
    page = text_of(play(alice, f"agent=helper&tool={name}", {}))
    assert "list_cities is switched off for Helper. An admin can switch it on" in page
    call = ToolCall.objects.get()
    assert (call.server, call.tool_name, call.error_code) == (weather, "list_cities", "tool_disabled")
    assert play(alice, "agent=helper&tool=nonsense").status_code == 404


def test_results_of_any_kind_are_drawn(alice: Person) -> None:
    with serve(modern_and_legacy_app()) as base:
        save_server(McpServer(name="Fake", url=f"{base}/mcp"), actor=alice.actor)
        assert "Tool error" in text_of(play(alice, "server=fake&tool=fail", {}))
        assert "Structured result" in text_of(play(alice, "server=fake&tool=structured", {}))
        big = text_of(play(alice, "server=fake&tool=big", {name_of("size"): str(MAX_TEXT + 50_000)}))
        assert "The first 256.0 kB of" in big
        assert "Failed" in text_of(play(alice, "server=fake&tool=refuse", {}))


# --- Results, without a server ----------------------------------------------------------------------------------------


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 20).decode()


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        ({"type": "text", "text": "<b>hi</b>"}, "text", "<b>hi</b>"),
        ({"type": "text", "text": '{"a": 1}'}, "json", '"a": 1'),
        ({"type": "text", "text": "[not json"}, "text", "[not json"),
        ({"type": "image", "mimeType": "image/png", "data": PNG}, "image", "image/png"),
        ({"type": "image", "mimeType": "image/svg+xml", "data": PNG}, "note", "only PNG"),
        ({"type": "image", "mimeType": "image/jpeg", "data": PNG}, "note", "only PNG"),
        ({"type": "image", "mimeType": "image/png", "data": "%%%"}, "note", "not base64"),
        ({"type": "image", "mimeType": "image/png", "data": "A" * 6_000_000}, "note", "too large"),
        ({"type": "audio", "mimeType": "audio/wav", "data": PNG}, "note", "audio/wav"),
        ({"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}}, "text", "inside"),
        ({"type": "resource", "resource": {"uri": "file:///a", "blob": PNG}}, "note", "Binary"),
        ({"type": "resource_link", "uri": "https://example.com/a", "name": "A"}, "link", "https://example.com/a"),
        ({"type": "resource_link", "uri": "javascript:alert(1)", "name": "A"}, "link", "javascript:alert(1)"),
        ({"type": "novel", "x": 1}, "json", "novel"),
        ("odd", "text", "odd"),
    ],
)
def test_each_block_is_drawn_as_what_it_is(content: Any, kind: str, words: str) -> None:
    (block,) = result_blocks({"content": [content]})
    assert block.kind == kind
    assert words in f"{block.text} {block.note} {block.href}"


@pytest.mark.parametrize(
    ("uri", "safe"),
    [
        ("https://example.com/a?b", True),
        ("http://127.0.0.1/", True),
        ("javascript:alert(1)", False),
        (" javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("file:///etc/passwd", False),
        ("//example.com", False),
        ("https://", False),
        ("https://[", False),
    ],
)
def test_only_web_addresses_become_links(uri: str, safe: bool) -> None:
    assert is_web_link(uri) is safe
    (block,) = result_blocks({"content": [{"type": "resource_link", "uri": uri}]})
    assert bool(block.href) is safe


def test_text_that_repeats_the_structured_result_is_left_out() -> None:
    repeated = {"content": [{"type": "text", "text": '{"a":1}'}, {"type": "text", "text": "ok"}]}
    assert [block.text for block in result_blocks({**repeated, "structuredContent": {"a": 1}})] == ["ok"]
    assert len(result_blocks(repeated)) == 2


@pytest.mark.parametrize("content", [None, "text", {}, 7])
def test_content_that_is_no_list_is_nothing(content: Any) -> None:
    assert result_blocks({"content": content}) == []


def test_very_many_blocks_are_cut() -> None:
    blocks = result_blocks({"content": [{"type": "text", "text": "x"}] * 105})
    assert len(blocks) == 101
    assert blocks[-1] == Block("note", "More", note="5 more blocks are not shown.")


def test_sizes_are_in_words() -> None:
    assert [describe_size(n) for n in (5, 2048, 3 * 1024 * 1024)] == ["5 bytes", "2.0 kB", "3.0 MB"]
