"""A turn with a real server: the model asks, Aster calls, the model answers; and what a model may do wrong."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import Any

import pytest

from agents.models import Author, MessageState, ToolCall
from agents.services.agents import assign_servers, switch_tools
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, McpServer, Tool
from integrations.services.servers import save_server
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


def test_calls_that_only_read_are_made_at_once_and_others_in_their_order(alice: Person) -> None:
    """The readers wait for each other at the server; whatever writes comes when those before it are done."""
    model = FakeModel()
    with stage(alice, model) as chat:
        Tool.objects.filter(name="echo").update(
            definition={**Tool.objects.get(name="echo").definition, "annotations": {"readOnlyHint": True}}
        )
        together, app, order = threading.Barrier(2), chat.server.app, list[str]()

        async def meet(scope: Any, receive: Any, send: Any) -> None:
            tool = chat.server.requests[-1].tool
            if tool == "echo":
                await asyncio.to_thread(together.wait, 5)
            order.append(str(tool))
            await app(scope, receive, send)

        chat.server.serve_instead(meet)
        echo, add = chat.name("echo"), chat.name("add")
        model.script = [
            Answer(
                calls=[(echo, {"text": "a"}), (echo, {"text": "b"}), (add, {"a": 1, "b": 1}), (add, {"a": 2, "b": 2})]
            ),
            Answer("Done."),
        ]
        conversation = chat.say()
    assert not together.broken
    assert order == ["echo", "echo", "add", "add"]
    texts = [row.text for row in rows(conversation) if row.author == Author.TOOL]
    assert (set(texts[:2]), texts[2:]) == ({"a", "b"}, ["2", "4"])
    results = [each["content"] for each in chat.model.asked[1].body["messages"] if each["role"] == "tool"]
    assert results == ["a", "b", "2", "4"]  # in the order of the calls, whichever was faster


# --- What a model may do wrong --------------------------------------------------------------------------------------


def test_a_model_that_invents_a_tool_is_told_so(alice: Person) -> None:
    with stage(alice, FakeModel(Answer(calls=[("no such tool!", {})]), Answer("Sorry."))) as chat:
        conversation = chat.say()
    (result,) = chat.told("result")
    assert (result["outcome"], result["code"]) == ("refused", "unknown_tool")
    assert "no tool called" in json.dumps(chat.model.asked[1].body)
    # A name that the provider would not take back is kept in a form it takes.
    assert rows(conversation)[1].calls[0]["name"] == "no_such_tool_"
    assert chat.end["state"] == "complete" and not chat.server.calls()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('{"text": ', "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('{"text": "\\u0000"}', "not a JSON object"),
        ('{"text": "\\ud800"}', "not a JSON object"),
        ('{"text": NaN}', "not a JSON object"),
        ('{"text": 1e999}', "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ("{}", "text: This field is required."),
        ('{"text": 5}', "text: Must be string."),
    ],
    ids=lambda value: value[:12],
)
@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_arguments_that_do_not_fit_are_told_and_reach_no_server(
    alice: Person, protocol: str, arguments: str, words: str
) -> None:
    model = FakeModel()
    with stage(alice, model, protocol) as chat:
        model.script = [Answer(calls=[(chat.name("echo"), arguments)]), Answer("Sorry.")]
        chat.say()
    (result,) = chat.told("result")
    assert (result["outcome"], result["code"]) == ("refused", "invalid_arguments")
    assert words in result["text"] and words in json.dumps(model.asked[1].body)
    assert chat.end["state"] == "complete" and not chat.server.calls()


def test_the_same_call_again_and_again_is_refused_to_the_model(alice: Person) -> None:
    model = FakeModel()
    with stage(alice, model) as chat:
        again = Answer(calls=[(chat.name("echo"), {"text": "x"})])
        other = Answer(calls=[(chat.name("echo"), {"text": "y"})])
        model.script = [again, again, again, again, other, Answer("Done.")]
        chat.say()
    assert [result["code"] for result in chat.told("result")] == ["", "", "", "repeated_call", ""]
    assert chat.server.calls() == ["echo"] * 4


def test_a_model_that_wants_everything_at_once_gets_some_of_it(alice: Person) -> None:
    model = FakeModel()
    with stage(alice, model) as chat:
        model.script = [Answer(calls=[(chat.name("echo"), {}) for _ in range(60)]), Answer("Done.")]
        conversation = chat.say()
    assert len(rows(conversation)[1].calls) == len(chat.told("result")) == 50
    assert chat.end["state"] == "complete"


def test_a_model_that_never_comes_to_an_answer_is_ended(alice: Person) -> None:
    model = FakeModel()
    with stage(alice, model) as chat:
        model.script = [Answer(calls=[(chat.name("echo"), {"text": "x"})])]
        conversation = chat.say()
    assert len(model.asked) == 20
    assert chat.end["state"] == "failed" and "20 times" in chat.end["error"]
    assert rows(conversation)[-1].error == chat.end["error"]
    assert chat.server.calls() == ["echo"] * 3


def test_a_model_that_says_nothing_is_a_failure(alice: Person) -> None:
    with stage(alice, FakeModel(Answer(""))) as chat:
        chat.say()
    assert chat.end["state"] == "failed" and "answered nothing" in chat.end["error"]


def test_an_answer_that_is_too_long_is_kept_with_the_reason(alice: Person) -> None:
    with stage(alice, FakeModel(Answer("As far as", finish="length"))) as chat:
        conversation = chat.say()
    assert (chat.end["state"], rows(conversation)[-1].text) == ("complete", "As far as")
    assert "longest answer" in chat.end["error"]


def test_characters_that_no_database_takes_are_left_out(alice: Person) -> None:
    with stage(alice, FakeModel(Answer("a\x00b\ud800c"))) as chat:
        conversation = chat.say()
    assert rows(conversation)[-1].text == "ab?c"


# --- Tools ----------------------------------------------------------------------------------------------------------


def test_a_tool_that_fails_is_told_to_the_model_as_an_error(alice: Person) -> None:
    model = FakeModel()
    with stage(alice, model, "anthropic") as chat:
        model.script = [Answer(calls=[(chat.name("fail"), {})]), Answer("It does not work.")]
        chat.say()
    (result,) = chat.told("result")
    assert (result["outcome"], result["text"]) == ("tool_error", "It went wrong")
    assert model.asked[1].body["messages"][-1]["content"][0]["is_error"] is True


def test_a_long_result_is_cut_with_a_marker(alice: Person) -> None:
    model = FakeModel()
    with stage(alice, model) as chat:
        model.script = [Answer(calls=[(chat.name("big"), {"size": 50_000})]), Answer("Long.")]
        conversation = chat.say()
    text = rows(conversation)[2].text
    assert len(text) < 20_100 and text.endswith("[Cut here: 30,000 more characters were left out.]")
    assert model.asked[1].body["messages"][-1]["content"] == text


def test_a_tool_that_is_switched_off_is_not_offered_and_refused(alice: Person) -> None:
    model = FakeModel()
    with stage(alice, model) as chat:
        name = chat.name("echo")
        switch_tools(chat.agent, chat.agent.servers.get(), off=["echo"], actor=alice.actor)
        model.script = [Answer(calls=[(name, {"text": "x"})]), Answer("Sorry.")]
        chat.say()
    offered = [tool["function"]["name"] for tool in model.asked[0].body["tools"]]
    assert offered and name not in offered
    assert chat.told("result")[0]["code"] == "tool_disabled" and not chat.server.calls()


def test_names_and_schemas_suit_every_model(alice: Person) -> None:
    with stage(alice, FakeModel(Answer("Hi"))) as chat:
        chat.say()
    for tool in (each["function"] for each in chat.model.asked[0].body["tools"]):
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool["name"])
        assert tool["parameters"]["type"] == "object" and "properties" in tool["parameters"]


def test_a_missing_connection_is_a_banner_for_the_person_and_an_error_for_the_model(alice: Person) -> None:
    model = FakeModel()
    with stage(alice, model) as chat:
        auth = AuthConfig(
            name="ID", auth_type=AuthType.AUTHORIZATION_CODE, authorization_url="http://127.0.0.1:1/a",
            token_url="http://127.0.0.1:1/t",
        )  # fmt: skip
        server = McpServer(name="Private", url="http://127.0.0.1:1/mcp")
        server = save_server(server, auth=auth, actor=alice.actor, test=False).server
        schema = {"type": "object"}
        Tool.objects.create(server=server, name="read", definition={"name": "read", "inputSchema": schema})
        assign_servers(chat.agent, [chat.agent.servers.get().pk, server.pk], actor=alice.actor)
        model.script = [Answer(calls=[(chat.name("read"), {})]), Answer("Please connect.")]
        conversation = chat.say()
        (banner,) = chat.told("banner")
        assert banner["text"] == "Your Private connection needs to be connected before this agent can use its tools."
        assert alice.browser().get(banner["url"]).status_code == 200
        assert "/private/" in banner["url"]
        (result,) = chat.told("result")
        assert (result["outcome"], result["code"]) == ("connection_required", "connection_required")
        assert rows(conversation)[2].facts["connect"].split("?")[0] == banner["url"].split("?")[0]
        assert "Private" in model.asked[0].body["messages"][0]["content"]
        assert "Connect your account at Private" in model.asked[1].body["messages"][-1]["content"]

        connection = Connection.objects.create(auth_config=server.auth_config, user=alice.user, access_token="t")
        Connection.objects.filter(pk=connection.pk).update(status=ConnectionStatus.ERROR)
        model.script = [Answer("Again.")]
        chat.say(conversation=conversation)
        (banner,) = chat.told("banner")
        assert banner["text"] == "Your Private connection needs to be reconnected before this agent can use its tools."


def test_earlier_calls_are_left_out_for_an_agent_that_lost_its_tools(alice: Person) -> None:
    """Providers refuse calls in a history without tools beside it."""
    model = FakeModel()
    with stage(alice, model, "anthropic") as chat:
        model.script = [Answer("So. ", [(chat.name("echo"), {"text": "x"})]), Answer("Done.")]
        conversation = chat.say("First")
        assign_servers(chat.agent, [], actor=alice.actor)
        chat.say("Second", conversation)
    told = model.asked[-1].body
    assert "tools" not in told and "tool_use" not in json.dumps(told)
    assert [message["role"] for message in told["messages"]] == ["user", "assistant", "user"]
