"""OpenAI's chat completions, streamed; also what Ollama, vLLM, OpenRouter and most others speak."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agents.llm.base import (
    Endpoint,
    Finish,
    FromModel,
    FromPerson,
    OfferedTool,
    Piece,
    Said,
    TextDelta,
    ToolRequest,
    Turn,
    Usage,
    ask,
)

KIND = "OpenAI"
_FINISH = {"length": "length", "tool_calls": "tools", "function_call": "tools", "content_filter": "refused"}
_MAX_DESCRIPTION = 1024
# OpenAI's own newer models refuse `max_tokens`; most others know nothing else.
_NEW_NAME_HOSTS = ("api.openai.com", ".openai.azure.com")


@dataclass
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""


class OpenAiClient:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def answer(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        key = self.endpoint.api_key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        reason, usage, calls = "", None, dict[int, _Call]()
        async with ask(self.endpoint, KIND, "/chat/completions", self._body(turn), headers) as asked:
            async with aclosing(asked.events()) as events:
                async for event in events:
                    usage = _usage(event) or usage
                    choice = _first_choice(event)
                    delta = choice.get("delta")
                    if isinstance(delta, dict):
                        if isinstance(text := delta.get("content"), str) and text:
                            yield TextDelta(text)
                        _collect(calls, delta.get("tool_calls"))
                    reason = str(choice.get("finish_reason") or reason)
            if not reason:
                raise asked.cut_off()
        for call in calls.values():
            yield ToolRequest(call.id, call.name, call.arguments)
        if usage:
            yield usage
        # Some servers end with "stop" although there are calls.
        yield Finish("tools" if calls and reason != "length" else _FINISH.get(reason, "stop"))

    def _body(self, turn: Turn) -> dict[str, Any]:
        host = urlsplit(self.endpoint.base_url).hostname or ""
        limit = "max_completion_tokens" if host.endswith(_NEW_NAME_HOSTS) else "max_tokens"
        system = [{"role": "system", "content": turn.system}] if turn.system else []
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": [*system, *map(_message, turn.messages)],
            limit: self.endpoint.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return {**body, "tools": [_tool(tool) for tool in turn.tools]} if turn.tools else body


def _message(said: Said) -> dict[str, Any]:
    if isinstance(said, FromPerson):
        return {"role": "user", "content": said.text}
    if isinstance(said, FromModel):
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in said.calls
        ]
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
        return {**message, "tool_calls": calls} if calls else message
    return {"role": "tool", "tool_call_id": said.call_id, "content": said.text}


def _tool(tool: OfferedTool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description[:_MAX_DESCRIPTION], "parameters": tool.schema}
    return {"type": "function", "function": function}


def _first_choice(event: dict[str, Any]) -> dict[str, Any]:
    choices = event.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _collect(calls: dict[int, _Call], pieces: Any) -> None:
    """Calls come in pieces that name their place; servers that send whole calls may leave the place out."""
    for piece in pieces if isinstance(pieces, list) else []:
        function = piece.get("function") if isinstance(piece, dict) else None
        if not isinstance(function, dict):
            continue
        index = piece.get("index")
        call = calls.setdefault(index if isinstance(index, int) else len(calls), _Call())
        call.id = call.id or str(piece.get("id") or "")
        call.name = call.name or str(function.get("name") or "")
        arguments = function.get("arguments")
        call.arguments += json.dumps(arguments) if isinstance(arguments, dict) else str(arguments or "")


def _usage(event: dict[str, Any]) -> Usage | None:
    usage = event.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Usage(*(count if isinstance(count, int) and 0 <= count < 2**31 else 0 for count in counts))
