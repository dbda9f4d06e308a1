"""What may arrive at the gateway byte by byte, and what becomes of a client that leaves."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from django.utils import timezone

from agents.gateway.app import LATE_SECONDS
from agents.models import Agent, ToolCall
from agents.services.agents import save_agent
from aster.accounts.models import ApiKey
from integrations.models import McpServer
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, modern_and_legacy_app, serve

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def fake() -> FakeServer:
    return modern_and_legacy_app()


@pytest.fixture
def agent(alice: Person, fake: FakeServer) -> Iterator[Agent]:
    with serve(fake) as base:
        server = save_server(McpServer(name="Tools", slug="tools", url=f"{base}/mcp"), actor=alice.actor).server
        fake.requests.clear()
        yield save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk])


class Line:
    """A connection to the gateway."""

    def __init__(self, aster: str, agent: Agent, key: str) -> None:
        self.host = urlsplit(aster).netloc
        self.path, self.key = urlsplit(agent.gateway_url).path, key
        name, port = self.host.split(":")
        self.socket = socket.create_connection((name, int(port)), timeout=10)

    def head(self, *lines: str, length: int | None, method: str = "POST", version: str = "1.1") -> bytes:
        common = [
            f"{method} {self.path} HTTP/{version}",
            f"Host: {self.host}",
            f"Authorization: Bearer {self.key}",
            "Content-Type: application/json",
            "Accept: application/json, text/event-stream",
            "Mcp-Protocol-Version: 2025-11-25",
            *([] if length is None else [f"Content-Length: {length}"]),
        ]
        replaced = {line.split(":")[0].lower() for line in lines}
        kept = [line for line in common if line.split(":")[0].lower() not in replaced]
        return "\r\n".join([*kept, *lines, "", ""]).encode()

    def ask(self, body: bytes, *lines: str, **options: str) -> tuple[int, bytes]:
        self.socket.sendall(self.head(*lines, length=len(body), **options) + body)
        return self.answer()

    def answer(self) -> tuple[int, bytes]:
        """Status and body: as long as announced, or up to the last chunk or the end."""
        read = b""
        while b"\r\n\r\n" not in read:
            if not (piece := self.socket.recv(65536)):
                return 0, read
            read += piece
        head, _, body = read.partition(b"\r\n\r\n")
        status, said = int(head.split()[1]), head.lower()
        if b"content-length: " in said:
            length = int(said.partition(b"content-length: ")[2].split(b"\r\n")[0])
            while len(body) < length:
                body += self.socket.recv(65536)
        elif b"chunked" in said:
            while not body.endswith(b"0\r\n\r\n"):
                body += self.socket.recv(65536)
        return status, body


@pytest.fixture
def line(aster: str, agent: Agent, alice: Person) -> Iterator[Line]:
    opened = Line(aster, agent, alice.key())
    with opened.socket:
        yield opened


@pytest.fixture
def server_log(line: Line, caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the server itself logs of a request that failed."""
    log = logging.getLogger("uvicorn.error")
    level = log.level
    log.setLevel(logging.ERROR)
    log.addHandler(caplog.handler)
    yield caplog
    log.removeHandler(caplog.handler)
    log.setLevel(level)


def rpc(method: str = "tools/list", **params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def tool(name: str) -> str:
    return f"tools_{McpServer.objects.get().pk}__{name}"


def test_many_requests_go_over_one_connection(line: Line) -> None:
    for _ in range(5):
        status, body = line.ask(rpc())
        assert status == 200 and len(json.loads(body)["result"]["tools"]) == 9
        assert line.ask(rpc("tools/call", name=tool("fail"), arguments={}))[0] == 200


def test_a_body_in_chunks_or_drop_by_drop_is_a_body(line: Line) -> None:
    body = rpc()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    line.socket.sendall(line.head("Transfer-Encoding: chunked", length=None) + chunks)
    assert line.answer()[0] == 200
    line.socket.sendall(line.head(length=len(body)))
    for byte in body:
        line.socket.send(bytes([byte]))
    assert b'"tools":[{' in line.answer()[1]


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"7",
    b'"x"',
    rpc() + b"x",
    b"\xef\xbb\xbf" + rpc(),
    rpc().decode().encode("utf-16"),
    b"[" + rpc() + b"]",
    b"[" * 100_000,
    rpc().replace(b"1", b"NaN"),
    rpc().replace(b'"tools/list"', b'"\xff"'),
    rpc().replace(b"2.0", b"1.0"),
    rpc("tools/call", name=7, arguments={}),
    b'{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "x"}}',
    b'{"jsonrpc": "2.0", "id": 1, "result": {}}',
]


def test_what_is_no_request_is_refused_in_words_and_the_connection_goes_on(line: Line) -> None:
    for body in MALFORMED:
        status, said = line.ask(body)
        assert status in (200, 202, 400), (body[:40], status)
        assert b"Traceback" not in said and line.key.encode() not in said
        assert line.ask(rpc())[0] == 200, body[:40]


def test_of_two_equal_keys_header_and_body_mean_the_same_tool(line: Line, fake: FakeServer) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    }
    body = rpc("tools/call", name=tool("fail"), arguments={}, _meta=meta)
    twice = body.replace(b'"arguments"', f'"name": "{tool("echo")}", "arguments"'.encode())
    modern = ("Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call")
    assert line.ask(twice, *modern, f"Mcp-Name: {tool('fail')}")[0] == 400
    assert fake.calls() == []
    assert line.ask(twice, *modern, f"Mcp-Name: {tool('echo')}")[0] == 200
    assert fake.calls() == ["echo"]


