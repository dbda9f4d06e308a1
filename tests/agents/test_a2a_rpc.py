"""The JSON-RPC endpoint on the wire: what it answers to well-formed requests, and to everything else."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from django.utils import timezone

from agents.models import A2aTask, Conversation
from agents.services.a2a_tasks import MAX_AT_ONCE
from agents.services.agents import save_agent, set_enabled
from agents.services.conversations import add_message, start_conversation
from tests.agents.a2a_clients import Wire, message, old_message
from tests.agents.chatting import Stage, stage
from tests.conftest import Person
from tests.fakes.llm import Answer, FakeModel, Refusal

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("aster")]


@pytest.fixture(autouse=True)
def _no_queries_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")


@pytest.fixture
def chat(alice: Person) -> Iterator[Stage]:
    with stage(alice, FakeModel(Answer("Hello Alice."))) as opened:
        yield opened
        opened.model.release()


@pytest.fixture
def new(chat: Stage) -> Wire:
    return Wire(chat.agent, chat.person.key("aster:call"))


@pytest.fixture
def old(chat: Stage) -> Wire:
    return Wire(chat.agent, chat.person.key("aster:call"), "0.3")


# --- As they are written --------------------------------------------------------------------------------------------


def test_a_task_of_one_zero_as_it_is_written(new: Wire) -> None:
    result = new.result("SendMessage", message=message("Hi"))
    task = A2aTask.objects.get()
    ids = {"taskId": str(task.pk), "contextId": task.conversation.context_id}
    at = result["task"]["status"].pop("timestamp")
    assert at.endswith("Z")
    assert result == {
        "task": {
            "id": str(task.pk),
            "contextId": ids["contextId"],
            "status": {"state": "TASK_STATE_COMPLETED"},
            "artifacts": [
                {
                    "artifactId": "answer",
                    "name": "Answer",
                    "parts": [{"text": "Hello Alice.", "mediaType": "text/plain"}],
                }
            ],
            "history": [
                {"messageId": "m-1", **ids, "role": "ROLE_USER", "parts": [{"text": "Hi", "mediaType": "text/plain"}]}
            ],
        }
    }


def test_a_task_of_zero_three_as_it_is_written(old: Wire) -> None:
    result = old.result("message/send", message=old_message("Hi"))
    assert (result["kind"], result["status"]["state"]) == ("task", "completed")
    assert result["artifacts"][0]["parts"] == [{"kind": "text", "text": "Hello Alice."}]
    (said,) = result["history"]
    assert (said["kind"], said["role"], said["messageId"]) == ("message", "user", "m-1")
    assert said["parts"] == [{"kind": "text", "text": "Hi"}]


def test_the_request_of_the_first_documentation_works_as_it_stands(old: Wire) -> None:
    """`message_id` instead of `messageId`, a key in X-API-Key, and an id that is a text."""
    body = {
        "jsonrpc": "2.0", "method": "message/send", "id": "req-001",
        "params": {
            "message": {
                "role": "user", "parts": [{"kind": "text", "text": "What is the weather today in New York?"}],
                "message_id": "msg-001", "kind": "message",
            }
        },
    }  # fmt: skip
    answer = httpx2.post(old.agent.a2a_url, json=body, headers={"X-API-Key": old.key}).json()
    assert (answer["id"], answer["result"]["status"]["state"]) == ("req-001", "completed")


def test_the_last_event_of_a_stream_of_zero_three_is_final(old: Wire) -> None:
    events = list(old.stream("message/stream", message=old_message()))
    assert [event["kind"] for event in events if event["kind"] != "artifact-update"] == ["task", "status-update"]
    assert (events[-1]["final"], events[-1]["status"]["state"]) == (True, "completed")


def test_parts_are_put_together(new: Wire, chat: Stage) -> None:
    new.result("SendMessage", message=message(parts=[{"text": "One"}, {"text": "two"}]))
    assert chat.model.asked[0].body["messages"][-1]["content"] == "One\n\ntwo"


def test_data_is_the_input_of_an_agent_that_takes_one(new: Wire, chat: Stage) -> None:
    chat.agent.input_json_schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    save_agent(chat.agent, actor=chat.person.actor)
    code, words = new.error("SendMessage", message=message("Hi"))
    assert code == -32602 and "city" in words
    first = new.result("SendMessage", message=message(parts=[{"text": "Hi"}, {"data": {"city": "Oslo"}}]))["task"]
    assert '"city": "Oslo"' in chat.model.asked[0].body["messages"][0]["content"]
    again = message(parts=[{"text": "Hi"}, {"data": {"city": "Bergen"}}], contextId=first["contextId"])
    assert new.error("SendMessage", message=again)[0] == -32602


# --- Versions and methods -------------------------------------------------------------------------------------------


def test_a_version_that_is_not_spoken_is_refused(new: Wire) -> None:
    for version in ("2.0", "1.1", "0.2", "latest"):
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message()}}
        error = new.post(json=body, headers={"A2A-Version": version}).json()["error"]
        assert (error["code"], error["data"][0]["reason"]) == (-32009, "VERSION_NOT_SUPPORTED")
    assert "result" in new.post(json=body, headers={"A2A-Version": "1.0.3"}).json()


def test_a_method_of_the_other_version_says_what_to_do(new: Wire, old: Wire) -> None:
    assert old.error("SendMessage", message=message()) == (
        -32009, "SendMessage is a method of A2A 1.0: send the header A2A-Version: 1.0.",
    )  # fmt: skip
    code, words = new.error("message/send", message=old_message())
    assert code == -32601 and "leave the header A2A-Version out" in words
    assert new.error("tasks/fly")[0] == old.error("tasks/list")[0] == -32601


def test_push_notifications_are_not_supported(new: Wire, old: Wire) -> None:
    for verb in ("Create", "Get", "Delete"):
        assert new.error(f"{verb}TaskPushNotificationConfig", taskId="x")[0] == -32003
    assert new.error("ListTaskPushNotificationConfigs", taskId="x")[0] == -32003
    assert old.error("tasks/pushNotificationConfig/set", taskId="x")[0] == -32003
    config = {"taskPushNotificationConfig": {"url": "https://example.com"}}
    assert new.error("SendMessage", message=message(), configuration=config)[0] == -32003
    assert not A2aTask.objects.exists()


# --- Bad input ------------------------------------------------------------------------------------------------------


BODIES = [
    (b"{", 200, -32700),
    (b"\xff", 200, -32700),
    (b"[" * 100_000, 200, -32700),
    (b"[]", 200, -32600),
    (b"3", 200, -32600),
    (b"", 200, -32600),
    (b'{"jsonrpc": "1.0", "id": 1, "method": "SendMessage"}', 200, -32600),
    (b'{"jsonrpc": "2.0", "method": "SendMessage"}', 200, -32600),
    (b'{"jsonrpc": "2.0", "id": true, "method": "SendMessage"}', 200, -32600),
    (b'{"jsonrpc": "2.0", "id": 1, "method": 5}', 200, -32600),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": []}', 200, -32602),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "a\\u0000"}', 200, -32602),
    (b'"' + b"x" * (1024 * 1024) + b'"', 413, -32600),
    (b'"' + b"x" * (3 * 1024 * 1024) + b'"', 413, -32600),
]


def test_what_is_no_request_is_refused(new: Wire) -> None:
    for content, status, code in BODIES:
        response = new.post(content=content, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.json()["error"]["code"]) == (status, code), content[:100]


def test_a_body_that_is_not_json_by_its_own_word_is_refused(new: Wire) -> None:
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "ListTasks"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "nonsense"):
        response = new.post(content=body, headers={"Content-Type": kind})
        assert (response.status_code, response.json()["error"]["code"]) == (415, -32600), kind


MESSAGES: list[tuple[dict[str, Any], int]] = [
    ({}, -32602),
    ({"message": "Hi"}, -32602),
    ({"message": message(role="ROLE_AGENT")}, -32602),
    ({"message": message(messageId="")}, -32602),
    ({"message": message(messageId="x" * 201)}, -32602),
    ({"message": message(contextId="a\nb")}, -32602),
    ({"message": message(contextId=5)}, -32602),
    ({"message": message(parts=[])}, -32602),
    ({"message": message(parts=["Hi"])}, -32602),
    ({"message": message(parts=[{"text": 5}])}, -32602),
    ({"message": message(parts=[{"text": "x"}] * 101)}, -32602),
    ({"message": message("  ")}, -32602),
    ({"message": message("x" * 20_001)}, -32602),
    ({"message": message(), "configuration": {"historyLength": -1}}, -32602),
    ({"message": message(), "configuration": {"returnImmediately": "yes"}}, -32602),
    ({"message": message(parts=[{"data": {"a": 1}}, {"text": "x"}])}, -32602),
    ({"message": message(parts=[{"url": "https://example.com/a.pdf"}])}, -32005),
    ({"message": message(parts=[{"raw": "eA==", "filename": "a.txt"}])}, -32005),
    ({"message": message(parts=[{"video": "x"}])}, -32005),
    ({"message": message(), "configuration": {"acceptedOutputModes": ["image/png"]}}, -32005),
    ({"message": message(taskId="nothing")}, -32001),
    ({"message": message(taskId="7f7e1c1e-0000-4000-8000-000000000000")}, -32001),
]


def test_a_message_that_cannot_be_taken_leaves_nothing_behind(new: Wire) -> None:
    for params, code in MESSAGES:
        assert new.error("SendMessage", **params)[0] == code, params
        assert new.error("SendStreamingMessage", **params)[0] == code, params
    assert not Conversation.objects.exists()


def test_files_of_zero_three_are_refused(old: Wire) -> None:
    part = {"kind": "file", "file": {"uri": "https://example.com/a.pdf"}}
    assert old.error("message/send", message=old_message(parts=[part]))[0] == -32005


def test_a_list_that_cannot_be_given_is_refused(new: Wire) -> None:
    pages = [{"pageSize": 0}, {"pageSize": 101}, {"pageToken": "???"}, {"pageToken": "eA"}]
    for params in (*pages, {"status": "DONE"}, {"statusTimestampAfter": "yesterday"}):
        assert new.error("ListTasks", **params)[0] == -32602, params


def test_a_list_is_filtered(new: Wire) -> None:
    first = new.result("SendMessage", message=message("One"))["task"]
    second = new.result("SendMessage", message=message("Two"))["task"]
    since = second["status"]["timestamp"]
    found = new.result("ListTasks", statusTimestampAfter=since, historyLength=0)["tasks"]
    assert [each["id"] for each in found] == [second["id"]]
    assert not {"artifacts", "history"} & found[0].keys()
    assert new.result("ListTasks", status="TASK_STATE_COMPLETED")["totalSize"] == 2
    assert new.result("ListTasks", contextId=first["contextId"])["totalSize"] == 1


def test_only_posts_are_requests(new: Wire) -> None:
    response = httpx2.get(new.agent.a2a_url, headers=new.headers)
    assert (response.status_code, response.headers["allow"]) == (405, "POST, OPTIONS")


# --- Who may --------------------------------------------------------------------------------------------------------


def test_a_key_is_needed_and_has_to_fit(new: Wire, alice: Person, charlie: Person) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}}
    said = [
        (httpx2.post(new.agent.a2a_url, json=body, headers={"X-API-Key": key}).status_code, key)
        for key in ("", "ask_x")
    ]
    assert said == [(401, ""), (401, "ask_x")]
    assert Wire(new.agent, charlie.key()).post(json=body).status_code == 404
    refused = Wire(new.agent, alice.key("aster:read")).post(json=body)
    assert (refused.status_code, refused.json()["scope"]) == (403, "aster:call")


# --- Agents that do not answer --------------------------------------------------------------------------------------


def test_an_agent_that_is_off_rejects(new: Wire, old: Wire, chat: Stage) -> None:
    set_enabled(chat.agent, False, actor=chat.person.actor)
    status = new.result("SendMessage", message=message(contextId="c"))["task"]["status"]
    assert status["state"] == "TASK_STATE_REJECTED" and "switched off" in status["message"]["parts"][0]["text"]
    (only,) = new.stream("SendStreamingMessage", message=message())
    assert only["task"]["status"]["state"] == "TASK_STATE_REJECTED"
    events = list(old.stream("message/stream", message=old_message()))
    assert (events[-1]["final"], events[-1]["status"]["state"]) == (True, "rejected")
    assert not Conversation.objects.exists()


def test_an_agent_without_a_model_rejects(new: Wire, chat: Stage) -> None:
    chat.agent.llm_config = None
    save_agent(chat.agent, actor=chat.person.actor)
    status = new.result("SendMessage", message=message())["task"]["status"]
    assert status["state"] == "TASK_STATE_REJECTED" and "no model" in status["message"]["parts"][0]["text"]


def test_a_model_that_fails_fails_the_task(new: Wire, chat: Stage) -> None:
    chat.model.script = [Refusal(500, "{}")]
    task = new.result("SendMessage", message=message())["task"]
    assert task["status"]["state"] == "TASK_STATE_FAILED" and "artifacts" not in task
    assert "HTTP status 500" in task["status"]["message"]["parts"][0]["text"]


def test_two_messages_at_once_to_one_context(new: Wire, chat: Stage) -> None:
    chat.model.script = [Answer("Half. ", hold=True)]
    events = new.stream("SendStreamingMessage", message=message(contextId="c"))
    first = next(events)["task"]
    assert chat.model.is_holding.wait(10)
    for more in ({}, {"taskId": first["id"]}):
        answer = new.call("SendMessage", message=message(contextId="c", **more))["error"]
        assert (answer["code"], answer["data"][0]["metadata"]) == (-32004, {"code": "turn_running"})
    chat.model.release()
    assert list(events)[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


def test_nobody_has_more_than_so_many_tasks_at_work(new: Wire, chat: Stage, bob: Person) -> None:
    alive = {"turn": uuid.uuid4(), "turn_until": timezone.now() + timedelta(minutes=1)}
    for number in range(MAX_AT_ONCE):
        start_conversation(chat.agent, chat.person.actor, context_id=f"c-{number}")
    Conversation.objects.update(**alive)
    answer = new.call("SendMessage", message=message())["error"]
    assert (answer["code"], answer["data"][0]["metadata"]) == (-32004, {"code": "too_many_tasks"})
    assert "result" in Wire(chat.agent, bob.key()).call("SendMessage", message=message())


def test_a_conversation_that_goes_on_in_the_hub_leaves_its_task_as_it_was(new: Wire, chat: Stage) -> None:
    task = new.result("SendMessage", message=message("Hi"))["task"]
    chat.model.script = [Answer("Something else.")]
    chat.say("By hand", Conversation.objects.get())
    read = new.result("GetTask", id=task["id"])
    assert read["artifacts"][0]["parts"][0]["text"] == "Hello Alice."


def test_a_task_whose_process_died_has_failed(new: Wire, chat: Stage) -> None:
    task = new.result("SendMessage", message=message("Hi"))["task"]
    row = A2aTask.objects.get()
    conversation = row.conversation
    said = add_message(conversation, "Then it died", chat.person.actor)
    A2aTask.objects.update(turn=conversation.turn, state="working", turns=[{"message": said.pk, "id": "m-2"}])
    assert new.result("GetTask", id=task["id"])["status"]["state"] == "TASK_STATE_WORKING"
    Conversation.objects.update(turn_until="2026-01-01T00:00:00Z")
    status = new.result("GetTask", id=task["id"])["status"]
    assert status["state"] == "TASK_STATE_FAILED" and "Aster was stopped" in status["message"]["parts"][0]["text"]


def test_a_deleted_conversation_takes_its_tasks_along(new: Wire) -> None:
    task = new.result("SendMessage", message=message("Hi"))["task"]
    Conversation.objects.all().delete()
    assert new.error("GetTask", id=task["id"])[0] == -32001
