"""Database work of many at once, done in groups."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aster.threads import Grouped

pytestmark = pytest.mark.django_db(transaction=True)  # the threads look after their connections


def test_what_waits_while_a_group_is_worked_on_is_the_next_group() -> None:
    groups: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def double(items: list[int]) -> list[int]:
        groups.append(items)
        begun.set()
        assert go_on.wait(5)
        return [item * 2 for item in items]

    async def run() -> list[int]:
        grouped = Grouped(double)
        first = asyncio.create_task(grouped(1))
        while not begun.is_set():
            await asyncio.sleep(0)
        rest = [asyncio.create_task(grouped(n)) for n in (2, 3, 4)]
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(first, *rest)

    assert asyncio.run(run()) == [2, 4, 6, 8]
    assert groups == [[1], [2, 3, 4]]


def test_what_fails_fails_its_group_and_not_the_next() -> None:
    def refuse(items: list[str]) -> list[str]:
        if "bad" in items:
            raise ValueError("bad")
        return items

    async def run() -> list[object]:
        grouped = Grouped(refuse)
        failed = await asyncio.gather(grouped("good"), grouped("bad"), return_exceptions=True)
        return [*failed, await grouped("good")]

    first, second, third = asyncio.run(run())
    assert isinstance(first, ValueError)
    assert isinstance(second, ValueError)
    assert third == "good"


def test_who_gives_up_does_not_stop_the_work() -> None:
    done: list[int] = []
    go_on = threading.Event()

    def slowly(items: list[int]) -> list[int]:
        assert go_on.wait(5)
        done.extend(items)
        return items

    async def run() -> None:
        grouped = Grouped(slowly)
        impatient, patient = asyncio.create_task(grouped(1)), asyncio.create_task(grouped(2))
        await asyncio.sleep(0)
        impatient.cancel()
        go_on.set()
        assert await patient == 2
        with pytest.raises(asyncio.CancelledError):
            await impatient

    asyncio.run(run())
    assert done == [1, 2]


def test_what_waits_when_the_loop_ends_is_done_all_the_same() -> None:
    """Aster is stopped while calls are being recorded: their rows are stored."""
    groups: list[list[int]] = []
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def store(items: list[int]) -> list[int]:
        begun.set()
        assert go_on.wait(5)
        groups.append(items)
        if len(groups) == 2:
            done.set()
        return items

    async def run() -> None:
        grouped = Grouped(store)
        tasks = [asyncio.create_task(grouped(1))]
        while not begun.is_set():
            await asyncio.sleep(0)
        tasks += [asyncio.create_task(grouped(n)) for n in (2, 3)]
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        go_on.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in ended] == [asyncio.CancelledError] * 3

    asyncio.run(run())
    assert done.wait(5)
    assert sorted(groups) == [[1], [2, 3]]
