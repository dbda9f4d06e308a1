"""Which requests are plain: the everyday calls and listings that are answered without an SDK session.

A request is plain if nothing about it needs a second look. Whatever does (another method, a header that does not match,
a progress token, an answer to a question) goes to the SDK's server, which knows every rule of the wire and its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_NAME_HEADER, MCP_PROTOCOL_VERSION_HEADER
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    ClientCapabilities,
    Implementation,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_MODERN_VERSION
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

CALL, LIST = "tools/call", "tools/list"
_PARAMS = {CALL: {"name", "arguments", "_meta"}, LIST: {"cursor", "_meta"}}
_MODERN_META = {PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY}


@dataclass(frozen=True, slots=True)
class PlainRequest:
    id: int | str
    method: str
    params: Mapping[str, Any]
    is_modern: bool

    @property
    def name(self) -> str:
        return str(self.params["name"])

    @property
    def arguments(self) -> dict[str, Any]:
        return self.params.get("arguments") or {}


def read_plain(headers: Mapping[str, str], body: bytes) -> PlainRequest | None:
    """The request, or None if it is not plain. `headers` are in lower case, without those that came twice."""
    if not _accepts_both(headers.get("accept", "")):
        return None
    try:
        message = from_json(body, allow_inf_nan=False)
    except ValueError:
        return None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or len(message) != 4:
        return None
    number, method, params = message.get("id"), message.get("method"), message.get("params")
    if not isinstance(number, int | str) or isinstance(number, bool) or not isinstance(params, dict):
        return None
    if method not in (CALL, LIST):
        return None
    if params.keys() - _PARAMS[method]:
        return None
    version = headers.get(MCP_PROTOCOL_VERSION_HEADER, "")
    is_modern = version == LATEST_MODERN_VERSION
    known = _is_plain_modern(headers, method, params) if is_modern else _is_plain_legacy(version, params)
    return PlainRequest(number, str(method), params, is_modern) if known and _has_shape(method, params) else None


def _has_shape(method: str, params: Mapping[str, Any]) -> bool:
    if method == LIST:
        return isinstance(params.get("cursor"), str | None)
    return isinstance(params.get("name"), str) and isinstance(params.get("arguments"), dict | None)


def _is_plain_modern(headers: Mapping[str, str], method: str, params: Mapping[str, Any]) -> bool:
    """2026-07-28: the headers say what the body says, and `_meta` holds what it must and nothing to act on."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or meta.keys() - _MODERN_META:
        return False
    return (
        meta.get(PROTOCOL_VERSION_META_KEY) == LATEST_MODERN_VERSION
        and _is_of(ClientCapabilities, meta.get(CLIENT_CAPABILITIES_META_KEY, 0))
        and _is_of(Implementation, meta.get(CLIENT_INFO_META_KEY))
        and headers.get(MCP_METHOD_HEADER) == method
        and (method == LIST or headers.get(MCP_NAME_HEADER) == params.get("name"))
    )


def _is_of(kind: type[BaseModel], said: object) -> bool:
    """Whether the SDK's server can read what a client says of itself."""
    if said is None or said == {}:
        return kind is (Implementation if said is None else ClientCapabilities)
    try:
        kind.model_validate(said, by_name=False)
    except ValidationError:
        return False
    return True


def _is_plain_legacy(version: str, params: Mapping[str, Any]) -> bool:
    return version in HANDSHAKE_PROTOCOL_VERSIONS and params.get("_meta") in (None, {})


@lru_cache(maxsize=64)
def _accepts_both(accept: str) -> bool:
    offered = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
    return {"application/json", "text/event-stream"} <= offered
