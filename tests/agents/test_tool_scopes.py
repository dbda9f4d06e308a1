"""Scopes of tools: who may call what, whose map counts, what is listed, and what is proposed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from agents.models import Agent, ToolCall
from agents.runtime.session import AgentSession, call_once, call_server
from agents.services.agents import save_agent
from agents.services.calls import agent_tools
from agents.services.tool_scopes import change_scopes, namespaced, propose_scopes, right_of, set_tool_scopes
from aster.accounts.access import Actor
from aster.accounts.models import AuditEvent
from aster.accounts.services import authenticate_key
from aster.errors import InvalidInput, NotAllowed
from integrations.models import McpServer, Tool
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, modern_and_legacy_app, serve
from tests.walks.conftest import at_gateway

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def fake(alice: Person) -> Iterator[FakeServer]:
    """A real server, stored as "fake" and given to the agent "bot"."""
    app = modern_and_legacy_app()
    with serve(app) as base:
        server = save_server(McpServer(name="Fake", url=f"{base}/mcp"), actor=alice.actor).server
        save_agent(Agent(name="Bot"), actor=alice.actor, server_ids=[server.pk])
        yield app


def bot() -> Agent:
    return Agent.objects.select_related("organization").get(slug="bot")


def server() -> McpServer:
    return McpServer.objects.get(slug="fake")


def name_of(tool: str) -> str:
    return namespaced(server(), tool)


def with_key(person: Person, *scopes: str) -> Actor:
    found = authenticate_key(person.key(*scopes))
    assert found
    return found


def calls_of(fake: FakeServer) -> list[str]:
    return [seen.tool for seen in fake.requests if seen.tool]


def echo(actor: Actor) -> dict[str, Any]:
    return anyio.run(lambda: call_once(bot(), name_of("echo"), {"text": "x"}, actor=actor))


def refusal_of(actor: Actor) -> NotAllowed:
    with pytest.raises(NotAllowed) as refused:
        echo(actor)
    return refused.value


# --- The rule ---------------------------------------------------------------------------------------------------------


def test_a_call_takes_the_scopes_of_the_server_and_of_the_agent(alice: Person, fake: FakeServer) -> None:
    set_tool_scopes(server(), {"echo": ["fake:read"]}, actor=alice.actor)
    set_tool_scopes(bot(), {"fake:echo": ["bot:talk"]}, actor=alice.actor)
    for held, missing in ((["fake:read"], ["bot:talk"]), (["bot:talk"], ["fake:read"])):
        refused = refusal_of(with_key(alice, *held))
        assert (refused.code, refused.extra) == ("missing_tool_scope", {"missing_scopes": missing})
        assert missing[0] in refused.message and "ask an admin" in refused.message
    assert calls_of(fake) == []
    assert not echo(with_key(alice, "fake:read", "bot:talk")).get("isError")
    assert calls_of(fake) == ["echo"]
    assert list(ToolCall.objects.values_list("outcome", "error_code", "tool_name").order_by("id")) == [
        ("refused", "missing_tool_scope", "echo"),
        ("refused", "missing_tool_scope", "echo"),
        ("ok", "", "echo"),
    ]


@pytest.mark.parametrize("held", ["*", "files:admin", "boss"])
def test_the_organizations_hierarchy_decides_what_includes_what(alice: Person, fake: FakeServer, held: str) -> None:
    hierarchy = {"files:admin": ["files:write"], "files:write": ["files:read"], "boss": ["*"]}
    alice.organization.scope_hierarchy = hierarchy
    alice.organization.save()
    set_tool_scopes(bot(), {"fake:echo": ["files:read"]}, actor=alice.actor)
    assert not echo(with_key(alice, held)).get("isError")
    assert refusal_of(with_key(alice, "files:other")).code == "missing_tool_scope"


def test_a_key_with_a_star_calls_what_begins_so_and_nothing_else(alice: Person, fake: FakeServer) -> None:
    set_tool_scopes(bot(), {"fake:echo": ["files:read", "files:write:x"]}, actor=alice.actor)
    assert not echo(with_key(alice, "files:*")).get("isError")
    set_tool_scopes(bot(), {"fake:echo": ["filesystem:read"]}, actor=alice.actor)
    assert refusal_of(with_key(alice, "files:*")).code == "missing_tool_scope"
    assert calls_of(fake) == ["echo"]


def test_who_is_signed_in_holds_every_scope(alice: Person, bob: Person, fake: FakeServer) -> None:
    set_tool_scopes(bot(), {"fake:echo": ["files:read"]}, actor=alice.actor)
    assert not echo(bob.actor).get("isError")


def test_a_strict_agent_blocks_tools_without_scopes_for_everybody(alice: Person, fake: FakeServer) -> None:
    assert not echo(with_key(alice, "aster:call")).get("isError")
    change_scopes(bot(), {name_of("add"): ["fake:read"]}, strict=True, actor=alice.actor)
    assert [each.name for each in agent_tools(bot(), actor=alice.actor)] == [name_of("add")]
    refused = refusal_of(alice.actor)
    assert refused.code == "unmapped_tool" and "An admin can give it some" in refused.message
    assert calls_of(fake) == ["echo"]
    set_tool_scopes(server(), {"echo": ["fake:read"]}, actor=alice.actor)
    assert not echo(with_key(alice, "fake:read")).get("isError")


def test_a_servers_scopes_hold_for_calls_straight_to_it_too(alice: Person, fake: FakeServer) -> None:
    set_tool_scopes(server(), {"echo": ["fake:read"]}, actor=alice.actor)

    def call(actor: Actor) -> dict[str, Any]:
        stored = McpServer.objects.select_related("auth_config").get()
        return anyio.run(lambda: call_server(stored, "echo", {"text": "x"}, actor=actor))

    with pytest.raises(NotAllowed) as refused:
        call(with_key(alice, "aster:manage", "aster:call"))
    assert (refused.value.code, calls_of(fake)) == ("missing_tool_scope", [])
    assert not call(with_key(alice, "aster:manage", "fake:read")).get("isError")


# --- What is listed ---------------------------------------------------------------------------------------------------


def test_a_client_neither_sees_nor_reaches_what_its_key_has_no_scope_for(
    aster: str, alice: Person, fake: FakeServer
) -> None:
    set_tool_scopes(bot(), {"fake:echo": ["files:write"]}, actor=alice.actor)
    limited, enough = alice.key("aster:call"), alice.key("files:write")

    async def names(client: Client) -> list[str]:
        return [tool.name for tool in (await client.list_tools()).tools]

    async def call(client: Client) -> Any:
        return await client.call_tool(name_of("echo"), {"text": "x"})

    url = bot().gateway_url
    assert name_of("echo") not in at_gateway(url, limited, names)
    assert name_of("add") in at_gateway(url, limited, names)
    with pytest.raises(MCPError, match="lacks the scope files:write, which echo needs"):
        at_gateway(url, limited, call)
    assert calls_of(fake) == []
    assert name_of("echo") in at_gateway(url, enough, names)
    assert not at_gateway(url, enough, call).is_error


def test_a_turn_offers_a_model_what_its_person_may_call_and_tells_why_not(alice: Person, fake: FakeServer) -> None:
    set_tool_scopes(bot(), {"fake:echo": ["files:write"]}, actor=alice.actor)

    async def run() -> tuple[set[str], str]:
        async with AgentSession.open(bot(), actor=with_key_) as session:
            try:
                await session.call(name_of("echo"), {"text": "x"})
            except NotAllowed as refused:
                return set(session.tools), refused.code
        raise AssertionError

    with_key_ = with_key(alice, "aster:call")
    offered, code = anyio.run(run)
    assert name_of("echo") not in offered and name_of("add") in offered
    assert (code, calls_of(fake)) == ("missing_tool_scope", [])


# --- The maps ---------------------------------------------------------------------------------------------------------


def test_a_tool_may_be_written_with_its_server_in_front(alice: Person, fake: FakeServer) -> None:
    stored = server()
    set_tool_scopes(stored, {"fake:echo": ["a:read"], "echo": ["b:read", "a:read"]}, actor=alice.actor)
    assert server().tool_scopes == {"echo": ["a:read", "b:read"]}
    set_tool_scopes(bot(), {"fake:echo": ["a:read"], name_of("echo"): ["b:read"]}, actor=alice.actor)
    assert bot().tool_scopes == {name_of("echo"): ["a:read", "b:read"]}


@pytest.mark.parametrize(
    ("scopes", "words"),
    [
        ([], "Must map tools"),
        ({"fake:echo": []}, "leave it out"),
        ({"fake:echo": "files:read"}, "needs a list"),
        ({"fake:echo": ["Files"]}, "is not a scope"),
        ({"fake:echo": ["a b"]}, "is not a scope"),
        ({"fake:echo": ["a\n"]}, "is not a scope"),
        ({"fake:echo": [1]}, "is not a scope"),
        ({"fake:echo": [f"s{n}" for n in range(21)]}, "more than 20"),
        ({"": ["a"]}, "1 to 200"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused_and_nothing_stored(alice: Person, scopes: Any, words: str) -> None:
    agent = save_agent(Agent(name="Bot"), actor=alice.actor)
    plain = McpServer.objects.create(organization=alice.organization, name="Fake", slug="fake", url="https://a.example")
    for owner in (agent, plain):
        owner.tool_scopes = scopes
        with pytest.raises(InvalidInput, match=words) as refused:
            save_agent(owner, actor=alice.actor) if isinstance(owner, Agent) else save_server(owner, actor=alice.actor)
        assert list(refused.value.fields) == ["tool_scopes"]
        owner.refresh_from_db()
        assert owner.tool_scopes == {}


def test_an_agents_map_refuses_a_bare_name_that_would_protect_nothing(alice: Person, fake: FakeServer) -> None:
    with pytest.raises(InvalidInput, match=r"echo is no tool of the agent\. Write it as SERVER:TOOL"):
        set_tool_scopes(bot(), {"echo": ["a:read"]}, actor=alice.actor)


def test_only_admins_set_scopes_and_each_change_is_in_the_audit_trail(
    alice: Person, bob: Person, fake: FakeServer
) -> None:
    for owner in (bot(), server()):
        with pytest.raises(NotAllowed):
            set_tool_scopes(owner, {"fake:echo": ["a:read"]}, actor=bob.actor)
        set_tool_scopes(owner, {"fake:echo": ["a:read"]}, actor=alice.actor)
        assert AuditEvent.objects.latest("pk").changes["tool_scopes"][0] == {}


def test_the_scopes_of_a_tool_that_is_gone_wait_for_its_return(alice: Person, fake: FakeServer) -> None:
    set_tool_scopes(bot(), {"fake:echo": ["files:read"]}, actor=alice.actor)
    Tool.objects.filter(name="echo").update(gone_at="2026-01-01T00:00:00Z")
    change_scopes(bot(), {name_of("add"): ["files:read"]}, strict=False, actor=alice.actor)
    Tool.objects.filter(name="echo").update(gone_at=None)
    assert refusal_of(with_key(alice, "aster:call")).code == "missing_tool_scope"


# --- Proposals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hints", "right"),
    [
        ("list_files", {}, "read"),
        ("getFile", {}, "read"),
        ("list_deleted_items", {}, "read"),
        ("get_and_lock", {"readOnlyHint": False}, "write"),
        ("forecast", {}, "write"),
        ("forecast", {"readOnlyHint": True}, "read"),
        ("create-issue", {}, "write"),
        ("create_issue", {"destructiveHint": True}, "delete"),
        ("update_issue", {"readOnlyHint": True}, "write"),
        ("deleteFile", {}, "delete"),
        ("file_purge", {}, "delete"),
        ("delete_file", {"readOnlyHint": True}, "delete"),
        ("grant_role", {}, "admin"),
        ("admin_list_users", {"readOnlyHint": True}, "admin"),
        ("", {}, "write"),
    ],
)
def test_a_scope_is_proposed_from_the_name_and_the_hints_and_the_harsher_counts(
    name: str, hints: dict[str, Any], right: str
) -> None:
    assert right_of(name, hints) == right


def test_proposals_cover_the_live_catalogue_under_the_servers_name(alice: Person, fake: FakeServer) -> None:
    Tool.objects.filter(name="big").update(gone_at="2026-01-01T00:00:00Z")
    proposals = propose_scopes(server())
    assert proposals["add"] == ["fake:write"] and proposals["whoami"] == ["fake:read"]
    assert "big" not in proposals
    set_tool_scopes(server(), proposals, actor=alice.actor)
    assert server().tool_scopes == proposals
