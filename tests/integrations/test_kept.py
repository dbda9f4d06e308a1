"""Sessions kept open between calls: for whom, for how long, and what becomes of broken ones."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from aster.egress import keep_async_pool
from aster.errors import UpstreamError
from integrations.mcp_client import KeptSessions, Session, SharedSession, Target, stateless
from integrations.mcp_client.kept import IDLE_SECONDS, MOST_KEPT
from tests.fakes.mcp_servers import (
    FakeServer,
    broken_app,
    legacy_only,
    legacy_only_app,
    modern_and_legacy_app,
    modern_only_app,
    serve,
    stdio_command,
)

Work = Callable[[KeptSessions, "Clock"], Coroutine[Any, Any, None]]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def on_loop(work: Work) -> None:
    async def run() -> None:
        clock = Clock()
        kept = KeptSessions(clock, sweep_seconds=0.01)
        try:
            await asyncio.wait_for(work(kept, clock), 30)
        finally:
            await kept.aclose()
        assert not kept._open and not kept._closing

    asyncio.run(run())


@pytest.fixture
def fake() -> FakeServer:
    return legacy_only_app()


@pytest.fixture
def target(fake: FakeServer) -> Iterator[Target]:
    with serve(fake) as base:
        yield Target(transport="streamable_http", url=f"{base}/mcp", era="legacy", timeout=5.0)


def command() -> Target:
    name, args = stdio_command()
    return Target(transport="stdio", command=name, args=args, timeout=20.0, era="legacy")


async def say(kept: KeptSessions, target: Target, text: str = "hi", key: object = "one") -> str:
    async with kept.use(key, target) as session:
        return str((await session.call_tool("echo", {"text": text}))["content"][0]["text"])


def test_many_calls_share_one_handshake(fake: FakeServer, target: Target) -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        assert await say(kept, target) == "hi"
        words = [str(n) for n in range(20)]
        assert await asyncio.gather(*(say(kept, target, word) for word in words)) == words

    on_loop(work)
    assert fake.methods() == ["initialize"] + ["tools/call"] * 21


def test_the_first_callers_together_open_it_once(fake: FakeServer, target: Target) -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        await asyncio.gather(*(say(kept, target, str(n)) for n in range(20)))

    on_loop(work)
    assert fake.methods().count("initialize") == 1


def test_everybody_has_a_session_of_their_own(fake: FakeServer, target: Target) -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        for key in ("alice", "bob", "alice"):
            await say(kept, target, key=key)

    on_loop(work)
    used = [seen.headers["mcp-session-id"] for seen in fake.requests if seen.tool]
    assert used[0] == used[2] != used[1]


def test_a_changed_server_is_opened_anew_and_one_that_is_only_read_again_is_not(
    fake: FakeServer, target: Target
) -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        await say(kept, target)
        await say(kept, replace(target))
        assert fake.methods().count("initialize") == 1
        await say(kept, replace(target, headers={"x-key": "new"}))
        assert fake.methods().count("initialize") == 2
        assert fake.requests[-1].headers["x-key"] == "new" or fake.requests[-1].http_method == "DELETE"

    on_loop(work)


def test_a_replaced_session_ends_with_its_last_call(fake: FakeServer, target: Target) -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        async with kept.use("one", target) as session:
            await say(kept, replace(target, headers={"x-key": "new"}))
            result = await session.call_tool("echo", {"text": "still here"})
            assert result["content"][0]["text"] == "still here"
            assert len(kept._open) == 2
        assert len(kept._open) == 1

    on_loop(work)


def test_an_idle_session_is_closed_and_one_in_use_is_not(fake: FakeServer, target: Target) -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        await say(kept, target, key="idle")
        async with kept.use("busy", target) as session:
            clock.now += IDLE_SECONDS + 1
            while "idle" in kept._kept:
                await asyncio.sleep(0)
            assert (await session.call_tool("echo", {"text": "x"}))["content"][0]["text"] == "x"
        clock.now += IDLE_SECONDS + 1
        while kept._kept or kept._sweeper:
            await asyncio.sleep(0)
        await say(kept, target, key="idle")

    on_loop(work)
    assert fake.methods().count("initialize") == 3


def test_of_too_many_the_longest_unused_is_closed(fake: FakeServer, target: Target) -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        never = replace(target, url="http://127.0.0.1:9/mcp")
        for n in range(MOST_KEPT + 5):
            clock.now += 0.001
            with pytest.raises(UpstreamError):
                await say(kept, never, key=n)
        assert len(kept._kept) == MOST_KEPT and 0 not in kept._kept and MOST_KEPT + 4 in kept._kept

    on_loop(work)


def test_a_session_that_the_server_forgot_is_repaired(fake: FakeServer, target: Target) -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        await say(kept, target)
        fake.forget_sessions()
        words = [str(n) for n in range(5)]
        assert await asyncio.gather(*(say(kept, target, word) for word in words)) == words

    on_loop(work)
    assert fake.methods().count("initialize") == 2


def test_what_could_not_be_opened_is_tried_again(fake: FakeServer, target: Target) -> None:
    working = fake.app

    async def work(kept: KeptSessions, clock: Clock) -> None:
        fake.serve_instead(broken_app("error"))
        for _ in range(2):
            with pytest.raises(UpstreamError):
                await say(kept, target)
        fake.serve_instead(working)
        assert await say(kept, target) == "hi"

    on_loop(work)


def test_who_gives_up_while_it_opens_harms_nobody(fake: FakeServer, target: Target) -> None:
    working = fake.app

    async def work(kept: KeptSessions, clock: Clock) -> None:
        fake.serve_instead(broken_app("hang"))
        first = asyncio.create_task(say(kept, target, "first"))
        while not fake.requests:
            await asyncio.sleep(0)
        second = asyncio.create_task(say(kept, target, "second"))
        fake.serve_instead(working)
        first.cancel()
        assert await second == "second"
        assert first.cancelled()

    on_loop(work)


async def pid_of(kept: KeptSessions, key: object = "one") -> int:
    """Of the process behind a stdio session: its only child that is new."""
    before = children()
    await say(kept, command(), key=key)
    (new,) = children() - before
    return new


def children() -> set[int]:
    task = f"/proc/{os.getpid()}/task"
    found: set[int] = set()
    for thread in os.listdir(task):
        with open(f"{task}/{thread}/children", encoding="ascii") as listed:
            found |= {int(pid) for pid in listed.read().split()}
    return found


def is_running(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def test_a_command_is_started_once_and_ends_with_the_process() -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        pids.append(await pid_of(kept))
        before = children()
        for n in range(3):
            assert await say(kept, command(), str(n)) == str(n)
        assert children() == before

    pids: list[int] = []
    on_loop(work)
    assert not is_running(pids[0])


def test_a_command_ends_also_while_a_call_still_waits_for_it() -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        pids.append(await pid_of(kept))

        async def wait() -> None:
            async with kept.use("one", command()) as session:
                await session.call_tool("slow", {"seconds": 60}, progress=told)

        async def told(*_: object) -> None:
            running.set()

        waiting = asyncio.create_task(wait())
        await running.wait()
        await kept.aclose()
        assert not is_running(pids[0])
        with pytest.raises(UpstreamError):
            await waiting

    pids: list[int] = []
    running = asyncio.Event()
    on_loop(work)


def test_a_command_that_died_is_started_again() -> None:
    async def work(kept: KeptSessions, clock: Clock) -> None:
        pid = await pid_of(kept)
        os.kill(pid, 9)
        try:
            said = await say(kept, command(), "again")
        except UpstreamError:  # it was asked before anybody noticed
            said = await say(kept, command(), "again")
        assert said == "again"

    on_loop(work)


def test_no_repr_tells_of_credentials(target: Target) -> None:
    secret = replace(target, headers={"authorization": "s3cret"}, env={"KEY": "s3cret"})

    async def work(kept: KeptSessions, clock: Clock) -> None:
        async with kept.use("one", secret) as session:
            assert "s3cret" not in f"{kept!r} {session!r} {list(kept._kept.values())!r}"

    on_loop(work)
    assert json.dumps(secret.headers)


# --- Servers that want no connection ----------------------------------------------------------------------------------
DISCOVER = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}


def share(
    fake: FakeServer, work: Callable[[SharedSession], Coroutine[Any, Any, None]], discover: dict[str, Any] = DISCOVER
) -> None:
    async def run(url: str) -> None:
        target = Target(transport="streamable_http", url=url, era="modern", discover=discover, timeout=5.0, lane="one")
        async with keep_async_pool():
            await asyncio.wait_for(work(SharedSession(target)), 30)

    with serve(fake) as base:
        asyncio.run(run(f"{base}/mcp"))


async def say_shared(shared: SharedSession, text: str) -> Session:
    async with shared as session:
        assert (await session.call_tool("echo", {"text": text}))["content"][0]["text"] == text
    return session


def test_calls_share_a_session_that_costs_nothing() -> None:
    fake = modern_only_app()

    async def work(shared: SharedSession) -> None:
        sessions = [await say_shared(shared, "one"), await say_shared(shared, "two")]
        sessions += await asyncio.gather(*(say_shared(shared, str(number)) for number in range(5)))
        assert len(set(sessions)) == 1

    share(fake, work)
    assert fake.methods() == ["tools/call"] * 7


def test_what_a_server_wants_after_all_is_closed_with_the_last_call() -> None:
    fake = legacy_only_app()

    async def work(shared: SharedSession) -> None:
        sessions = await asyncio.gather(*(say_shared(shared, str(number)) for number in range(3)))
        assert shared._session is None and not any(session.is_free for session in sessions)
        assert (await say_shared(shared, "later")) not in sessions
        assert shared._session is None

    share(fake, work)
    assert fake.methods().count("server/discover") == 2  # the three found out together, and the later one again


def test_who_cannot_open_it_leaves_nothing_behind() -> None:
    async def work(shared: SharedSession) -> None:
        for _ in range(2):
            with pytest.raises(UpstreamError):
                await say_shared(shared, "lost")
            assert shared._users == 0

    share(broken_app("error_500"), work)


def test_a_server_that_went_back_an_era_is_found_out_in_the_same_call() -> None:
    fake = modern_and_legacy_app()

    async def work(shared: SharedSession) -> None:
        await say_shared(shared, "modern")
        fake.serve_instead(legacy_only(fake.app).app)
        await say_shared(shared, "legacy")
        await say_shared(shared, "again")

    share(fake, work)
    assert fake.calls().count("echo") >= 3


def test_the_first_callers_of_a_server_nobody_asked_yet_open_it_together() -> None:
    fake = modern_only_app()

    async def work(shared: SharedSession) -> None:
        sessions = await asyncio.gather(*(say_shared(shared, str(number)) for number in range(5)))
        assert len(set(sessions)) == 1

    share(fake, work, discover={})
    assert fake.methods().count("server/discover") == 1


@pytest.mark.parametrize(
    ("method", "params"),
    [("resources/read", {"uri": "https://x.test/?key=s3cret"}), ("tools/call", {"name": "n" * 200})],
)
def test_what_a_caller_made_up_is_not_remembered(method: str, params: dict[str, str]) -> None:
    before = stateless._known_name.cache_info().currsize
    assert stateless.routing_headers(method, params)["mcp-name"]
    assert stateless._known_name.cache_info().currsize == before
