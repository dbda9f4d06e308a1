"""What is believed for a moment: how long, until what happens, and at what price."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from django.db import OperationalError, transaction

from aster import leases
from aster.accounts import audit
from aster.accounts.services import authenticate_keys, revoke_api_key
from aster.leases import Leased
from tests.conftest import Person

pytestmark = pytest.mark.django_db(transaction=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """What is read, and how often; `during` runs in the middle of a reading."""

    def __init__(self, **things: int) -> None:
        self.things = things
        self.asked: list[set[str]] = []
        self.during: Callable[[], object] = bool

    def read(self, wanted: Mapping[str, int | None]) -> dict[str, int]:
        self.asked.append(set(wanted))
        found = {key: self.things[key] for key in wanted if key in self.things}
        self.during()
        return found


def on_loop(work: Callable[[Leased[str, int], Shelf, Clock], Coroutine[Any, Any, None]], **things: int) -> Shelf:
    shelf, clock = Shelf(**things), Clock()

    async def run() -> None:
        leased: Leased[str, int] = Leased(shelf.read, clock)
        try:
            await work(leased, shelf, clock)
        finally:
            leased.close()

    asyncio.run(run())
    return shelf


def test_what_was_read_is_believed_for_nine_tenths_of_a_second() -> None:
    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        assert await leased.ask("a") == 1
        shelf.things["a"] = 2
        clock.now += 0.89
        assert (leased.get("a"), await leased.ask("a")) == (1, 1)
        clock.now += 0.02
        assert leased.get("a") is None
        assert (await leased.ask("a"), leased.get("a")) == (2, 2)

    assert len(on_loop(work, a=1).asked) == 2


def test_the_time_counts_from_the_beginning_of_the_reading() -> None:
    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        def slow() -> None:
            clock.now += 5

        shelf.during = slow
        assert await leased.ask("a") == 1
        assert leased.get("a") is None

    on_loop(work, a=1)


def test_what_is_missing_is_asked_for_each_time() -> None:
    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        assert await leased.ask("b") is None
        shelf.things["b"] = 5
        assert await leased.ask("b") == 5
        del shelf.things["b"]
        clock.now += 1
        assert (await leased.ask("b"), leased.get("b")) == (None, None)

    assert len(on_loop(work).asked) == 3


def test_a_change_in_this_process_counts_at_once() -> None:
    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        await leased.ask("a")
        shelf.things["a"] = 2
        leases.forget()
        assert leased.get("a") is None
        assert await leased.ask("a") == 2

    on_loop(work, a=1)


def test_a_reading_that_began_before_a_change_is_not_believed_after_it() -> None:
    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        def change() -> None:
            shelf.during = bool
            shelf.things["a"] = 2
            leases.forget()

        shelf.during = change
        assert await leased.ask("a") == 1  # asked before it
        assert leased.get("a") is None
        assert await leased.ask("a") == 2

    on_loop(work, a=1)


def test_a_slow_renewal_from_before_a_change_does_not_answer_who_asks_after_it() -> None:
    began, may_end = threading.Event(), threading.Event()

    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        def wait() -> None:
            shelf.during = bool
            began.set()
            may_end.wait(5)

        await leased.ask("a")
        shelf.during = wait
        renewing = asyncio.create_task(leased.renew())
        await asyncio.to_thread(began.wait, 5)
        shelf.things["a"] = 2
        leases.forget()

        def end_the_other() -> None:
            may_end.set()

        shelf.during = end_the_other
        assert await leased.ask("a") == 2
        await renewing
        assert leased.get("a") in (None, 2)
        assert await leased.ask("a") == 2

    on_loop(work, a=1)


def test_all_that_is_in_use_is_read_again_in_one_go_and_nothing_else() -> None:
    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        for key in "abc":
            await leased.ask(key)
        shelf.asked.clear()
        shelf.things["a"] = 7
        clock.now += 0.4
        await leased.renew()
        assert shelf.asked == [{"a", "b", "c"}]
        clock.now += 0.8
        assert [leased.get(key) for key in "abc"] == [7, 2, 3]
        # Fifteen seconds after its last use nobody reads it any more.
        clock.now += 14.5
        await leased.renew()
        leased.get("a")
        clock.now += 0.8
        await leased.renew()
        assert shelf.asked[1:] == [{"a", "b", "c"}, {"a"}]

    on_loop(work, a=1, b=2, c=3)


def test_of_very_many_the_last_used_ones_are_kept() -> None:
    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        await asyncio.gather(*map(leased.ask, shelf.things))
        clock.now += 0.1
        last = [f"k{n}" for n in range(1000, 2050)]
        assert all(leased.get(key) is not None for key in last)
        await leased.renew()
        assert len(shelf.asked[-1]) == leases.MOST_KEPT
        assert set(last) <= shelf.asked[-1]

    on_loop(work, **{f"k{n}": n for n in range(2050)})


def test_while_the_database_is_away_leases_run_out_and_who_asks_hears_why() -> None:
    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        def away() -> None:
            raise OperationalError("away")

        await leased.ask("a")
        shelf.during = away
        clock.now += 0.4
        await leased.renew()
        assert leased.get("a") == 1
        clock.now += 0.6
        with pytest.raises(OperationalError):
            await leased.ask("a")
        shelf.during = bool
        assert await leased.ask("a") == 1

    on_loop(work, a=1)


def test_many_who_miss_something_at_once_are_one_or_two_readings() -> None:
    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        found = await asyncio.gather(*(leased.ask(key) for _ in range(100) for key in "abx"))
        assert found == [1, 2, None] * 100

    assert len(on_loop(work, a=1, b=2).asked) <= 2


# --- What makes this process forget ----------------------------------------------------------------------------------
def test_an_audited_change_counts_after_its_commit_and_not_after_a_rollback(alice: Person) -> None:
    async def work(leased: Leased[str, int], shelf: Shelf, clock: Clock) -> None:
        await leased.ask("a")
        await asyncio.to_thread(rolled_back, leased)
        assert leased.get("a") == 1
        await asyncio.to_thread(committed, leased)
        assert leased.get("a") is None

    def rolled_back(leased: Leased[str, int]) -> None:
        with pytest.raises(RuntimeError), transaction.atomic():
            audit.record(alice.actor, "changed", alice.organization)
            raise RuntimeError

    def committed(leased: Leased[str, int]) -> None:
        with transaction.atomic():
            audit.record(alice.actor, "changed", alice.organization)
            assert leased.get("a") == 1, "nothing has changed before the commit"

    on_loop(work, a=1)


def test_a_revoked_key_opens_nothing_at_once_and_one_changed_elsewhere_within_a_second(alice: Person) -> None:
    text, other, clock = alice.key(), alice.key(), Clock()

    async def run() -> None:
        callers = Leased(lambda texts: authenticate_keys(texts.keys(), via="gateway"), clock)
        assert await callers.ask(text) and await callers.ask(other)
        await asyncio.to_thread(revoke)
        assert await callers.ask(text) is None
        assert await callers.ask(other)
        await asyncio.to_thread(lambda: alice.user.api_keys.update(revoked_at="2020-01-01T00:00:00Z"))
        clock.now += 0.91
        assert await callers.ask(other) is None
        callers.close()

    def revoke() -> None:
        key = alice.user.api_keys.order_by("pk")[0]
        revoke_api_key(key, actor=alice.actor)

    asyncio.run(run())
