"""Which requests are plain: the everyday calls and listings that are answered without an SDK session.

A request is plain if nothing about it needs a second look. Whatever does (another method, a header that does not match,
an answer to a question) goes to the SDK's server, which knows every rule of the wire and its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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

from agents.gateway.handshake import URL_ERROR_VERSION, opens_urls

CALL, LIST = "tools/call", "tools/list"
_PARAMS = {CALL: {"name", "arguments", "_meta"}, LIST: {"cursor", "_meta"}}
# W3C Trace Context, as MCP carries it in `_meta` (2026-07-28, basic/index)
TRACE, LONGEST_TRACE = ("traceparent", "tracestate", "baggage"), 8192
_TOKEN = "progressToken"
_LEGACY_META = {_TOKEN, *TRACE}
_MODERN_META = {PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, *_LEGACY_META}


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """`declared` are the client's capabilities; of a client of the older eras, those its session id tells of."""

    id: int | str
    method: str
    params: Mapping[str, Any]
    version: str
    declared: Mapping[str, Any]
    progress_token: int | str | None = None
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_modern(self) -> bool:
        return self.version == LATEST_MODERN_VERSION

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
    if method not in (CALL, LIST) or params.keys() - _PARAMS[method] or not _has_shape(method, params):
        return None
    meta, version = params.get("_meta"), headers.get(MCP_PROTOCOL_VERSION_HEADER, "")
    meta = {} if meta is None else meta
    if not isinstance(meta, dict):
        return None
    if version == LATEST_MODERN_VERSION:
        declared = _declared_by_modern(headers, method, params, meta)
    else:
        declared = _declared_by_legacy(headers, version, meta)
    if declared is None or not _is_token(meta.get(_TOKEN)):
        return None
    trace = trace_in(meta) if meta.keys() & set(TRACE) else {}
    return PlainRequest(number, str(method), params, version, declared, meta.get(_TOKEN), trace)


def trace_in(meta: Mapping[str, Any]) -> dict[str, str]:
    """The caller's trace goes on upstream; nothing else of what a client says about its request does."""
    return {key: value for key in TRACE if isinstance(value := meta.get(key), str) and len(value) <= LONGEST_TRACE}


def _has_shape(method: str, params: Mapping[str, Any]) -> bool:
    if method == LIST:
        return isinstance(params.get("cursor"), str | None)
    return isinstance(params.get("name"), str) and isinstance(params.get("arguments"), dict | None)


def _is_token(value: object) -> bool:
    return value is None or (isinstance(value, int | str) and not isinstance(value, bool))


def _declared_by_modern(
    headers: Mapping[str, str], method: str, params: Mapping[str, Any], meta: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """2026-07-28: the headers say what the body says, and `_meta` holds what it must and nothing more to act on."""
    declared = meta.get(CLIENT_CAPABILITIES_META_KEY, 0)
    matches = (
        not meta.keys() - _MODERN_META
        and meta.get(PROTOCOL_VERSION_META_KEY) == LATEST_MODERN_VERSION
        and _is_of(ClientCapabilities, declared)
        and _is_of(Implementation, meta.get(CLIENT_INFO_META_KEY))
        and headers.get(MCP_METHOD_HEADER) == method
        and (method == LIST or headers.get(MCP_NAME_HEADER) == params.get("name"))
    )
    return declared if matches and isinstance(declared, dict) else None


def _declared_by_legacy(headers: Mapping[str, str], version: str, meta: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if version not in HANDSHAKE_PROTOCOL_VERSIONS or meta.keys() - _LEGACY_META:
        return None
    opens = version == URL_ERROR_VERSION and opens_urls(headers)
    return {"elicitation": {"url": {}}} if opens else {}


def _is_of(kind: type[BaseModel], said: object) -> bool:
    """Whether the SDK's server can read what a client says of itself."""
    if said is None or said == {}:
        return kind is (Implementation if said is None else ClientCapabilities)
    try:
        kind.model_validate(said, by_name=False)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=64)
def _accepts_both(accept: str) -> bool:
    offered = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
    return {"application/json", "text/event-stream"} <= offered
