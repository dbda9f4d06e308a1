"""Real processes on one database: no grant is refreshed twice, and a killed one loses only what nobody could keep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from aster.demo.authorization_server import AuthorizationServer
from integrations.models import Connection
from tests.conftest import Person
from tests.databases import environment_of_children
from tests.integrations.grants import (
    Desk,
    Gate,
    desk,
    is_live,
    let_lease_run_out,
    provider,
    reread,
    wait_until_answered,
)

__all__ = ["desk", "provider"]

pytestmark = pytest.mark.django_db(transaction=True)

KILLED = -signal.SIGKILL
STEPS = ("unclaimed", "claimed", "answered", "storing", "stored")
WAYS = ("calls", "background")
# As many as the background asks for at once before the first answer.
GRANTS = 6


class Processes:
    """Starts children of `refresh_process.py`, which has Django loaded already."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.integrations.refresh_process"],
            env=environment_of_children(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *command: object) -> int:
        """Returns the pid."""
        return self._say(*command)

    def end(self, pid: int) -> int:
        """Wait for a child; 0 is success, a negative number the signal that killed it."""
        return self._say("wait", pid)

    def run_all(self, *commands: Sequence[object]) -> list[int]:
        """Run them at once; how each of them ended."""
        return [self.end(pid) for pid in [self.start(*command) for command in commands]]

    def stop(self) -> None:
        self._parent.communicate(timeout=10)

    def _say(self, *words: object) -> int:
        assert self._parent.stdin and self._parent.stdout
        self._parent.stdin.write(" ".join(map(str, words)) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())


@pytest.fixture(scope="module")
def processes(django_db_setup: None) -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.stop()


@pytest.fixture
def connection(desk: Desk, alice: Person) -> Connection:
    return desk.connect(alice)


@pytest.fixture
def grants(desk: Desk, alice: Person) -> list[Connection]:
    return [desk.connect(alice) for _ in range(GRANTS)]


def test_eight_processes_refresh_each_generation_once_and_lose_no_grant(
    grants: list[Connection], provider: AuthorizationServer, processes: Processes
) -> None:
    provider.access_token_seconds = 5  # never fresh enough, so that every call wants a refresh
    storms = [("storm", 2, *(grant.pk for grant in grants))] * 6
    assert processes.run_all(*storms, ["background"], ["background"]) == [0] * 8

    asked = provider.token_requests
    assert [request.error for request in asked if request.status != 200] == []
    assert len({request.refresh_token_id for request in asked}) == len(asked)
    after = [reread(grant) for grant in grants]
    assert sum(grant.generation - 1 for grant in after) == len(asked) >= 2 * len(grants)
    assert all(is_live(provider, grant) and grant.status == "connected" for grant in after)


def test_eight_processes_that_meet_at_an_expired_token_cost_one_request(
    connection: Connection, provider: AuthorizationServer, processes: Processes
) -> None:
    provider.token_delay = 0.3
    assert processes.run_all(*[("calls", connection.pk)] * 6, ["background"], ["background"]) == [0] * 8
    assert [request.status for request in provider.token_requests] == [200]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_a_process_loses_only_answers_it_had_not_stored_and_they_are_reported(
    step: str, way: str, grants: list[Connection], provider: AuthorizationServer, processes: Processes
) -> None:
    victim = processes.start("killed", step, *doing(way, grants[:1]))
    if way == "background" and step not in ("unclaimed", "claimed"):
        let_all_ask_first(provider, GRANTS)
    assert processes.end(victim) == KILLED
    wait_until_answered(provider)

    lost = answers_nobody_stored(grants, provider)
    assert bool(lost) == (step in ("answered", "storing")) or (step == "stored" and way == "background")
    held = [reread(grant) for grant in grants if reread(grant).claim]
    assert bool(held) == (step != "unclaimed" and (step != "stored" or bool(lost)))
    survivors_lose_only(lost, grants, provider, processes)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answers", [True, False])
def test_killed_while_the_provider_thinks_it_loses_what_the_provider_then_answers(
    answers: bool, way: str, grants: list[Connection], provider: AuthorizationServer, processes: Processes
) -> None:
    asked_for = grants if way == "background" else grants[:1]
    kill_while_asking(doing(way, asked_for), len(asked_for), provider, processes, answers=answers)
    lost = answers_nobody_stored(grants, provider)
    assert lost == ({grant.pk for grant in asked_for} if answers else set())
    survivors_lose_only(lost, grants, provider, processes)


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_lost_in_flight_from_a_provider_that_does_not_rotate_costs_nothing(
    way: str, grants: list[Connection], provider: AuthorizationServer, processes: Processes
) -> None:
    provider.rotate_refresh_tokens = False
    asked_for = grants if way == "background" else grants[:1]
    kill_while_asking(doing(way, asked_for), len(asked_for), provider, processes, answers=True)
    survivors_lose_only(set(), grants, provider, processes)


def doing(way: str, grants: list[Connection]) -> list[object]:
    return [way, *(grant.pk for grant in grants)] if way == "calls" else [way]


def let_all_ask_first(provider: AuthorizationServer, count: int) -> None:
    """Answer when all have arrived: the background has the answer to each of them still before it."""
    provider.before_token = gate = Gate()
    for _ in range(count):
        gate.await_request()
    gate.let_through(count)
    provider.before_token = None


def kill_while_asking(
    work: list[object], count: int, provider: AuthorizationServer, processes: Processes, *, answers: bool
) -> None:
    provider.before_token = gate = Gate()
    if not answers:
        provider.fail_next_token(503, "shutting down", times=count)
    pid = processes.start(*work)
    for _ in range(count):
        gate.await_request()
    os.kill(pid, signal.SIGKILL)
    assert processes.end(pid) == KILLED
    provider.before_token = None
    gate.let_through(count)
    wait_until_answered(provider)


def answers_nobody_stored(grants: list[Connection], provider: AuthorizationServer) -> set[int]:
    """The grants whose refresh token is spent at the provider, while the database has no newer one."""
    return {
        grant.pk
        for grant in map(reread, grants)
        if provider.ledger.peek_refresh_token(grant.refresh_token) is None and grant.generation == 1
    }


def survivors_lose_only(
    lost: set[int], grants: list[Connection], provider: AuthorizationServer, processes: Processes
) -> None:
    """Seven go on when the leases have run out: everything is renewed but `lost`, and of these the ledger tells."""
    before = len(provider.token_requests)
    renewed = {grant.pk for grant in map(reread, grants) if grant.generation == 2}
    for grant in grants:
        if reread(grant).claim:
            let_lease_run_out(grant)
    calls = ("calls", *(grant.pk for grant in grants))
    assert processes.run_all(*[calls] * 4, *[["background"]] * 3) == [0] * 7

    for grant in map(reread, grants):
        if grant.pk not in lost:
            assert (grant.status, grant.generation, grant.claim) == ("connected", 2, None)
            assert is_live(provider, grant)
            continue
        assert (grant.status, grant.generation) == ("connection_error", 1)
        assert "answer to an earlier renewal never arrived" in grant.last_error
        assert grant.attempts.filter(outcome__in=("abandoned", "unanswered"), generation=1).exists()
    asked = provider.token_requests[before:]
    assert [request.error for request in asked if request.status != 200] == ["invalid_grant"] * len(lost)
    assert len(asked) == len(grants) - len(renewed), "each of the rest is asked for once"
