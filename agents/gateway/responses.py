"""The JSON-RPC response to a plain request, as the bytes that go out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp_types import SERVER_INFO_META_KEY
from pydantic_core import to_json

from agents.gateway.plain import PlainRequest
from aster import __version__

SERVER_INFO = {"name": "aster", "version": __version__}
_STAMP = {SERVER_INFO_META_KEY: SERVER_INFO}


class Response(NamedTuple):
    """A JSON-RPC response and the HTTP status that goes with it."""

    status: int
    body: bytes


def success(request: PlainRequest, result: bytes) -> Response:
    return Response(200, _enveloped(request, b"result", result))


def encoded(result: Mapping[str, Any], request: PlainRequest) -> bytes:
    if request.is_modern:
        meta = {**_STAMP, **(result.get("_meta") or {})}
        return to_json({"resultType": "complete", **result, "_meta": meta})
    return to_json(result)


def _enveloped(request: PlainRequest, kind: bytes, body: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%s,"%s":%s}' % (to_json(request.id), kind, body)


def failure(request: PlainRequest, error: MCPError) -> Response:
    said = {"code": error.code, "message": error.message, **({} if error.data is None else {"data": error.data})}
    # Only 2026-07-28 has statuses for errors (Streamable HTTP).
    status = ERROR_CODE_HTTP_STATUS.get(error.code, 200) if request.is_modern else 200
    return Response(status, _enveloped(request, b"error", to_json(said)))
