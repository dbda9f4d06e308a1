"""What the suite lacks: a header with the key. In front of Aster, as a reverse proxy is, and otherwise transparent."""

from __future__ import annotations

import os
import sys

import anyio
import httpx2
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

# Of this connection alone (RFC 9110 §7.6.1)
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"content-length"})


def build_proxy(upstream: str, key: str) -> ASGIApp:
    http = httpx2.AsyncClient(base_url=upstream, timeout=60)

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        # Without the space around values, which is no part of them (RFC 9110 §5.5) and which httpx2 refuses to send.
        headers = [(name, value.strip()) for name, value in scope["headers"] if name not in HOP_BY_HOP]
        headers.append((b"authorization", f"Bearer {key}".encode()))

        async def watch(group: anyio.CancelScope) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, tasks.cancel_scope)
            async with http.stream(scope["method"], scope["path"], content=body, headers=headers) as answer:
                said = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in HOP_BY_HOP]
                await send({"type": "http.response.start", "status": answer.status_code, "headers": said})
                async for chunk in answer.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            tasks.cancel_scope.cancel()

    return proxy


if __name__ == "__main__":
    app = build_proxy(os.environ["ASTER_UPSTREAM"], os.environ["ASTER_API_KEY"])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
