"""The HTTP answer to a plain request: one JSON object, or an event stream once there is something to say before it."""

from __future__ import annotations

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from pydantic_core import to_json
from starlette.types import Send

from agents.gateway.plain import PlainRequest
from agents.gateway.responses import Response, failure

_STREAM = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]


class Reply:
    def __init__(self, send: Send, request: PlainRequest) -> None:
        self._send, self._request = send, request
        self._is_stream = self._is_done = False

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Pass progress on with the client's own token."""
        said = {"progressToken": self._request.progress_token, "progress": progress, "total": total, "message": message}
        params = {name: value for name, value in said.items() if value is not None}
        await self._event(to_json({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))

    async def ping(self) -> None:
        await self._say(b": ping\n\n")

    @property
    def has_begun(self) -> bool:
        return self._is_stream

    async def finish(self, response: Response | None) -> None:
        """End it. None is for what turned out to be no plain request after the answer had begun."""
        if response is None:
            response = failure(self._request, MCPError(INTERNAL_ERROR, "This call was not made. Make it again."))
        if self._is_stream:
            await self._event(response.body, more=False)
            return
        self._is_done = True
        size = b"%d" % len(response.body)
        headers = [(b"content-type", b"application/json"), (b"content-length", size)]
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": response.body})

    async def _event(self, message: bytes, *, more: bool = True) -> None:
        await self._say(b"event: message\ndata: " + message + b"\n\n", more=more)

    async def _say(self, text: bytes, *, more: bool = True) -> None:
        if self._is_done:
            return
        self._is_done = not more
        if not self._is_stream:
            self._is_stream = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _STREAM})
        await self._send({"type": "http.response.body", "body": text, "more_body": more})
