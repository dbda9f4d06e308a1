"""Scopes of tools on the hub's page and in the API."""

from __future__ import annotations

from typing import Any

import pytest

from agents.models import Agent
from agents.services.tool_scopes import namespaced, set_tool_scopes
from aster.accounts.models import AuditEvent
from integrations.models import McpServer, Tool
from tests.agents.test_hub_agents import make_agent, make_server, text_of
from tests.aster.api_contract import api
from tests.conftest import Person

pytestmark = pytest.mark.django_db
PAGE, AGENTS, SERVERS = "/hub/agent/helper/scopes/", "/api/v1/config/agent", "/api/v1/config/mcp-server"


@pytest.fixture
def crm(alice: Person) -> McpServer:
    server = make_server(alice, "Crm", 3)
    for tool in server.tools.all():
        tool.definition["inputSchema"] = {"type": "object"}
        tool.save()
    make_agent(alice, server)
    return server


def helper() -> Agent:
    return Agent.objects.get(slug="helper")


def field(server: McpServer, tool: str) -> str:
    return f"scopes-{namespaced(server, tool)}"


def test_the_page_shows_every_tool_with_what_counts_and_what_is_proposed(
    alice: Person, bob: Person, crm: McpServer
) -> None:
    set_tool_scopes(crm, {"tool_1": ["shared:write"]}, actor=alice.actor)
    set_tool_scopes(helper(), {"crm:tool_0": ["crm:peek"], "crm:old_tool": ["crm:old"]}, actor=alice.actor)
    page = text_of(alice.browser().get(PAGE))
    assert 'value="crm:peek"' in page and "shared:write" in page
    assert "crm:read" in page and "crm:delete" in page and "crm:write" in page
    assert "old_tool" in page and "Not offered now" in page and 'value="crm:old"' in page
    seen_by_bob = text_of(bob.browser().get(PAGE))
    assert (
        "crm:peek" in seen_by_bob and "Save" not in seen_by_bob and "<input class" not in seen_by_bob.split("<table")[1]
    )


def test_saving_gives_takes_away_and_leaves_alone(alice: Person, crm: McpServer) -> None:
    set_tool_scopes(helper(), {"crm:tool_0": ["a:read"], "crm:tool_2": ["c:read"]}, actor=alice.actor)
    body = {field(crm, "tool_0"): " ", field(crm, "tool_1"): "b:read, b:more"}
    assert alice.browser().post(PAGE, body).status_code == 302
    stored = {namespaced(crm, "tool_1"): ["b:more", "b:read"], namespaced(crm, "tool_2"): ["c:read"]}
    assert (helper().tool_scopes, helper().strict_scopes) == (stored, False)
    before = AuditEvent.objects.count()
    alice.browser().post(PAGE, {**body, "strict_scopes": "on"})
    assert (helper().tool_scopes, helper().strict_scopes) == (stored, True)
    assert AuditEvent.objects.count() == before + 1
    assert list(AuditEvent.objects.latest("pk").changes) == ["strict_scopes"]


def test_proposals_are_filled_in_for_an_admin_to_look_at_and_nothing_is_stored(alice: Person, crm: McpServer) -> None:
    set_tool_scopes(crm, {"tool_2": ["shared:write"]}, actor=alice.actor)
    page = text_of(alice.browser().post(PAGE, {field(crm, "tool_0"): "my:own", "fill": "1"}))
    assert 'value="my:own"' in page and 'value="crm:delete"' in page
    assert f'name="{field(crm, "tool_2")}" value=""' in page and 'value="shared:write"' in page
    assert "nothing is stored yet" in page and helper().tool_scopes == {}


def test_a_servers_own_scopes_are_saved_beside_it_and_those_of_gone_tools_keep_a_row(
    alice: Person, charlie: Person, crm: McpServer
) -> None:
    theirs = make_server(charlie, "Erp", 1)
    set_tool_scopes(crm, {"tool_0": ["a:read"], "old_tool": ["a:old"]}, actor=alice.actor)
    page = text_of(alice.browser().get(PAGE))
    assert f'name="server-{crm.pk}-old_tool" value="a:old"' in page and "Not offered now" in page
    body = {f"server-{crm.pk}-tool_0": "", f"server-{crm.pk}-tool_1": "b:read", f"server-{theirs.pk}-tool_0": "x:y"}
    assert alice.browser().post(PAGE, {**body, "server-x-tool_0": "x:y"}).status_code == 302
    crm.refresh_from_db()
    theirs.refresh_from_db()
    assert (crm.tool_scopes, theirs.tool_scopes) == ({"old_tool": ["a:old"], "tool_1": ["b:read"]}, {})
    refused = alice.browser().post(PAGE, {field(crm, "tool_0"): "ok:fine", f"server-{crm.pk}-tool_0": "Not Good"})
    assert refused.status_code == 400 and helper().tool_scopes == {}


