"""A turn from the outside: stopped, too long, broken by its provider, cut short by the process, deleted meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import anyio
import pytest
from django.utils import timezone

from agents.models import Conversation, Message
from agents.runtime import turns
from agents.runtime.chat import Limits, answer
from agents.services import conversations
from agents.services.agents import set_enabled
from agents.services.conversations import add_message, find_conversation, is_running, start_conversation, stop
from aster.errors import Conflict, InvalidInput, NotFound
from tests.agents.chatting import Stage, rows, stage
from tests.conftest import Person
from tests.fakes.llm import Answer, FakeModel, Refusal

pytestmark = pytest.mark.django_db(transaction=True)
ERROR = '{"error": {"message": "no"}}'


@pytest.fixture
def chat(alice: Person) -> Iterator[Stage]:
    with stage(alice, FakeModel(Answer("Hello Alice."))) as opened:
        yield opened
        opened.model.release()


def last(conversation: Conversation) -> Message:
    return rows(conversation)[-1]


# --- The provider fails ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words", "kept"),
    [
        (Refusal(401, ERROR), "does not accept the API key", ""),
        (Refusal(429, ERROR), "Try again in a minute", ""),
        (Refusal(500, ERROR), "HTTP status 500", ""),
        (Refusal(200, "<h1>Hi</h1>", "text/html"), "not the OpenAI protocol", ""),
        (Answer("Half a sen", finish=""), "cut off. Send the message again.", "Half a sen"),
        (Answer("Half", error={"message": "Strange"}), "Strange", "Half"),
        (Answer("I will", finish="content_filter"), "rules do not allow", "I will"),
    ],
    ids=["401", "429", "500", "garbage", "cut off", "error midway", "filtered"],
)
def test_what_the_provider_does_is_told_and_what_was_said_is_kept(
    chat: Stage, given: Any, words: str, kept: str
) -> None:
    chat.model.script = [given]
    conversation = chat.say()
    failed = last(conversation)
    assert (failed.state, failed.text) == ("failed", kept)
    assert words in failed.error
    assert chat.end == {"message": failed.pk, "state": "failed", "error": failed.error}
    assert not is_running(find_conversation(conversation.pk, actor=chat.person.actor))
    chat.model.script = [Answer("Better now.")]
    chat.say("Again?", conversation)
    assert (chat.end["state"], last(conversation).text) == ("complete", "Better now.")


def test_a_failure_after_a_call_keeps_the_call(chat: Stage) -> None:
    chat.model.script = [Answer("So.", [(chat.name("echo"), {"text": "x"})]), Refusal(500, ERROR)]
    conversation = chat.say()
    assert [row.state for row in rows(conversation)] == ["complete", "complete", "complete", "failed"]


# --- Stop -----------------------------------------------------------------------------------------------------------


def test_stop_while_the_model_speaks_keeps_what_it_said(chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", hold=True)]
    conversation = chat.begin()
    said = []

    def tell(kind: str, data: dict[str, Any]) -> None:
        said.append((kind, data))
        if kind == "text" and not conversation.stop_requested:
            stop(conversation, chat.person.actor)

    anyio.run(run_answer, conversation, chat, tell)
    assert chat.model.was_left.wait(10)
    assert (last(conversation).state, last(conversation).text) == ("stopped", "Half. ")
    assert said[-1] == ("end", {"message": last(conversation).pk, "state": "stopped", "error": ""})


async def run_answer(conversation: Conversation, chat: Stage, tell: Any, limits: Limits | None = None) -> None:
    await answer(conversation, actor=chat.person.actor, on_event=tell, limits=limits)


def test_stop_while_a_tool_works_ends_the_call(chat: Stage) -> None:
    chat.model.script = [Answer("", [(chat.name("slow"), {"seconds": 60})]), Answer("Never said.")]
    conversation = chat.begin()

    def tell(kind: str, data: dict[str, Any]) -> None:
        chat.events.append((kind, data))
        if kind == "call":
            stop(conversation, chat.person.actor)

    anyio.run(run_answer, conversation, chat, tell)
    assert chat.end["state"] == "stopped" and not chat.told("result")
    assert len(chat.model.asked) == 1
    # What was never finished is told to the model with the next message.
    chat.model.script = [Answer("I see.")]
    chat.say("Go on", conversation)
    results = [each for each in chat.model.asked[-1].body["messages"] if each["role"] == "tool"]
    assert [each["content"] for each in results] == ["This call was not finished."]


def test_stop_without_an_answer_in_the_making_is_nothing(chat: Stage) -> None:
    conversation = chat.say()
    stop(conversation, chat.person.actor)
    chat.say("And?", conversation)
    assert chat.end["state"] == "complete"


# --- Time and the process -------------------------------------------------------------------------------------------


def test_a_turn_has_a_deadline(chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", hold=True)]
    conversation = chat.say(limits=Limits(seconds=0.3))
    assert chat.end["state"] == "failed" and "took longer" in chat.end["error"]
    assert last(conversation).text == "Half. "


def test_what_is_said_is_stored_while_it_is_said(chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", hold=True)]
    conversation = chat.begin()

    async def run() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(run_answer, conversation, chat, lambda kind, data: None)
            with anyio.fail_after(10):
                while await anyio.to_thread.run_sync(lambda: last(conversation).text) != "Half. ":
                    pass
            chat.model.release()

    anyio.run(run)
    assert last(conversation).state == "complete"


def test_a_turn_that_is_cancelled_with_its_process_is_stopped(chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", hold=True)]
    conversation, spoke = chat.begin(), anyio.Event()

    async def run() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(run_answer, conversation, chat, lambda kind, data: kind == "text" and spoke.set())
            await spoke.wait()
            group.cancel_scope.cancel()

    anyio.run(run)
    assert (last(conversation).state, last(conversation).text[:4]) == ("stopped", "Half")
    assert "Send the message again" in last(conversation).error
    conversation.refresh_from_db()
    assert conversation.turn is None


def test_a_turn_without_a_listener_is_stopped_when_its_loop_ends(chat: Stage) -> None:
    """As when Aster is stopped while somebody's browser has gone away."""
    chat.model.script = [Answer("Half. ", hold=True)]
    conversation = chat.begin()

    async def run() -> None:
        async with aclosing(turns.follow(conversation, actor=chat.person.actor)) as events:
            async for event in events:
                if event and event[0] == "text":
                    break

    asyncio.run(run())
    assert (last(conversation).state, last(conversation).text[:4]) == ("stopped", "Half")
    assert not is_running(find_conversation(conversation.pk, actor=chat.person.actor))


