"""Two changes of people at the same moment, on SQLite and on a PostgreSQL, where they really overlap."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from django.db import connections

from aster.accounts import services
from aster.accounts.models import Membership, Role, User
from aster.errors import Conflict
from tests.conftest import Person
from tests.databases import MakeDatabase, environment_of_children, postgresql

__all__ = ["postgresql"]

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = range(5)


def at_once(*changes: Callable[[], object]) -> list[object]:
    """What each change returned, or the Conflict it ended in; all start together, as processes of their own would."""
    start = Barrier(len(changes))

    def run(change: Callable[[], object]) -> object:
        try:
            start.wait(10)
            return change()
        except Conflict as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(changes)) as threads:
        return list(threads.map(run, changes))


def adding(email: str, person: Person) -> Callable[[], object]:
    return lambda: services.add_member(email, Role.MEMBER, actor=person.actor)


def successes(results: list[object]) -> int:
    return sum(not isinstance(result, Conflict) for result in results)


def test_of_two_organizations_that_add_the_same_person_one_gets_the_link(alice: Person, charlie: Person) -> None:
    for number in ROUNDS:
        User.objects.create_user(f"p{number}@new.test", "left-another-organization")
        results = at_once(*(adding(f"p{number}@new.test", admin) for admin in (alice, charlie, alice, charlie)))
        assert successes(results) == 1
        assert Membership.objects.filter(user__email=f"p{number}@new.test").count() == 1


def test_two_admins_who_add_the_same_newcomer_make_one_member(alice: Person) -> None:
    for number in ROUNDS:
        assert successes(at_once(*[adding(f"n{number}@new.test", alice)] * 4)) == 1
        assert Membership.objects.filter(user__email=f"n{number}@new.test").count() == 1


def test_two_admins_who_demote_each_other_leave_one_admin(alice: Person, bob: Person) -> None:
    for _ in ROUNDS:
        Membership.objects.update(role=Role.ADMIN)
        rows = [Membership.objects.get(user=each.user) for each in (alice, bob)]
        demotions = [lambda row=row: services.change_role(row, Role.MEMBER, actor=alice.actor) for row in rows]
        assert successes(at_once(*demotions)) == 1
        assert Membership.objects.filter(role=Role.ADMIN).count() == 1


@pytest.mark.postgresql
@pytest.mark.timeout(240)
@pytest.mark.skipif(os.environ.get("DATABASE_URL", "").startswith("postgres"), reason="this is the run on PostgreSQL")
def test_the_same_on_postgresql(postgresql: MakeDatabase) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "tests/aster/test_accounts.py"],
        env=environment_of_children(DATABASE_URL=postgresql("accounts")),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
