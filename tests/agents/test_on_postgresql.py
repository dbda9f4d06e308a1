"""Turns on PostgreSQL, and what only a database server lets happen: two admins who press switches at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Barrier

import pytest

from agents.models import Agent
from agents.services.agents import save_agent, switch_tools, tools_switched_off
from integrations.models import McpServer, Tool
from tests.conftest import Person
from tests.databases import MakeDatabase, environment_of_children, postgresql
from tests.integrations.grants import Crew, crew

__all__ = ["crew", "postgresql"]

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

HERE = Path(__file__)
ON_POSTGRESQL = os.environ.get("DATABASE_URL", "").startswith("postgres")


@pytest.mark.skipif(ON_POSTGRESQL, reason="this is the run on PostgreSQL")
@pytest.mark.timeout(240)
def test_turns_and_switches_work_on_postgresql(postgresql: MakeDatabase) -> None:
    at_once = "test_retention.py::test_two_workers_at_once_delete_and_count_each_row_once"
    others = ("test_session.py", at_once)
    files = [str(HERE), *(str(HERE.with_name(name)) for name in others)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env=environment_of_children(DATABASE_URL=postgresql("agents")),
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.skipif(not ON_POSTGRESQL, reason="runs within the run on PostgreSQL")
def test_switches_pressed_at_once_are_all_stored(alice: Person, crew: Crew) -> None:
    server = McpServer.objects.create(organization=alice.organization, name="Crm", slug="crm", url="https://x.test/mcp")
    for name in ("one", "two", "three"):
        Tool.objects.create(server=server, name=name, definition={"name": name})
    agent = save_agent(Agent(name="A"), actor=alice.actor, server_ids=[server.pk])
    at_once = Barrier(8)

    def press(number: int) -> None:
        for turn in range(12):
            at_once.wait(20)
            switch_tools(
                agent, server, off=["one", "two"] if (number + turn) % 2 else ["two", "three"], actor=alice.actor
            )

    for done in [crew.start(press, number) for number in range(8)]:
        done()
    assert {name for _pk, name in tools_switched_off(agent)} in ({"one", "two"}, {"two", "three"})
