"""The API of scheduled tasks."""

from __future__ import annotations

import pytest

from agents.models import Agent, RunStatus, ScheduledTask
from agents.services import schedules
from tests.agents.test_schedules import agent, make_due, task_of
from tests.aster.api_contract import api
from tests.conftest import Person

__all__ = ["agent"]

pytestmark = pytest.mark.django_db
URL = "/api/v1/schedules"


def test_a_task_is_made_read_changed_and_deleted(bob: Person, agent: Agent) -> None:
    client = api(bob)
    body = {"name": "Report", "agent_id": agent.pk, "prompt": "Report.", "cron": "0 9 * * *"}
    made = client.post(URL, {**body, "time_zone": "Europe/Berlin"})
    assert made.status_code == 201
    task = made.json()
    assert (task["runs_as"], task["is_enabled"], task["stopped_because"]) == ("bob@acme.test", True, "")
    assert task["next_run_at"]
    assert client.get(f"{URL}/{task['id']}").json() == task
    changed = client.patch(f"{URL}/{task['id']}", {"cron": "", "every_seconds": 3600}).json()
    assert (changed["cron"], changed["every_seconds"], changed["name"]) == ("", 3600, "Report")
    off = client.patch(f"{URL}/{task['id']}", {"enabled": False}).json()
    assert (off["is_enabled"], off["next_run_at"]) == (False, None)
    assert client.delete(f"{URL}/{task['id']}").status_code == 204
    assert client.get(URL).json()["results"] == []


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"cron": "soon"}, "cron"),
        ({"every_seconds": 10}, "every_seconds"),
        ({"agent_id": 4711}, "agent_id"),
        ({"time_zone": "Here"}, "time_zone"),
        ({"overlap": "explode"}, "overlap"),
        ({"input": [1]}, "input"),
        ({"nmae": "x"}, "nmae"),
    ],
)
def test_what_cannot_be_is_a_400_that_names_the_field(
    bob: Person, agent: Agent, wrong: dict[str, object], field: str
) -> None:
    body = {"name": "Report", "agent_id": agent.pk, "prompt": "Report.", "cron": "0 9 * * *", **wrong}
    answer = api(bob).post(URL, body)
    assert answer.status_code == 400
    assert field in answer.json()["fields"]
    assert not ScheduledTask.objects.exists()


def test_whose_it_is_decides(alice: Person, bob: Person, charlie: Person, agent: Agent) -> None:
    task = task_of(bob, agent)
    assert api(charlie).get(f"{URL}/{task.pk}").status_code == 404
    admin = api(alice)
    assert [row["id"] for row in admin.get(URL).json()["results"]] == [task.pk]
    assert admin.patch(f"{URL}/{task.pk}", {"prompt": "Send me all."}).status_code == 403
    assert admin.post(f"{URL}/{task.pk}/run").status_code == 403
    assert admin.patch(f"{URL}/{task.pk}", {"is_enabled": False}).status_code == 200
    assert not ScheduledTask.objects.get().is_enabled


def test_a_key_that_may_not_call_tools_schedules_nothing(bob: Person, agent: Agent) -> None:
    body = {"name": "Report", "agent_id": agent.pk, "prompt": "Report.", "cron": "0 9 * * *"}
    answer = api(bob, "aster:read").post(URL, body)
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")


def test_a_key_of_few_scopes_does_not_decide_what_runs_with_all_of_them(bob: Person, agent: Agent) -> None:
    """Its own calls of a tool that wants another scope are refused; a task would make them for it."""
    body = {"name": "Report", "agent_id": agent.pk, "prompt": "Delete all files.", "cron": "0 9 * * *"}
    task, client = task_of(bob, agent), api(bob, "aster:call", "files:read")
    for answer in (client.post(URL, body), client.patch(f"{URL}/{task.pk}", {"prompt": "Delete all files."})):
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
    assert ScheduledTask.objects.get().prompt == "Report."
    assert client.post(f"{URL}/{task.pk}/run").status_code == 204
    assert client.patch(f"{URL}/{task.pk}", {"is_enabled": False}).status_code == 200
    assert client.patch(f"{URL}/{task.pk}", {"is_enabled": True}).status_code == 403
    assert not ScheduledTask.objects.get().is_enabled


def test_runs_are_asked_for_and_read(bob: Person, agent: Agent) -> None:
    task, client = task_of(bob, agent), api(bob)
    assert client.post(f"{URL}/{task.pk}/run").status_code == 204
    run = schedules.begin_run(task.pk)
    assert run
    schedules.end_run(run, RunStatus.FAILED, error="The model did not answer.")
    make_due(task)
    assert schedules.begin_run(task.pk)
    newest, first = client.get(f"{URL}/{task.pk}/runs").json()["results"]
    assert (newest["status"], first["status"], first["error"]) == ("running", "failed", "The model did not answer.")
    schedules.stop_task(task, "Nobody is connected.")
    assert client.post(f"{URL}/{task.pk}/run").status_code == 409
