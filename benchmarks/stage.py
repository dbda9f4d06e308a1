"""What the benchmarks share: a throw-away installation, upstream servers in a process of their own, and timing."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import secrets
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import uvloop


def prepare_django() -> None:
    """Settings of a fresh one-machine installation in a temporary data directory."""
    os.environ["ASTER_DATA_DIR"] = tempfile.mkdtemp(prefix="aster-benchmark-")
    os.environ["DJANGO_SETTINGS_MODULE"] = "aster.settings"
    os.environ["DEBUG"] = "1"  # Aster connects to its own machine only then
    os.environ["ASTER_EMBEDDED_WORKER"] = "0"
    os.environ["LOG_LEVEL"] = "ERROR"
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def listen() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    return bound


def _serve_upstreams(sockets: list[socket.socket], delays: list[float], tools: list[int]) -> None:
    """SDK-built servers, each answering a request after its delay. Runs in a process of its own."""
    import mcp_types as types
    import uvicorn
    from mcp.server.lowlevel.server import Server

    def build(delay: float, count: int) -> object:
        schema = {"type": "object", "properties": {"text": {"type": "string"}}}
        names = ["work", *(f"work_{number}" for number in range(2, count + 1))]
        known = [types.Tool(name=name, input_schema=schema) for name in names]

        async def list_tools(ctx: object, params: object) -> types.ListToolsResult:
            return types.ListToolsResult(tools=known, ttl_ms=0, cache_scope="private")

        async def call_tool(ctx: object, params: types.CallToolRequestParams) -> types.CallToolResult:
            return types.CallToolResult(content=[types.TextContent(type="text", text="done")])

        server: Server[object] = Server("upstream", on_list_tools=list_tools, on_call_tool=call_tool)  # type: ignore[arg-type]
        app = server.streamable_http_app(stateless_http=True)

        async def late(scope: MutableMapping[str, object], receive: object, send: object) -> None:
            if scope["type"] == "http":
                await asyncio.sleep(delay)
            await app(scope, receive, send)  # type: ignore[arg-type]

        return late if delay else app

    async def run() -> None:
        apps: list[Any] = [build(delay, count) for delay, count in zip(delays, tools, strict=True)]
        configs = [uvicorn.Config(app, log_level="error", lifespan="on", access_log=False) for app in apps]
        await asyncio.gather(
            *(uvicorn.Server(c).serve(sockets=[s]) for c, s in zip(configs, sockets, strict=True)),
        )

    uvloop.run(run())


@contextmanager
def upstreams(delays: list[float], tools: list[int] | None = None) -> Iterator[list[str]]:
    """URLs of one server per delay (seconds), which each request to it takes as if it came from far away.

    `tools` says how many each offers, one if it is not given.
    """
    sockets = [listen() for _ in delays]
    with _beside(_serve_upstreams, sockets, delays, tools or [1] * len(delays)):
        for one in sockets:
            await_port(one.getsockname()[1])
        yield [f"http://127.0.0.1:{s.getsockname()[1]}/mcp" for s in sockets]


_LISTED = {"ttlMs": 0, "cacheScope": "private"}
_BARE = {
    "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **_LISTED},
    "tools/list": {"tools": [{"name": "work", "inputSchema": {"type": "object"}}], **_LISTED},
    "tools/call": {"content": [{"type": "text", "text": "done"}], "isError": False},
}


def _bare_answer(body: bytes) -> bytes:
    """The least that is an MCP server."""
    message = json.loads(body)
    result = {"resultType": "complete", **_BARE[message["method"]]}
    return json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}, separators=(",", ":")).encode()


class _BareServer(asyncio.Protocol):
    """It over the least that is an HTTP server: it looks for a few bytes, at almost no cost."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if blank and length and len(body) >= int(length[1]):
            self._received = b""
            answer = _bare_answer(body)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
            self._transport.write(head + answer)


def _serve_bare_sockets(bound: socket.socket) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_BareServer, sock=bound, backlog=200)
        await server.serve_forever()

    uvloop.run(run())


async def _bare_app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    answer = _bare_answer(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _serve_bare_app(bound: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(_bare_app, log_level="error", lifespan="off", access_log=False)
    uvicorn.Server(config).run(sockets=[bound])


@contextmanager
def bare_upstream(*, sockets_only: bool) -> Iterator[str]:
    """The URL of a server that costs next to nothing: what it measures is what stands in front of it.

    It is the HTTP server of SDK-built ones without the SDK, or nothing but sockets.
    """
    bound = listen()
    with _beside(_serve_bare_sockets if sockets_only else _serve_bare_app, bound):
        await_port(bound.getsockname()[1])
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/mcp"


class _TokenEndpoint(asyncio.Protocol):
    """The least that is a token endpoint with rotation: every refresh token is taken once, the answer comes late."""

    spent: ClassVar[set[bytes]] = set()

    def __init__(self, delay: float) -> None:
        self._delay, self._received = delay, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if blank and length and len(body) >= int(length[1]):
            self._received = b""
            asyncio.get_running_loop().call_later(self._delay, self._answer, body)

    def _answer(self, form: bytes) -> None:
        found = re.search(rb"refresh_token=([\w-]+)", form)
        token, status = found[1] if found else b"", "200 OK"
        answer: dict[str, object] = {"access_token": secrets.token_urlsafe(32), "token_type": "Bearer"}
        answer |= {"refresh_token": secrets.token_urlsafe(32), "expires_in": 3600, "scope": "notes:read"}
        if not token or token in self.spent:
            status, answer = "400 Bad Request", {"error": "invalid_grant"}
        self.spent.add(token)
        body = json.dumps(answer)
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write((head + body).encode())


def _serve_tokens(bound: socket.socket, delay: float) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _TokenEndpoint(delay), sock=bound, backlog=200)
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def token_endpoint(delay: float) -> Iterator[str]:
    """The URL of a token endpoint in a process of its own, which answers after `delay` seconds."""
    bound = listen()
    with _beside(_serve_tokens, bound, delay):
        port = bound.getsockname()[1]
        await_port(port)
        yield f"http://127.0.0.1:{port}/token"


@contextmanager
def _beside(target: Callable[..., None], *args: object) -> Iterator[None]:
    process = multiprocessing.get_context("fork").Process(target=target, args=args, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join(5)


def await_port(port: int, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"Nothing listens on port {port}.")


async def median_ms(run: Callable[[], Awaitable[object]], times: int) -> float:
    """Median wall time of `run` in milliseconds, after one warm-up."""
    await run()
    samples = []
    for _ in range(times):
        started = time.perf_counter()
        await run()
        samples.append((time.perf_counter() - started) * 1000)
    return statistics.median(samples)
