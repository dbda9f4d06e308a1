"""Work that waits for somebody else does not hold up work that only asks the database."""

from __future__ import annotations

import threading

import anyio
import pytest

from aster.accounts.models import Organization
from aster.threads import in_db_thread, in_waiting_thread

pytestmark = pytest.mark.django_db(transaction=True)


def test_queries_go_on_while_many_wait_for_a_provider() -> None:
    Organization.objects.create(name="Acme", slug="acme")
    answered = threading.Event()

    async def run() -> int:
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(in_waiting_thread, answered.wait, 20)
            with anyio.fail_after(10):
                count = await in_db_thread(Organization.objects.count)
            answered.set()
        return count

    assert anyio.run(run) == 1


def test_callers_at_once_share_a_few_connections() -> None:
    seen: set[str] = set()

    def ask() -> None:
        Organization.objects.count()
        seen.add(threading.current_thread().name)

    async def run() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(in_db_thread, ask)

    anyio.run(run)
    assert len(seen) <= 8
