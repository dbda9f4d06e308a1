"""Which requests are plain: the everyday calls and listings that are answered without an SDK session.

A request is plain if nothing about it needs a second look. Whatever does (another method, a header that does not match,
an answer to a question) goes to the SDK's server, which knows every rule of the wire and its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple, TypeGuard

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
from agents.gateway.head import Head

CALL, LIST = "tools/call", "tools/list"
_CALL_PARAMS, _LIST_PARAMS = {"name", "arguments", "_meta"}, {"cursor", "_meta"}
# W3C Trace Context, as MCP carries it in `_meta` (2026-07-28, basic/index)
TRACE, LONGEST_TRACE = ("traceparent", "tracestate", "baggage"), 8192
_TOKEN = "progressToken"
_TRACED = frozenset(TRACE)
_NO_TRACE: Mapping[str, str] = MappingProxyType({})
MOST_SAID = 4_000  # bytes of a request whose `_meta` is worth remembering
_LEGACY_META = {_TOKEN, *TRACE}
# Of `_meta` what is the same in every request of a client
_SAID = {PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY}
_MODERN_META = {*_SAID, *_LEGACY_META}


class PlainRequest(NamedTuple):
    """`declared` are the client's capabilities; of a client of the older eras, those its session id tells of."""

    id: int | str
    method: str
    params: Mapping[str, Any]
    version: str
    declared: Mapping[str, Any]
    progress_token: int | str | None = None
    trace: Mapping[str, str] = _NO_TRACE

    @property
    def is_modern(self) -> bool:
        return self.version == LATEST_MODERN_VERSION

    @property
    def name(self) -> str:
        return str(self.params["name"])

    @property
    def arguments(self) -> dict[str, Any]:
        return self.params.get("arguments") or {}


def read_plain(head: Head, name: str | None, body: bytes) -> PlainRequest | None:
    """The request, or None if it is not plain. `name` is what its Mcp-Name says."""
    message = _parsed(body) if head.accepts_both else None
    if message is None:
        return None
    number, method, params = message.get("id"), message.get("method"), message.get("params")
    if not _is_id(number) or not isinstance(params, dict) or not _has_shape(method, params):
        return None
    if head.version == LATEST_MODERN_VERSION and (head.method != method or name != params.get("name")):
        return None  # the headers say what the body says
    meta = params.get("_meta")
    if meta is not None and meta == head.meta:
        return PlainRequest(number, str(method), params, head.version, meta[CLIENT_CAPABILITIES_META_KEY])
    return _with_meta(
        PlainRequest(number, str(method), params, head.version, {}), head, {} if meta is None else meta, body
    )


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        message = from_json(body, allow_inf_nan=False)
    except ValueError:
        return None
    return message if isinstance(message, dict) and len(message) == 4 and message.get("jsonrpc") == "2.0" else None


def _with_meta(request: PlainRequest, head: Head, meta: object, body: bytes) -> PlainRequest | None:
    declared = _declared(head, meta) if isinstance(meta, dict) else None
    if declared is None or not isinstance(meta, dict):
        return None
    token = meta.get(_TOKEN)
    if not (token is None or _is_id(token)):
        return None
    if request.is_modern and meta.keys() <= _SAID and len(body) <= MOST_SAID:
        head.meta = meta
    trace = _NO_TRACE if _TRACED.isdisjoint(meta) else trace_in(meta)
    return request._replace(declared=declared, progress_token=token, trace=trace)


def trace_in(meta: Mapping[str, Any]) -> dict[str, str]:
    """The caller's trace goes on upstream; nothing else of what a client says about its request does."""
    return {key: value for key in TRACE if isinstance(value := meta.get(key), str) and len(value) <= LONGEST_TRACE}


def _has_shape(method: object, params: Mapping[str, Any]) -> bool:
    if method == CALL:
        is_call = isinstance(params.get("name"), str) and isinstance(params.get("arguments"), (dict, NoneType))
        return is_call and params.keys() <= _CALL_PARAMS
    return method == LIST and params.keys() <= _LIST_PARAMS and isinstance(params.get("cursor"), (str, NoneType))


def _is_id(value: object) -> TypeGuard[int | str]:
    return isinstance(value, (int, str)) and value is not True and value is not False


def _declared(head: Head, meta: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The client's capabilities, if `_meta` holds what it must and nothing more to act on."""
    if head.version == LATEST_MODERN_VERSION:
        declared = meta.get(CLIENT_CAPABILITIES_META_KEY)
        is_read = (
            meta.keys() <= _MODERN_META
            and meta.get(PROTOCOL_VERSION_META_KEY) == LATEST_MODERN_VERSION
            and _can_be_read(ClientCapabilities, declared)
            and (CLIENT_INFO_META_KEY not in meta or _can_be_read(Implementation, meta[CLIENT_INFO_META_KEY]))
        )
        return declared if is_read and isinstance(declared, dict) else None
    if head.version not in HANDSHAKE_PROTOCOL_VERSIONS or not meta.keys() <= _LEGACY_META:
        return None
    opens = head.version == URL_ERROR_VERSION and opens_urls(head.headers)
    return {"elicitation": {"url": {}}} if opens else {}


def _can_be_read(kind: type[BaseModel], said: object) -> bool:
    """Whether the SDK's server can read what a client says of itself."""
    try:
        kind.model_validate(said, by_name=False)
    except ValidationError:
        return False
    return True
