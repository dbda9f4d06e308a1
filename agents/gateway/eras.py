"""What a client's era can read of a server's tools and results (2026-07-28 and the revisions with a handshake)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mcp_types as types
from pydantic import ValidationError

from aster.errors import AsterError

_PLAIN, _TEXT = {"content", "structuredContent", "isError"}, {"type", "text"}
# The other fields that the SDK knows, under both of its names; it passes on nothing that it does not know.
_OTHER = (
    frozenset(name for key, field in types.CallToolResult.model_fields.items() for name in (key, field.alias) if name)
    - _PLAIN
)
_NONE: Mapping[str, Any] = {}


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
    if _is_plain(result):
        return {name: result[name] for name in result if name in _PLAIN}
    kept = dict(result)
    if not modern and not isinstance(kept.get("structuredContent"), dict | None):
        del kept["structuredContent"]
    try:
        read = types.CallToolResult.model_validate(kept)
    except ValidationError:
        return tool_error("The server's answer is not a tool result that can be passed on.")
    # A null in the place of something optional is an error to many clients.
    written: dict[str, Any] = read.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_unset=True)
    return written


def _is_plain(result: Mapping[str, Any]) -> bool:
    """Texts alone: most results, and nothing that could be wrong with them."""
    if not _OTHER.isdisjoint(result) or not isinstance(result.get("isError", False), bool):
        return False
    if not isinstance(result.get("structuredContent", _NONE), dict):
        return False
    return all(map(_is_text, result["content"]))


def _is_text(block: object) -> bool:
    if not isinstance(block, dict) or block.keys() != _TEXT:
        return False
    return block["type"] == "text" and isinstance(block["text"], str)


def tool_error(text: str) -> dict[str, Any]:
    """Trouble that the model can read."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def in_words(error: AsterError) -> str:
    return f"{error.message} {getattr(error, 'hint', '')}".strip()
