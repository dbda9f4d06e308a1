"""The two protocols over real HTTP: what is sent, what comes back, and what a person is told when it does not."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from agents.llm import Endpoint, client_of
from agents.llm.anthropic import AnthropicClient
from agents.llm.base import (
    Finish,
    FromModel,
    FromPerson,
    FromTool,
    OfferedTool,
    Piece,
    TextDelta,
    ToolRequest,
    Turn,
    Usage,
)
from agents.llm.openai import OpenAiClient
from agents.models import LlmConfig
from aster.errors import UpstreamError
from tests.fakes.llm import Answer, FakeModel, Refusal, serve
from tests.fakes.mcp_servers import unused_url

KEY = "sk-canary-of-the-model"
PROTOCOLS = pytest.mark.parametrize("protocol", ["openai", "anthropic"])
QUESTION = Turn("Be brief.", (FromPerson("Hello"),))


def config(url: str, protocol: str, **fields: Any) -> LlmConfig:
    known = {"base_url": f"{url}/v1", "model": "small-1", "api_key": KEY, "max_tokens": 500}
    return LlmConfig(name="L", protocol=protocol, **{**known, **fields})


def ask(model: FakeModel, protocol: str, turn: Turn = QUESTION, **fields: Any) -> list[Piece]:
    async def run(url: str) -> list[Piece]:
        return [piece async for piece in client_of(config(url, protocol, **fields)).answer(turn)]

    with serve(model) as url:
        return anyio.run(run, url)


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))


def refusal(model: FakeModel, protocol: str, **fields: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        ask(model, protocol, **fields)
    assert caught.value.step == "model"
    assert KEY not in f"{caught.value.message} {caught.value.hint} {caught.value.__cause__}"
    return caught.value


def test_the_config_chooses_the_client() -> None:
    assert isinstance(client_of(config("http://x", "openai")), OpenAiClient)
    assert isinstance(client_of(config("http://x", "anthropic")), AnthropicClient)


def test_the_key_is_not_in_what_logs_show() -> None:
    assert KEY not in repr(Endpoint("http://x/v1", "m", KEY, 5))


@PROTOCOLS
def test_an_answer_comes_in_pieces_with_its_usage_and_end(protocol: str) -> None:
    pieces = ask(FakeModel(Answer("Good day to you — Grüße 🙂\u2028!")), protocol)
    assert text_of(pieces) == "Good day to you — Grüße 🙂\u2028!"
    assert len([piece for piece in pieces if isinstance(piece, TextDelta)]) > 3
    assert pieces[-2:] == [Usage(11, 7), Finish("stop")]


@PROTOCOLS
def test_calls_are_put_together_from_their_pieces(protocol: str) -> None:
    calls = [("search", {"query": "a long enough text"}), ("now", {}), ("odd", '{"broken')]
    pieces = ask(FakeModel(Answer("So.", calls)), protocol)
    requests = [piece for piece in pieces if isinstance(piece, ToolRequest)]
    assert [(call.name, call.arguments) for call in requests] == [
        ("search", json.dumps({"query": "a long enough text"})), ("now", "{}"), ("odd", '{"broken'),
    ]  # fmt: skip
    assert len({call.id for call in requests}) == 3
    assert pieces[-1] == Finish("tools")


@PROTOCOLS
@pytest.mark.parametrize(("sent", "reason"), [("limit", "length"), ("filter", "refused")])
def test_an_end_that_is_none_is_told(protocol: str, sent: str, reason: str) -> None:
    words = {
        "openai": {"limit": "length", "filter": "content_filter"},
        "anthropic": {"limit": "max_tokens", "filter": "refusal"},
    }
    assert ask(FakeModel(Answer("So", finish=words[protocol][sent])), protocol)[-1] == Finish(reason)


WHOLE = Turn(
    "Be brief.",
    (
        FromPerson("Compare"),
        FromModel("Let me see.", (ToolRequest("c1", "echo", '{"text": "a"}'), ToolRequest("c2", "echo", "{}"))),
        FromTool("c1", "a"),
        FromTool("c2", "It went wrong", is_error=True),
        FromPerson("And?"),
    ),
    (OfferedTool("echo", "Says it again", {"type": "object", "properties": {}, "anyOf": [{}]}),),
)


def test_what_openai_is_asked() -> None:
    model = FakeModel(Answer("x"))
    ask(model, "openai", WHOLE)
    (asked,) = model.asked
    assert (asked.path, asked.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert {name: asked.body[name] for name in ("model", "stream", "max_tokens")} == {
        **{"model": "small-1", "stream": True, "max_tokens": 500}
    }
    system, first, thought, good, bad, last = asked.body["messages"]
    assert (system["role"], first["content"], last["content"]) == ("system", "Compare", "And?")
    assert [call["function"]["arguments"] for call in thought["tool_calls"]] == ['{"text": "a"}', "{}"]
    assert good == {"role": "tool", "tool_call_id": "c1", "content": "a"}
    assert (bad["tool_call_id"], bad["content"]) == ("c2", "It went wrong")
    assert asked.body["tools"][0]["function"]["name"] == "echo"


def test_what_anthropic_is_asked() -> None:
    model = FakeModel(Answer("x"))
    ask(model, "anthropic", WHOLE)
    (asked,) = model.asked
    assert (asked.path, asked.headers["x-api-key"], "authorization" in asked.headers) == ("/v1/messages", KEY, False)
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert (asked.body["system"], asked.body["max_tokens"]) == ("Be brief.", 500)
    first, thought, results = asked.body["messages"]
    assert [first["role"], thought["role"], results["role"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in thought["content"]] == ["text", "tool_use", "tool_use"]
    assert thought["content"][1]["input"] == {"text": "a"}
    # All results of one answer have to be in the message after it.
    assert [block["type"] for block in results["content"]] == ["tool_result", "tool_result", "text"]
    assert results["content"][1]["is_error"] is True
    # A choice between whole schemas is refused there.
    assert asked.body["tools"][0]["input_schema"] == {"type": "object", "properties": {}}


@PROTOCOLS
def test_without_tools_none_are_sent(protocol: str) -> None:
    model = FakeModel(Answer("x"))
    ask(model, protocol)
    assert "tools" not in model.asked[0].body


def test_a_local_server_needs_no_key() -> None:
    model = FakeModel(Answer("x"))
    ask(model, "openai", api_key="")
    assert "authorization" not in model.asked[0].headers


@PROTOCOLS
@pytest.mark.parametrize(
    ("status", "code", "words", "retryable"),
    [
        (401, "model_key_refused", "does not accept the API key", False),
        (403, "model_key_refused", "does not accept the API key", False),
        (404, "model_unknown", "has no model small-1", False),
        (400, "model_refused", "refused the request: the prompt is too long", False),
        (429, "model_overloaded", "limit is reached", True),
        (529, "model_overloaded", "overloaded", True),
        (500, "model_failed", "HTTP status 500", True),
    ],
)
def test_a_refusal_is_told_in_words_without_the_key(
    protocol: str, status: int, code: str, words: str, retryable: bool
) -> None:
    body = json.dumps({"error": {"message": f"the prompt is too long for {KEY}", "type": "x"}})
    error = refusal(FakeModel(Refusal(status, body)), protocol)
    assert (error.code, error.retryable) == (code, retryable)
    assert words in error.message


@PROTOCOLS
@pytest.mark.parametrize(
    "answer",
    [
        Refusal(200, "<h1>Welcome</h1>", "text/html"),
        Refusal(404, "<h1>Not found</h1>", "text/html"),
        Refusal(200, '{"choices": []}'),
        Refusal(200, "data: {nonsense\n\n", "text/event-stream"),
        Refusal(200, "data: [1, 2]\n\n", "text/event-stream"),
        Refusal(302, "", "text/html"),
    ],
    ids=["a page", "a missing page", "no stream", "no JSON", "no object", "a redirect"],
)
def test_what_is_not_the_protocol_is_called_so(protocol: str, answer: Refusal) -> None:
    error = refusal(FakeModel(answer), protocol)
    assert error.code == "model_protocol" and "protocol and base URL" in error.hint


@PROTOCOLS
@pytest.mark.parametrize(
    "answer",
    [
        Answer("Half a sen", finish=""),
        Refusal(200, "", "text/event-stream"),
        Refusal(200, 'data: {"choices": "x", "type": 5, "delta": 1}\n\n', "text/event-stream"),
    ],
    ids=["midway", "nothing", "strange events"],
)
def test_an_answer_without_an_end_is_cut_off(protocol: str, answer: Answer | Refusal) -> None:
    error = refusal(FakeModel(answer), protocol)
    assert (error.code, error.retryable) == ("model_cut_off", True)


@PROTOCOLS
def test_an_error_in_the_middle_says_what_the_provider_says(protocol: str) -> None:
    busy = refusal(FakeModel(Answer("Half", error={"type": "overloaded_error", "message": "Busy"})), protocol)
    other = refusal(FakeModel(Answer("Half", error={"type": "odd", "message": f"Strange {KEY}"})), protocol)
    assert (busy.code, busy.retryable) == ("model_overloaded", True)
    assert other.message == "The model ended its answer with an error: Strange [REDACTED]."


@PROTOCOLS
def test_a_line_without_end_is_not_kept(protocol: str) -> None:
    error = refusal(FakeModel(Refusal(200, "data: " + "x" * 1_200_000, "text/event-stream")), protocol)
    assert "too large" in error.message


@PROTOCOLS
def test_nobody_there_is_told_with_what_to_check(protocol: str) -> None:
    async def run() -> list[Piece]:
        nowhere = unused_url().removesuffix("/mcp")
        return [piece async for piece in client_of(config(nowhere, protocol)).answer(QUESTION)]

    with pytest.raises(UpstreamError) as caught:
        anyio.run(run)
    assert "Nobody answers" in caught.value.message and "LLM config" in caught.value.hint


@PROTOCOLS
def test_addresses_that_egress_refuses_are_refused(protocol: str, settings: Any) -> None:
    model = FakeModel(Answer("x"))
    settings.DEBUG = False
    error = refusal(model, protocol)
    assert error.code == "forbidden_address" and not model.asked


@PROTOCOLS
def test_a_key_that_no_header_can_carry_is_refused_before_it_is_sent(protocol: str) -> None:
    model = FakeModel(Answer("x"))
    for key in ("schlüssel", "two\nlines"):
        assert refusal(model, protocol, api_key=key).code == "model_key_refused"
    assert not model.asked


def test_servers_that_send_whole_calls_without_places_are_understood() -> None:
    call = {"function": {"name": "echo", "arguments": {"text": "x"}}}
    lines = [
        {"choices": [{"delta": {"tool_calls": [call, call]}, "finish_reason": "stop"}]},
        {"choices": [], "usage": None},
    ]
    body = "".join(f"data:{json.dumps(line)}\r\n\r\n" for line in lines)
    pieces = ask(FakeModel(Refusal(200, body, "text/event-stream")), "openai")
    assert [piece.arguments for piece in pieces if isinstance(piece, ToolRequest)] == ['{"text": "x"}'] * 2
    assert pieces[-1] == Finish("tools")


@pytest.mark.parametrize(
    ("protocol", "lines"),
    [
        ("openai", [{"choices": [{"delta": {"content": "Hi"}, "finish_reason": ["stop"]}]}]),
        (
            "anthropic",
            [
                {"type": "content_block_start", "index": [0], "content_block": {"type": "tool_use"}},
                {
                    "type": "content_block_delta",
                    "index": {},
                    "delta": {"type": "input_json_delta", "partial_json": "1"},
                },
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
                {"type": "message_stop"},
            ],
        ),
    ],
)
def test_values_that_are_nonsense_do_not_cost_the_answer(protocol: str, lines: list[dict[str, Any]]) -> None:
    body = "".join(f"data: {json.dumps(line)}\n\n" for line in lines)
    pieces = ask(FakeModel(Refusal(200, body, "text/event-stream")), protocol)
    assert [piece.text for piece in pieces if isinstance(piece, TextDelta)] == ["Hi"]
    assert pieces[-1] == Finish("stop")
