"""Clicks and calls at the same moment: an approval lets one call through, and one decision counts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from django.utils import timezone

from agents.models import Approval, ToolCall
from agents.services import approvals
from aster.accounts.models import AuditEvent
from aster.errors import AsterError
from tests.agents.approval_cast import Guarded, guarded
from tests.conftest import Person
from tests.databases import MakeDatabase, environment_of_children, postgresql
from tests.integrations.grants import Crew, crew

__all__ = ["crew", "guarded", "postgresql"]
pytestmark = pytest.mark.django_db(transaction=True)

CALLERS = 8


def at_once(crew: Crew, *works: Callable[[], object]) -> list[object]:
    """What each returned, or the AsterError it ended in; all start together."""
    start = Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        start.wait(20)
        try:
            return work()
        except AsterError as error:
            return error.code

    return [done() for done in [crew.start(run, work) for work in works]]


def test_identical_calls_at_once_ask_one_question(guarded: Guarded, bob: Person, crew: Crew) -> None:
    answers = at_once(crew, *[lambda: guarded.call(bob, text="hello")] * CALLERS)
    assert answers == ["approval_required"] * CALLERS
    assert Approval.objects.count() == 1


def test_of_identical_calls_at_once_an_approval_lets_one_through(guarded: Guarded, bob: Person, crew: Crew) -> None:
    for _ in range(3):
        guarded.fake.requests.clear()
        approvals.approve(guarded.ask(bob, text="hello"), actor=bob.actor)
        answers = at_once(crew, *[lambda: guarded.call(bob, text="hello")] * CALLERS)
        assert sorted(map(str, answers)) == ["approval_required"] * (CALLERS - 1) + ["hello"]
        assert guarded.fake.calls() == ["echo"]
        assert Approval.objects.filter(status="pending").count() == 1
    assert ToolCall.objects.filter(outcome="ok").count() == 3


def test_of_clicks_at_once_one_counts(guarded: Guarded, bob: Person, alice: Person, crew: Crew) -> None:
    for number in range(4):
        waiting = guarded.ask(bob, text=str(number))
        clicks: list[Callable[[], object]] = [
            lambda waiting=waiting, verb=verb, who=who: verb(waiting, actor=who.actor).status
            for verb in (approvals.approve, approvals.deny)
            for who in (alice, bob, alice)
        ]
        answers = at_once(crew, *clicks)
        assert answers.count("already_decided") == len(clicks) - 1
        waiting.refresh_from_db()
        assert waiting.status in answers
    assert AuditEvent.objects.filter(action__in=("approved", "denied")).count() == 4


def test_a_call_at_the_moment_of_the_click_goes_through_once_or_waits(
    guarded: Guarded, bob: Person, crew: Crew
) -> None:
    for number in range(4):
        guarded.fake.requests.clear()
        waiting = guarded.ask(bob, text=str(number))
        calls: list[Callable[[], object]] = [lambda number=number: guarded.call(bob, text=str(number))] * 4
        answers = at_once(crew, lambda waiting=waiting: approvals.approve(waiting, actor=bob.actor).status, *calls)
        through = answers.count(str(number))
        assert through == len(guarded.fake.calls()) <= 1
        assert answers.count("approval_required") == len(calls) - through
        if not through:
            assert guarded.call(bob, text=str(number)) == str(number)


def test_a_click_at_the_moment_of_expiry_leaves_nothing_that_lets_a_call_through(
    guarded: Guarded, bob: Person, crew: Crew
) -> None:
    waiting = guarded.ask(bob, text="late")

    def expire() -> object:
        return Approval.objects.filter(pk=waiting.pk).update(expires_at=timezone.now() - timedelta(seconds=1))

    decided, _ = at_once(crew, lambda: approvals.approve(waiting, actor=bob.actor).status, expire)
    assert decided in ("approved", "approval_expired")
    guarded.ask(bob, text="late")
    assert guarded.fake.calls() == []


@pytest.mark.postgresql
@pytest.mark.timeout(240)
@pytest.mark.skipif(os.environ.get("DATABASE_URL", "").startswith("postgres"), reason="this is the run on PostgreSQL")
def test_the_same_on_postgresql(postgresql: MakeDatabase) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env=environment_of_children(DATABASE_URL=postgresql("approvals")),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
