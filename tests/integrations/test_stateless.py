"""Calls to a modern server over Streamable HTTP, byte by byte: what counts as the answer, and what a call may cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from aster.egress import keep_async_pool
from aster.errors import UpstreamError
from integrations.mcp_client import Target, open_target

DISCOVER = {"supportedVersions": ["2026-07-28"], "capabilities": {}, "instructions": ["not", "text"], "_meta": 7}
DONE = {"content": [{"type": "text", "text": "done"}], "isError": False}


def event(message: dict[str, Any]) -> bytes:
    return f"event: message\ndata: {json.dumps(message)}\n\n".encode()


def answer(result: Any = None, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": DONE if result is None else result, **more}


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


END = b"0\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def whole(body: bytes, kind: str = "application/json", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Wire:
    """A server that answers every request with the bytes it was given, and leaves the connection open."""

    says: bytes = b""
    url: str = ""
    connections: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                self.requests.append(json.loads(await reader.readexactly(length)))
                writer.write(self.says)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def wire(says: bytes) -> AsyncIterator[Wire]:
    served = Wire(says)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    async with server, keep_async_pool():
        yield served


async def call(served: Wire, **options: Any) -> dict[str, Any]:
    target = Target(
        transport="streamable_http", url=served.url, era="modern", discover=DISCOVER, timeout=3.0, lane="one"
    )
    async with open_target(target) as session:
        assert (session.server_info, session.instructions) == ({}, "")
        return await session.call_tool("work", {"n": 1}, **options)


def outcome(says: bytes) -> tuple[dict[str, Any] | str, Wire]:
    """The result of one call, or the words of its failure."""

    async def run() -> tuple[dict[str, Any] | str, Wire]:
        async with wire(says) as served:
            try:
                return await call(served), served
            except UpstreamError as error:
                return error.message, served

    return asyncio.run(run())


PING = event({"jsonrpc": "2.0", "id": 9, "method": "ping"})
NOT_MCP = "The address answered, but not with MCP."
NO_NUMBER = "The tool's answer holds a number that is none in JSON."
CUT = "The connection ended before the answer came."


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (whole(json.dumps(answer()).encode()), DONE),
        (STREAM + chunk(event(answer())) + END, DONE),
        (STREAM + chunk(event(answer(id="1"))) + END, DONE),
        (STREAM + chunk(b": hello\n\n" + PING + event(answer())) + END, DONE),
        (whole(b'{"jsonrpc": "2.0", "id": 1, "result": "text"}'), NOT_MCP),
        (whole(b'{"jsonrpc": "2.0", "id": 1, "result": {"text": "\\ud800"}}'), NOT_MCP),
        (whole(b'{"jsonrpc": "2.0", "id": 1, "result": {"n": NaN}}'), NOT_MCP),
        (whole(b'{"jsonrpc": "2.0", "id": 1, "result": {"n": 1e999}}'), NO_NUMBER),
        (whole(b"[" * 100_000), NOT_MCP),
        (whole(json.dumps(answer()).encode(), "text/plain"), NOT_MCP),
        (whole(b"", status="202 Accepted"), NOT_MCP),
        (STREAM + chunk(event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})) + END, CUT),
        (STREAM + END, CUT),
        (
            whole(json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": "x", "message": 7}}).encode()),
            "The server refused the call: 7",
        ),
    ],
)  # fmt: skip
def test_what_counts_as_the_answer(says: bytes, expected: dict[str, Any] | str) -> None:
    got, served = outcome(says)
    assert got == expected
    assert [each["method"] for each in served.requests] == ["tools/call"]


@pytest.mark.parametrize(
    "says", [whole(json.dumps(answer()).encode()), STREAM + chunk(event(answer())) + END], ids=["json", "stream"]
)
def test_calls_one_after_the_other_share_a_connection(says: bytes) -> None:
    async def run() -> Wire:
        async with wire(says) as served:
            for _ in range(3):
                await call(served)
            return served

    served = asyncio.run(run())
    assert (len(served.requests), served.connections) == (3, 1)


@pytest.mark.parametrize("after", [b"", chunk(b"data: never ends"), b"no chunk at all\r\n"])
def test_what_follows_the_answer_costs_nothing(after: bytes) -> None:
    async def run() -> dict[str, Any]:
        async with wire(STREAM + chunk(event(answer())) + after) as served:
            result = await asyncio.wait_for(call(served), 1.0)
            await asyncio.wait_for(served.gone.wait(), 3.0)  # the connection is not kept for another call
            return result

    assert asyncio.run(run()) == DONE


def test_a_call_that_is_given_up_leaves_the_stream() -> None:
    """Closing the response stream is how 2026-07-28 cancels over HTTP."""

    async def run() -> None:
        async with wire(STREAM) as served:
            waiting = asyncio.create_task(call(served))
            while not served.requests:
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait_for(served.gone.wait(), 3.0)
            await asyncio.wait({waiting})
            assert waiting.cancelled()

    asyncio.run(run())


def test_progress_reaches_its_own_call_and_trouble_with_it_costs_nothing() -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, total: float | None, words: str | None) -> None:
        told.append((done, total, words))
        if done == 2:
            raise RuntimeError("the page is gone")

    def note(**params: Any) -> bytes:
        return event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    notes = note(progressToken=1, progress=1, total=3, message="one") + note(progressToken=8, progress=9)
    notes += note(progressToken=1, progress=True) + note(progressToken=1, progress=2, total="x", message=4)

    async def run() -> dict[str, Any]:
        async with wire(STREAM + chunk(notes + event(answer())) + END) as served:
            result = await call(served, progress=progress)
            assert served.requests[0]["params"]["_meta"]["progressToken"] == 1
            return result

    assert asyncio.run(run()) == DONE
    assert told == [(1.0, 3.0, "one"), (2.0, None, None)]
