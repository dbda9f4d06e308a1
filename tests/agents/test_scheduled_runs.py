"""Scheduled runs on the real thing: whose token they use, what they leave behind, and what stops them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone
from pytest_django.fixtures import Settings

from agents.models import Agent, LlmConfig, RunStatus, ScheduledTask, TaskRun
from agents.services.agents import save_agent, save_llm_config
from agents.services.approvals import set_approver
from agents.services.calls import agent_tools
from agents.tasks import run_task
from aster.accounts.models import Membership
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, McpServer
from integrations.services.servers import save_server
from integrations.services.servers import test_server as list_tools
from tests.agents.test_schedules import make_due, task_of
from tests.conftest import Person
from tests.fakes.llm import Answer, FakeModel, Refusal
from tests.fakes.mcp_servers import FakeServer, modern_and_legacy_app, serve

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server() -> Iterator[tuple[FakeServer, str]]:
    fake = modern_and_legacy_app()
    with serve(fake) as url:
        yield fake, f"{url}/mcp"


@pytest.fixture
def model() -> Iterator[tuple[FakeModel, str]]:
    fake = FakeModel(Answer("All is well."))
    with serve(fake) as url:
        yield fake, f"{url}/v1"


@pytest.fixture
def agent(alice: Person, server: tuple[FakeServer, str], model: tuple[FakeModel, str]) -> Agent:
    """An agent with one server that takes everybody's own token; Alice and Bob are connected."""
    auth = AuthConfig.objects.create(
        organization=alice.organization, name="Notes", auth_type=AuthType.AUTHORIZATION_CODE, client_id="aster",
        authorization_url="http://127.0.0.1:9/authorize", token_url="http://127.0.0.1:9/token",
    )  # fmt: skip
    config = LlmConfig(name="Local", base_url=model[1], model="small-1")
    save_llm_config(config, actor=alice.actor)
    connect(auth, alice)
    saved = save_server(McpServer(name="Notes", url=server[1]), auth=auth, actor=alice.actor).server
    list_tools(saved, actor=alice.actor)
    return save_agent(Agent(name="Bot", llm_config=config), actor=alice.actor, server_ids=[saved.pk])


def connect(auth: AuthConfig, person: Person) -> Connection:
    return Connection.objects.create(
        auth_config=auth, user=person.user, access_token=f"token-of-{person.user.name}",
        expires_at=timezone.now() + timedelta(hours=1), connected_at=timezone.now(),
    )  # fmt: skip


def run(task: ScheduledTask) -> TaskRun:
    make_due(task)
    run_task(task.pk)
    latest = task.runs.order_by("-id").first()
    assert latest
    return latest


def echo(agent: Agent) -> str:
    return next(one.name for one in agent_tools(agent) if one.tool and one.tool.name == "echo")


def call_then_answer(model: tuple[FakeModel, str], agent: Agent, answer: str = "Done.") -> None:
    model[0].script = [Answer(calls=[(echo(agent), {"text": "x"})]), Answer(answer)]


def test_a_task_runs_with_its_person_s_token_and_nobody_else_s(
    alice: Person, bob: Person, agent: Agent, server: tuple[FakeServer, str], model: tuple[FakeModel, str]
) -> None:
    connect(AuthConfig.objects.get(), bob)
    call_then_answer(model, agent)
    server[0].requests.clear()
    done = run(task_of(bob, agent))
    assert (done.status, done.error) == (RunStatus.OK, "")
    sent = {seen.headers.get("authorization") for seen in server[0].requests if seen.tool}
    assert sent == {"Bearer token-of-Bob"}
    transcript = done.conversation
    assert transcript and transcript.user == bob.user
    assert [message.author for message in transcript.messages.all()] == ["user", "assistant", "tool", "assistant"]
    assert bob.organization.tool_calls.get(via="schedule").user == bob.user


