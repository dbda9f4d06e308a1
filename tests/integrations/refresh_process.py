"""A process that forks at a word from the tests: each child renews grants like a server of its own, or is killed at it.

Lines in: `storm ROUNDS PK…`, `calls PK…` (one call for each grant, whatever comes of it), `background` (a whole run of
the background refresh), and `killed STEP` before one of these; each starts a child and answers with its pid. `wait PID`
answers with how the child ended.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import django

django.setup()

from django.db.backends.signals import connection_created  # noqa: E402

from aster.errors import ConnectionRequired  # noqa: E402
from integrations.models import Connection  # noqa: E402
from integrations.services import refresh  # noqa: E402
from integrations.services.refresh_many import refresh_due  # noqa: E402


def storm(rounds: int, *pks: int) -> None:
    """Ask for a token of every grant, over and over, in an order of one's own."""
    for _ in range(rounds):
        for pk in random.sample(pks, len(pks)):
            assert refresh.fresh_access_token(Connection.objects.get(pk=pk))


def calls(*pks: int) -> None:
    for pk in random.sample(pks, len(pks)):
        with suppress(ConnectionRequired):  # what nobody can renew any more
            refresh.fresh_access_token(Connection.objects.get(pk=pk))


def background() -> None:
    refresh_due()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killed:
    """Kills this process at a step of its first refresh, as seen from outside: by what it tells database and network.

    `unclaimed`: about to claim. `claimed`: about to connect to the provider. `answered`: about to store the answer.
    `storing`: the grant is written, its ledger is not, nothing is committed. `stored`: committed.
    """

    def __init__(self, step: str) -> None:
        self._step = step
        self._wrote_ledger = False
        if step == "claimed":
            sys.addaudithook(self._watch_network)
        connection_created.connect(self._watch_database, weak=False)

    def _watch_network(self, event: str, _arguments: object) -> None:
        if event == "socket.connect":
            die()

    def _watch_database(self, connection: Any, **_signal: object) -> None:
        connection.execute_wrappers.append(self._execute)

    def _execute(self, execute: Callable[..., object], sql: str, params: object, many: bool, context: object) -> object:
        if self._step == self._step_before(sql):
            die()
        self._wrote_ledger |= sql.startswith('INSERT INTO "integrations_refreshattempt"')
        return execute(sql, params, many, context)

    def _step_before(self, sql: str) -> str:
        if sql.startswith('INSERT INTO "integrations_refreshattempt"'):
            return "storing"
        if self._wrote_ledger and "SAVEPOINT" not in sql:
            return "stored"
        if sql.startswith('UPDATE "integrations_connection"'):
            return "answered" if '"access_token" =' in sql else "unclaimed" if '"claimed_by" =' in sql else ""
        return ""


WORK: dict[str, Callable[..., None]] = {"storm": storm, "calls": calls, "background": background}


def work(command: str, *rest: str) -> None:
    if command == "killed":
        step, command, *rest = rest  # type: ignore[assignment]
        Killed(step)
    WORK[command](*map(int, rest))


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        command, *rest = line.split()
        if command == "wait":
            answer(os.waitstatus_to_exitcode(os.waitpid(int(rest[0]), 0)[1]))
            continue
        pid = os.fork()
        if pid == 0:
            try:
                work(command, *rest)
            except BaseException as error:
                sys.stderr.write(f"{line.strip()}: {error!r}\n")
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        answer(pid)


if __name__ == "__main__":
    main()
