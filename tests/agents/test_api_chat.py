"""Conversations over the API: the stream and the JSON, who sees what, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from agents.models import Agent, Conversation, Message
from agents.services.agents import save_agent, set_enabled
from agents.services.conversations import add_message, start_conversation
from tests.agents.chatting import Stage, rows, stage
from tests.aster.api_contract import api
from tests.conftest import Person
from tests.fakes.llm import Answer, FakeModel, Refusal

pytestmark = pytest.mark.django_db(transaction=True)
CONVERSATIONS = "/api/v1/conversations"


@pytest.fixture
def chat(alice: Person) -> Iterator[Stage]:
    with stage(alice, FakeModel(Answer("Hello Alice."))) as opened:
        yield opened


def messages_of(agent: Agent) -> str:
    return f"/api/v1/agents/{agent.slug}/messages"


def events_in(body: str) -> list[tuple[str, Any]]:
    """A stream read the way a client does; comments keep it open."""
    blocks = [block.split("\n") for block in body.split("\n\n") if block and not block.startswith(":")]
    return [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in blocks]


def test_a_message_is_answered_as_a_stream_of_events(aster: str, chat: Stage) -> None:
    name = chat.name("echo")
    chat.model.script = [Answer("", [(name, {"text": "blue"})]), Answer("It is blue.")]
    headers = {"Authorization": f"Bearer {chat.person.key('aster:call')}", "Accept": "text/event-stream"}
    response = httpx2.post(f"{aster}{messages_of(chat.agent)}", json={"text": "Which colour?"}, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
    events = events_in(response.text)
    conversation = Conversation.objects.get()
    assert events[0] == ("conversation", {"id": conversation.pk})
    assert [kind for kind, _ in events if kind != "text"] == ["conversation", "call", "result", "end"]
    assert "".join(data["text"] for kind, data in events if kind == "text") == "It is blue."
    _, thought, result, said = rows(conversation)
    found = dict(events)
    assert found["call"] == {
        **{"message": thought.pk, "call_id": thought.calls[0]["id"], "tool": name, "title": name, "server": "Fake"},
        "arguments": {"text": "blue"},
    }
    assert found["result"]["duration_ms"] == result.facts["duration_ms"]
    assert (found["result"]["outcome"], found["result"]["text"]) == ("ok", "blue")
    assert found["end"] == {"message": said.pk, "state": "complete", "error": ""}


def test_the_events_come_while_the_model_still_speaks(aster: str, chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", hold=True)]
    headers = {"Authorization": f"Bearer {chat.person.key()}"}
    address = f"{aster}{messages_of(chat.agent)}"
    with httpx2.stream("POST", address, json={"text": "Hi"}, headers=headers) as response:
        lines = response.iter_lines()
        text = next(line for line in lines if line.startswith("data") and "Half" in line)
        assert json.loads(text[5:])["text"] == "Half."
        chat.model.release()
        assert any('"state": "complete"' in line for line in lines)


def test_a_client_that_goes_away_misses_nothing(aster: str, chat: Stage) -> None:
    """The turn goes on, and its answer is there for whoever looks later."""
    chat.model.script = [Answer("Half. ", [(chat.name("echo"), {"text": "blue"})], hold=True), Answer("Blue.")]
    headers = {"Authorization": f"Bearer {chat.person.key()}"}
    with httpx2.Client(base_url=aster, headers=headers) as http:
        with http.stream("POST", messages_of(chat.agent), json={"text": "Hi"}) as response:
            assert chat.model.is_holding.wait(10)
            first = next(response.iter_lines())
        assert first == "event: conversation"
        where = f"{CONVERSATIONS}/{Conversation.objects.get().pk}"
        assert http.get(where).json()["is_running"] is True
        chat.model.release()
        while http.get(where).json()["is_running"]:
            pass
        said = http.get(where).json()["messages"]
    assert [(each["author"], each["text"]) for each in said] == [
        ("user", "Hi"), ("assistant", "Half. "), ("tool", "blue"), ("assistant", "Blue."),
    ]  # fmt: skip
    assert {each["state"] for each in said} == {"complete"}


def test_a_client_that_does_not_wait_for_the_json_finds_the_answer_later(aster: str, chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", [(chat.name("echo"), {"text": "blue"})], hold=True), Answer("Blue.")]
    headers = {"Authorization": f"Bearer {chat.person.key()}"}
    with httpx2.Client(base_url=aster, headers=headers) as http:
        with pytest.raises(httpx2.ReadTimeout):
            http.post(f"{messages_of(chat.agent)}?stream=0", json={"text": "Hi"}, timeout=2)
        assert chat.model.is_holding.wait(10)
        chat.model.release()
        where = f"{CONVERSATIONS}/{Conversation.objects.get().pk}"
        while http.get(where).json()["is_running"]:
            pass
        assert http.get(where).json()["messages"][-1]["text"] == "Blue."


def test_without_a_stream_the_answer_is_json_and_the_conversation_goes_on(chat: Stage) -> None:
    client, where = api(chat.person), f"{messages_of(chat.agent)}?stream=0"
    first = client.post(where, {"text": "Hi"})
    assert (first.status_code, first.json()["state"]) == (200, "complete")
    assert [each["text"] for each in first.json()["messages"]] == ["Hello Alice."]
    second = client.post(where, {"text": "And now?", "conversation": first.json()["conversation"]})
    assert second.json()["conversation"] == first.json()["conversation"]
    told = [(each["role"], each["content"]) for each in chat.model.asked[1].body["messages"]]
    assert told == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello Alice."), ("user", "And now?")]


def test_a_turn_that_failed_says_why(chat: Stage) -> None:
    chat.model.script = [Refusal(401, '{"error": {"message": "Incorrect API key: key-of-the-model"}}')]
    answer = api(chat.person).post(f"{messages_of(chat.agent)}?stream=0", {"text": "Hi"})
    assert (answer.status_code, answer.json()["state"]) == (200, "failed")
    assert "does not accept the API key" in answer.json()["error"]
    assert "key-of-the-model" not in answer.content.decode()


def test_conversations_are_listed_read_and_deleted(chat: Stage) -> None:
    client = api(chat.person)
    older, newer = (chat.say(text) for text in ("First", "Second"))
    for path in (CONVERSATIONS, f"/api/v1/agents/{chat.agent.pk}/conversations"):
        assert [row["id"] for row in client.get(path).json()["results"]] == [newer.pk, older.pk]
    read = client.get(f"{CONVERSATIONS}/{older.pk}").json()
    assert (read["title"], [each["text"] for each in read["messages"]]) == ("First", ["First", "Hello Alice."])
    assert client.delete(f"{CONVERSATIONS}/{older.pk}").status_code == 204
    assert client.get(f"{CONVERSATIONS}/{older.pk}").status_code == 404
    assert not Message.objects.filter(conversation_id=older.pk).exists()


def test_another_persons_conversation_does_not_exist(chat: Stage, bob: Person, charlie: Person) -> None:
    """Not for colleagues, not for admins, not for strangers."""
    bobs = start_conversation(chat.agent, bob.actor)
    for person in (chat.person, charlie):
        client, where = api(person), f"{CONVERSATIONS}/{bobs.pk}"
        assert [client.get(where).status_code, client.delete(where).status_code] == [404, 404]
        assert client.post(f"{where}/stop", {}).status_code == 404
        assert client.get(CONVERSATIONS).json()["results"] == []
    joined = api(chat.person).post(messages_of(chat.agent), {"text": "x", "conversation": bobs.pk})
    assert joined.status_code == 404
    assert Conversation.objects.get() == bobs and not chat.model.asked


def test_a_conversation_belongs_to_its_agent(chat: Stage) -> None:
    other = save_agent(Agent(name="Other", llm_config=chat.agent.llm_config), actor=chat.person.actor)
    body = {"text": "x", "conversation": start_conversation(chat.agent, chat.person.actor).pk}
    assert api(chat.person).post(messages_of(other), body).status_code == 404


def test_two_messages_at_once_are_a_conflict(chat: Stage) -> None:
    client, conversation = api(chat.person), start_conversation(chat.agent, chat.person.actor)
    add_message(conversation, "First", chat.person.actor)
    second = client.post(messages_of(chat.agent), {"text": "Second", "conversation": conversation.pk})
    assert (second.status_code, second.json()["code"]) == (409, "turn_running")
    assert [row.text for row in rows(conversation)] == ["First"]
    stopped = client.post(f"{CONVERSATIONS}/{conversation.pk}/stop", {})
    assert (stopped.status_code, stopped.json()["is_running"]) == (200, True)


def test_an_agent_that_cannot_answer_says_so(chat: Stage) -> None:
    client, mute = api(chat.person), save_agent(Agent(name="Mute"), actor=chat.person.actor)
    refused = client.post(messages_of(mute), {"text": "Hi"})
    assert (refused.status_code, refused.json()["code"]) == (409, "no_model")
    assert "LLM config" in refused.json()["detail"]
    set_enabled(chat.agent, False, actor=chat.person.actor)
    refused = client.post(messages_of(chat.agent), {"text": "Hi"})
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_disabled")
    assert not Conversation.objects.exists() and not chat.model.asked


@pytest.mark.parametrize(
    ("change", "field"),
    [({"text": " "}, "text"), ({"text": "x" * 20_001}, "text"), ({"colour": "x"}, "colour"),
     ({"input": []}, "input"), ({"input": {"x": 1}}, "input")],
)  # fmt: skip
def test_a_bad_message_is_refused_and_leaves_nothing(chat: Stage, change: dict[str, Any], field: str) -> None:
    answer = api(chat.person).post(messages_of(chat.agent), {"text": "Hi", **change})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, [field])
    assert not Conversation.objects.exists() and not chat.model.asked


def test_the_input_has_to_fit_the_agents_schema_and_reaches_the_model(chat: Stage) -> None:
    chat.agent.input_json_schema = {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
    }  # fmt: skip
    save_agent(chat.agent, actor=chat.person.actor)
    client, where = api(chat.person), f"{messages_of(chat.agent)}?stream=0"
    for given, field in (({}, "input.city"), ({"city": 5}, "input.city")):
        refused = client.post(where, {"text": "Hi", "input": given})
        assert (refused.status_code, list(refused.json()["fields"])) == (400, [field])
    made = client.post(where, {"text": "Hi", "input": {"city": "Ulm"}})
    assert made.status_code == 200 and "Ulm" in chat.model.asked[0].body["messages"][0]["content"]
    again = client.post(where, {"text": "x", "input": {"city": "Bern"}, "conversation": made.json()["conversation"]})
    assert list(again.json()["fields"]) == ["input"]


def test_a_key_needs_the_right_to_call(chat: Stage) -> None:
    reader = api(chat.person, "aster:read")
    assert reader.post(messages_of(chat.agent), {"text": "Hi"}).json()["code"] == "missing_scope"
    conversation = start_conversation(chat.agent, chat.person.actor)
    assert reader.get(f"{CONVERSATIONS}/{conversation.pk}").status_code == 200
    assert reader.delete(f"{CONVERSATIONS}/{conversation.pk}").status_code == 403


def test_a_long_conversation_is_read_from_its_end_and_in_pages(chat: Stage, bob: Person) -> None:
    conversation = start_conversation(chat.agent, chat.person.actor)
    Message.objects.bulk_create(
        [Message(conversation=conversation, author="user", text=str(number)) for number in range(60)]
    )
    client, where = api(chat.person, "aster:read"), f"{CONVERSATIONS}/{conversation.pk}"
    assert [row["text"] for row in client.get(where).json()["messages"]] == [str(number) for number in range(10, 60)]
    first = client.get(f"{where}/messages").json()
    assert [row["text"] for row in first["results"]] == [str(number) for number in range(59, 9, -1)]
    rest = client.get(first["next"]).json()
    assert ([row["text"] for row in rest["results"]][-1], rest["next"]) == ("0", None)
    assert len(client.get(f"{where}/messages?page_size=5").json()["results"]) == 5
    assert api(bob).get(f"{where}/messages").status_code == 404
    assert client.get(f"{CONVERSATIONS}/0/messages").status_code == 404
