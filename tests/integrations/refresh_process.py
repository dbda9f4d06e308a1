"""A process that forks at a word from the tests: each child refreshes grants like a server of its own, or dies at it.

Lines in: `storm ROUNDS PK…`, `refresh PK`, `die_claimed PK`, `die_answered PK` and `die_stored PK` start a child and
answer with its pid; `wait PID` answers with how it ended.
"""

from __future__ import annotations

import os
import random
import signal
import sys

import django

django.setup()

from integrations.models import Connection  # noqa: E402
from integrations.services import grants, refresh  # noqa: E402


def storm(rounds: int, pks: list[int]) -> None:
    """Ask for a token of every grant, over and over, in an order of one's own."""
    for _ in range(rounds):
        for pk in random.sample(pks, len(pks)):
            assert refresh.fresh_access_token(Connection.objects.get(pk=pk))


def die(step: str, pk: int) -> None:
    """Go through a refresh as the service does, up to a step, and be killed there."""
    connection = Connection.objects.select_related("auth_config").get(pk=pk)
    assert refresh.claim_connection(connection)
    if step != "die_claimed":
        answer = grants.request_token(connection.auth_config, connection)
    if step == "die_stored":
        refresh.store_refreshed(connection, answer)
    os.kill(os.getpid(), signal.SIGKILL)


def work(command: str, numbers: list[int]) -> None:
    if command == "storm":
        storm(numbers[0], numbers[1:])
    elif command == "refresh":
        refresh.fresh_access_token(Connection.objects.get(pk=numbers[0]))
    else:
        die(command, numbers[0])


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        command, *rest = line.split()
        numbers = [int(part) for part in rest]
        if command == "wait":
            answer(os.waitstatus_to_exitcode(os.waitpid(numbers[0], 0)[1]))
            continue
        pid = os.fork()
        if pid == 0:
            try:
                work(command, numbers)
            except BaseException as error:
                sys.stderr.write(f"{command}: {error!r}\n")
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        answer(pid)


if __name__ == "__main__":
    main()
