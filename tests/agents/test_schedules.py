"""Scheduled tasks: when they are due, whose they are, and what becomes of runs that overlap, are missed or die."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone
from pytest_django.fixtures import Settings

from agents.models import Agent, LlmConfig, RunStatus, ScheduledTask, TaskRun
from agents.services import schedules
from agents.tasks import run_due_tasks
from aster.accounts.models import AuditEvent, Membership
from aster.errors import Conflict, InvalidInput, NotAllowed, NotFound
from tests.conftest import Person


@pytest.fixture
def agent(alice: Person) -> Agent:
    model = LlmConfig.objects.create(
        organization=alice.organization, name="Local", base_url="http://127.0.0.1:9/v1", model="small"
    )
    return Agent.objects.create(organization=alice.organization, name="Helper", slug="helper", llm_config=model)


def task_of(person: Person, agent: Agent, **values: Any) -> ScheduledTask:
    values = {"name": "Morning report", "prompt": "Report.", "cron": "0 9 * * 1-5", **values}
    task = ScheduledTask(agent=agent, **values)
    schedules.save_task(task, actor=person.actor)
    return ScheduledTask.objects.get(pk=task.pk)


def make_due(task: ScheduledTask, ago: timedelta = timedelta(seconds=1)) -> datetime:
    due = timezone.now() - ago
    ScheduledTask.objects.filter(pk=task.pk).update(next_run_at=due)
    return due


# --- When ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        ("0 9 * * 1-5", datetime(2026, 11, 20, 9, 0, tzinfo=UTC), "2026-11-23T09:00:00+01:00"),
        ("30 2 * * *", datetime(2026, 3, 28, 12, 0, tzinfo=UTC), "2026-03-29T03:00:00+02:00"),
        ("30 2 * * *", datetime(2026, 10, 25, 0, 31, tzinfo=UTC), "2026-10-26T02:30:00+01:00"),
    ],
    ids=["after the weekend", "in the hour that is skipped", "once in the hour that comes twice"],
)
def test_cron_lines_are_wall_clock_times_of_their_zone(cron: str, after: datetime, due: str) -> None:
    task = ScheduledTask(cron=cron, time_zone="Europe/Berlin")
    following = schedules.next_run(task, after)
    assert following == datetime.fromisoformat(due)
    assert following is not None and following.tzinfo == UTC


def test_intervals_keep_their_rhythm_however_late_they_are_asked() -> None:
    task = ScheduledTask(every_seconds=600, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert schedules.next_run(task, datetime(2026, 1, 1, 0, 25, 7, tzinfo=UTC)) == datetime(
        2026, 1, 1, 0, 30, tzinfo=UTC
    )
    assert schedules.next_run(task, datetime(2026, 1, 1, 0, 30, tzinfo=UTC)) == datetime(2026, 1, 1, 0, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cron": "0 9 * * 1-5"}, "At 09:00 on Monday through Friday (UTC)"),
        ({"every_seconds": 3600}, "Every hour"),
        ({"every_seconds": 900}, "Every 15 minutes"),
        ({"every_seconds": 172800}, "Every 2 days"),
        ({"every_seconds": 90}, "Every 90 seconds"),
    ],
)
def test_a_schedule_can_be_read(values: dict[str, Any], words: str) -> None:
    assert schedules.describe_schedule(ScheduledTask(**values)) == words


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"cron": "0 9 * *"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"every_seconds": 600}, "cron"),
        ({"cron": "", "every_seconds": 30}, "every_seconds"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_at_its_field(
    alice: Person, agent: Agent, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        task_of(alice, agent, **values)
    assert field in refused.value.fields
    assert not ScheduledTask.objects.exists()


# --- Whose -----------------------------------------------------------------------------------------------------------
def test_only_its_person_decides_what_a_task_does(alice: Person, bob: Person, charlie: Person, agent: Agent) -> None:
    task = task_of(bob, agent)
    task.prompt = "Send me everything."
    with pytest.raises(NotAllowed, match="Only Bob"):
        schedules.save_task(task, actor=alice.actor)
    with pytest.raises(NotAllowed):
        schedules.run_now(task, actor=alice.actor)
    assert ScheduledTask.objects.get().prompt == "Report."
    assert schedules.find_task(task.pk, actor=alice.actor)
    with pytest.raises(NotFound):
        schedules.find_task(task.pk, actor=charlie.actor)


def test_an_admin_can_switch_off_what_is_not_theirs_but_not_on(alice: Person, bob: Person, agent: Agent) -> None:
    task = task_of(bob, agent)
    schedules.switch_task(task, on=False, actor=alice.actor)
    after = ScheduledTask.objects.get()
    assert (after.is_enabled, after.next_run_at) == (False, None)
    with pytest.raises(NotAllowed):
        schedules.switch_task(after, on=True, actor=alice.actor)
    schedules.switch_task(ScheduledTask.objects.get(), on=True, actor=bob.actor)
    assert ScheduledTask.objects.get().next_run_at


def test_members_see_their_own_tasks_and_admins_all(alice: Person, bob: Person, charlie: Person, agent: Agent) -> None:
    task_of(alice, agent)
    task_of(bob, agent)
    assert [ScheduledTask.objects.visible_to(who.actor).count() for who in (alice, bob, charlie)] == [2, 1, 0]


def test_an_agent_without_a_model_or_of_others_takes_no_task(alice: Person, charlie: Person, agent: Agent) -> None:
    bare = Agent.objects.create(organization=alice.organization, name="Bare", slug="bare")
    with pytest.raises(InvalidInput, match="has no model"):
        task_of(alice, bare)
    with pytest.raises(InvalidInput, match="no such agent"):
        task_of(charlie, agent)


def test_who_left_is_nobody_to_run_as(bob: Person, agent: Agent) -> None:
    task = task_of(bob, agent)
    assert (actor := schedules.actor_of(task)) and actor.user == bob.user and actor.organization == bob.organization
    Membership.objects.filter(user=bob.user).delete()
    assert schedules.actor_of(task) is None


# --- Runs ------------------------------------------------------------------------------------------------------------
def test_a_due_task_is_run_once_and_then_when_it_is_due_again(alice: Person, agent: Agent) -> None:
    task = task_of(alice, agent)
    assert schedules.begin_run(task.pk) is None, "not due yet"
    due = make_due(task)
    run = schedules.begin_run(task.pk)
    assert run and (run.status, run.due_at) == (RunStatus.RUNNING, due)
    assert schedules.begin_run(task.pk) is None
    after = ScheduledTask.objects.get()
    assert after.next_run_at and after.next_run_at > timezone.now()


def test_two_workers_that_find_the_same_due_time_make_one_run(alice: Person, agent: Agent) -> None:
    task = task_of(alice, agent)
    due = make_due(task)
    assert schedules.begin_run(task.pk)
    ScheduledTask.objects.filter(pk=task.pk).update(next_run_at=due)  # as the other worker had read it
    TaskRun.objects.update(status=RunStatus.OK)
    assert schedules.begin_run(task.pk) is None
    assert TaskRun.objects.count() == 1


@pytest.mark.parametrize(("overlap", "recorded"), [("skip", ["running", "skipped"]), ("wait", ["running"])])
def test_a_run_that_has_not_ended_holds_up_or_cancels_the_next(
    alice: Person, agent: Agent, overlap: str, recorded: list[str]
) -> None:
    task = task_of(alice, agent, overlap=overlap)
    make_due(task, timedelta(minutes=1))
    first = schedules.begin_run(task.pk)
    assert first
    make_due(task)
    assert schedules.begin_run(task.pk) is None
    assert list(TaskRun.objects.order_by("id").values_list("status", flat=True)) == recorded
    schedules.end_run(first, RunStatus.OK)
    assert bool(schedules.begin_run(task.pk)) == (overlap == "wait")


def test_a_run_whose_process_died_is_seen_and_holds_up_nothing(alice: Person, agent: Agent) -> None:
    task = task_of(alice, agent)
    make_due(task, timedelta(hours=1))
    dead = schedules.begin_run(task.pk)
    assert dead
    TaskRun.objects.filter(pk=dead.pk).update(started_at=timezone.now() - schedules.LONGEST_RUN * 2)
    make_due(task)
    assert schedules.begin_run(task.pk)
    assert TaskRun.objects.get(pk=dead.pk).status == RunStatus.ABANDONED
    schedules.end_run(dead, RunStatus.OK)
    assert TaskRun.objects.get(pk=dead.pk).status == RunStatus.ABANDONED


def test_a_run_whose_process_died_is_given_up_and_told_without_being_due(
    alice: Person, agent: Agent, settings: Settings
) -> None:
    settings.ASTER_SENDS_MAIL = True
    task = task_of(alice, agent)
    make_due(task)
    dead = schedules.begin_run(task.pk)
    assert dead
    run_due_tasks()
    assert TaskRun.objects.get(pk=dead.pk).status == RunStatus.RUNNING
    TaskRun.objects.filter(pk=dead.pk).update(started_at=timezone.now() - schedules.LONGEST_RUN * 2)
    run_due_tasks()
    run_due_tasks()
    assert TaskRun.objects.get(pk=dead.pk).status == RunStatus.ABANDONED
    assert [(letter.to, letter.subject) for letter in mail.outbox] == [(["alice@acme.test"], "Morning report failed")]


def test_input_that_the_agent_does_not_take_is_refused_when_the_task_is_saved(alice: Person, agent: Agent) -> None:
    asks = {"type": "object", "properties": {"team": {"type": "string"}}, "required": ["team"]}
    Agent.objects.filter(pk=agent.pk).update(input_json_schema=asks)
    agent.refresh_from_db()
    for wrong in ({}, {"team": 1}):
        with pytest.raises(InvalidInput) as refused:
            task_of(alice, agent, input=wrong)
        assert next(iter(refused.value.fields)).startswith("input")
    assert task_of(alice, agent, input={"team": "Sales"}).input == {"team": "Sales"}


def test_what_was_missed_is_made_up_for_once_and_said(alice: Person, agent: Agent) -> None:
    task = task_of(alice, agent, cron="", every_seconds=600)
    ScheduledTask.objects.update(created_at=timezone.now() - timedelta(hours=2))
    make_due(task, timedelta(hours=1))
    run = schedules.begin_run(task.pk)
    assert run
    missed = TaskRun.objects.get(status=RunStatus.MISSED)
    assert "more times while Aster was not running" in missed.error
    assert schedules.begin_run(task.pk) is None


def test_a_stopped_task_says_why_until_its_person_starts_it_again(bob: Person, agent: Agent) -> None:
    task = task_of(bob, agent)
    schedules.stop_task(task, "Your Notes connection needs to be reconnected.")
    stopped = ScheduledTask.objects.get()
    assert (stopped.is_enabled, stopped.next_run_at) == (False, None)
    assert "reconnected" in stopped.stopped_because
    assert AuditEvent.objects.get(action="stopped").object_label == "Morning report"
    with pytest.raises(Conflict, match="Switch it on"):
        schedules.run_now(stopped, actor=bob.actor)
    schedules.switch_task(stopped, on=True, actor=bob.actor)
    again = ScheduledTask.objects.get()
    assert (again.is_enabled, again.stopped_because) == (True, "")
    schedules.run_now(again, actor=bob.actor)
    assert schedules.begin_run(task.pk)
