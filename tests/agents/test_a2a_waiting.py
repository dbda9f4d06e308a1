"""Tasks that wait for the person: a call that needs approval, a connection that is missing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents.models import A2aTask, Approval
from agents.services import approvals
from agents.services.agents import assign_servers, set_enabled
from integrations.models import AuthConfig, AuthType, McpServer
from integrations.services.servers import save_server
from tests.agents.a2a_clients import VERSIONS, Caller, Wire, answer_in, message, state_of, text_of
from tests.agents.chatting import Stage, stage
from tests.conftest import Person
from tests.fakes.llm import Answer, FakeModel

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("aster")]


@pytest.fixture(autouse=True)
def _no_queries_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")


@pytest.fixture
def chat(alice: Person) -> Iterator[Stage]:
    with stage(alice, FakeModel(Answer("Hello."))) as opened:
        yield opened


@pytest.fixture
def guarded(chat: Stage) -> Stage:
    """A stage whose model wants to call `echo`, which waits for its caller's word."""
    approvals.set_approver(chat.agent, chat.agent.servers.get(), "echo", "caller", actor=chat.person.actor)
    calls = [(chat.name("echo"), {"text": "blue"})]
    chat.model.script = [Answer(calls=calls), Answer("It waits."), Answer(calls=calls), Answer("Blue.")]
    return chat


@pytest.mark.parametrize("version", VERSIONS)
def test_a_call_that_needs_approval_is_approved_and_the_task_goes_on(guarded: Stage, bob: Person, version: str) -> None:
    caller = Caller(guarded.agent, bob.key("aster:call"), version)
    task = caller.send("Say blue")
    assert state_of(task) == "TASK_STATE_INPUT_REQUIRED" and not guarded.server.calls()
    approval = Approval.objects.get()
    assert f"/hub/approvals/{approval.pk}/" in text_of(task.status.message.parts)
    assert approval.via == "a2a"
    approvals.approve(approval, actor=bob.actor)
    again = caller.send("Approved.", task_id=task.id)
    assert (again.id, state_of(again), answer_in(again)) == (task.id, "TASK_STATE_COMPLETED", "Blue.")
    assert guarded.server.calls() == ["echo"]


def test_a_task_that_waits_can_be_canceled(guarded: Stage) -> None:
    wire = Wire(guarded.agent, guarded.person.key())
    task = wire.result("SendMessage", message=message("Say blue"))["task"]
    assert wire.result("CancelTask", id=task["id"])["status"]["state"] == "TASK_STATE_CANCELED"
    assert wire.error("CancelTask", id=task["id"])[0] == -32002
    assert wire.error("SendMessage", message=message("Well?", taskId=task["id"]))[0] == -32004


def test_a_task_that_waits_outlives_an_agent_that_is_off(guarded: Stage) -> None:
    wire = Wire(guarded.agent, guarded.person.key())
    task = wire.result("SendMessage", message=message("Say blue"))["task"]
    set_enabled(guarded.agent, False, actor=guarded.person.actor)
    code, words = wire.error("SendMessage", message=message("Well?", taskId=task["id"]))
    assert code == -32004 and "switched off" in words
    assert wire.result("GetTask", id=task["id"])["status"] == task["status"]


def test_who_subscribes_to_a_task_that_waits_is_told_for_what(guarded: Stage) -> None:
    wire = Wire(guarded.agent, guarded.person.key())
    task = wire.result("SendMessage", message=message("Say blue"))["task"]
    first, last = wire.stream("SubscribeToTask", id=task["id"])
    assert first["task"]["id"] == task["id"]
    assert last["statusUpdate"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"


def test_a_message_for_another_context_is_not_taken_by_a_task(guarded: Stage) -> None:
    wire = Wire(guarded.agent, guarded.person.key())
    task = wire.result("SendMessage", message=message("Say blue"))["task"]
    code, words = wire.error("SendMessage", message=message("Yes", taskId=task["id"], contextId="other"))
    assert code == -32602 and "another context" in words
    assert A2aTask.objects.get().state == "input-required"


def test_an_answer_without_a_call_tells_where_to_connect(chat: Stage) -> None:
    """The model may say that something is not connected without trying it."""
    auth = AuthConfig(
        name="ID", auth_type=AuthType.AUTHORIZATION_CODE, authorization_url="http://127.0.0.1:1/a",
        token_url="http://127.0.0.1:1/t",
    )  # fmt: skip
    private = McpServer(name="Private", url="http://127.0.0.1:1/mcp")
    server = save_server(private, auth=auth, actor=chat.person.actor, test=False).server
    assign_servers(chat.agent, [server.pk], actor=chat.person.actor)
    task = Wire(chat.agent, chat.person.key()).result("SendMessage", message=message())["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    (link,) = task["metadata"]["links"]
    assert (link["kind"], link["server"]) == ("connect", "Private") and "/private/connect/" in link["url"]
