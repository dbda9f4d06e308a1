"""The official A2A client against Aster behind uvicorn, in both versions of the protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from a2a.client.base_client import BaseClient
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError

from agents.models import A2aTask, Conversation, ToolCall
from tests.agents.a2a_clients import VERSIONS, Caller, a_message, answer_in, state_of, text_of
from tests.agents.chatting import Stage, stage
from tests.conftest import Person
from tests.fakes.llm import Answer, FakeModel

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("aster")]


@pytest.fixture(autouse=True)
def _no_queries_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")


@pytest.fixture
def chat(alice: Person) -> Iterator[Stage]:
    with stage(alice, FakeModel(Answer("Hello Alice."))) as opened:
        yield opened
        opened.model.release()


@pytest.fixture(params=VERSIONS)
def caller(request: pytest.FixtureRequest, chat: Stage) -> Caller:
    return Caller(chat.agent, chat.person.key("aster:call"), request.param)


def streaming(caller: Caller) -> Caller:
    return Caller(caller.agent, caller.key, caller.version, streaming=True)


def test_a_message_is_answered_by_a_completed_task(caller: Caller, chat: Stage) -> None:
    chat.model.script = [Answer("I look.", [(chat.name("echo"), {"text": "blue"})]), Answer("It is blue.")]
    task = caller.send("Which colour?")
    assert (state_of(task), answer_in(task)) == ("TASK_STATE_COMPLETED", "I look.\n\nIt is blue.")
    assert [(text_of(each.parts), each.role) for each in task.history] == [("Which colour?", pb.ROLE_USER)]
    assert task.context_id and task.context_id == Conversation.objects.get().context_id
    call = ToolCall.objects.get()
    assert (call.via, call.outcome, call.user_label) == ("a2a", "ok", chat.person.user.email)


def test_a_stream_begins_with_the_task_and_ends_with_its_state(caller: Caller, chat: Stage) -> None:
    chat.model.script = [Answer("I look.", [(chat.name("echo"), {"text": "blue"})]), Answer("It is blue.")]
    first, *between, last = streaming(caller).events("Which colour?")
    assert state_of(first.task) == "TASK_STATE_WORKING"
    pieces = [event.artifact_update for event in between if event.HasField("artifact_update")]
    assert [piece.append for piece in pieces] == [False] + [True] * (len(pieces) - 1)
    assert len(pieces) > 2 and "".join(text_of(each.artifact.parts) for each in pieces) == "I look.\n\nIt is blue."
    (progress,) = (event.status_update for event in between if event.HasField("status_update"))
    assert text_of(progress.status.message.parts) == f"Calling {chat.name('echo')} at Fake."
    assert state_of(last.status_update) == "TASK_STATE_COMPLETED"
    assert caller.get(first.task.id).artifacts[0].artifact_id == pieces[0].artifact.artifact_id


def test_the_context_is_one_conversation(caller: Caller, chat: Stage) -> None:
    first = caller.send("Hi")
    second = caller.send("And now?", context_id=first.context_id)
    assert second.context_id == first.context_id and second.id != first.id
    told = [(each["role"], each["content"]) for each in chat.model.asked[1].body["messages"]]
    assert told == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello Alice."), ("user", "And now?")]
    assert Conversation.objects.count() == 1


def test_a_context_that_the_client_names_is_kept(caller: Caller) -> None:
    assert caller.send("Hi", context_id="trip to Oslo").context_id == "trip to Oslo"
    assert caller.send("Hi again", context_id="trip to Oslo").context_id == "trip to Oslo"
    assert Conversation.objects.get().messages.count() == 4


def test_a_client_that_does_not_wait_asks_again(caller: Caller, chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", hold=True)]

    async def poll(client: BaseClient) -> tuple[pb.Task, pb.Task]:
        wanted = a_message("Hi")
        wanted.configuration.return_immediately = True
        (begun,) = [event.task async for event in client.send_message(wanted)]
        chat.model.release()
        task = begun
        while state_of(task) == "TASK_STATE_WORKING":
            task = await client.get_task(pb.GetTaskRequest(id=begun.id))
        return begun, task

    begun, ended = caller.run(poll)
    assert state_of(begun) == "TASK_STATE_WORKING" and not begun.artifacts
    assert (state_of(ended), answer_in(ended)) == ("TASK_STATE_COMPLETED", "Half. ")


def test_who_subscribes_sees_the_rest_of_the_answer(caller: Caller, chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", [(chat.name("echo"), {"text": "x"})], hold=True), Answer("Whole.")]
    follower = streaming(caller)

    async def subscribe(client: BaseClient) -> list[pb.StreamResponse]:
        stream = client.send_message(a_message("Hi"))
        task = (await anext(stream)).task
        await stream.aclose()  # type: ignore[attr-defined]  (the listener goes away, the answer goes on)
        seen = []
        async for event in client.subscribe(pb.SubscribeToTaskRequest(id=task.id)):
            chat.model.release()
            seen.append(event)
        return seen

    first, *_, last = seen = follower.run(subscribe)
    assert state_of(first.task) == "TASK_STATE_WORKING"
    assert state_of(last.status_update) == "TASK_STATE_COMPLETED"
    text = text_of(first.task.artifacts[0].parts) if first.task.artifacts else ""
    for event in seen[1:-1]:
        piece = text_of(event.artifact_update.artifact.parts)
        text = text + piece if event.artifact_update.append else piece
    assert text == "Half. \n\nWhole."

    with pytest.raises(UnsupportedOperationError, match="completed already"):

        async def again(client: BaseClient) -> list[pb.StreamResponse]:
            return [event async for event in client.subscribe(pb.SubscribeToTaskRequest(id=first.task.id))]

        follower.run(again)


def test_a_task_is_canceled(caller: Caller, chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", hold=True)]

    async def cancel(client: BaseClient) -> tuple[pb.Task, pb.Task]:
        wanted = a_message("Hi")
        wanted.configuration.return_immediately = True
        (begun,) = [event.task async for event in client.send_message(wanted)]
        canceled = await client.cancel_task(pb.CancelTaskRequest(id=begun.id))
        with pytest.raises(TaskNotCancelableError, match="canceled already"):
            await client.cancel_task(pb.CancelTaskRequest(id=begun.id))
        return canceled, await client.get_task(pb.GetTaskRequest(id=begun.id))

    for task in caller.run(cancel):
        assert state_of(task) == "TASK_STATE_CANCELED"


def test_an_ended_task_takes_no_more_messages(caller: Caller) -> None:
    task = caller.send("Hi")
    with pytest.raises(UnsupportedOperationError, match="takes no more messages"):
        caller.send("And?", task_id=task.id)
    with pytest.raises(TaskNotCancelableError):
        caller.run(lambda client: client.cancel_task(pb.CancelTaskRequest(id=task.id)))


def test_a_task_of_somebody_else_does_not_exist(caller: Caller, bob: Person, chat: Stage) -> None:
    task = caller.send("Hi")
    other = Caller(chat.agent, bob.key(), caller.version)
    with pytest.raises(TaskNotFoundError):
        other.get(task.id)
    with pytest.raises(TaskNotFoundError):
        other.send("And?", task_id=task.id)
    # The same name of a context is another one, for another person.
    assert other.send("Mine", context_id=task.context_id).context_id == task.context_id
    assert [each["content"] for each in chat.model.asked[-1].body["messages"][1:]] == ["Mine"]
    assert A2aTask.objects.count() == 2


def test_history_is_as_long_as_it_is_wanted(caller: Caller) -> None:
    task = caller.send("Hi")
    assert [text_of(each.parts) for each in caller.get(task.id).history] == ["Hi"]
    assert not caller.get(task.id, history=0).history


def test_the_extended_card_is_the_card(caller: Caller) -> None:
    card = caller.run(lambda client: client.get_extended_agent_card(pb.GetExtendedAgentCardRequest()))
    assert (card.name, list(card.default_output_modes)) == ("Bot", ["text/plain"])


def test_tasks_are_listed_page_by_page(chat: Stage, bob: Person) -> None:
    caller = Caller(chat.agent, chat.person.key())
    tasks = [caller.send(f"Number {number}") for number in range(3)]
    Caller(chat.agent, bob.key()).send("Not alice's")

    async def lists(client: BaseClient) -> list[pb.ListTasksResponse]:
        first = await client.list_tasks(pb.ListTasksRequest(page_size=2))
        rest = await client.list_tasks(pb.ListTasksRequest(page_size=2, page_token=first.next_page_token))
        one = await client.list_tasks(pb.ListTasksRequest(context_id=tasks[0].context_id, include_artifacts=True))
        none = await client.list_tasks(pb.ListTasksRequest(status=pb.TASK_STATE_WORKING))
        return [first, rest, one, none]

    first, rest, one, none = caller.run(lists)
    assert [each.id for each in (*first.tasks, *rest.tasks)] == [task.id for task in reversed(tasks)]
    assert (first.total_size, rest.next_page_token, first.tasks[0].artifacts) == (3, "", [])
    assert [answer_in(each) for each in one.tasks] == ["Hello Alice."]
    assert (none.total_size, list(none.tasks)) == (0, [])
