"""Real processes on one database: no grant is refreshed twice, and a killed one loses only what nobody could keep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aster.demo.authorization_server import AuthorizationServer
from aster.errors import ConnectionRequired
from integrations.models import Connection
from integrations.services.refresh import fresh_access_token
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

    def start(self, command: str, *numbers: int) -> int:
        """Returns the pid."""
        return self._say(command, *numbers)

    def end(self, pid: int) -> int:
        """Wait for a child; 0 is success, a negative number the signal that killed it."""
        return self._say("wait", pid)

    def run(self, command: str, *numbers: int) -> int:
        return self.end(self.start(command, *numbers))

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


def test_six_processes_refresh_each_generation_once_and_lose_no_grant(
    desk: Desk, alice: Person, provider: AuthorizationServer, processes: Processes
) -> None:
    provider.access_token_seconds = 5  # never fresh enough, so that every call wants a refresh
    grants = [desk.connect(alice) for _ in range(4)]
    pids = [processes.start("storm", 2, *(grant.pk for grant in grants)) for _ in range(6)]
    assert [processes.end(pid) for pid in pids] == [0] * 6

    asked = provider.token_requests
    assert [request.error for request in asked if request.status != 200] == []
    assert len({request.refresh_token_id for request in asked}) == len(asked)
    after = [reread(grant) for grant in grants]
    assert sum(grant.generation - 1 for grant in after) == len(asked) >= 2 * len(grants)
    assert all(is_live(provider, grant) and grant.status == "connected" for grant in after)


def test_six_processes_that_meet_at_an_expired_token_cost_one_request(
    connection: Connection, provider: AuthorizationServer, processes: Processes
) -> None:
    provider.token_delay = 0.3
    pids = [processes.start("refresh", connection.pk) for _ in range(6)]
    assert [processes.end(pid) for pid in pids] == [0] * 6
    assert len(provider.token_requests) == 1


def test_killed_with_the_claim_taken_the_grant_is_renewed_by_another_when_the_lease_is_over(
    connection: Connection, provider: AuthorizationServer, processes: Processes
) -> None:
    assert processes.run("die_claimed", connection.pk) == KILLED
    assert reread(connection).claim is not None
    assert provider.lookup(fresh_access_token(let_lease_run_out(connection)))
    assert [request.status for request in provider.token_requests] == [200]


def kill_while_asking(connection: Connection, provider: AuthorizationServer, processes: Processes, gate: Gate) -> None:
    provider.before_token = gate
    pid = processes.start("refresh", connection.pk)
    gate.await_request()
    os.kill(pid, signal.SIGKILL)
    assert processes.end(pid) == KILLED
    provider.before_token = None


def test_killed_before_the_provider_handled_the_request_the_grant_is_renewed_by_another(
    connection: Connection, provider: AuthorizationServer, processes: Processes
) -> None:
    gate = Gate()
    provider.fail_next_token(503, "shutting down")
    kill_while_asking(connection, provider, processes, gate)
    gate.let_through()
    wait_until_answered(provider)
    assert provider.lookup(fresh_access_token(let_lease_run_out(connection)))
    assert reread(connection).generation == 2


def test_an_answer_lost_in_flight_from_a_provider_that_does_not_rotate_costs_nothing(
    connection: Connection, provider: AuthorizationServer, processes: Processes
) -> None:
    gate = Gate()
    provider.rotate_refresh_tokens = False
    kill_while_asking(connection, provider, processes, gate)
    gate.let_through()
    wait_until_answered(provider)
    assert provider.lookup(fresh_access_token(let_lease_run_out(connection)))


def test_an_answer_lost_in_flight_from_a_provider_that_rotates_is_reported(
    connection: Connection, provider: AuthorizationServer, processes: Processes
) -> None:
    gate = Gate()
    kill_while_asking(connection, provider, processes, gate)
    gate.let_through()
    wait_until_answered(provider)
    assert reports_connection_error(connection)


def test_killed_with_the_answer_in_hand_is_reported_the_same_way(connection: Connection, processes: Processes) -> None:
    assert processes.run("die_answered", connection.pk) == KILLED
    assert reports_connection_error(connection)


def test_killed_after_storing_nothing_is_missing(
    connection: Connection, provider: AuthorizationServer, processes: Processes
) -> None:
    assert processes.run("die_stored", connection.pk) == KILLED
    after = reread(connection)
    assert (after.generation, after.claim) == (2, None)
    assert fresh_access_token(after) == after.access_token
    assert is_live(provider, after)
    assert len(provider.token_requests) == 1


def reports_connection_error(connection: Connection) -> bool:
    before = let_lease_run_out(connection)
    assert (before.status, before.generation) == ("connected", 1)
    with pytest.raises(ConnectionRequired):
        fresh_access_token(before)
    after = reread(connection)
    return after.status == "connection_error" and "already used" in after.last_error
