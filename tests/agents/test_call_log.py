"""The record of calls, written behind: when rows are stored, who waits, and what costs none."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError
from pytest_django.fixtures import Settings

from agents.models import Agent, ToolCall
from agents.services import calls
from agents.services.agents import save_agent
from agents.services.call_log import LOSABLE_SECONDS, CallLog, Row
from aster.threads import in_db_thread
from tests.conftest import Person

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _behind(settings: Settings) -> None:
    settings.ASTER_CALLS_WRITTEN_THROUGH = False


def row_of(person: Person, name: str, agent: Agent | None = None) -> Row:
    return partial(calls.call_row, actor=person.actor, tool_name=name, outcome="ok", duration_ms=1, agent=agent)


def on_loop(work: Callable[[CallLog], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        log = CallLog()
        try:
            await asyncio.wait_for(work(log), 20)
        finally:
            await log.aclose()

    asyncio.run(run())


def stored() -> list[str]:
    return list(ToolCall.objects.order_by("pk").values_list("tool_name", flat=True))


class Storing:
    """A row whose storing takes until `may_end`; `began` says that it has begun."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.began, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> calls.CallRow:
        self.began.set()
        self.may_end.wait(10)
        return self.row()


def test_a_call_does_not_wait_and_its_row_is_there_within_a_quarter_of_a_second(bob: Person) -> None:
    async def work(log: CallLog) -> None:
        first = Storing(row_of(bob, "one"))
        first.may_end.set()
        began = time.monotonic()
        await log.note(first)
        assert not first.began.is_set(), "the call has its answer first"
        assert await asyncio.to_thread(first.began.wait, 5)
        assert time.monotonic() - began < LOSABLE_SECONDS

    on_loop(work)
    assert stored() == ["one"]


def test_all_that_waits_is_stored_in_order_before_the_end(bob: Person) -> None:
    async def work(log: CallLog) -> None:
        for n in range(1200):
            await log.note(row_of(bob, str(n)))

    on_loop(work)
    assert stored() == [str(n) for n in range(1200)]


def test_what_is_noted_while_the_end_is_near_is_stored_too(bob: Person) -> None:
    async def work(log: CallLog) -> None:
        slow = Storing(row_of(bob, "slow"))
        await log.note(slow)
        ending = asyncio.create_task(log.aclose())
        await asyncio.to_thread(slow.began.wait, 5)
        await log.note(row_of(bob, "late"))
        slow.may_end.set()
        await ending

    on_loop(work)
    assert stored() == ["slow", "late"]


def test_written_through_the_row_is_there_before_the_answer(bob: Person, settings: Settings) -> None:
    settings.ASTER_CALLS_WRITTEN_THROUGH = True

    async def work(log: CallLog) -> None:
        for n in range(3):
            await log.note(row_of(bob, str(n)))
            assert len(await in_db_thread(stored)) == n + 1

    on_loop(work)


def test_calls_wait_while_storing_lags_behind(bob: Person) -> None:
    async def work(log: CallLog) -> None:
        slow = Storing(row_of(bob, "slow"))
        await log.note(slow)
        await asyncio.to_thread(slow.began.wait, 5)
        await asyncio.wait_for(log.note(row_of(bob, "early")), 1)
        lagging = time.monotonic() + LOSABLE_SECONDS
        while time.monotonic() < lagging:
            await asyncio.to_thread(threading.Event().wait, 0.01)
        # Although the one before it has waited for no time at all: what is being stored is not stored yet.
        waiting = asyncio.create_task(log.note(row_of(bob, "late")))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        slow.may_end.set()
        await waiting
        assert "late" in await in_db_thread(stored)

    on_loop(work)
    assert stored() == ["slow", "early", "late"]


def test_a_call_that_is_given_up_while_it_waits_keeps_its_row(bob: Person, settings: Settings) -> None:
    settings.ASTER_CALLS_WRITTEN_THROUGH = True

    async def work(log: CallLog) -> None:
        slow = Storing(row_of(bob, "slow"))
        waiting = asyncio.create_task(log.note(slow))
        await asyncio.to_thread(slow.began.wait, 5)
        waiting.cancel()
        await asyncio.wait({waiting})
        slow.may_end.set()

    on_loop(work)
    assert stored() == ["slow"]


def test_an_agent_deleted_meanwhile_costs_no_row(alice: Person) -> None:
    agent = save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[])

    async def work(log: CallLog) -> None:
        await log.note(row_of(alice, "one", agent))
        await log.note(row_of(alice, "two"))
        await in_db_thread(Agent.objects.all().delete)

    on_loop(work)
    assert stored() == ["one", "two"]
    assert not ToolCall.objects.exclude(agent=None).exists()


def test_an_organization_deleted_meanwhile_costs_the_others_no_row_and_doubles_none(
    alice: Person, charlie: Person
) -> None:
    rows = [row_of(alice, "first"), row_of(charlie, "gone"), row_of(alice, "last")]

    async def work(log: CallLog) -> None:
        await in_db_thread(charlie.organization.delete)
        for row in rows:
            await log.note(row)

    on_loop(work)
    assert stored() == ["first", "last"]


def test_while_the_database_is_away_nothing_is_lost_and_calls_wait(bob: Person) -> None:
    tries, back = threading.Semaphore(0), threading.Event()

    def away() -> ToolCall:
        tries.release()
        if not back.is_set():
            raise OperationalError("away")
        return row_of(bob, "one")()

    async def work(log: CallLog) -> None:
        await log.note(away)
        assert await asyncio.to_thread(tries.acquire, timeout=5)
        assert await asyncio.to_thread(tries.acquire, timeout=5), "it is tried again"
        waiting = asyncio.create_task(log.note(row_of(bob, "two")))
        done, _ = await asyncio.wait({waiting}, timeout=0.1)
        assert not done
        back.set()
        await waiting
        assert await in_db_thread(stored) == ["one", "two"]

    on_loop(work)


def test_one_row_that_cannot_be_stored_costs_no_other(bob: Person, caplog: pytest.LogCaptureFixture) -> None:
    def poison() -> ToolCall:
        raise ValueError("a bug")

    async def work(log: CallLog) -> None:
        for row in (row_of(bob, "one"), poison, row_of(bob, "two")):
            await log.note(row)

    on_loop(work)
    assert stored() == ["one", "two"]
    assert "A call could not be recorded" in caplog.text
