"""Servers that do not answer: left alone for a while, tried by one, never in the way of others."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import anyio
import pytest

from agents.models import Agent
from agents.runtime.breaker import FAILURES, LONGEST_REST, REST_SECONDS, Breaker
from agents.runtime.session import AgentSession, call_server
from agents.services.agents import save_agent
from aster.errors import ConnectionRequired, UpstreamError
from integrations.models import McpServer, Tool
from integrations.services.servers import save_server
from tests.agents.test_session import add, name_of
from tests.conftest import Person
from tests.fakes.mcp_servers import modern_and_legacy_app, serve

AWAY = UpstreamError("No connection.", step="dial", retryable=True)
SLOW = UpstreamError("Too slow.", step="call", code=UpstreamError.TIMEOUT, retryable=True)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watched(clock: Clock) -> Breaker:
    return Breaker(clock)


def ask(breaker: Breaker, server: McpServer, answer: Exception | None) -> str:
    """The code of what came of asking; empty if it worked."""

    async def run() -> str:
        try:
            with breaker.watch(server):
                if answer:
                    raise answer
        except (UpstreamError, ConnectionRequired) as error:
            return error.code
        return ""

    return anyio.run(run)


def fail(breaker: Breaker, server: McpServer, times: int = FAILURES) -> None:
    for _ in range(times):
        assert ask(breaker, server, AWAY) == "upstream_error"


def test_a_server_that_is_away_rests_and_is_tried_again(watched: Breaker, clock: Clock) -> None:
    server = McpServer(pk=1, name="Dead")
    fail(watched, server)
    assert ask(watched, server, None) == "server_resting"
    clock.now += REST_SECONDS
    assert ask(watched, server, None) == ""
    fail(watched, server, FAILURES - 1)
    assert ask(watched, server, None) == "", "one answer, and the count starts anew"


def test_a_trial_that_fails_makes_the_rest_longer_but_not_for_ever(watched: Breaker, clock: Clock) -> None:
    server = McpServer(pk=1, name="Dead")
    fail(watched, server)
    rests = []
    for _ in range(8):
        began = clock.now
        while ask(watched, server, AWAY) == "server_resting":
            clock.now += REST_SECONDS
        rests.append(clock.now - began)
    assert rests[0] == REST_SECONDS
    assert sorted(rests) == rests
    assert rests[-1] <= LONGEST_REST + REST_SECONDS


@pytest.mark.parametrize(
    "answer",
    [
        UpstreamError("The tool failed.", step="call"),
        UpstreamError("Refused.", step="auth"),
        UpstreamError("No such host.", step="dial", retryable=False),
        ConnectionRequired("Connect first."),
    ],
)
def test_what_is_an_answer_does_not_count(watched: Breaker, answer: Exception) -> None:
    server = McpServer(pk=1, name="Alive")
    for _ in range(FAILURES * 2):
        assert ask(watched, server, answer) != "server_resting"


def test_hanging_counts_as_being_away(watched: Breaker) -> None:
    server = McpServer(pk=1, name="Hangs")
    for _ in range(FAILURES):
        assert ask(watched, server, SLOW) == "timeout"
    assert ask(watched, server, None) == "server_resting"


def test_only_one_tries_at_a_time(watched: Breaker, clock: Clock) -> None:
    server = McpServer(pk=1, name="Dead")
    fail(watched, server)
    clock.now += REST_SECONDS

    async def two() -> str:
        with watched.watch(server):
            try:
                with watched.watch(server):
                    return ""
            except UpstreamError as error:
                return error.code

    assert anyio.run(two) == "server_resting"


def test_another_server_is_not_concerned_and_a_change_lets_everybody_try(watched: Breaker) -> None:
    server, other = McpServer(pk=1, name="Dead"), McpServer(pk=2, name="Alive")
    fail(watched, server)
    assert ask(watched, other, None) == ""
    server.updated_at = "changed"  # type: ignore[assignment]
    assert ask(watched, server, None) == ""


# --- On the real thing -----------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_calls_of_a_dead_server_are_refused_at_once_after_a_while(alice: Person) -> None:
    dead = add(alice, "Dead", "http://127.0.0.1:1/mcp", test=False)

    def call() -> str:
        with pytest.raises(UpstreamError) as refused:
            anyio.run(lambda: call_server(dead, "echo", {}, actor=alice.actor))
        return refused.value.code

    codes = [call() for _ in range(FAILURES + 1)]
    assert codes[-1] == "server_resting"
    assert "server_resting" not in codes[:-1]
    with serve(modern_and_legacy_app()) as url:
        dead.url = f"{url}/mcp"
        save_server(dead, actor=alice.actor)
        assert anyio.run(lambda: call_server(dead, "echo", {"text": "x"}, actor=alice.actor))


@pytest.fixture
def silent_url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"


@pytest.mark.django_db(transaction=True)
def test_a_turn_does_not_end_later_because_a_server_never_answered(alice: Person, silent_url: str) -> None:
    with serve(modern_and_legacy_app()) as url:
        alive, silent = add(alice, "Alive", f"{url}/mcp"), add(alice, "Silent", silent_url, test=False)
        McpServer.objects.filter(pk=silent.pk).update(timeout_seconds=600)
        Tool.objects.create(server=silent, name="echo", definition={"name": "echo", "inputSchema": {"type": "object"}})
        agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[alive.pk, silent.pk])

        async def turn() -> None:
            with anyio.fail_after(20):
                async with AgentSession.open(agent, actor=alice.actor) as session:
                    await session.call(name_of_alive, {"text": "x"})

        name_of_alive = name_of(agent, alive, "echo")
        anyio.run(turn)


def test_a_trial_that_hangs_holds_up_no_later_one(watched: Breaker, clock: Clock) -> None:
    server = McpServer(pk=1, name="Dead")
    fail(watched, server)
    clock.now += REST_SECONDS
    hanging = watched.watch(server)
    hanging.__enter__()
    watched._judge(watched._circuits[1], is_away=False)  # a call that began before all of that is answered
    fail(watched, server)
    clock.now += REST_SECONDS
    assert ask(watched, server, None) == ""
