"""MCP servers to test against: real ones built with the SDK, and broken ones in raw ASGI.

    fake = modern_and_legacy_app()
    with serve(fake) as base:
        ...  # talk to f"{base}/mcp"
    assert fake.methods() == ["server/discover", "tools/list"]

Run as a script it is a stdio server: `stdio_command()` says how.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

CHALLENGE = 'Bearer resource_metadata="http://127.0.0.1/.well-known/oauth-protected-resource/mcp", scope="tools"'


# --- The tools every real server here has -----------------------------------------------------------------------------


def _schema(required: bool = True, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties) if required else []}


TEXT, NUMBER = {"type": "string"}, {"type": "number"}
TOOLS = [
    types.Tool(name="echo", description="Says what it hears", input_schema=_schema(text=TEXT)),
    types.Tool(name="add", description="Adds two numbers", input_schema=_schema(a=NUMBER, b=NUMBER)),
    types.Tool(name="fail", description="Always an error result", input_schema=_schema()),
    types.Tool(name="refuse", description="Always a JSON-RPC error", input_schema=_schema()),
    types.Tool(name="slow", description="Reports progress, then waits", input_schema=_schema(seconds=NUMBER)),
    types.Tool(name="big", description="Answers with so many bytes", input_schema=_schema(size=NUMBER)),
    types.Tool(name="whoami", description="The headers it saw, or the environment", input_schema=_schema()),
    types.Tool(
        name="structured",
        description="Structured content that breaks its own outputSchema when asked to",
        input_schema=_schema(required=False, broken={"type": "boolean"}),
        output_schema=_schema(total=NUMBER),
    ),
    types.Tool(
        name="regional",
        description="Wants its region mirrored into a header",
        input_schema=_schema(region={**TEXT, "x-mcp-header": "Region"}),
    ),
]


async def _list_tools(ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None) -> Any:
    return types.ListToolsResult(tools=TOOLS)


async def _call_tool(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Any:
    given = params.arguments or {}
    structured: dict[str, Any] | None = None
    match params.name:
        case "echo":
            text = str(given["text"])
        case "add":
            text = str(given["a"] + given["b"])
        case "fail":
            return types.CallToolResult(content=[types.TextContent(type="text", text="It went wrong")], is_error=True)
        case "slow":
            await ctx.session.report_progress(0.5, 1.0, "half way")
            await asyncio.sleep(given["seconds"])
            text = "done"
        case "big":
            text = "x" * int(given["size"])
        case "whoami":
            text = json.dumps(dict(ctx.request.headers if isinstance(ctx.request, Request) else os.environ))
        case "structured":
            text, structured = "7", {"total": "seven"} if given.get("broken") else {"total": 7}
        case "regional":
            text = f"in {given['region']}"
        case _:
            raise MCPError(code=-32602, message=f"Unknown or refused tool: {params.name}")
    content: list[Any] = [types.TextContent(type="text", text=text)]
    return types.CallToolResult(content=content, structured_content=structured, _meta={"com.example/kept": 1})


def build_server() -> Server[Any]:
    """The server behind every real app here; also what a connector hands out in-process."""
    return Server("fake", version="1.2", instructions="Be kind.", on_list_tools=_list_tools, on_call_tool=_call_tool)


# --- Apps that remember what reached them -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SeenRequest:
    """One HTTP request: `rpc` is the JSON-RPC method of a POST, `tool` the tool it calls."""

    http_method: str
    path: str
    headers: dict[str, str]
    rpc: str = ""
    tool: str = ""
    body: dict[str, Any] = field(default_factory=dict)


class FakeServer:
    """An ASGI app that logs requests, then passes them to `app`. `requests` may be read and cleared by the test.

    `serve_instead` swaps the app behind the same address, as an upgrade of the server does. `forget_sessions` makes
    it answer 404 to every session known so far, as a restart does. `left` has the tools whose caller went away.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.requests: list[SeenRequest] = []
        self.left: list[str] = []
        self._lost: set[str] = set()

    def methods(self) -> list[str]:
        """The JSON-RPC requests that arrived, in order, without notifications."""
        return [seen.rpc for seen in self.requests if seen.rpc and "id" in seen.body]

    def calls(self) -> list[str]:
        return [seen.tool for seen in self.requests if seen.tool]

    def serve_instead(self, app: App) -> None:
        self.app = app

    def forget_sessions(self) -> None:
        self._lost |= {seen.headers.get("mcp-session-id", "") for seen in self.requests} - {""}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = await _read_body(receive) if scope["method"] == "POST" else b""
        seen = _describe(scope, body)
        self.requests.append(seen)
        if seen.headers.get("mcp-session-id") in self._lost:
            await _answer(send, 404, b"Session not found")
            return
        await self.app(scope, self._watching(_replay(body, receive), seen), send)

    def _watching(self, receive: Receive, seen: SeenRequest) -> Receive:
        async def watching() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and seen.tool:
                self.left.append(seen.tool)
            return message

        return watching


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def _describe(scope: MutableMapping[str, Any], body: bytes) -> SeenRequest:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    try:
        message = json.loads(body or b"{}")
    except ValueError:
        message = {}
    rpc = str(message.get("method", ""))
    tool = str(message["params"].get("name", "")) if rpc == "tools/call" else ""
    return SeenRequest(scope["method"], scope["path"], headers, rpc, tool, message)


