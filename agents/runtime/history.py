"""What a model is shown: a conversation's rows, an agent's tools and tools' results in the words of `agents.llm`.

Pure functions over values. Sizes are measured in characters: every model counts tokens in its own way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from agents.llm.base import FromModel, FromPerson, FromTool, OfferedTool, Said, ToolRequest
from agents.models import Agent, Author, Message
from aster.rows import storable

MAX_HISTORY = 200_000
MAX_RESULT = 20_000
MAX_ARGUMENTS = 100_000
NOT_FINISHED = "This call was not finished."


def system_text(agent: Agent, given: dict[str, Any], missing: Sequence[str], of_tools: str = "") -> str:
    """The agent's prompt, what the conversation was started with, how to get at tools, and whose wait for a sign-in."""
    parts = [agent.prompt.strip()]
    if given:
        parts.append(f"Input for this conversation:\n{json.dumps(given, ensure_ascii=False, indent=2)}")
    parts.append(of_tools)
    if missing:
        parts.append(
            f"The person has not connected {', '.join(missing)}, or must reconnect. Those tools fail until then. "
            "They are shown a link; ask them to use it if you need these tools."
        )
    return "\n\n".join(filter(None, parts))


def offered_tools(definitions: Iterable[dict[str, Any]]) -> tuple[OfferedTool, ...]:
    return tuple(map(_offered, definitions))


def _offered(definition: dict[str, Any]) -> OfferedTool:
    words = definition.get("description") or definition.get("title") or ""
    schema = definition.get("inputSchema")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        schema = {"type": "object"}
    # Both providers want properties to be there, if only empty.
    return OfferedTool(definition["name"], str(words), {"properties": {}, **schema})


def read_arguments(text: str) -> dict[str, Any] | None:
    """A call's arguments, or None if the model did not write a JSON object that can be stored and sent on."""
    if len(text) > MAX_ARGUMENTS:
        return None
    try:
        value = json.loads(text.strip() or "{}", parse_constant=_refuse_constant)
        dumped = json.dumps(value, ensure_ascii=False, allow_nan=False)  # 1e999 is read as infinity
        dumped.encode()  # a lone surrogate has no bytes
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and "\\u0000" not in dumped else None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


# --- Results --------------------------------------------------------------------------------------------------------


def result_text(result: dict[str, Any]) -> str:
    """A tool's result as text for the model, cut with a marker when it is long."""
    content = result.get("content")
    texts = [_block_text(block) for block in content] if isinstance(content, list) else []
    if not any(texts) and result.get("structuredContent") is not None:
        texts = [json.dumps(result["structuredContent"], ensure_ascii=False)]
    return capped("\n".join(filter(None, texts)) or "(no content)")


def capped(text: str) -> str:
    text = storable(text)
    left = len(text) - MAX_RESULT
    return text if left <= 0 else f"{text[:MAX_RESULT]}\n[Cut here: {left:,} more characters were left out.]"


def _block_text(block: Any) -> str:
    match block:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "resource", "resource": {"text": str(text)}}:
            return text
        case {"type": "resource_link", "uri": str(uri)}:
            return f"{block.get('title') or block.get('name') or 'Link'}: {uri}"
        case {"type": "image" | "audio" as kind}:
            return f"[{kind}, {block.get('mimeType') or 'unknown type'}: not shown to you]"
        case {"type": "resource"}:
            return "[a file: not shown to you]"
        case _:
            return json.dumps(block, ensure_ascii=False)


# --- History --------------------------------------------------------------------------------------------------------


def history(rows: Iterable[Message], *, with_tools: bool = True, most: int = MAX_HISTORY) -> tuple[Said, ...]:
    """What was said, cut from the front to fit; calls stay with their results, and the last question always stays.

    Without tools to offer, calls are left out: providers refuse them then.
    """
    blocks = _blocks(rows, with_tools)
    kept: list[list[Said]] = []
    room = most
    for block in reversed(blocks):
        room -= _size(block)
        if kept and room < 0:
            break
        kept.insert(0, block)
    # A conversation begins with a person (both protocols), and the model has to know what it was asked last.
    asked = [block for block in blocks if isinstance(block[0], FromPerson)]
    while kept and not isinstance(kept[0][0], FromPerson) and any(each in asked for each in kept):
        kept.pop(0)
    if asked and not any(each is asked[-1] for each in kept):
        kept.insert(0, asked[-1])
    return tuple(said for block in kept for said in block)


def _blocks(rows: Iterable[Message], with_tools: bool) -> list[list[Said]]:
    """A person's message; or a model's with the results of all its calls, in the order of the calls."""
    blocks: list[list[Said]] = []
    rows = list(rows)
    for row, results in zip(rows, results_of(rows), strict=True):
        if row.author == Author.PERSON:
            blocks.append([FromPerson(row.text)])
        elif row.author == Author.MODEL and (row.text.strip() or (row.calls and with_tools)):
            asked = row.calls if with_tools else []
            answered = [_result(results.get(call["id"]), call["id"]) for call in asked]
            blocks.append([FromModel(row.text, tuple(map(_request, asked))), *answered])
    return blocks


def results_of(rows: Sequence[Message]) -> list[dict[str, Message]]:
    """For each row the results of its calls, by the calls' ids: some models give the same ids in every answer."""
    found: list[dict[str, Message]] = [{} for _ in rows]
    waiting: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        for call in row.calls:
            waiting.setdefault(call["id"], []).append(place)
        if row.author == Author.TOOL and (asked := waiting.get(row.call_id)):
            found[asked.pop()][row.call_id] = row
    return found


def _request(call: dict[str, Any]) -> ToolRequest:
    # What was no JSON object is kept as text; sent again as it was, providers refuse the whole history.
    arguments = call["arguments"] if isinstance(call["arguments"], dict) else {}
    return ToolRequest(call["id"], call["name"], json.dumps(arguments, ensure_ascii=False))


def _result(row: Message | None, call_id: str) -> FromTool:
    if row is None:
        return FromTool(call_id, NOT_FINISHED, is_error=True)
    return FromTool(call_id, row.text, is_error=row.facts.get("outcome") != "ok")


def _size(block: list[Said]) -> int:
    calls = [call for said in block if isinstance(said, FromModel) for call in said.calls]
    return sum(len(said.text) for said in block) + sum(len(call.name) + len(call.arguments) for call in calls)
