"""Configurations on PostgreSQL, and what only a database server lets happen: two who apply at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Barrier

import pytest

from aster.accounts.models import AuditEvent
from aster.configuration.apply import apply, preview
from aster.configuration.document import parse
from aster.errors import Conflict
from integrations.models import AuthConfig, McpServer
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.databases import MakeDatabase, environment_of_children, postgresql
from tests.integrations.grants import Crew, crew

__all__ = ["crew", "postgresql"]

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

HERE = Path(__file__)
ON_POSTGRESQL = os.environ.get("DATABASE_URL", "").startswith("postgres")
FILE = """version: 1
auth_configs: {Key: {auth_type: BEARER, token: env:K}}
servers:
  one: {url: "https://93.184.216.34/mcp", auth_config: Key}
  two: {url: "https://93.184.216.34/mcp", timeout_seconds: NUMBER}
agents: {helper: {servers: [one, two], disabled_tools: {one: [drop]}, approvals: {two: {send: admin}}}}
"""


@pytest.mark.skipif(ON_POSTGRESQL, reason="this is the run on PostgreSQL")
@pytest.mark.timeout(240)
def test_configurations_are_applied_on_postgresql(postgresql: MakeDatabase) -> None:
    files = [str(HERE.with_name(f"test_{name}.py")) for name in ("apply", "round_trip", "on_postgresql")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env=environment_of_children(DATABASE_URL=postgresql("configuration")),
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_of_two_who_apply_at_once_one_stores_all_of_it_and_the_other_nothing(alice: Person, crew: Crew) -> None:
    both = [parse(FILE.replace("NUMBER", str(seconds)), {"K": "v"}) for seconds in (11, 22)]
    plans = [preview(document, actor=alice.actor) for document in both]
    at_once = Barrier(2)

    def work(number: int) -> str:
        at_once.wait(20)
        try:
            apply(both[number], actor=alice.actor, expected=plans[number])
        except Conflict as refusal:
            return refusal.code
        return "stored"

    results = [done() for done in [crew.start(work, number) for number in (0, 1)]]
    assert sorted(results) == ["stale_plan", "stored"]
    assert McpServer.objects.get(slug="two").timeout_seconds == (11, 22)[results.index("stored")]
    assert (McpServer.objects.count(), AuthConfig.objects.count()) == (2, 1)
    assert AuditEvent.objects.filter(object_type="mcpserver", action="created").count() == 2


def test_whoever_saves_while_a_file_is_applied_loses_nothing(alice: Person, crew: Crew) -> None:
    """Saving waits for the applying, or comes before it, and then the plan is stale: never half of each."""
    apply(
        first := parse(FILE.replace("NUMBER", "11"), {"K": "v"}),
        actor=alice.actor,
        expected=preview(first, actor=alice.actor),
    )
    document = parse(FILE.replace("NUMBER", "22"), {"K": "v"})
    shown = preview(document, actor=alice.actor)
    at_once = Barrier(2)

    def carry_out() -> bool:
        at_once.wait(20)
        try:
            apply(document, actor=alice.actor, expected=shown)
        except Conflict:
            return False
        return True

    def save() -> None:
        server = McpServer.objects.get(slug="two")
        server.description, server.timeout_seconds = "By hand", 33
        at_once.wait(20)
        save_server(server, actor=alice.actor)

    applied, saved = crew.start(carry_out), crew.start(save)
    was_applied = applied()
    saved()
    two = McpServer.objects.get(slug="two")
    assert two.description == "By hand"
    # By hand is the last word if the file came first; if it came second, it was planned for something else and refused.
    assert two.timeout_seconds == 33 or not was_applied
