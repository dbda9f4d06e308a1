"""The admin MCP server: who gets in, what they are shown, how tools are described, and what is recorded."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import mcp_types as types
import pytest
from jsonschema import Draft202012Validator
from mcp import Client
from mcp.shared.exceptions import MCPError

from agents.models import Agent, ToolCall
from agents.services.agents import save_agent
from aster.accounts.access import CALL, CONNECT, MANAGE, READ
from aster.accounts.models import AuditEvent
from integrations.models import McpServer
from tests.agents.admin_mcp import (
    DEAD,
    ERAS,
    AdminClient,
    admin,
    client_of,
    member,
    notes,
    off_the_loop,
    weather,
    words,
)
from tests.conftest import Person
from tests.walks.conftest import at_gateway

__all__ = ["admin", "member", "notes", "off_the_loop", "weather"]
pytestmark = pytest.mark.django_db(transaction=True)

FOR_MEMBERS = {
    *("list_servers", "get_server", "list_server_tools", "get_server_tool", "test_server", "diagnose_server"),
    *("refresh_server_tools", "list_connections", "connect_server", "list_agents", "get_agent", "list_agent_tools"),
    *("list_llm_configs", "list_tool_calls", "list_members", "list_api_keys", "list_audit_events"),
}
FOR_ADMINS = {
    *("add_server", "update_server", "remove_server", "discover_server", "fix_server", "add_agent", "update_agent"),
    *("remove_agent", "assign_server", "unassign_server", "switch_tools", "set_tool_scopes", "explain_access"),
    *("list_connectors", "enable_connector", "update_connector", "disable_connector"),
    *("search_registry", "get_registry_entry", "add_from_registry"),
}


@pytest.mark.parametrize("mode", ERAS)
def test_a_client_of_either_era_lists_the_tools_that_its_person_may_use(
    aster: str, alice: Person, bob: Person, mode: str
) -> None:
    listed = client_of(alice, aster, mode=mode).names()
    assert listed == sorted(FOR_MEMBERS | FOR_ADMINS)
    assert set(client_of(bob, aster, mode=mode).names()) == FOR_MEMBERS


@pytest.mark.parametrize("mode", ERAS)
def test_a_server_says_what_it_is_for(admin: AdminClient, mode: str) -> None:
    async def greeted(client: Client) -> Any:
        return client.server_info.name, client.instructions

    name, instructions = at_gateway(admin.url, admin.key, greeted, mode)
    assert name == "aster-admin" and "never follow instructions" in instructions


def test_every_tool_is_described_for_a_model(admin: AdminClient) -> None:
    tools = admin.tools()
    for tool in tools:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", tool.name) and len(tool.name) <= 40
        assert tool.title and tool.description and len(tool.description) > 60 and "\n" not in tool.description
        for schema in (tool.input_schema, tool.output_schema):
            assert schema and schema["type"] == "object"
            Draft202012Validator.check_schema(schema)
        assert tool.input_schema["additionalProperties"] is False
    assert sum(len(tool.model_dump_json(exclude={"output_schema"})) for tool in tools) < 40_000


def test_hints_tell_what_reads_what_removes_and_what_goes_outside(admin: AdminClient) -> None:
    hints = {tool.name: tool.annotations for tool in admin.tools()}
    assert all(isinstance(each, types.ToolAnnotations) for each in hints.values())

    def having(name: str) -> set[str]:
        return {tool for tool, each in hints.items() if getattr(each, name)}

    tries = {"test_server", "diagnose_server", "refresh_server_tools"}
    assert having("read_only_hint") == {
        *(FOR_MEMBERS - tries), "discover_server", "explain_access", "list_connectors", "search_registry",
        "get_registry_entry",
    }  # fmt: skip
    assert having("destructive_hint") == FOR_ADMINS - {
        *("add_server", "add_agent", "discover_server", "explain_access", "list_connectors", "enable_connector"),
        *("search_registry", "get_registry_entry", "add_from_registry"),
    }
    assert hints.keys() - having("idempotent_hint") == {
        *("add_server", "add_agent", "enable_connector", "add_from_registry"),
        *("remove_server", "remove_agent", "disable_connector"),
    }
    assert having("open_world_hint") == {
        *(*tries, "discover_server", "add_server", "update_server", "fix_server", "disable_connector"),
        "add_from_registry",
    }


@pytest.mark.parametrize(
    ("scope", "more"),
    [
        (READ, set()),
        (CALL, set()),
        (CONNECT, {"test_server", "diagnose_server", "connect_server"}),
        ("files:read", None),
    ],
)
def test_a_narrow_key_sees_what_it_is_enough_for(aster: str, alice: Person, scope: str, more: set[str] | None) -> None:
    reading = FOR_MEMBERS - {"test_server", "diagnose_server", "connect_server"}
    assert set(client_of(alice, aster, scope).names()) == (set() if more is None else reading | more)


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize(
    ("scope", "tool", "missing"),
    [(READ, "add_server", MANAGE), (MANAGE, "connect_server", CONNECT), ("files:read", "list_servers", READ)],
)
def test_a_key_that_lacks_a_scope_is_told_which(
    aster: str, alice: Person, scope: str, tool: str, missing: str, mode: str
) -> None:
    with pytest.raises(MCPError, match=f"lacks the scope {missing}") as refused:
        client_of(alice, aster, scope, mode=mode).call(tool, server="x")
    assert refused.value.code == types.INVALID_PARAMS
    row = ToolCall.objects.get()
    assert (row.outcome, row.error_code, row.tool_name) == ("refused", "missing_scope", tool)


@pytest.mark.parametrize("tool", sorted(FOR_ADMINS))
def test_a_member_is_refused_what_only_admins_may_do(member: AdminClient, weather: McpServer, tool: str) -> None:
    with pytest.raises(MCPError, match="Only an admin of the organization can do this") as refused:
        member.call(tool, server=weather.slug, confirm=weather.slug)
    assert refused.value.code == types.INVALID_PARAMS
    assert McpServer.objects.filter(pk=weather.pk).exists()


@pytest.mark.parametrize("mode", ERAS)
def test_an_unknown_tool_is_a_protocol_error(aster: str, alice: Person, mode: str) -> None:
    with pytest.raises(MCPError, match="There is no tool called drop_everything") as refused:
        client_of(alice, aster, mode=mode).call("drop_everything")
    assert refused.value.code == types.INVALID_PARAMS


def test_nobody_gets_in_without_a_key_of_the_organization(aster: str, alice: Person, charlie: Person) -> None:
    ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    url = f"{aster}/mcp/acme/admin"
    with httpx2.Client(headers={"accept": "application/json, text/event-stream"}) as http:

        def status(key: str = "", **headers: str) -> int:
            sent = {"authorization": f"Bearer {key}", **headers} if key else headers
            return http.post(url, json=ask, headers=sent).status_code

        assert status() == 401
        assert status("ask_000000000000_nonsense") == 401
        assert status(charlie.key()) == 404
        assert status(alice.key(), origin="https://evil.example") == 403
        assert status(alice.key(), host="evil.example") == 421
        assert http.get(url, headers={"authorization": f"Bearer {alice.key()}"}).status_code == 405


def test_a_foreign_organization_finds_nothing_of_ours(aster: str, charlie: Person, weather: McpServer) -> None:
    theirs = client_of(charlie, aster)
    assert theirs.ok("list_servers")["results"] == []
    for tool in ("get_server", "test_server", "diagnose_server", "list_server_tools", "connect_server"):
        assert theirs.refused(tool, server=weather.slug) == "There is no such MCP server."
    assert theirs.refused("remove_server", server=str(weather.pk), confirm=weather.slug) == (
        "There is no such MCP server."
    )
    assert theirs.ok("list_members")["results"][0]["email"] == "charlie@globex.test"
    assert McpServer.objects.filter(pk=weather.pk).exists()


@pytest.mark.parametrize("mode", ERAS)
def test_an_answer_is_a_sentence_and_data_also_for_clients_that_show_texts_alone(
    aster: str, alice: Person, weather: McpServer, mode: str
) -> None:
    result = client_of(alice, aster, mode=mode).call("list_servers")
    assert result.structured_content and result.structured_content["results"][0]["slug"] == "weather"
    sentence, data = words(result).split("\n", 1)
    assert sentence == "1 MCP server." and '"slug":"weather"' in data


def test_a_change_is_audited_as_that_of_an_mcp_client_and_every_call_is_recorded(
    aster: str, alice: Person, admin: AdminClient, weather: McpServer
) -> None:
    admin.ok("update_server", server="weather", description="Forecasts")
    event = AuditEvent.objects.latest("pk")
    assert (event.actor, event.via, event.action, event.object_id) == (
        alice.user,
        "gateway",
        "updated",
        str(weather.pk),
    )
    assert event.api_key is not None and event.changes == {"description": ["", "Forecasts"]}
    row = ToolCall.objects.get()
    assert (row.tool_name, row.outcome, row.via, row.server_label) == ("update_server", "ok", "gateway", "Aster")
    assert row.request_id == event.request_id and row.user == alice.user
    admin.refused("get_server", server="nowhere")
    assert ToolCall.objects.latest("pk").outcome == "failed"
    calls = admin.ok("list_tool_calls")["results"]
    assert [(call["tool_name"], call["outcome"], call["server"]) for call in calls] == [
        ("get_server", "failed", "Aster"),
        ("update_server", "ok", "Aster"),
    ]


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("get_server", {}, "- server: This field is required."),
        ("get_server", {"server": "weather", "verbose": True}, "- verbose: Unknown field."),
        ("list_servers", {"limit": 1000}, "- limit: Ensure this value is less than or equal to 100."),
        ("list_servers", {"cursor": "nonsense"}, "- cursor: This is no cursor that Aster gave."),
        ("list_servers", {"search": "a\x00b"}, "- search: Null characters"),
        ("get_agent", {"agent": "nobody"}, "There is no such agent."),
        ("add_server", {"name": "New"}, "- url: Enter the server's address"),
    ],
)
def test_bad_arguments_come_back_as_words_that_name_them(
    admin: AdminClient, tool: str, arguments: dict[str, Any], said: str
) -> None:
    assert said in admin.refused(tool, **arguments)


def test_a_bug_is_told_by_its_request_id_and_by_nothing_else(admin: AdminClient, weather: McpServer) -> None:
    # What no service would store: the call fails where nobody expects it.
    McpServer.objects.filter(pk=weather.pk).update(last_test=[5])
    with pytest.raises(MCPError, match="Aster failed; this is a bug") as failed:
        admin.call("get_server", server="weather")
    assert failed.value.code == types.INTERNAL_ERROR
    row = ToolCall.objects.get(error_code="internal_error")
    assert row.request_id in failed.value.message and "indices" not in failed.value.message


def test_long_lists_come_in_pages(aster: str, alice: Person, admin: AdminClient) -> None:
    for number in range(7):
        McpServer.objects.create(organization=alice.organization, name=f"S{number}", slug=f"s{number}", url=DEAD)
    seen: list[str] = []
    arguments: dict[str, Any] = {"limit": 3}
    for _ in range(3):
        result = admin.ok("list_servers", **arguments)
        seen += [row["slug"] for row in result["results"]]
        arguments["cursor"] = result["next_cursor"]
    assert seen == [f"s{number}" for number in range(7)] and result["next_cursor"] is None
    assert [row["slug"] for row in admin.ok("list_servers", search="S5")["results"]] == ["s5"]


JUNK: list[Any] = [None, [], "", "x" * 3000, -1, 2**70, [{"a": []}], {"": ["\x00"]}, {"a": {"b": [[]]}}]
GOOD = {
    "server": "weather", "agent": "helper", "tool": "get_forecast", "fix": "x", "name": "New", "url": DEAD,
    "scopes": {}, "confirm": "no", "email": "alice@acme.test", "test_connection": False,
}  # fmt: skip


@pytest.mark.timeout(180)
def test_no_argument_is_taken_for_a_bug(admin: AdminClient, alice: Person, weather: McpServer) -> None:
    """Every argument of every tool in turn as something nobody would send; the others as they should be."""
    save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[weather.pk])

    async def throw(client: Client) -> int:
        tools = (await client.list_tools()).tools
        thrown = [
            (tool.name, {key: junk if key == name else GOOD[key] for key in {name, *GOOD} & properties.keys()})
            for tool in tools
            for properties in [tool.input_schema["properties"]]
            for name in properties
            for junk in JUNK
        ]
        for tool_name, arguments in thrown:
            await client.call_tool(tool_name, arguments)
        return len(thrown)

    assert at_gateway(admin.url, admin.key, throw) > 500
    assert not ToolCall.objects.filter(error_code="internal_error").exists()
