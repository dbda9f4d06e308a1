"""The pages of scheduled tasks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from agents.models import Agent, RunStatus, ScheduledTask
from agents.services import schedules
from tests.agents.test_schedules import agent, make_due, task_of
from tests.conftest import Person

__all__ = ["agent"]

FORM = {"name": "Report", "prompt": "Report.", "cron": "0 9 * * *", "time_zone": "Europe/Berlin", "overlap": "skip"}


def test_a_member_schedules_an_agent_and_reads_when_it_runs(bob: Person, agent: Agent) -> None:
    browser = bob.browser()
    page = browser.post("/hub/schedules/add/", {**FORM, "agent": agent.pk}, follow=True)
    assert "At 09:00 every day (Europe/Berlin)" in page.text
    task = ScheduledTask.objects.get()
    assert (task.created_by, task.organization, task.is_enabled) == (bob.user, bob.organization, True)
    assert "Report" in browser.get("/hub/schedules/").text


def test_an_interval_is_entered_in_minutes_and_shown_again(bob: Person, agent: Agent) -> None:
    browser = bob.browser()
    browser.post("/hub/schedules/add/", {**FORM, "cron": "", "every_minutes": "90", "agent": agent.pk})
    task = ScheduledTask.objects.get()
    assert task.every_seconds == 5400
    assert 'value="90"' in browser.get(f"/hub/schedules/{task.pk}/edit/").text


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cron": "every day"}, "Write five fields"),
        ({"every_minutes": "5"}, "either a cron line or an interval"),
        ({"prompt": ""}, "This field is required"),
    ],
)
def test_what_cannot_be_is_said_beside_the_field_and_stores_nothing(
    bob: Person, agent: Agent, wrong: dict[str, str], words: str
) -> None:
    page = bob.browser().post("/hub/schedules/add/", {**FORM, "agent": agent.pk, **wrong})
    assert page.status_code == 400
    assert words in page.text
    assert not ScheduledTask.objects.exists()


def test_the_form_takes_the_input_of_an_agent_that_asks_for_some(bob: Person, agent: Agent) -> None:
    browser = bob.browser()
    assert 'name="input"' not in browser.get("/hub/schedules/add/").text
    asks = {"type": "object", "properties": {"team": {"type": "string"}}, "required": ["team"]}
    Agent.objects.filter(pk=agent.pk).update(input_json_schema=asks)
    assert f'data-show-if="agent={agent.pk}"' in browser.get("/hub/schedules/add/").text
    refused = browser.post("/hub/schedules/add/", {**FORM, "agent": agent.pk, "input": "{}"})
    assert (refused.status_code, ScheduledTask.objects.count()) == (400, 0)
    assert "team: " in refused.text
    browser.post("/hub/schedules/add/", {**FORM, "agent": agent.pk, "input": '{"team": "Sales"}'})
    assert ScheduledTask.objects.get().input == {"team": "Sales"}


def test_somebody_elses_task_is_not_there_for_members_and_only_to_be_stopped_for_admins(
    alice: Person, bob: Person, charlie: Person, agent: Agent
) -> None:
    task = task_of(bob, agent)
    other = task_of(alice, agent)
    assert bob.browser().get(f"/hub/schedules/{other.pk}/").status_code == 404
    assert charlie.browser().get(f"/hub/schedules/{task.pk}/").status_code == 404
    admin = alice.browser()
    page = admin.get(f"/hub/schedules/{task.pk}/").text
    assert "Switch off" in page
    assert "Run now" not in page
    assert admin.post(f"/hub/schedules/{task.pk}/edit/", {**FORM, "agent": agent.pk}).status_code == 400
    assert admin.post(f"/hub/schedules/{task.pk}/run/").status_code == 403
    admin.post(f"/hub/schedules/{task.pk}/switch/", {"on": "0"})
    assert not ScheduledTask.objects.get(pk=task.pk).is_enabled


def test_the_page_tells_what_became_of_each_run_and_why_a_task_stopped(bob: Person, agent: Agent) -> None:
    task = task_of(bob, agent)
    make_due(task, timedelta(seconds=2))
    run = schedules.begin_run(task.pk)
    assert run
    schedules.end_run(run, RunStatus.FAILED, error="The model did not answer.")
    schedules.stop_task(task, "Your Notes connection needs to be reconnected.")
    page = bob.browser().get(f"/hub/schedules/{task.pk}/").text
    assert "The model did not answer." in page
    assert "Aster stopped this task" in page
    assert "Your Notes connection needs to be reconnected." in page
    assert "Stopped" in bob.browser().get("/hub/schedules/").text


def test_run_now_makes_it_due_and_delete_asks_first(bob: Person, agent: Agent) -> None:
    task, browser = task_of(bob, agent), bob.browser()
    browser.post(f"/hub/schedules/{task.pk}/run/")
    assert ScheduledTask.objects.get().next_run_at <= timezone.now()  # type: ignore[operator]
    assert "Now: it starts in a few seconds" in browser.get(f"/hub/schedules/{task.pk}/").text
    assert "cannot be undone" in browser.get(f"/hub/schedules/{task.pk}/delete/").text
    browser.post(f"/hub/schedules/{task.pk}/delete/")
    assert not ScheduledTask.objects.exists()