def test_a_wrong_scope_is_told_and_what_was_entered_stays(alice: Person, bob: Person, crm: McpServer) -> None:
    refused = alice.browser().post(PAGE, {field(crm, "tool_0"): "Not:Good", "strict_scopes": "on"})
    assert refused.status_code == 400
    page = text_of(refused)
    assert "is not a scope" in page and 'value="Not:Good"' in page and "Nothing was saved" in page
    assert (helper().tool_scopes, helper().strict_scopes) == ({}, False)
    for body in ({field(crm, "tool_0"): "a:read"}, {"fill": "1"}):
        assert bob.browser().post(PAGE, body).status_code == 403


def test_the_switch_says_how_many_tools_it_blocks(alice: Person, crm: McpServer) -> None:
    assert "(3 of 3 now)" in text_of(alice.browser().get(PAGE))
    alice.browser().post(PAGE, {field(crm, "tool_0"): "a:read", "strict_scopes": "on"})
    page = text_of(alice.browser().get(PAGE))
    assert "On: a tool without a scope is blocked for everybody (2 of 3 now)" in page
    assert page.count("Blocked</span>") == 2


def test_an_agent_without_tools_leads_to_choosing_servers(alice: Person) -> None:
    make_agent(alice)
    assert "/hub/agent/helper/tools/" in text_of(alice.browser().get(PAGE))


# --- API --------------------------------------------------------------------------------------------------------------


def test_scopes_are_set_in_the_api_and_come_back_by_the_names_the_agent_lists(alice: Person, crm: McpServer) -> None:
    client, name = api(alice), namespaced(crm, "tool_0")
    changed = client.patch(f"{AGENTS}/helper", {"tool_scopes": {"crm:tool_0": ["a:read"]}, "strict_scopes": True})
    assert (changed.json()["tool_scopes"], changed.json()["strict_scopes"]) == ({name: ["a:read"]}, True)
    assert client.patch(f"{AGENTS}/helper", {"prompt": "x"}).json()["tool_scopes"] == {name: ["a:read"]}
    assert [tool["name"] for tool in client.get(f"{AGENTS}/helper/tools").json()["results"]] == [name]
    changed = client.patch(f"{SERVERS}/crm", {"tool_scopes": {"crm:tool_1": ["b:read"]}})
    assert changed.json()["tool_scopes"] == {"tool_1": ["b:read"]}
    rows = client.get(f"{AGENTS}/helper/tool_scopes").json()["results"]
    assert [(row["tool_name"], row["proposed"], row["by_agent"], row["by_server"]) for row in rows] == [
        ("tool_0", ["crm:read"], ["a:read"], []),
        ("tool_1", ["crm:delete"], [], ["b:read"]),
        ("tool_2", ["crm:write"], [], []),
    ]


def test_a_new_agent_is_put_with_its_scopes_twice_alike(alice: Person, crm: McpServer) -> None:
    body = {"name": "New", "mcp_server_config_ids": ["crm"], "tool_scopes": {"crm:tool_0": ["a:read"]}}
    client = api(alice)
    first = client.put(f"{AGENTS}/new", body)
    events = AuditEvent.objects.count()
    second = client.put(f"{AGENTS}/new", body)
    assert (first.status_code, second.status_code, AuditEvent.objects.count()) == (201, 200, events)
    assert first.json() == second.json()


def test_the_list_depends_on_the_key(alice: Person, crm: McpServer) -> None:
    set_tool_scopes(crm, {"tool_0": ["crm:read"]}, actor=alice.actor)

    def names(*scopes: str) -> set[str]:
        listed: list[dict[str, Any]] = api(alice, *scopes).get(f"{AGENTS}/helper/tools").json()["results"]
        return {tool["tool_name"] for tool in listed}

    assert names("aster:read") == {"tool_1", "tool_2"}
    assert names("aster:read", "crm:read") == {"tool_0", "tool_1", "tool_2"}


@pytest.mark.parametrize("where", [f"{AGENTS}/helper", f"{SERVERS}/crm"])
@pytest.mark.parametrize("scopes", [{"crm:x": []}, {"crm:x": ["A"]}, {"crm:x": "a"}, ["x"], None, {"": ["a"]}])
def test_a_bad_map_is_a_400_that_names_the_field(alice: Person, crm: McpServer, where: str, scopes: Any) -> None:
    refused = api(alice).patch(where, {"tool_scopes": scopes})
    (field_name,) = refused.json()["fields"]
    assert (refused.status_code, field_name.partition(".")[0]) == (400, "tool_scopes")


def test_a_tool_of_another_organization_is_not_found_by_its_servers_name(
    alice: Person, charlie: Person, crm: McpServer
) -> None:
    theirs = make_server(charlie, "Erp", 1)
    refused = api(alice).patch(f"{AGENTS}/helper", {"tool_scopes": {"erp:tool_0": ["a:read"]}})
    assert refused.status_code == 400 and Tool.objects.filter(server=theirs).exists()
