"""A model without a mind, so that chats can be tried without a key: fixed rules over what was said and what tools said.

It speaks the OpenAI chat completions protocol, streamed and not, and says that it is scripted wherever it appears.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from aster.demo.script import Say, ToolCall, next_step

MODEL = "scripted-demo"
MAX_BODY = 4 * 1024 * 1024


def scripted_model_routes(prefix: str, *, word_seconds: float) -> list[Route]:
    """The routes below `prefix`. `word_seconds` lie between two words, so that streaming can be seen."""

    async def completions(request: Request) -> Response:
        try:
            asked = await _read(request)
        except ValueError as problem:
            return _refusal(400, str(problem))
        if asked.get("model") != MODEL:
            return _refusal(404, f"There is no model {asked.get('model')!r} here, only {MODEL}.")
        step = next_step(asked["messages"], _names(asked.get("tools")))
        answer = _Answer(step, wants_usage=bool((asked.get("stream_options") or {}).get("include_usage")))
        if not asked.get("stream"):
            return JSONResponse(answer.whole())
        return StreamingResponse(answer.chunks(word_seconds), media_type="text/event-stream")

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "acme-demo"}]})

    return [
        Route(f"{prefix}/chat/completions", completions, methods=["POST"]),
        Route(f"{prefix}/models", models),
    ]


async def _read(request: Request) -> dict[str, Any]:
    """The request's body. Raises ValueError in words for whoever sent it."""
    body = await request.body()
    if len(body) > MAX_BODY:
        raise ValueError("The request is too long.")
    try:
        asked = json.loads(body)
    except ValueError:
        raise ValueError("The body is not JSON.") from None
    messages = asked.get("messages") if isinstance(asked, dict) else None
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise ValueError("`messages` must be a list of messages.")
    return dict(asked)


def _names(tools: Any) -> list[str]:
    functions = (each.get("function") for each in tools or () if isinstance(each, dict))
    return [str(function.get("name")) for function in functions if isinstance(function, dict)]


def _refusal(status: int, message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status_code=status)


class _Answer:
    """One step as the protocol writes it."""

    def __init__(self, step: Say | ToolCall, *, wants_usage: bool) -> None:
        self.step, self.wants_usage = step, wants_usage
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self.call_id = f"call_{uuid.uuid4().hex[:24]}"
        self.finish = "tool_calls" if isinstance(step, ToolCall) else "stop"

    @property
    def usage(self) -> dict[str, int]:
        # Words, since nothing here has tokens.
        text = self.step.text if isinstance(self.step, Say) else json.dumps(self.step.arguments)
        count = len(text.split())
        return {"prompt_tokens": 0, "completion_tokens": count, "total_tokens": count}

    def whole(self) -> dict[str, Any]:
        if isinstance(self.step, Say):
            message: dict[str, Any] = {"role": "assistant", "content": self.step.text}
        else:
            function = {"name": self.step.name, "arguments": json.dumps(self.step.arguments)}
            call = {"id": self.call_id, "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage}

    async def chunks(self, word_seconds: float) -> AsyncIterator[str]:
        yield self._chunk({"role": "assistant", "content": ""})
        for delta in self._deltas():
            yield self._chunk(delta)
            await asyncio.sleep(word_seconds)
        yield self._chunk({}, finish=self.finish)
        if self.wants_usage:
            yield _event({**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage})
        yield "data: [DONE]\n\n"

    def _deltas(self) -> Iterator[dict[str, Any]]:
        if isinstance(self.step, Say):
            for word in self.step.text.split(" "):
                yield {"content": f"{word} "}
            return
        arguments = json.dumps(self.step.arguments)
        head = {"index": 0, "id": self.call_id, "type": "function"}
        yield {"tool_calls": [{**head, "function": {"name": self.step.name, "arguments": ""}}]}
        # In two pieces, as real models send them.
        for piece in (arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": MODEL}


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
