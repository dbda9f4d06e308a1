"""What stands between the clients and Aster and writes down what was really said: the clients are given its address."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import uvicorn
from starlette.requests import Request

# RFC 9110, 7.6.1; and what the server below sets itself.
HOP_BY_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"date", b"server"}


@dataclass
class Seen:
    """One request and the status it got."""

    method: str
    path: str
    message: str
    version: str
    status: int = 0
    answer: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.message} {self.version} → {self.status}".replace("  ", " ")


class Recorder:
    """An ASGI application that passes requests on to `upstream` with every header, Host too."""

    def __init__(self, upstream: str) -> None:
        self.seen: list[Seen] = []
        self._upstream = upstream
        # Not a client: that would keep one caller's cookies and send them with the next one's requests.
        self._http = httpx2.AsyncHTTPTransport()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        seen = _seen(request, body)
        self.seen.append(seen)
        query = f"?{request.url.query}" if request.url.query else ""
        url = f"{self._upstream}{request.url.path}{query}"
        passed = httpx2.Request(request.method, url, headers=request.headers.raw, content=body)
        answer = await self._http.handle_async_request(passed)
        async with _closing(answer), _until_gone(receive):
            seen.status = answer.status_code
            headers = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in HOP_BY_HOP]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
            async for chunk in answer.aiter_raw():
                seen.answer += chunk[: max(0, 4000 - len(seen.answer))]
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        async with self._http:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


@contextlib.contextmanager
def serving(app: Any, port: int) -> Iterator[None]:
    """Have an ASGI application listen on loopback until the block ends."""
    config = uvicorn.Config(app, port=port, log_level="error", interface="asgi3", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise SystemExit(f"Port {port} is not free.")
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(5)


@contextlib.asynccontextmanager
async def _closing(answer: httpx2.Response) -> AsyncIterator[None]:
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await answer.aclose()


@contextlib.asynccontextmanager
async def _until_gone(receive: Any) -> AsyncIterator[None]:
    """End the block when the client hangs up, so that Aster learns of it."""

    async def watch(scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, tasks.cancel_scope)
        yield
        tasks.cancel_scope.cancel()


def _seen(request: Request, body: bytes) -> Seen:
    try:
        message = json.loads(body)
    except ValueError:
        message = None
    called = message.get("method", "") if isinstance(message, dict) else ""
    version = request.headers.get("mcp-protocol-version", "")
    return Seen(request.method, request.url.path, str(called), version)