def test_a_turn_whose_process_died_is_shown_as_stopped(chat: Stage) -> None:
    conversation = chat.begin()
    Message.objects.create(conversation=conversation, author="assistant", state="writing", text="Half")
    assert is_running(find_conversation(conversation.pk, actor=chat.person.actor))
    Conversation.objects.update(turn_until=timezone.now() - timedelta(seconds=1))
    assert not is_running(find_conversation(conversation.pk, actor=chat.person.actor))
    assert last(conversation).state == "stopped" and "Send the message again" in last(conversation).error
    chat.say("Again", conversation)
    assert chat.end["state"] == "complete"


def test_a_turn_that_was_taken_over_ends_without_touching_the_new_one(chat: Stage) -> None:
    """As after a process that slept for longer than its lease."""
    chat.model.script = [Answer("Half. ", hold=True)]
    old = chat.begin()

    def tell(kind: str, data: dict[str, Any]) -> None:
        chat.events.append((kind, data))
        if kind == "text" and len(rows(old)) == 2:
            Conversation.objects.update(turn_until=timezone.now() - timedelta(seconds=1))
            add_message(Conversation.objects.get(pk=old.pk), "Again", chat.person.actor)

    anyio.run(run_answer, old, chat, tell)
    assert chat.end["state"] == "stopped"
    assert is_running(find_conversation(old.pk, actor=chat.person.actor))


def test_a_turn_keeps_its_lease(chat: Stage) -> None:
    conversation = chat.begin()
    short = timezone.now() + timedelta(seconds=1)
    Conversation.objects.update(turn_until=short)
    assert conversations.keep_turn(conversation)
    conversation.refresh_from_db()
    assert conversation.turn_until and conversation.turn_until > short + timedelta(seconds=30)


def test_a_conversation_that_is_deleted_ends_its_turn(chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", hold=True)]
    conversation = chat.begin()

    def tell(kind: str, data: dict[str, Any]) -> None:
        chat.events.append((kind, data))
        if kind == "text":
            conversations.delete(conversation, chat.person.actor)

    anyio.run(run_answer, conversation, chat, tell)
    assert chat.end["state"] == "stopped"
    assert not Message.objects.exists()


def test_an_agent_switched_off_after_the_message_does_not_answer(chat: Stage) -> None:
    conversation = chat.begin()
    set_enabled(chat.agent, False, actor=chat.person.actor)
    anyio.run(run_answer, conversation, chat, lambda kind, data: chat.events.append((kind, data)))
    assert chat.end["state"] == "failed" and "switched off" in chat.end["error"]
    assert not chat.model.asked


def test_a_listener_hears_everything_and_the_end(chat: Stage) -> None:
    conversation = chat.begin()

    async def run() -> list[Any]:
        return [event async for event in turns.follow(conversation, actor=chat.person.actor)]

    kinds = [event[0] for event in anyio.run(run)]
    assert kinds == ["conversation", *["text"] * 3, "end"]


# --- Verbs ----------------------------------------------------------------------------------------------------------


def test_one_turn_at_a_time(chat: Stage) -> None:
    conversation = chat.begin("First")
    with pytest.raises(Conflict, match="still answering"):
        add_message(conversation, "Second", chat.person.actor)
    assert [row.text for row in rows(conversation)] == ["First"]


def test_an_answer_needs_a_message(chat: Stage) -> None:
    conversation = start_conversation(chat.agent, chat.person.actor)
    with pytest.raises(Conflict, match="no message"):
        anyio.run(run_answer, conversation, chat, lambda kind, data: None)


def test_nobody_speaks_in_another_persons_conversation(chat: Stage, bob: Person) -> None:
    conversation = start_conversation(chat.agent, bob.actor)
    with pytest.raises(NotFound):
        add_message(conversation, "Hello", chat.person.actor)
    stop(conversation, chat.person.actor)
    conversations.delete(conversation, chat.person.actor)
    assert Conversation.objects.get() == conversation and not rows(conversation)


@pytest.mark.parametrize("text", ["", " \n", "x" * 20_001, "a\x00b"])
def test_a_text_that_is_none_is_refused(chat: Stage, text: str) -> None:
    conversation = start_conversation(chat.agent, chat.person.actor)
    with pytest.raises(InvalidInput) as caught:
        add_message(conversation, text, chat.person.actor)
    assert list(caught.value.fields) == ["text"]
    conversation.refresh_from_db()
    assert conversation.turn is None


def test_the_title_is_the_beginning_of_the_first_message(chat: Stage) -> None:
    conversation = chat.begin("  A question \nwith details")
    assert conversation.title == "A question"
    long = chat.begin("word " * 100)
    assert len(long.title) <= 80 and long.title.endswith("…")
