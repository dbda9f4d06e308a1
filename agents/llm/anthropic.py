"""Anthropic's messages, streamed."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

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

KIND = "Anthropic"
VERSION = "2023-06-01"
_FINISH = {"max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "tools", "refusal": "refused"}


class AnthropicClient:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def answer(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        headers = {"x-api-key": self.endpoint.api_key, "anthropic-version": VERSION}
        heard = _Heard()
        async with ask(self.endpoint, KIND, "/messages", self._body(turn), headers) as asked:
            async with aclosing(asked.events()) as events:
                async for event in events:
                    if piece := heard.take(event):
                        yield piece
                    if heard.is_complete:
                        break
            if not heard.is_complete:
                raise asked.cut_off()
        for call in heard.requests():
            yield call
        yield Usage(heard.input_tokens, heard.output_tokens)
        yield Finish(_FINISH.get(heard.reason, "stop"))

    def _body(self, turn: Turn) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "max_tokens": self.endpoint.max_tokens,
            "messages": _messages(turn.messages),
            "stream": True,
        }
        if turn.system:
            body["system"] = turn.system
        if turn.tools:
            body["tools"] = [_tool(tool) for tool in turn.tools]
        return body


class _Heard:
    """What the events of one answer have said so far."""

    def __init__(self) -> None:
        self.calls: dict[Any, dict[str, str]] = {}
        self.input_tokens = self.output_tokens = 0
        self.reason = ""
        self.is_complete = False

    def take(self, event: dict[str, Any]) -> TextDelta | None:
        match event:
            case {"type": "message_start", "message": {"usage": dict(usage)}}:
                self._count(usage)
            case {"type": "content_block_start", "index": int(index), "content_block": {"type": "tool_use"} as block}:
                given = block.get("input")
                first = json.dumps(given) if given else ""
                self.calls[index] = {"id": str(block.get("id", "")), "name": str(block.get("name", "")), "json": first}
            case {"type": "content_block_start", "content_block": {"type": "text", "text": str(text)}} if text:
                return TextDelta(text)
            case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": str(text)}} if text:
                return TextDelta(text)
            case {
                "type": "content_block_delta", "index": int(index),
                "delta": {"type": "input_json_delta", "partial_json": str(text)},
            } if index in self.calls:  # fmt: skip
                self.calls[index]["json"] += text
            case {"type": "message_delta"}:
                delta = event.get("delta")
                self.reason = str(delta.get("stop_reason") or "") if isinstance(delta, dict) else ""
                self._count(event.get("usage"))
            case {"type": "message_stop"}:
                self.is_complete = True
        return None

    def _count(self, usage: Any) -> None:
        for name in ("input_tokens", "output_tokens"):
            count = usage.get(name) if isinstance(usage, dict) else None
            if isinstance(count, int) and 0 <= count < 2**31:
                setattr(self, name, count)

    def requests(self) -> list[ToolRequest]:
        # A call without arguments has no pieces at all.
        return [ToolRequest(call["id"], call["name"], call["json"] or "{}") for call in self.calls.values()]


def _messages(said: tuple[Said, ...]) -> list[dict[str, Any]]:
    """Results are said by the user, all those of one answer in one message; neighbours of one role are merged."""
    merged: list[dict[str, Any]] = []
    for each in said:
        role, blocks = _blocks(each)
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        else:
            merged.append({"role": role, "content": blocks})
    return merged


def _blocks(said: Said) -> tuple[str, list[dict[str, Any]]]:
    if isinstance(said, FromPerson):
        return "user", [{"type": "text", "text": said.text}]
    if isinstance(said, FromModel):
        text = [{"type": "text", "text": said.text}] if said.text.strip() else []
        calls = [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}
            for call in said.calls
        ]
        return "assistant", [*text, *calls]
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": said.call_id, "content": said.text}
    return "user", [{**result, "is_error": True} if said.is_error else result]


def _tool(tool: OfferedTool) -> dict[str, Any]:
    # Choices between whole schemas are refused at the top; the call is checked against the full schema anyway.
    schema = {name: value for name, value in tool.schema.items() if name not in ("oneOf", "anyOf", "allOf")}
    return {"name": tool.name, "description": tool.description, "input_schema": schema}
