"""A turn: everything connects at once, a dead or unconnected server costs its own tools only, and all is closed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from pytest_django import DjangoAssertNumQueries

from agents.models import Agent, ToolCall
from agents.runtime.session import AgentSession, call_once, call_server
from agents.services.agents import save_agent, switch_tools
from agents.services.calls import agent_tools
from aster.accounts.models import ApiKey, Membership, User
from aster.accounts.services import authenticate_key
from aster.errors import AsterError, Conflict, ConnectionRequired, NotAllowed, NotFound, UpstreamError
from aster.threads import in_db_thread
from integrations.models import AuthConfig, AuthType, Connection, McpServer, Tool
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, legacy_only_app, modern_and_legacy_app, serve

pytestmark = pytest.mark.django_db(transaction=True)


def add(person: Person, name: str, url: str, *, test: bool = True) -> McpServer:
    return save_server(McpServer(name=name, url=url), actor=person.actor, test=test).server


def call_all(agent: Agent, person: Person, *calls: tuple[str, dict[str, object]]) -> list[object]:
    """Make the calls at once in one session; an error takes the place of its result."""

    async def run() -> list[object]:
        results: list[object] = [None] * len(calls)

        async def one(session: AgentSession, index: int) -> None:
            name, arguments = calls[index]
            try:
                results[index] = await session.call(name, arguments)
            except AsterError as error:
                results[index] = error

        async with AgentSession.open(agent, actor=person.actor) as session, anyio.create_task_group() as group:
            for index in range(len(calls)):
                group.start_soon(one, session, index)
        return results

    return anyio.run(run)


def name_of(agent: Agent, server: McpServer, tool: str) -> str:
    offered = agent_tools(agent)
    return next(one.name for one in offered if one.server == server and one.tool and one.tool.name == tool)


def test_a_turn_calls_servers_of_both_eras(alice: Person) -> None:
    with serve(modern_and_legacy_app()) as new, serve(legacy_only_app()) as old:
        servers = [add(alice, "New", f"{new}/mcp"), add(alice, "Old", f"{old}/mcp")]
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk for server in servers])
        results = call_all(
            agent, alice, *[(name_of(agent, server, "echo"), {"text": server.name}) for server in servers]
        )
    texts = [result["content"][0]["text"] for result in results]  # type: ignore[index]
    assert texts == ["New", "Old"]
    assert set(ToolCall.objects.values_list("outcome", flat=True)) == {"ok"}


def test_a_warm_turn_sends_the_call_and_nothing_else(alice: Person) -> None:
    fake: FakeServer = modern_and_legacy_app()
    with serve(fake) as url:
        server = add(alice, "New", f"{url}/mcp")
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk])
        before = len(fake.methods())
        call_all(agent, alice, (name_of(agent, server, "echo"), {"text": "x"}))
        assert fake.methods()[before:] == ["tools/call"]


def test_opening_a_turn_asks_the_database_as_often_for_ten_servers_as_for_one(
    alice: Person, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    auth = AuthConfig.objects.create(organization=alice.organization, name="ID", auth_type=AuthType.AUTHORIZATION_CODE)
    Connection.objects.create(auth_config=auth, user=alice.user)
    servers = [
        McpServer(name=f"S{n}", slug=f"s{n}", url="http://127.0.0.1:1/mcp", organization=alice.organization)
        for n in range(10)
    ]
    for server in servers:
        server.auth_config = auth
        server.save()
    agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk for server in servers])
    with django_assert_num_queries(4):
        AgentSession(agent, alice.actor)._resolve()


def test_calls_that_end_together_are_recorded_together(alice: Person) -> None:
    with serve(modern_and_legacy_app()) as url:
        server = add(alice, "New", f"{url}/mcp")
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk])
        name = name_of(agent, server, "echo")
        results = call_all(agent, alice, *[(name, {"text": str(n)}) for n in range(20)])
    assert [result["content"][0]["text"] for result in results] == [str(n) for n in range(20)]  # type: ignore[index]
    assert list(ToolCall.objects.values_list("outcome", flat=True)) == ["ok"] * 20


def test_calls_with_the_organizations_own_connection_are_recorded_with_its_name(
    alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")  # as it is where Aster serves: no query on the loop
    with serve(modern_and_legacy_app()) as url:
        server = add(alice, "New", f"{url}/mcp")
        auth = AuthConfig.objects.create(
            organization=alice.organization, name="Machine", auth_type=AuthType.CLIENT_CREDENTIALS, client_id="m"
        )
        Connection.objects.create(auth_config=auth, access_token="t")
        McpServer.objects.update(auth_config=auth)
        server.refresh_from_db()
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk])
        (result,) = call_all(agent, alice, (name_of(agent, server, "echo"), {"text": "x"}))
        anyio.run(partial(call_server, server, "echo", {"text": "y"}, actor=alice.actor))
    assert not isinstance(result, AsterError)
    assert {row.outcome for row in ToolCall.objects.all()} == {"ok"}
    assert all(row.connection_label for row in ToolCall.objects.all())


def test_a_dead_server_costs_its_own_tools_only(alice: Person) -> None:
    with serve(modern_and_legacy_app()) as url:
        alive, dead = add(alice, "Alive", f"{url}/mcp"), add(alice, "Dead", "http://127.0.0.1:1/mcp", test=False)
        Tool.objects.create(server=dead, name="echo", definition={"name": "echo", "inputSchema": {"type": "object"}})
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[alive.pk, dead.pk])
        good, bad = call_all(
            agent, alice, (name_of(agent, alive, "echo"), {"text": "x"}), (name_of(agent, dead, "echo"), {})
        )
    assert good["content"][0]["text"] == "x"  # type: ignore[index]
    assert isinstance(bad, UpstreamError)
    assert "Nobody answers" in bad.message


def test_an_unconnected_server_keeps_its_tools_listed_and_asks_to_connect(alice: Person) -> None:
    auth = AuthConfig(
        name="OAuth", auth_type=AuthType.AUTHORIZATION_CODE, authorization_url="http://127.0.0.1:1/a",
        token_url="http://127.0.0.1:1/t", organization=alice.organization,
    )  # fmt: skip
    server = save_server(
        McpServer(name="Private", url="http://127.0.0.1:1/mcp"), auth=auth, actor=alice.actor, test=False
    ).server
    Tool.objects.create(server=server, name="echo", definition={"name": "echo", "inputSchema": {"type": "object"}})
    agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk])
    (missing,) = call_all(agent, alice, (name_of(agent, server, "echo"), {}))
    assert isinstance(missing, ConnectionRequired)


def test_a_model_that_invents_a_tool_is_told_so(alice: Person) -> None:
    agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[])
    (unknown,) = call_all(agent, alice, ("nonsense", {}))
    assert isinstance(unknown, NotFound)
    assert ToolCall.objects.get().outcome == "refused"


def test_a_cancelled_call_is_recorded_and_reaches_the_server(alice: Person) -> None:
    with serve(modern_and_legacy_app()) as url:
        server = add(alice, "New", f"{url}/mcp")
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk])
        name = name_of(agent, server, "slow")

        async def run() -> None:
            async with AgentSession.open(agent, actor=alice.actor) as session:
                with anyio.move_on_after(0.3):
                    await session.call(name, {"seconds": 30})

        anyio.run(run)
    assert ToolCall.objects.get().error_code == "cancelled"


def test_what_is_switched_off_says_so_and_offers_nothing(alice: Person) -> None:
    with serve(modern_and_legacy_app()) as url:
        server = add(alice, "New", f"{url}/mcp")
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk])
        name = name_of(agent, server, "echo")
        switch_tools(agent, server, off=["echo"], actor=alice.actor)
        (tool_off,) = call_all(agent, alice, (name, {"text": "x"}))
        McpServer.objects.update(is_enabled=False)
        (server_off,) = call_all(agent, alice, (name, {"text": "x"}))
        Agent.objects.update(is_enabled=False)
        (agent_off,) = call_all(Agent.objects.get(), alice, (name, {"text": "x"}))
        assert agent_tools(Agent.objects.get()) == []
    codes = [error.code for error in (tool_off, server_off, agent_off) if isinstance(error, Conflict)]
    assert codes == ["tool_disabled", "server_disabled", "agent_disabled"]
    assert set(ToolCall.objects.values_list("outcome", flat=True)) == {"refused"}


@pytest.mark.parametrize("deleted", ["server", "agent"])
def test_what_is_deleted_while_a_call_runs_costs_neither_the_result_nor_the_record(alice: Person, deleted: str) -> None:
    fake: FakeServer = modern_and_legacy_app()
    with serve(fake) as url:
        server = add(alice, "New", f"{url}/mcp")
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk])
        name = name_of(agent, server, "slow")

        async def run() -> dict[str, object]:
            result: dict[str, object] = {}

            async def call() -> None:
                result.update(await call_once(agent, name, {"seconds": 1}, actor=alice.actor))

            async with anyio.create_task_group() as group:
                group.start_soon(call)
                while not any(seen.tool for seen in fake.requests):
                    await anyio.lowlevel.checkpoint()
                rows = {"server": McpServer, "agent": Agent}[deleted].objects
                await in_db_thread(rows.all().delete)
            return result

        assert anyio.run(run)["content"]
    row = ToolCall.objects.get()
    assert (row.outcome, row.server_label, row.tool_name, row.user) == ("ok", "New", "slow", alice.user)
    assert (row.server is None, row.agent is None) == (deleted == "server", deleted == "agent")


def test_a_call_that_aster_itself_fails_at_is_recorded_as_that(alice: Person) -> None:
    server = add(alice, "New", "http://127.0.0.1:1/mcp", test=False)
    # What no service would store.
    McpServer.objects.update(args=5)
    server.refresh_from_db()
    with pytest.raises(TypeError):
        anyio.run(partial(call_server, server, "echo", {}, actor=alice.actor))
    row = ToolCall.objects.get()
    assert (row.outcome, row.error_code, row.server) == ("failed", "internal_error", server)


RULES_CHANGED: dict[str, tuple[Callable[[Agent, McpServer, Person, Person], object], str]] = {
    "tool off": (lambda agent, server, admin, who: switch_tools(agent, server, off=["echo"], actor=admin.actor),
                 "tool_disabled"),
    "server off": (lambda agent, server, admin, who: McpServer.objects.update(is_enabled=False), "server_disabled"),
    "agent off": (lambda agent, server, admin, who: Agent.objects.update(is_enabled=False), "agent_disabled"),
    "server taken away": (lambda agent, server, admin, who: agent.assignments.all().delete(), "unknown_tool"),
    "agent strict": (lambda agent, server, admin, who: Agent.objects.update(strict_scopes=True), "unmapped_tool"),
    "person gone": (lambda agent, server, admin, who: Membership.objects.filter(user=who.user).delete(), "not_allowed"),
    "person locked out": (lambda agent, server, admin, who: User.objects.filter(pk=who.user.pk).update(is_active=False),
                          "not_allowed"),
}  # fmt: skip


@pytest.mark.parametrize("change", RULES_CHANGED)
def test_a_rule_that_changes_during_a_turn_holds_for_its_next_call(alice: Person, bob: Person, change: str) -> None:
    """A turn goes on for minutes; what an admin switches off must stop at once."""
    act, code = RULES_CHANGED[change]
    with serve(fake := modern_and_legacy_app()) as url:
        server = add(alice, "New", f"{url}/mcp")
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk])
        name = name_of(agent, server, "echo")

        async def run() -> list[str]:
            said = []
            async with AgentSession.open(agent, actor=bob.actor) as session:
                await session.call(name, {"text": "before"})
                await in_db_thread(act, agent, server, alice, bob)
                try:
                    await session.call(name, {"text": "after"})
                except AsterError as error:
                    said.append(error.code)
            return said

        assert anyio.run(run) == [code]
    assert fake.methods().count("tools/call") == 1
    assert ToolCall.objects.latest("pk").outcome == "refused"


def test_a_key_that_is_revoked_during_a_turn_makes_no_more_calls(alice: Person) -> None:
    with serve(fake := modern_and_legacy_app()) as url:
        server = add(alice, "New", f"{url}/mcp")
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk])
        name, actor = name_of(agent, server, "echo"), authenticate_key(alice.key("aster:call"))
        assert actor and actor.api_key

        async def run() -> None:
            async with AgentSession.open(agent, actor=actor) as session:
                await in_db_thread(ApiKey.objects.all().delete)
                with pytest.raises(NotAllowed):
                    await session.call(name, {"text": "after"})

        anyio.run(run)
    assert "tools/call" not in fake.methods()
