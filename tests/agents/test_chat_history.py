"""What a model is shown of a long conversation: calls with their results, the last question always."""

from __future__ import annotations

from typing import Any

from agents.llm.base import FromModel, FromPerson, FromTool, Said
from agents.models import Agent, Message
from agents.runtime.history import history, offered_tools, result_text, system_text
from agents.services.calls import AgentTool
from integrations.models import McpServer, Tool


def person(text: str) -> Message:
    return Message(author="user", text=text)


def model(text: str = "", *ids: str) -> Message:
    calls = [{"id": each, "name": "echo", "arguments": {"text": "x"}} for each in ids]
    return Message(author="assistant", text=text, calls=calls)


def tool(call_id: str, text: str, outcome: str = "ok") -> Message:
    return Message(author="tool", call_id=call_id, text=text, facts={"outcome": outcome})


def texts(said: tuple[Said, ...]) -> list[str]:
    return [each.text for each in said]


def test_everything_is_told_in_order_with_results_after_their_calls() -> None:
    said = history([person("Hi"), model("So.", "a", "b"), tool("a", "1"), tool("b", "2", "failed"), model("Done.")])
    assert texts(said) == ["Hi", "So.", "1", "2", "Done."]
    assert isinstance(said[1], FromModel) and [call.id for call in said[1].calls] == ["a", "b"]
    assert [each.is_error for each in said if isinstance(each, FromTool)] == [False, True]


def test_the_oldest_goes_first_and_the_rest_begins_with_a_person() -> None:
    rows = [person("a" * 50), model("b" * 50), person("c" * 50), model("d" * 50), person("e" * 50)]
    assert [text[0] for text in texts(history(rows, most=210))] == ["c", "d", "e"]
    assert [text[0] for text in texts(history(rows, most=160))] == ["c", "d", "e"]
    assert [text[0] for text in texts(history(rows, most=10))] == ["e"]


def test_a_result_never_stays_without_its_call_and_the_question_stays() -> None:
    rows = [person("Why?"), model("", "a"), tool("a", "x" * 100), model("", "b"), tool("b", "y" * 100)]
    said = history(rows, most=150)
    assert isinstance(said[0], FromPerson) and said[0].text == "Why?"
    assert [each.call_id for each in said if isinstance(each, FromTool)] == ["b"]
    assert [call.id for each in said if isinstance(each, FromModel) for call in each.calls] == ["b"]


def test_calls_that_were_never_answered_are_answered() -> None:
    said = history([person("Hi"), model("", "a"), person("Well?")])
    assert [(each.text, each.is_error) for each in said if isinstance(each, FromTool)] == [
        ("This call was not finished.", True)
    ]


def test_a_call_keeps_its_own_result_where_a_model_gives_the_same_id_again() -> None:
    """Some servers number the calls of each answer from 0."""
    rounds = [model("", "call_0"), tool("call_0", "first"), model("", "call_0"), tool("call_0", "second")]
    assert texts(history([person("Hi"), *rounds])) == ["Hi", "", "first", "", "second"]
    stopped = [*rounds, model("", "call_0"), person("Well?")]
    assert texts(history([person("Hi"), *stopped]))[-2:] == ["This call was not finished.", "Well?"]


def test_arguments_that_were_no_object_are_told_as_none() -> None:
    broken = model("", "a")
    broken.calls[0]["arguments"] = '{"broken'
    (_, thought, _) = history([person("Hi"), broken, tool("a", "no")])
    assert isinstance(thought, FromModel) and thought.calls[0].arguments == "{}"


def test_empty_answers_are_left_out() -> None:
    assert texts(history([person("Hi"), model(""), person("Hello?")])) == ["Hi", "Hello?"]


def test_results_are_told_as_text() -> None:
    blocks: list[Any] = [
        {"type": "text", "text": "One"},
        {"type": "image", "mimeType": "image/png", "data": "AAAA"},
        {"type": "resource", "resource": {"uri": "x:1", "text": "Two"}},
        {"type": "resource", "resource": {"uri": "x:1", "blob": "AAAA"}},
        {"type": "resource_link", "uri": "x:2", "name": "Three"},
    ]
    assert result_text({"content": blocks}).split("\n") == [
        "One", "[image, image/png: not shown to you]", "Two", "[a file: not shown to you]", "Three: x:2",
    ]  # fmt: skip
    assert result_text({"content": [], "structuredContent": {"total": 7}}) == '{"total": 7}'
    assert result_text({"content": "nonsense"}) == "(no content)"


def test_a_schema_that_is_none_becomes_an_empty_one() -> None:
    for schema in (None, "nonsense", {"type": "string"}):
        odd = Tool(name="odd", definition={"name": "odd", "inputSchema": schema, "description": None, "title": "Odd"})
        (offered,) = offered_tools([AgentTool("s_1__odd", McpServer(name="S"), odd).definition])
        assert (offered.name, offered.description) == ("s_1__odd", "Odd")
        assert offered.schema == {"type": "object", "properties": {}}


def test_the_system_text_is_the_prompt_and_what_goes_with_it() -> None:
    agent = Agent(name="A", prompt="Be kind.\n")
    assert system_text(agent, {}, []) == "Be kind."
    text = system_text(agent, {"city": "Ulm"}, ["Notes"])
    assert text.startswith("Be kind.\n\n") and '"city": "Ulm"' in text and "not connected Notes" in text
