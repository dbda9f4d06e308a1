"""Which failures of a call say that it never reached its server: what hangs on it is whether it may be made again."""

from __future__ import annotations

import asyncio
import json

import pytest

from aster.errors import AsterError, ForbiddenAddress, UpstreamError
from integrations.mcp_client import Target, open_target, was_never_sent
from tests.fakes.mcp_servers import broken_app, modern_and_legacy_app, serve, unused_url
from tests.integrations.test_stateless import DISCOVER


def failure_of(target: Target, tool: str = "echo", **arguments: object) -> AsterError:
    async def run() -> None:
        async with open_target(target) as session:
            await session.call_tool(tool, arguments)

    with pytest.raises(AsterError) as failed:
        asyncio.run(run())
    return failed.value


def remembered(url: str, **options: float) -> Target:
    """A modern server that was met before: nothing is sent before the call."""
    kwargs = {"timeout": 3.0, "retry_attempts": 0, **options}
    return Target(transport="streamable_http", url=url, era="modern", discover=DISCOVER, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", [unused_url(), "http://no-such-host.invalid/mcp", "http://169.254.169.254/mcp"])
def test_a_server_that_could_not_be_dialled_got_nothing(url: str) -> None:
    assert was_never_sent(failure_of(remembered(url)))


def test_a_server_that_may_have_heard_it_may_have_done_it() -> None:
    with serve(modern_and_legacy_app()) as base:
        assert not was_never_sent(failure_of(remembered(f"{base}/mcp", timeout=0.3), "slow", seconds=5))
    for kind in ("hang", "error", "denied", "html"):
        with serve(broken_app(kind)) as base:
            assert not was_never_sent(failure_of(remembered(f"{base}/mcp", timeout=0.3)))


def test_no_other_failure_counts() -> None:
    assert was_never_sent(ForbiddenAddress("no"))
    assert not was_never_sent(UpstreamError("late", step="http", code="timeout", retryable=True))
    assert not was_never_sent(UpstreamError("refused", step="call"))


def test_an_answer_that_broke_off_and_cannot_be_resumed_is_no_call_that_was_never_sent() -> None:
    """A server takes the call in, ends its stream and goes away; asking for the rest (2025-11-25, Streamable HTTP
    §Resumability) meets nobody."""
    heard: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
                message = json.loads(await reader.readexactly(length) or b"{}")
                heard.append(message.get("method", head.partition(" ")[0]))
                writer.write(_reply(message))
                if message.get("method") == "tools/call":
                    server.close()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def run() -> AsterError:
        nonlocal server
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        target = Target(transport="streamable_http", url=url, era="legacy", timeout=5.0, retry_attempts=0)
        async with open_target(target) as session:
            with pytest.raises(AsterError) as failed:
                await session.call_tool("work")
        return failed.value

    server: asyncio.Server
    error = asyncio.run(run())
    assert "tools/call" in heard
    assert error.message == "The connection ended before the answer came."
    assert not was_never_sent(error)


def _reply(message: dict[str, object]) -> bytes:
    if message.get("method") == "tools/call":
        event = b"id: 1\nretry: 1\ndata: \n\n"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        return head + event
    if message.get("method") != "initialize":
        status = b"202 Accepted" if message else b"405 Method Not Allowed"
        return b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n"
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": info}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(("about_the_call", "sent"), [(True, 1), (False, 2)])
def test_only_a_call_nobody_looked_at_is_sent_again_in_a_new_session(about_the_call: bool, sent: int) -> None:
    """Some servers answer a session they forgot with 400 and words, under no id; a tool may fail with such words."""
    heard: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
                message = json.loads(await reader.readexactly(length) or b"{}")
                heard.append(message.get("method", ""))
                reply = _reply(message)
                if message.get("method") == "tools/call":
                    error = {"code": -32000, "message": "The session could not be closed"}
                    named = {"jsonrpc": "2.0", "id": message["id"] if about_the_call else None, "error": error}
                    body = json.dumps(named).encode()
                    kind = b"content-type: application/json\r\ncontent-length: %d" % len(body)
                    reply = b"HTTP/1.1 400 Bad Request\r\n" + kind + b"\r\n\r\n" + body
                writer.write(reply.replace(b"\r\n", b"\r\nmcp-session-id: one\r\n", 1))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        target = Target(transport="streamable_http", url=url, era="legacy", timeout=5.0, retry_attempts=2)
        async with server, open_target(target) as session:
            with pytest.raises(AsterError) as failed:
                await session.call_tool("work")
        assert not was_never_sent(failed.value)

    asyncio.run(run())
    assert heard.count("tools/call") == sent


def test_a_refused_call_was_sent_also_if_the_server_is_gone_when_it_is_asked_again() -> None:
    """What a remembered server refuses at first makes Aster ask which era it speaks now. The session outlives that."""
    heard: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        heard.append(json.loads(await reader.readexactly(length))["method"])
        server.close()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async def run(retry_attempts: int) -> list[AsterError]:
        nonlocal server
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        target = remembered(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp", retry_attempts=retry_attempts)
        failures: list[AsterError] = []
        async with open_target(target) as session:
            for _ in range(2):
                with pytest.raises(AsterError) as failed:
                    await session.call_tool("work")
                failures.append(failed.value)
        return failures

    server: asyncio.Server
    for attempts in (0, 2):
        heard.clear()
        first, second = asyncio.run(run(attempts))
        assert heard == ["tools/call"]
        assert "408" in first.message and not was_never_sent(first)
        assert "Nobody answers" in second.message and was_never_sent(second)
