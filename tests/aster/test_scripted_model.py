"""The demo's scripted model over real HTTP: what it asks its tools for, what it says, and how it streams."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from aster.demo.scripted_model import MODEL
from aster.demo.world import DemoWorld

TOOLS = ["acme_weather_1__get_forecast", "acme_weather_1__list_cities", "acme_notes_2__list_notes",
         "acme_notes_2__create_note", "acme_notes_2__whoami"]  # fmt: skip


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def tool(text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "call_1", "content": text}


def request_of(messages: list[dict[str, Any]], tools: list[str], **more: Any) -> dict[str, Any]:
    offered = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in tools]
    return {"model": MODEL, "messages": messages, "tools": offered, **more}


def post(world: DemoWorld, body: Any) -> httpx2.Response:
    with httpx2.Client(trust_env=False) as http:
        return http.post(f"{world.model_url}/chat/completions", json=body)


def ask(world: DemoWorld, *messages: dict[str, Any], tools: list[str] = TOOLS) -> dict[str, Any]:
    response = post(world, request_of(list(messages), tools))
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json()["choices"][0]["message"]
    return message


def called(message: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    function = message["tool_calls"][0]["function"]
    return function["name"], json.loads(function["arguments"])


@pytest.mark.parametrize(
    ("said", "name", "arguments"),
    [
        ("Which notes do I have?", "acme_notes_2__list_notes", {}),
        ("What is the weather in oslo?", "acme_weather_1__get_forecast", {"city": "Oslo"}),
        ("Will it rain?", "acme_weather_1__list_cities", {}),
        ("Add a note: buy milk", "acme_notes_2__create_note", {"title": "buy milk", "body": "buy milk"}),
        ("Please remember that Priya starts Monday", "acme_notes_2__create_note",
         {"title": "Priya starts Monday", "body": "Priya starts Monday"}),
        ("Who am I?", "acme_notes_2__whoami", {}),
    ],
)  # fmt: skip
def test_it_asks_the_tool_that_fits(world: DemoWorld, said: str, name: str, arguments: dict[str, Any]) -> None:
    assert called(ask(world, user(said))) == (name, arguments)


def test_it_says_what_it_is_once(world: DemoWorld) -> None:
    first = ask(world, user("Hello"))["content"]
    assert "scripted model" in first and "weather" in first
    second = ask(world, user("Hello"), {"role": "assistant", "content": first}, user("And now?"))["content"]
    assert "scripted" not in second and "weather" in second


def test_it_reports_what_the_tool_said(world: DemoWorld) -> None:
    notes = json.dumps({"notes": [{"title": "Milk", "body": "Buy some."}], "total": 1})
    assert "- **Milk**: Buy some." in ask(world, user("my notes?"), tool(notes))["content"]
    forecast = ask(world, user("weather in Oslo"), tool("Forecast for Oslo\nSat: Rain\nSun: Cloudy"))["content"]
    assert "- Sat: Rain\n- Sun: Cloudy" in forecast
    assert "note-7" in ask(world, user("add a note: x"), tool('{"id": "note-7", "title": "x"}'))["content"]


def test_two_wishes_are_two_calls(world: DemoWorld) -> None:
    said = user("What is the weather in Oslo, and which notes do I have?")
    assert called(ask(world, said))[0] == "acme_weather_1__get_forecast"
    assert called(ask(world, said, tool("Forecast for Oslo\nSat: Rain")))[0] == "acme_notes_2__list_notes"


def test_a_tool_that_needs_a_connection_is_told_plainly(world: DemoWorld) -> None:
    words = "Your connection to Acme ID needs to be reconnected before this can be used."
    answer = ask(world, user("add a note: x"), tool(words))["content"]
    assert "I could not reach the notes: a connection is needed" in answer


def test_where_nobody_has_connected_yet_it_asks_for_the_link(world: DemoWorld) -> None:
    assert called(ask(world, user("my notes"), tools=["n_1__connect_account"])) == ("n_1__connect_account", {})


def test_without_a_fitting_tool_it_says_so(world: DemoWorld) -> None:
    assert "I have no tool for the weather" in ask(world, user("weather in Oslo"), tools=[])["content"]


def events(world: DemoWorld, body: dict[str, Any]) -> list[dict[str, Any]]:
    response = post(world, body)
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_it_streams_word_by_word_and_says_how_it_ended(world: DemoWorld) -> None:
    got = events(world, request_of([user("Hello")], [], stream=True, stream_options={"include_usage": True}))
    assert {each["model"] for each in got} == {MODEL}
    words = [each["choices"][0]["delta"].get("content", "") for each in got if each["choices"]]
    assert len(words) > 20 and "".join(words).startswith("I am a scripted model")
    assert got[-2]["choices"][0]["finish_reason"] == "stop"
    assert got[-1]["usage"]["completion_tokens"] > 20


def test_a_call_comes_in_pieces(world: DemoWorld) -> None:
    got = events(world, request_of([user("weather in Oslo")], TOOLS, stream=True))
    pieces = [each["choices"][0]["delta"].get("tool_calls") for each in got]
    functions = [piece[0]["function"] for piece in pieces if piece]
    assert functions[0]["name"] == "acme_weather_1__get_forecast"
    assert json.loads("".join(each["arguments"] for each in functions)) == {"city": "Oslo"} and len(functions) == 3
    assert got[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "gpt-9", "messages": [user("x")]}, 404, "only scripted-demo"),
        ({"model": MODEL, "messages": []}, 400, "list of messages"),
        (["x"], 400, "list of messages"),
    ],
)
def test_what_makes_no_sense_is_refused_in_the_protocols_shape(
    world: DemoWorld, body: Any, status: int, words: str
) -> None:
    response = post(world, body)
    assert response.status_code == status and words in response.json()["error"]["message"]


def test_it_is_listed_by_its_name(world: DemoWorld) -> None:
    with httpx2.Client(trust_env=False) as http:
        assert [each["id"] for each in http.get(f"{world.model_url}/models").json()["data"]] == ["scripted-demo"]
