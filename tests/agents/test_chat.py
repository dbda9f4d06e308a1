"""A turn with a real server: the model asks, Aster calls, the model answers; and what a model may do wrong."""

from __future__ import annotations

import json

import pytest

from agents.models import Author, MessageState, ToolCall
from tests.agents.chatting import rows, stage
from tests.conftest import Person
from tests.fakes.llm import Answer, FakeModel

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_a_turn_calls_a_tool_and_answers_with_its_result(alice: Person, protocol: str) -> None:
    model = FakeModel()
    with stage(alice, model, protocol) as chat:
        name = chat.name("echo")
        model.script = [Answer("Let me see. ", [(name, {"text": "blue"})]), Answer("It is blue.")]
        conversation = chat.say("Which colour?")
    asked, thought, result, said = rows(conversation)
    assert (asked.author, asked.text) == (Author.PERSON, "Which colour?")
    assert (thought.text, thought.calls[0]["arguments"]) == ("Let me see. ", {"text": "blue"})
    assert (result.text, result.facts["outcome"], result.call_id) == ("blue", "ok", thought.calls[0]["id"])
    assert (said.text, said.state, said.input_tokens, said.output_tokens) == ("It is blue.", "complete", 11, 7)
    assert [kind for kind, _ in chat.events if kind != "text"] == ["call", "result", "end"]
    assert "".join(data["text"] for data in chat.told("text")) == "Let me see. It is blue."
    assert chat.end == {"message": said.pk, "state": "complete", "error": ""}
    assert chat.server.calls() == ["echo"]
    record = ToolCall.objects.get()
    assert (record.outcome, record.user, record.agent) == ("ok", alice.user, chat.agent)
    assert json.dumps(model.asked[1].body).count("blue") == 2  # the call and its result
    conversation.refresh_from_db()
    assert (conversation.turn, conversation.title) == (None, "Which colour?")
    assert not conversation.messages.exclude(state=MessageState.COMPLETE).exists()
