"""What a client's era can read of a server's tools and results (2026-07-28 and the revisions with a handshake)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mcp_types as types
from pydantic import ValidationError

from aster.errors import AsterError

_PLAIN, _TEXT = {"content", "structuredContent", "isError"}, {"type", "text"}


def tool_for_client(definition: Mapping[str, Any], *, modern: bool) -> dict[str, Any] | None:
    """A definition as the client's era can read it: one it cannot would make it drop the whole list.

    A tool with nonsense in an optional field is passed on without its optional fields, or not at all (None).
    """
    cleaned = _cleaned(definition, modern=modern)
    bare = {name: cleaned[name] for name in ("name", "inputSchema")}
    for candidate in (cleaned, bare):
        try:
            tool = types.Tool.model_validate(candidate)
        except ValidationError:
            continue
        return tool.model_dump(by_alias=True, mode="json", exclude_none=True)
    return None


def _cleaned(definition: Mapping[str, Any], *, modern: bool) -> dict[str, Any]:
    definition = {name: value for name, value in definition.items() if value is not None}
    schema = definition.get("outputSchema")
    if not modern and isinstance(schema, dict) and schema.get("type") != "object":
        definition.pop("outputSchema")
    # Clients need not mirror arguments into headers towards us (x-mcp-header); our own client does it upstream.
    properties = definition["inputSchema"].get("properties")
    if isinstance(properties, dict):
        cleaned = {
            name: {k: v for k, v in schema.items() if k != "x-mcp-header"} if isinstance(schema, dict) else schema
            for name, schema in properties.items()
        }
        definition["inputSchema"] = {**definition["inputSchema"], "properties": cleaned}
    return definition


def result_for_client(result: Mapping[str, Any], *, modern: bool) -> dict[str, Any]:
    """A call's result as the client's era can read it; an error result in place of one that nobody could."""
    kept = dict(result)
    if not modern and not isinstance(kept.get("structuredContent"), dict | None):
        del kept["structuredContent"]
    if _is_plain(kept):
        return kept
    try:
        read = types.CallToolResult.model_validate(kept)
    except ValidationError:
        return tool_error("The server's answer is not a tool result that can be passed on.")
    # A null in the place of something optional is an error to many clients.
    written: dict[str, Any] = read.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_unset=True)
    return written


def _is_plain(result: Mapping[str, Any]) -> bool:
    """Texts alone: most results, and nothing that could be wrong with them."""
    if result.keys() - _PLAIN or not isinstance(result.get("isError", False), bool):
        return False
    if not isinstance(result.get("structuredContent", {}), dict):
        return False
    return all(
        isinstance(each, dict) and each.keys() == _TEXT and each["type"] == "text" and isinstance(each["text"], str)
        for each in result["content"]
    )


def tool_error(text: str) -> dict[str, Any]:
    """Trouble that the model can read."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def in_words(error: AsterError) -> str:
    return f"{error.message} {getattr(error, 'hint', '')}".strip()
