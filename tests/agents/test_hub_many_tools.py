"""Pages of an agent with thousands of tools: what they cost is said, they stay small, and what is not shown is kept."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.models import Agent, ToolGrant
from agents.services.agents import save_agent, switch_tools, tools_switched_off
from agents.services.tool_budget import MOST_TOOLS
from aster.accounts.models import AuditEvent
from integrations.models import McpServer, Tool
from tests.conftest import Person

pytestmark = pytest.mark.django_db

MEGABYTE = 1024 * 1024
HTMX = {"HX-Request": "true"}
VERBS = ("get", "list", "create", "delete")


def text_of(response: Any) -> str:
    content: bytes = response.content
    return content.decode()


def make_server(person: Person, count: int, name: str = "Crm") -> McpServer:
    server = McpServer.objects.create(
        organization=person.organization, name=name, slug=name.lower(), url="https://example.com/mcp", test_status="ok"
    )
    add_tools(server, 0, count)
    return server


def add_tools(server: McpServer, first: int, last: int) -> None:
    names = {n: f"{VERBS[n % 4]}_row_{n:04}" for n in range(first, last)}
    rows = [
        Tool(server=server, name=name, definition={"name": name, "description": f"Row {n}. {'x' * 300}"})
        for n, name in names.items()
    ]
    Tool.objects.bulk_create(rows, batch_size=200)


def make_agent(person: Person, *servers: McpServer) -> Agent:
    agent = Agent(name="Helper", organization=person.organization)
    return save_agent(agent, actor=person.actor, server_ids=[server.pk for server in servers])


def off_at(agent: Agent, server: McpServer) -> set[str]:
    return {name for pk, name in tools_switched_off(agent) if pk == server.pk}


def press(person: Person, server: McpServer, button: str, **more: Any) -> str:
    url = f"/hub/agent/helper/tools/{server.pk}/"
    return text_of(person.browser().post(url, {button: server.pk, **more}, headers=HTMX))


# --- The Tools page ---------------------------------------------------------------------------------------------------


def test_the_page_says_what_tools_cost_and_when_a_search_takes_their_place(alice: Person) -> None:
    crm = make_server(alice, MOST_TOOLS)
    make_agent(alice, crm)
    browser = alice.browser()
    page = text_of(browser.get("/hub/agent/helper/tools/"))
    assert re.search(r"64 tools on</strong>, about \d,\d00 tokens in each request", page)
    assert re.search(r"64 of 64 tools on, about \d,\d00 tokens", page)
    assert "That is a lot of tools" in page and "The model searches" not in page
    add_tools(crm, MOST_TOOLS, MOST_TOOLS + 1)
    page = text_of(browser.get("/hub/agent/helper/tools/"))
    assert "The model searches these tools" in page and "That is a lot" not in page
    assert re.search(r"65 tools on</strong>\. Offered all at once they would cost about \d,\d00 tokens", page)
    assert re.search(r"with the search it is about \d00, and up to about [34],\d00 for the tools", page)


def test_a_server_with_thousands_of_tools_opens_as_one_page_of_them(alice: Person) -> None:
    crm = make_server(alice, 3000)
    make_agent(alice, crm)
    browser = alice.browser()
    first = browser.get("/hub/agent/helper/tools/")
    assert len(first.content) < MEGABYTE / 4 and text_of(first).count('role="switch"') == 60
    assert "1–60 of 3000" in text_of(first) and "Search 3,000 tools" in text_of(first)
    last = text_of(browser.get(f"/hub/agent/helper/tools/?server={crm.pk}&page=50"))
    assert 'value="list_row_2997"' in last and last.count('role="switch"') == 60
    second = text_of(browser.get(f"/hub/agent/helper/tools/{crm.pk}/?q=get_row&page=2", headers=HTMX))
    assert "750 of 3,000 fit “get_row”" in second and "61–120 of 750" in second
    assert f'href="?server={crm.pk}&amp;q=get_row&amp;page=3"' in second


def test_more_tools_cost_no_more_queries(alice: Person) -> None:
    def measure() -> list[int]:
        counts = []
        for path in ("agent/helper/tools/", f"agent/helper/tools/?server={crm.pk}&q=row"):
            with CaptureQueriesContext(connection) as queries:
                assert browser.get(f"/hub/{path}").status_code == 200
            counts.append(len(queries))
        with CaptureQueriesContext(connection) as queries:
            form = {"server": crm.pk, f"shown-{crm.pk}": json.dumps(["get_row_0000"]), **approvers()}
            assert browser.post("/hub/agent/helper/tools/", form).status_code == 302
        return [*counts, len(queries)]

    def approvers() -> dict[str, str]:
        return {f"approver-{pk}": "" for pk in crm.tools.values_list("pk", flat=True)[:60]}

    browser, crm = alice.browser(), make_server(alice, 70)
    make_agent(alice, crm)
    measure()
    few = measure()
    add_tools(crm, 70, 1500)
    assert measure() == few


def test_servers_beyond_what_a_page_draws_show_their_tools_when_they_are_opened(alice: Person) -> None:
    servers = [make_server(alice, 50, f"S{n}") for n in range(6)]
    agent = make_agent(alice, *servers)
    browser = alice.browser()
    page = text_of(browser.get("/hub/agent/helper/tools/"))
    assert page.count('role="switch"') == 200 and page.count("Show its tools") == 2
    opened = text_of(browser.get(f"/hub/agent/helper/tools/?server={servers[5].pk}"))
    assert 'value="get_row_0000" checked' in opened.partition(f'id="grid-{servers[5].pk}"')[2]
    # Saving the page says nothing of those that were not drawn.
    switch_tools(agent, servers[5], off=["get_row_0000"], actor=alice.actor)
    form = {"server": [server.pk for server in servers], f"shown-{servers[0].pk}": '["get_row_0000"]'}
    browser.post("/hub/agent/helper/tools/", form)
    assert off_at(agent, servers[5]) == off_at(agent, servers[0]) == {"get_row_0000"}


@pytest.mark.parametrize("with_javascript", [True, False])
@pytest.mark.parametrize(("button", "on"), [("all", 300), ("none", 0), ("reading", 150)])
def test_one_click_switches_every_tool_of_a_server_shown_or_not(
    alice: Person, button: str, on: int, with_javascript: bool
) -> None:
    crm, wiki = make_server(alice, 300), make_server(alice, 2, "Wiki")
    agent = make_agent(alice, crm, wiki)
    switch_tools(agent, crm, off=["get_row_0000", "delete_row_0299"], actor=alice.actor)
    shown = {f"shown-{crm.pk}": '["get_row_0000"]', "q": "row_0001"}
    if with_javascript:
        assert f"{on} of 300 tools on" in press(alice, crm, button, **shown)
    else:
        form = {"server": [crm.pk, wiki.pk], button: crm.pk, **shown}
        alice.browser().post("/hub/agent/helper/tools/", form)
    off = off_at(agent, crm)
    assert len(off) == 300 - on and not off_at(agent, wiki)
    if button == "reading":
        assert {name.split("_")[0] for name in off} == {"create", "delete"}


def test_only_reading_believes_a_harsh_name_before_a_hint(alice: Person) -> None:
    crm = make_server(alice, 0)
    for name, hint in (("delete_all", True), ("report", True), ("report_more", None), ("get_it", False)):
        hints = {} if hint is None else {"readOnlyHint": hint}
        Tool.objects.create(server=crm, name=name, definition={"name": name, "annotations": hints})
    agent = make_agent(alice, crm)
    press(alice, crm, "reading")
    assert off_at(agent, crm) == {"delete_all", "report_more", "get_it"}


def test_what_a_search_found_is_switched_on_other_pages_too_and_nothing_else(alice: Person) -> None:
    crm = make_server(alice, 400)
    agent = make_agent(alice, crm)
    browser, url = alice.browser(), f"/hub/agent/helper/tools/{crm.pk}/"
    found = text_of(browser.get(f"{url}?q=get_row", headers=HTMX))
    assert f'name="found_off" value="{crm.pk} get_row"' in found
    answer = text_of(browser.post(url, {"found_off": f"{crm.pk} get_row", "q": "get_row"}, headers=HTMX))
    assert {name.split("_")[0] for name in off_at(agent, crm)} == {"get"} and len(off_at(agent, crm)) == 100
    assert "300 of 400 tools on" in answer and "100 of 400 fit" in answer
    browser.post("/hub/agent/helper/tools/", {"server": crm.pk, "found_on": f"{crm.pk} row_000"})
    assert len(off_at(agent, crm)) == 97


def test_tools_that_are_gone_keep_their_switch_when_all_are_switched(alice: Person) -> None:
    crm = make_server(alice, 3)
    agent = make_agent(alice, crm)
    ToolGrant.objects.create(agent=agent, server=crm, tool_name="gone_by_now", is_enabled=False)
    press(alice, crm, "all")
    assert off_at(agent, crm) == {"gone_by_now"}


def test_members_cannot_switch_them_all(alice: Person, bob: Person) -> None:
    crm = make_server(alice, 30)
    agent = make_agent(alice, crm)
    assert "Only reading" not in text_of(bob.browser().get("/hub/agent/helper/tools/"))
    for button in ("all", "none", "reading", "found_off"):
        press(bob, crm, button)
        form = {"server": crm.pk, button: crm.pk}
        assert bob.browser().post("/hub/agent/helper/tools/", form).status_code == 403
    assert off_at(agent, crm) == set()


def test_the_trail_names_what_was_switched_and_stays_short(alice: Person) -> None:
    crm = make_server(alice, 1000)
    make_agent(alice, crm)
    press(alice, crm, "none")
    alice.browser().post(
        f"/hub/agent/helper/tools/{crm.pk}/",
        {f"shown-{crm.pk}": '["get_row_0000"]', f"tool-{crm.pk}": "get_row_0000"}, headers=HTMX,
    )  # fmt: skip
    last, before = AuditEvent.objects.filter(action="switched_tools").order_by("-pk")
    assert last.changes == {"off at Crm": ["1,000 tools", "999 tools; switched: get_row_0000"]}
    assert len(json.dumps(before.changes)) < 3000 and "and 900 more" in json.dumps(before.changes)


# --- Other pages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("agent/helper/tools/", "agent/helper/scopes/", "agent/helper/use/", "agent/helper/explain/"),
        *("playground/?agent=helper", "playground/?server=crm", "agent/helper/chat/", "servers/crm/"),
    ],
)
def test_no_page_grows_with_the_tools(alice: Person, path: str) -> None:
    def size_and_queries() -> tuple[int, int]:
        browser.get(f"/hub/{path}")
        with CaptureQueriesContext(connection) as queries:
            response = browser.get(f"/hub/{path}")
        assert response.status_code == 200
        return len(response.content), len(queries)

    browser, crm = alice.browser(), make_server(alice, 150)
    make_agent(alice, crm)
    size, queries = size_and_queries()
    add_tools(crm, 150, 1200)
    larger, same = size_and_queries()
    # Explaining lists names, to be typed; other pages grow by the numbers of their pages.
    assert larger - size < (60 * 1050 if "explain" in path else 4000)
    assert same == queries


def test_scopes_are_searched_and_saved_page_by_page(alice: Person) -> None:
    crm = make_server(alice, 120)
    agent = make_agent(alice, crm)
    browser, url = alice.browser(), "/hub/agent/helper/scopes/"
    first = text_of(browser.get(url))
    assert "1–50 of 120" in first and "Search 120 tools" in first and "120 of 120 now" in first
    found = f"{url}?q=row_0119"
    page = text_of(browser.get(found))
    assert page.count("scopes-crm_") == 1 and f'action="{found}"' in page
    name = f"crm_{crm.pk}__delete_row_0119"
    filled = text_of(browser.post(found, {"fill": "1", f"scopes-{name}": ""}))
    assert 'value="crm:delete"' in filled and filled.count("scopes-crm_") == 1
    assert browser.post(found, {f"scopes-{name}": "crm:delete"})["Location"] == found
    agent.refresh_from_db()
    assert agent.tool_scopes == {name: ["crm:delete"]}
    assert "delete_row_0119" in text_of(browser.get(f"{url}?q=crm:delete"))
    assert "No tool found" in text_of(browser.get(f"{url}?q=nothing+like+it"))


def test_the_playground_finds_tools_on_every_page(alice: Person) -> None:
    make_agent(alice, make_server(alice, 120))
    browser = alice.browser()
    page = text_of(browser.get("/hub/playground/?agent=helper&page=3"))
    assert "101–120 of 120" in page and "agent=helper&amp;page=2" in page
    found = text_of(browser.get("/hub/playground/?agent=helper&q=row_0119"))
    assert "delete_row_0119" in found and "1 tool<" in found


def test_explaining_asks_for_a_name_when_a_list_would_be_too_long(alice: Person) -> None:
    crm = make_server(alice, 101)
    make_agent(alice, crm)
    name = f"crm_{crm.pk}__get_row_0100"
    page = text_of(alice.browser().get("/hub/agent/helper/explain/", {"who": "alice@acme.test", "tool": name}))
    assert f'list="tools" value="{name}"' in page and "Allowed" in page
