"""Turns and runs that several processes want at the same moment: one of them gets each."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from django.utils import timezone

from agents.models import Agent, Conversation, Message, RunStatus, TaskRun, ToolCall
from agents.runtime.session import record_refusal
from agents.services import conversations, schedules
from aster.errors import NotFound
from tests.agents.test_approvals_at_once import at_once
from tests.agents.test_schedules import agent, make_due, task_of
from tests.conftest import Person
from tests.integrations.grants import Crew, crew

__all__ = ["agent", "crew"]
pytestmark = pytest.mark.django_db(transaction=True)

MANY = 8


def test_a_run_that_is_due_is_begun_once(bob: Person, agent: Agent, crew: Crew) -> None:
    task = task_of(bob, agent, cron="", every_seconds=60)
    for _ in range(3):
        make_due(task)
        begun = at_once(crew, *[lambda: schedules.begin_run(task.pk)] * MANY)
        runs = [run for run in begun if isinstance(run, TaskRun)]
        assert len(runs) == 1
        assert begun.count(None) == MANY - 1
        schedules.end_run(runs[0], RunStatus.OK)
    assert TaskRun.objects.count() == 3
    task.refresh_from_db()
    assert task.next_run_at and task.next_run_at > timezone.now()


def test_what_two_windows_say_at_once_begins_one_turn(bob: Person, agent: Agent, crew: Crew) -> None:
    for _ in range(3):
        begun = conversations.start_conversation(agent, bob.actor)

        def say(pk: int = begun.pk) -> object:
            found = conversations.find_conversation(pk, actor=bob.actor)
            return conversations.add_message(found, "Hello", bob.actor)

        answers = at_once(crew, *[say] * MANY)
        assert sum(isinstance(each, Message) for each in answers) == 1
        assert answers.count("turn_running") == MANY - 1
        assert begun.messages.count() == 1


def test_a_turn_whose_process_died_is_taken_over_once(bob: Person, agent: Agent, crew: Crew) -> None:
    begun = conversations.start_conversation(agent, bob.actor)
    conversations.add_message(begun, "Hello", bob.actor)
    died_at = timezone.now() - timedelta(seconds=1)
    Conversation.objects.filter(pk=begun.pk).update(turn_until=died_at)

    def say() -> object:
        found = conversations.find_conversation(begun.pk, actor=bob.actor)
        return conversations.add_message(found, "Still there?", bob.actor)

    answers = at_once(crew, *[say] * MANY)
    assert sum(isinstance(each, Message) for each in answers) == 1
    assert answers.count("turn_running") == MANY - 1


def test_a_name_that_no_database_takes_costs_nobody_their_row(bob: Person, agent: Agent) -> None:
    names = ["first", "a", "no\0such", "\ud800", "b"]

    async def refuse_all() -> None:
        await asyncio.gather(*(record_refusal(agent, name, NotFound("x"), actor=bob.actor) for name in names))

    asyncio.run(refuse_all())
    assert set(ToolCall.objects.values_list("tool_name", flat=True)) == {"first", "a", "nosuch", "?", "b"}