@pytest.mark.parametrize(
    "lines",
    [
        ("Mcp-Method: tools/list", "Mcp-Name: {}"),
        ("Mcp-Method: tools/call", "Mcp-Name: other"),
        ("Mcp-Method: tools/call",),
        ("Mcp-Name: {}",),
        ("Mcp-Method: tools/call", "Mcp-Name: {}", "Mcp-Name: other"),
        ("Mcp-Method: tools/call", "Mcp-Method: tools/list", "Mcp-Name: {}"),
    ],
)
def test_headers_that_say_something_else_than_the_body_are_refused(
    line: Line, fake: FakeServer, lines: tuple[str, ...]
) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    }
    body = rpc("tools/call", name=tool("fail"), arguments={}, _meta=meta)
    named = [each.replace("{}", tool("fail")) for each in lines]
    status, said = line.ask(body, "Mcp-Protocol-Version: 2026-07-28", *named)
    assert status == 400 and json.loads(said)["error"]["code"] == -32020
    assert fake.calls() == []


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Accept: application/json",), 406),
        (("Content-Type: text/plain",), 400),
        (("Host: evil.example",), 421),
        (("Origin: https://evil.example",), 403),
        (("Authorization: Bearer nonsense",), 401),
        (("Authorization: Basic eDp5",), 401),
        (("Mcp-Protocol-Version: 1999-01-01",), 400),
    ],
)
def test_what_is_wrong_with_the_head_is_told_by_its_status(line: Line, lines: tuple[str, ...], status: int) -> None:
    assert line.ask(rpc(), *lines)[0] == status


@pytest.mark.parametrize(("method", "status"), [("GET", 405), ("DELETE", 405), ("HEAD", 405), ("PUT", 405)])
def test_only_post_asks_anything(line: Line, method: str, status: int) -> None:
    line.socket.sendall(line.head(length=0, method=method))
    head = line.socket.recv(65536)
    assert int(head.split()[1]) == status and b"allow: POST" in head


def test_http_1_0_is_answered_and_closed(line: Line) -> None:
    assert line.ask(rpc(), version="1.0")[0] == 200
    assert line.socket.recv(10) == b""


def test_a_body_beyond_the_limit_is_refused(line: Line, fake: FakeServer) -> None:
    body = rpc("tools/call", name=tool("echo"), arguments={"text": "x" * (5 * 1024 * 1024)})
    assert line.ask(body)[0] == 413
    assert fake.calls() == []


def test_a_large_body_within_the_limit_gets_through(line: Line, fake: FakeServer) -> None:
    status, body = line.ask(rpc("tools/call", name=tool("fail"), arguments={"text": "x" * (3 * 1024 * 1024)}))
    assert status == 200 and b"It went wrong" in body


def test_a_client_that_leaves_ends_its_call_and_a_row_tells_of_it(
    line: Line, fake: FakeServer, server_log: pytest.LogCaptureFixture
) -> None:
    arrived, gone = threading.Event(), threading.Event()

    async def hang(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await receive()
        arrived.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    fake.serve_instead(hang)
    body = rpc("tools/call", name=tool("fail"), arguments={})
    line.socket.sendall(line.head(length=len(body)) + body)
    assert arrived.wait(5)
    line.socket.close()
    assert gone.wait(5), "the request to the server was closed too"
    deadline = threading.Event()
    for _ in range(100):
        if ToolCall.objects.exists():
            break
        deadline.wait(0.05)
    row = ToolCall.objects.get()
    assert (row.outcome, row.error_code, row.tool_name) == ("failed", "cancelled", "fail")
    assert not [each for each in server_log.records if each.exc_info], "nobody has to read of it"


def test_a_client_that_leaves_in_the_middle_of_its_request_has_asked_nothing(
    line: Line, aster: str, agent: Agent, alice: Person, fake: FakeServer, server_log: pytest.LogCaptureFixture
) -> None:
    body = rpc("tools/call", name=tool("fail"), arguments={})
    line.socket.sendall(line.head(length=len(body)) + body[:-3])
    line.socket.close()
    other = Line(aster, agent, alice.key())
    with other.socket:
        assert other.ask(rpc())[0] == 200
    assert fake.calls() == [] and not ToolCall.objects.exists()
    assert not [each for each in server_log.records if each.exc_info]


def test_a_thousand_open_connections_hold_up_nobody(line: Line, aster: str, agent: Agent) -> None:
    with ExitStack() as stack:
        for n in range(1000):
            held = Line(aster, agent, line.key)
            stack.enter_context(held.socket)
            if n % 2:
                held.socket.sendall(held.head(length=100) + b"{")  # a request that never ends
        for _ in range(20):
            assert line.ask(rpc())[0] == 200


@pytest.mark.parametrize("method", ["tools/list", "prompts/list"])
@pytest.mark.parametrize("address", ["", "admin"])
def test_a_key_that_is_revoked_while_its_request_arrives_asks_nothing(
    line: Line, aster: str, agent: Agent, alice: Person, method: str, address: str
) -> None:
    line.path = f"{line.path.rpartition('/')[0]}/{address}" if address else line.path
    body = rpc(method)
    line.socket.sendall(line.head(length=len(body)) + body[:-5])
    other = Line(aster, agent, line.key)
    with other.socket:
        assert other.ask(rpc())[0] == 200
        ApiKey.objects.update(revoked_at=timezone.now())
        revoked = time.monotonic()
        while other.ask(rpc())[0] == 200 or time.monotonic() - revoked < LATE_SECONDS:
            pass
    line.socket.sendall(body[-5:])
    assert line.answer()[0] == 401