def _replay(body: bytes, receive: Receive) -> Receive:
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed


async def _answer(send: Send, status: int, body: bytes = b"", kind: str = "text/plain", **headers: str) -> None:
    lines = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _answer_rpc(send: Send, message: dict[str, Any], status: int = 200, **answer: Any) -> None:
    body = {"jsonrpc": "2.0", "id": message.get("id"), **answer}
    await _answer(send, status, json.dumps(body).encode(), "application/json")


# --- Real servers -----------------------------------------------------------------------------------------------------


def modern_and_legacy_app(path: str = "/mcp", *, json_response: bool = False) -> FakeServer:
    """Streamable HTTP, both eras, stateless."""
    return FakeServer(
        build_server().streamable_http_app(streamable_http_path=path, stateless_http=True, json_response=json_response)
    )


def many_tools_app(count: int, path: str = "/mcp") -> FakeServer:
    """The usual tools and `count` more: `get_row_0`, `get_row_1`… each says its own name."""
    more = [
        types.Tool(name=f"get_row_{n}", description=f"Reads row {n} of the ledger", input_schema=_schema())
        for n in range(count)
    ]

    async def list_tools(ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None) -> Any:
        return types.ListToolsResult(tools=[*TOOLS, *more])

    async def call_tool(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Any:
        if not params.name.startswith("get_row_"):
            return await _call_tool(ctx, params)
        return types.CallToolResult(content=[types.TextContent(type="text", text=f"this is {params.name}")])

    server: Server[Any] = Server("many", on_list_tools=list_tools, on_call_tool=call_tool)
    return FakeServer(server.streamable_http_app(streamable_http_path=path, stateless_http=True))


def legacy_only_app(path: str = "/mcp") -> FakeServer:
    """Streamable HTTP with sessions, as servers of 2025 are: any other version is refused in words of that time."""
    return legacy_only(build_server().streamable_http_app(streamable_http_path=path))


def legacy_only(app: App) -> FakeServer:
    async def refuse_modern(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        version = dict(scope.get("headers", [])).get(b"mcp-protocol-version", b"").decode()
        if version and version not in HANDSHAKE_PROTOCOL_VERSIONS:
            error = {"code": -32600, "message": f"Bad Request: Unsupported protocol version: {version}"}
            await _answer_rpc(send, {"id": "server-error"}, 400, error=error)
        else:
            await app(scope, receive, send)

    return FakeServer(refuse_modern)


def asking_legacy_app(path: str = "/mcp") -> FakeServer:
    """A server of 2025-11-25 that asks: `link` by error -32042, `push` by a request of its own in the call's stream."""

    async def list_tools(ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None) -> Any:
        return types.ListToolsResult(tools=[types.Tool(name=name, input_schema=_schema()) for name in ("link", "push")])

    async def call_tool(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Any:
        if params.name == "link":
            address = "https://provider.example/open"
            raise UrlElicitationRequiredError(
                [types.ElicitRequestURLParams(mode="url", message="Sign it", url=address, elicitation_id="1")]
            )
        try:
            await ctx.session.elicit_form("Your name?", {"type": "object", "properties": {}}, ctx.request_id)
            text = "asked"
        except MCPError as error:
            text = f"not asked: {error.message}"
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    server: Server[Any] = Server("asking", on_list_tools=list_tools, on_call_tool=call_tool)
    return legacy_only(server.streamable_http_app(streamable_http_path=path))


def modern_only_app(path: str = "/mcp") -> FakeServer:
    """Streamable HTTP of 2026-07-28: a handshake is refused."""
    app = build_server().streamable_http_app(streamable_http_path=path, stateless_http=True)

    async def refuse_legacy(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        version = dict(scope.get("headers", [])).get(b"mcp-protocol-version", b"").decode()
        if scope["type"] == "http" and version in ("", *HANDSHAKE_PROTOCOL_VERSIONS):
            data = {"supported": ["2026-07-28"], "requested": version}
            error = {"code": -32022, "message": "Unsupported protocol version", "data": data}
            await _answer_rpc(send, {"id": None}, 400, error=error)
        else:
            await app(scope, receive, send)

    return FakeServer(refuse_legacy)


def sse_app() -> FakeServer:
    """The two-endpoint transport of 2024: GET /sse, POST /messages/."""
    server, transport = build_server(), SseServerTransport("/messages/")

    async def connect(request: Request) -> Response:
        async with transport.connect_sse(request.scope, request.receive, request._send) as (read, write):
            await server.run(read, write, server.create_initialization_options())
        return Response()

    routes = [Route("/sse", connect), Mount("/messages/", transport.handle_post_message)]
    return FakeServer(Starlette(routes=routes))


def guarded(fake: FakeServer, *tokens: str, status: int = 401) -> FakeServer:
    """`fake` behind a bearer check: other tokens get `status` with two challenges."""
    inner = fake.app

    async def check(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", [])).get(b"authorization", b"").decode()
        if scope["type"] != "http" or given in {f"Bearer {token}" for token in tokens}:
            await inner(scope, receive, send)
            return
        raw = [(b"www-authenticate", CHALLENGE.encode()), (b"www-authenticate", b'Basic realm="fake"')]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": b"no"})

    fake.serve_instead(check)
    return fake


def stdio_command() -> tuple[str, list[str]]:
    """Command and arguments of the stdio server."""
    return sys.executable, [str(Path(__file__).resolve())]


async def run_stdio() -> None:
    server = build_server()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


# --- Broken servers ---------------------------------------------------------------------------------------------------


ANSWERS: dict[str, tuple[int, bytes, str, dict[str, str]]] = {
    "html": (200, b"<!doctype html><title>Hello</title>", "text/html; charset=utf-8", {}),
    "error": (500, b"Traceback: secret-of-the-server", "text/plain", {}),
    "missing": (404, b"<h1>Not Found</h1>", "text/html", {}),
    "redirect": (307, b"", "text/plain", {"location": "/elsewhere?code=secret-of-the-server"}),
    "denied": (401, b"", "text/plain", {"www_authenticate": CHALLENGE}),
    "forbidden": (403, b"", "text/plain", {}),
}


def broken_app(kind: str) -> FakeServer:
    """A server that is none: one of ANSWERS to everything, or `hang` (no answer) or `drip` (one without end)."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if kind == "drip":
            await _drip(receive, send)
        elif kind == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            status, body, content_type, headers = ANSWERS[kind]
            await _answer(send, status, body, content_type, **headers)

    return FakeServer(app)


async def _drip(receive: Receive, send: Send) -> None:
    """One byte every tenth of a second for a minute: every read succeeds, the whole never ends."""
    raw = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    for _ in range(600):
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.sleep(0.1)


def scripted_app(**results: Any) -> FakeServer:
    """A modern server in raw JSON: `tools_list` and `tools_call` are results or functions of the request's params.

    A result is sent exactly as given (no `resultType` is added), so it may break any rule; an `Exception` becomes a
    JSON-RPC error of code -32000.
    """
    discover = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
    known = {"server_discover": discover, "tools_list": {"tools": []}, **results}

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] != "POST":
            await _answer(send, 405)
            return
        message = json.loads(await _read_body(receive))
        result = known.get(str(message.get("method", "")).replace("/", "_"))
        if callable(result):
            result = result(message.get("params", {}))
        if result is None or isinstance(result, Exception):
            error = {"code": -32601 if result is None else -32000, "message": str(result or "Method not found")}
            await _answer_rpc(send, message, 404 if result is None else 200, error=error)
        else:
            await _answer_rpc(send, message, result=result)

    return FakeServer(app)


def huge_list_app(count: int = 5_000, page_size: int = 500) -> FakeServer:
    """A server with `count` tools in pages; the cursor of the second page is the empty string."""

    def list_page(params: dict[str, Any]) -> dict[str, Any]:
        cursor = params.get("cursor")
        start = 0 if cursor is None else page_size if cursor == "" else int(cursor)
        tools = [{"name": f"tool_{n}", "inputSchema": {"type": "object"}} for n in range(start, start + page_size)]
        page: dict[str, Any] = {"tools": tools}
        if start + page_size < count:
            page["nextCursor"] = str(start + page_size) if start else ""
        return page

    return scripted_app(tools_list=list_page)


def bad_tool_app() -> FakeServer:
    """One tool with an invalid schema among good ones."""
    good = [{"name": name, "inputSchema": {"type": "object"}, "x-unknown": 1} for name in ("first", "last")]
    return scripted_app(tools_list={"tools": [good[0], {"name": "bad", "inputSchema": "nonsense"}, good[1]]})


# --- Serving ----------------------------------------------------------------------------------------------------------


@contextmanager
def serve(app: App, port: int = 0) -> Iterator[str]:
    """Serve `app` on this or a free port of 127.0.0.1 from a thread, lifespan included; yields its base URL."""
    # With the protocol spelled out: only then does asyncio switch Nagle's algorithm off for accepted connections,
    # which otherwise costs 40 ms an answer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        config = uvicorn.Config(app, log_level="critical", lifespan="auto", timeout_graceful_shutdown=1, ws="none")
        server = _ThreadedServer(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        assert server.is_up.wait(10), "the fake server did not start"
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive(), "the fake server did not stop"


class _ThreadedServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


def unused_url() -> str:
    """A loopback URL where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/mcp"


if __name__ == "__main__":
    if "--exit" in sys.argv:
        os._exit(7)
    asyncio.run(run_stdio())
