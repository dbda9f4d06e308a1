"""A model behind real HTTP that speaks both streaming protocols from a script, and remembers what it was asked.

model = FakeModel(Answer(calls=[("echo", {"text": "x"})]), Answer("It says x."))
with serve(model) as url: ...  # base URL: f"{url}/v1", for either protocol
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tests.fakes.mcp_servers import serve

__all__ = ["Answer", "AskedModel", "FakeModel", "Refusal", "serve"]


@dataclass(frozen=True)
class Answer:
    """What the model says. `calls` are (name, arguments); arguments that are a text are sent as they are.

    `finish` is the protocol's own word, or "" for an answer that is cut off; `hold` pauses before the end until the
    test releases the model; `error` is sent in the middle of the stream.
    """

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: str | None = None
    hold: bool = False
    error: dict[str, Any] | None = None
    tokens: tuple[int, int] = (11, 7)


@dataclass(frozen=True)
class Refusal:
    """An answer that is no stream of the protocol."""

    status: int = 200
    body: str = ""
    content_type: str = "application/json"


@dataclass(frozen=True)
class AskedModel:
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class FakeModel:
    """An ASGI app. Each question gets the next answer of the script; the last one again when the script is over."""

    def __init__(self, *script: Answer | Refusal) -> None:
        self.script = list(script)
        self.asked: list[AskedModel] = []
        self.is_holding = threading.Event()
        self._released = threading.Event()
        self.was_left = threading.Event()

    def release(self) -> None:
        """Let an answer that holds go on."""
        self._released.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        self.asked.append(AskedModel(request.url.path, dict(request.headers), await request.json()))
        answer = self.script[min(len(self.asked), len(self.script)) - 1]
        await self._response(request.url.path, answer)(scope, receive, send)

    def _response(self, path: str, answer: Answer | Refusal) -> Response:
        if isinstance(answer, Refusal):
            return Response(answer.body, answer.status, media_type=answer.content_type)
        number = len(self.asked)
        lines = _openai(answer, number) if path.endswith("/chat/completions") else _anthropic(answer, number)
        return StreamingResponse(self._paced(answer, lines), media_type="text/event-stream")

    async def _paced(self, answer: Answer, lines: Iterator[str]) -> AsyncIterator[str]:
        try:
            for line in lines:
                if line != HOLD:
                    yield line
                elif answer.hold:
                    self.is_holding.set()
                    while not self._released.is_set():
                        await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.was_left.set()
            raise


# Where an answer may pause: after its text.
HOLD = "hold"


def _pieces(text: str) -> list[str]:
    """In small pieces, as models send them."""
    return [text[at : at + 5] for at in range(0, len(text), 5)]


def _json_of(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _openai(answer: Answer, number: int) -> Iterator[str]:
    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice], **more})}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    yield from (chunk({"content": piece}) for piece in _pieces(answer.text))
    yield HOLD
    if answer.error:
        yield f"data: {json.dumps({'error': answer.error})}\n\n"
        return
    for index, (name, arguments) in enumerate(answer.calls):
        function = {"name": name, "arguments": ""}
        yield chunk({"tool_calls": [{"index": index, "id": f"call_{number}_{index}", "function": function}]})
        for piece in _pieces(_json_of(arguments)):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if answer.finish == "":
        return
    yield chunk({}, answer.finish or ("tool_calls" if answer.calls else "stop"))
    usage = dict(zip(("prompt_tokens", "completion_tokens"), answer.tokens, strict=True))
    yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def _anthropic(answer: Answer, number: int) -> Iterator[str]:
    def event(kind: str, **data: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"

    yield event("message_start", message={"role": "assistant", "usage": {"input_tokens": answer.tokens[0]}})
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield event("ping")
    for piece in _pieces(answer.text):
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    yield HOLD
    if answer.error:
        yield event("error", error=answer.error)
        return
    for index, (name, arguments) in enumerate(answer.calls, 1):
        block = {"type": "tool_use", "id": f"call_{number}_{index}", "name": name, "input": {}}
        yield event("content_block_start", index=index, content_block=block)
        for piece in _pieces(_json_of(arguments)):
            yield event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": piece})
        yield event("content_block_stop", index=index)
    if answer.finish == "":
        return
    reason = answer.finish or ("tool_use" if answer.calls else "end_turn")
    yield event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": answer.tokens[1]})
    yield event("message_stop")