def test_who_left_stops_their_task_visibly(
    bob: Person, agent: Agent, model: tuple[FakeModel, str], settings: Settings
) -> None:
    task = task_of(bob, agent)
    Membership.objects.filter(user=bob.user).delete()
    failed = run(task)
    assert (failed.status, model[0].asked) == (RunStatus.FAILED, [])
    stopped = ScheduledTask.objects.get(pk=task.pk)
    assert not stopped.is_enabled
    assert "no longer a member" in stopped.stopped_because


@pytest.mark.parametrize("state", ["broken", "removed"])
def test_who_is_not_connected_any_more_stops_their_task_and_is_told_what_to_do(
    bob: Person, agent: Agent, model: tuple[FakeModel, str], server: tuple[FakeServer, str], state: str,
    settings: Settings,
) -> None:  # fmt: skip
    settings.ASTER_SENDS_MAIL = True
    connection = connect(AuthConfig.objects.get(), bob)
    call_then_answer(model, agent, "I could not.")
    task = task_of(bob, agent)
    if state == "broken":
        Connection.objects.filter(pk=connection.pk).update(status=ConnectionStatus.ERROR)
    else:
        connection.delete()
    server[0].requests.clear()
    failed = run(task)
    assert failed.status == RunStatus.FAILED
    assert "Your Notes connection needs to be reconnected" in failed.error
    assert server[0].calls() == []
    stopped = ScheduledTask.objects.get(pk=task.pk)
    assert (stopped.is_enabled, stopped.stopped_because) == (False, failed.error)
    (letter,) = mail.outbox
    assert (letter.to, letter.subject) == (["bob@acme.test"], "Morning report stopped")
    assert "Your Notes connection" in letter.body
    assert f"/hub/schedules/{task.pk}/" in letter.body


def test_a_call_that_waits_for_approval_fails_the_run_and_says_what_to_do(
    bob: Person, alice: Person, agent: Agent, model: tuple[FakeModel, str], server: tuple[FakeServer, str]
) -> None:
    connect(AuthConfig.objects.get(), bob)
    set_approver(agent, McpServer.objects.get(), "echo", "caller", actor=alice.actor)
    call_then_answer(model, agent)
    task = task_of(bob, agent)
    failed = run(task)
    assert failed.status == RunStatus.FAILED
    assert "waits for approval" in failed.error
    assert server[0].calls() == []
    assert ScheduledTask.objects.get(pk=task.pk).is_enabled


@pytest.mark.parametrize(("wanted", "letters"), [(True, 1), (False, 0)])
def test_a_model_that_fails_fails_the_run_and_the_task_goes_on(
    bob: Person, agent: Agent, model: tuple[FakeModel, str], settings: Settings, wanted: bool, letters: int
) -> None:
    settings.ASTER_SENDS_MAIL = True
    model[0].script = [Refusal(401, '{"error": {"message": "wrong key"}}')]
    task = task_of(bob, agent, notifies_failures=wanted)
    failed = run(task)
    assert failed.status == RunStatus.FAILED
    assert failed.error
    after = ScheduledTask.objects.get(pk=task.pk)
    assert after.is_enabled
    assert after.next_run_at and after.next_run_at > timezone.now()
    assert len(mail.outbox) == letters
    if letters:
        assert mail.outbox[0].subject == "Morning report failed"


def test_nobody_is_mailed_where_the_operator_set_no_mail(
    bob: Person, agent: Agent, model: tuple[FakeModel, str]
) -> None:
    model[0].script = [Refusal(500, "no")]
    assert run(task_of(bob, agent)).status == RunStatus.FAILED
    assert mail.outbox == []


def test_an_agent_that_was_switched_off_fails_the_run_with_its_reason(
    alice: Person, bob: Person, agent: Agent, model: tuple[FakeModel, str]
) -> None:
    task = task_of(bob, agent)
    changed: Any = Agent.objects.get(pk=agent.pk)
    changed.is_enabled = False
    save_agent(changed, actor=alice.actor)
    failed = run(task)
    assert (failed.status, model[0].asked) == (RunStatus.FAILED, [])
    assert "switched off" in failed.error
    assert ScheduledTask.objects.get().is_enabled
