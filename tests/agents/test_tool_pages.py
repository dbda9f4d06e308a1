"""An agent's tools for programs, in pages: the API's list, the gateway's, and one tool among thousands."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from mcp import Client
from mcp.shared.exceptions import MCPError

from agents.models import Agent
from agents.runtime.session import AgentSession
from agents.services.agents import assigned_servers
from agents.services.calls import CONNECT_TOOL, agent_tools, find_tool, known_tools
from agents.services.tool_pages import MOST_BYTES, MOST_ON_PAGE, page_of_tools
from aster.errors import NotFound
from integrations.models import AuthConfig, AuthType, Tool
from tests.agents.test_hub_many_tools import add_tools, make_agent, make_server
from tests.conftest import Person
from tests.walks.conftest import at_gateway

pytestmark = pytest.mark.django_db(transaction=True)


def names_of(agent: Agent) -> list[str]:
    return [each.name for each in agent_tools(agent)]


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_following_the_cursors_shows_every_tool_once_also_while_tools_come_and_go(alice: Person) -> None:
    crm, wiki = make_server(alice, 7), make_server(alice, 3, "Wiki")
    agent = make_agent(alice, crm, wiki)
    expected = sorted(names_of(agent))
    page, cursor = page_of_tools(agent_tools(agent), None, 4)
    seen = [each.name for each in page]
    crm.tools.filter(name=page[-1].tool.name if page[-1].tool else "").delete()
    Tool.objects.create(server=crm, name="a_new_one", definition={"name": "a_new_one"})
    while cursor:
        page, cursor = page_of_tools(agent_tools(agent), cursor, 4)
        assert len(page) <= 4
        seen += [each.name for each in page]
    assert sorted(seen) == expected and len(seen) == 10


def test_a_page_of_large_tools_ends_early_but_has_one(alice: Person) -> None:
    crm = make_server(alice, 3)
    agent = make_agent(alice, crm)
    Tool.objects.filter(server=crm).update(definition={"name": "x", "description": "y" * (MOST_BYTES * 2 // 3)})
    page, cursor = page_of_tools(agent_tools(agent), None)
    assert len(page) == 1 and cursor


@pytest.mark.parametrize("cursor", ["", "nonsense", "é", "W10=", "WzFd", "bnVsbA==", "[" * 2000, "WyJ4IiwxXQ=="])
def test_a_made_up_cursor_is_refused(alice: Person, cursor: str) -> None:
    make_agent(alice, make_server(alice, 3))
    with pytest.raises(NotFound):
        page_of_tools([], cursor)
    assert alice.api().get("/api/v1/config/agent/helper/tools", {"cursor": cursor}).status_code == 404


def test_the_api_lists_an_agents_tools_in_pages(alice: Person) -> None:
    agent = make_agent(alice, make_server(alice, 120))
    api, seen, url = alice.api(), [], "/api/v1/config/agent/helper/tools"
    assert len(api.get(url).json()["results"]) == 50
    pages = 0
    following: str | None = f"{url}?page_size=55"
    while following:
        answer: dict[str, Any] = api.get(following).json()
        seen += [tool["name"] for tool in answer["results"]]
        following, pages = answer["next"], pages + 1
    assert (pages, seen) == (3, names_of(agent))
    assert api.get(f"{url}?page_size=0").status_code == 400


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_gateway_lists_large_agents_in_pages(aster: str, alice: Person, mode: str) -> None:
    crm = make_server(alice, 0)
    schema = {"type": "object"}
    rows = [
        Tool(server=crm, name=f"t{n:04}", definition={"name": f"t{n:04}", "inputSchema": schema})
        for n in range(MOST_ON_PAGE + 30)
    ]
    Tool.objects.bulk_create(rows, batch_size=200)
    agent = make_agent(alice, crm)

    async def follow(client: Client) -> list[int]:
        sizes, cursor = [], None
        while cursor or not sizes:
            page = await client.list_tools(cursor=cursor)
            sizes, cursor = [*sizes, len(page.tools)], page.next_cursor
        with pytest.raises(MCPError, match="Begin again without a cursor"):
            await client.list_tools(cursor=urlsafe_b64encode(b"5").decode())
        return sizes

    assert at_gateway(agent.gateway_url, alice.key(), follow, mode) == [MOST_ON_PAGE, 30]


# --- One among thousands ----------------------------------------------------------------------------------------------


def test_one_tool_is_found_as_in_the_list_of_all(alice: Person) -> None:
    crm, wiki = make_server(alice, 8), make_server(alice, 0, "Wiki")
    wiki.auth_config = AuthConfig.objects.create(
        organization=alice.organization, name="ID", auth_type=AuthType.AUTHORIZATION_CODE
    )
    wiki.save()
    for odd in ("a.b", "a_b", "x" * 100, "__"):
        Tool.objects.create(server=crm, name=odd, definition={"name": odd})
    agent = make_agent(alice, crm, wiki)
    crm.tools.filter(name="list_row_0001").update(gone_at="2026-01-01T00:00:00Z")
    agent.tool_grants.create(server=crm, tool_name="a.b", is_enabled=False)
    for each in known_tools(agent, assigned_servers(agent)):
        assert find_tool(agent, each.name, actor=alice.actor) == each
    for name in (f"crm_{crm.pk}__list_row_0001", f"crm_{crm.pk}__{CONNECT_TOOL}", f"crm_{crm.pk}__", "crm", ""):
        with pytest.raises(NotFound):
            find_tool(agent, name, actor=alice.actor)


def test_more_tools_cost_a_call_and_a_turn_no_more_queries(alice: Person) -> None:
    def measure() -> list[int]:
        with CaptureQueriesContext(connection) as one:
            find_tool(agent, f"crm_{crm.pk}__get_row_0000", actor=alice.actor)
        with CaptureQueriesContext(connection) as turn:
            AgentSession(agent, alice.actor)._resolve()
        read = "".join(query["sql"] for query in one.captured_queries)
        assert read.count('"definition"') == 1  # of the one tool
        return [len(one), len(turn)]

    crm = make_server(alice, 10)
    agent = make_agent(alice, crm)
    few = measure()
    add_tools(crm, 10, 1000)
    assert measure() == few
