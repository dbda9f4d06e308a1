"""The kept connections of the data plane, over real sockets: who gets which, and what counts as an answer."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from aster import egress
from tests.aster.byte_server import OK, await_end, byte_server, read_request, saying
from tests.aster.pooling import CHUNKED, HEAD, STREAM, Run, a_pool, ask, ask_once, in_thread
from tests.aster.test_egress import DEBUG


# --- Whose connection is used again -----------------------------------------------------------------------------------
def test_one_connection_carries_one_request_after_the_other(run: Run[Any]) -> None:
    async def work() -> list[bytes]:
        pool = a_pool(policy=DEBUG)
        return [await ask(pool, server) for _ in range(5)]

    with byte_server(saying(OK)) as server:
        assert run(work()) == [b"ok"] * 5
        assert server.accepted == 1


def test_what_goes_out_is_what_was_asked_and_nothing_else(run: Run[Any]) -> None:
    heard: list[bytes] = []

    def talk(conn: socket.socket, number: int) -> None:
        heard.append(read_request(conn))
        conn.sendall(OK)

    async def work() -> None:
        headers = {"Authorization": "Bearer s3cret", "x-a": "b"}
        async with a_pool(policy=DEBUG).post(server.url + "?a=%20b#part", b'{"a": 1}', headers, lane=1):
            pass

    with byte_server(talk) as server:
        run(work())
    head, body = heard[0].split(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /mcp?a=%20b HTTP/1.1",
        b"Host: 127.0.0.1:%d" % server.port,
        b"User-Agent: Aster",
        b"Accept-Encoding: identity",
        b"Content-Length: 8",
        b"Authorization: Bearer s3cret",
        b"x-a: b",
    ]
    assert body == b'{"a": 1}'


def test_no_lane_gets_the_connection_of_another_and_without_a_lane_none_is_kept(run: Run[Any]) -> None:
    spoken: list[tuple[int, bytes]] = []

    def talk(conn: socket.socket, number: int) -> None:
        while True:
            spoken.append((number, read_request(conn).split(b"X-A: ")[1][:1]))
            conn.sendall(OK)

    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        for lane in ("a", "b", "a", "b", None, None):
            async with pool.post(server.url, b"{}", {"X-A": (lane or "-")}, lane=lane):
                pass

    with byte_server(talk) as server:
        run(work())
    assert spoken == [(1, b"a"), (2, b"b"), (1, b"a"), (2, b"b"), (3, b"-"), (4, b"-")]


def test_requests_at_once_have_a_connection_each_and_the_next_ones_use_them_again(run: Run[Any]) -> None:
    together = threading.Barrier(5)

    def talk(conn: socket.socket, number: int) -> None:
        while True:
            read_request(conn)
            together.wait(5)
            conn.sendall(OK)

    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        for _ in range(3):
            assert await asyncio.gather(*(ask(pool, server) for _ in range(5))) == [b"ok"] * 5

    with byte_server(talk) as server:
        run(work())
        assert server.accepted == 5


@pytest.mark.parametrize(
    "last_words",
    [
        HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + OK.replace(b"ok", b"no"),
        OK + b"x",
        OK + b"\x16\x03\x01",
    ],
    ids=["says it closes", "ends with the connection", "1.0", "a second answer", "one byte more", "nonsense after it"],
)
def test_a_connection_that_is_over_or_said_too_much_is_closed(run: Run[Any], last_words: bytes) -> None:
    def talk(conn: socket.socket, number: int) -> None:
        read_request(conn)
        conn.sendall(last_words)
        if b"\r\n\r\nok" in last_words and b"Length" not in last_words:
            conn.shutdown(socket.SHUT_WR)
        await_end(conn)

    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        for _ in range(2):
            assert await ask(pool, server) == b"ok"
            assert await in_thread(server.left.acquire), "it was closed when the answer was there"

    with byte_server(talk) as server:
        run(work())
        assert server.accepted == 2


@pytest.mark.parametrize("says", [OK.replace(b"ok", b"no"), b"\r\n", b""], ids=["an answer", "a line", "the end"])
def test_what_a_server_says_unasked_is_no_answer_to_the_next_request(run: Run[Any], says: bytes) -> None:
    """Although the loop was too busy to hear it."""
    go, said = threading.Event(), threading.Event()

    def talk(conn: socket.socket, number: int) -> None:
        read_request(conn)
        conn.sendall(OK)
        if number == 1:
            go.wait(5)
            conn.sendall(says) if says else conn.shutdown(socket.SHUT_WR)
            said.set()
        await_end(conn)

    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        assert await ask(pool, server) == b"ok"
        go.set()
        said.wait(5)
        assert await ask(pool, server) == b"ok"

    with byte_server(talk) as server:
        run(work())
        assert server.accepted == 2


def test_leaving_before_the_answer_has_ended_closes_the_connection(run: Run[Any]) -> None:
    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        async with pool.post(server.url, b"{}", {}, lane="one") as answer:
            assert answer.is_stream
            assert await anext(answer.chunks()) == b"data: 1\n\n"
        assert await in_thread(server.left.acquire)
        with pytest.raises(RuntimeError, match="trouble of the caller"):
            async with pool.post(server.url, b"{}", {}, lane="one"):
                raise RuntimeError("trouble of the caller")
        assert await in_thread(server.left.acquire)

    with byte_server(saying(STREAM + b"9\r\ndata: 1\n\n\r\n")) as server:
        run(work())
        assert server.accepted == 2


def test_an_answer_before_the_whole_request_is_out_ends_the_connection(run: Run[Any]) -> None:
    """What the server has not read of it would stand before the next person's request."""

    def talk(conn: socket.socket, number: int) -> None:
        if number > 1:
            saying(OK)(conn, number)
        conn.recv(1)
        conn.sendall(OK)
        ended.wait(10)

    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        async with pool.post(server.url, b"x" * 2**24, {}, lane="one") as answer:
            assert bytes(answer.body) == b"ok"
        assert await ask(pool, server) == b"ok"

    ended = threading.Event()
    with byte_server(talk) as server:
        run(work())
        ended.set()
        assert server.accepted == 2


def test_trouble_of_the_caller_after_the_whole_answer_costs_no_connection(run: Run[Any]) -> None:
    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        with pytest.raises(RuntimeError):
            async with pool.post(server.url, b"{}", {}, lane="one"):
                raise RuntimeError
        await ask(pool, server)

    with byte_server(saying(OK)) as server:
        run(work())
        assert server.accepted == 1


@pytest.mark.parametrize("begun", [b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\nx", CHUNKED + b"5\r\nab"])
def test_a_given_up_request_closes_its_connection_and_nobody_else_s(run: Run[Any], begun: bytes) -> None:
    asked = threading.Semaphore(0)

    def talk(conn: socket.socket, number: int) -> None:
        if number > 1:
            saying(OK)(conn, number)
        read_request(conn)
        conn.sendall(begun)
        asked.release()
        await_end(conn)

    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        first = asyncio.create_task(ask(pool, server))
        assert await in_thread(asked.acquire)
        assert await ask(pool, server) == b"ok"
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await in_thread(server.left.acquire)
        assert await ask(pool, server) == b"ok"

    with byte_server(talk) as server:
        run(work())
        assert server.accepted == 2


def test_an_answer_drop_by_drop_ends_with_the_caller_s_patience_and_so_does_its_connection(run: Run[Any]) -> None:
    def talk(conn: socket.socket, number: int) -> None:
        read_request(conn)
        conn.sendall(HEAD)
        conn.settimeout(0.02)
        while True:
            conn.sendall(b"X-Drop: 1\r\n")
            with suppress(TimeoutError):
                if not conn.recv(1):
                    return

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await ask(a_pool(policy=DEBUG), server)
        assert await in_thread(server.left.acquire)

    with byte_server(talk) as server:
        run(work())


def test_an_idle_connection_is_kept_as_long_as_the_server_promises(run: Run[Any]) -> None:
    """Less a second, in which it may be closing it already; whatever is promised, for half a minute at most."""

    async def kept(says: bytes) -> float:
        with byte_server(saying(HEAD + says + b"Content-Length: 2\r\n\r\nok")) as server:
            pool = a_pool(policy=DEBUG)
            before = asyncio.get_running_loop().time()
            await ask(pool, server)
            (lane,) = pool._lanes.values()
            return lane.idle[0].idle_until - before

    async def work() -> list[float]:
        promises = (b"", b"timeout=2", b"max=9, timeout=9999", b"timeout=0")
        return [await kept(b"Keep-Alive: %s\r\n" % each if each else b"") for each in promises]

    for found, expected in zip(run(work()), (4.0, 1.0, 30.0, 0.5), strict=True):
        assert expected <= found < expected + 0.4


# --- What counts as an answer -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (OK, (200, b"ok")),
        (CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", (200, b"ok")),
        (CHUNKED + b"2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n", (200, b"ok")),
        (HEAD + b"\r\nok", (200, b"ok")),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + OK, (200, b"ok")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", (202, b"")),
        (b"HTTP/1.1 307 Elsewhere\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", (307, b"")),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 22\r\n\r\n" + gzip.compress(b"ok", mtime=0), (200, b"ok")),
        (b"HTTP/1.1 404 Not Found\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n\r\nno", (404, b"no")),
    ],
    ids=["length", "chunked", "trailers", "until the end", "1xx", "1xx 204", "204", "202", "307", "gzip", "404"],
)
def test_what_counts_as_an_answer(run: Run[Any], says: bytes, expected: tuple[int, bytes]) -> None:
    def talk(conn: socket.socket, number: int) -> None:
        read_request(conn)
        conn.sendall(says)
        if says == HEAD + b"\r\nok":
            conn.shutdown(socket.SHUT_WR)
        await_end(conn)

    with byte_server(talk) as server:
        assert run(ask_once(server)) == expected


def test_an_answer_in_single_bytes_is_the_same_answer(run: Run[Any]) -> None:
    def talk(conn: socket.socket, number: int) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            read_request(conn)
            for byte in b"HTTP/1.1 103 Early\r\n\r\n" + CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n":
                conn.send(bytes([byte]))

    async def work() -> list[bytes]:
        pool = a_pool(policy=DEBUG)
        return [await ask(pool, server), await ask(pool, server)]

    with byte_server(talk) as server:
        assert run(work()) == [b"ok", b"ok"]
        assert server.accepted == 1


BOTH = b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
TRAILERS = CHUNKED + b"2\r\nok\r\n0\r\n"


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (b"", httpx2.ReadError),
        (HEAD + b"Content-Length: 20\r\n\r\nok", httpx2.ReadError),
        (CHUNKED + b"2\r\nok\r\n", httpx2.ReadError),
        (b"not HTTP at all\r\n\r\n", httpx2.RemoteProtocolError),
        (HEAD + b"x: " + b"x" * 200_000 + b"\r\n\r\n", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 103 Early\r\n\r\n" * 10_000, httpx2.RemoteProtocolError),
        (TRAILERS + b"x: 1\r\n" * 100_000 + b"\r\n", httpx2.RemoteProtocolError),
        (TRAILERS + b"x: " + b"y" * 600_000 + b"\r\n\r\n", httpx2.RemoteProtocolError),
        (CHUNKED + b"2;" + b"y" * 600_000 + b"\r\nok\r\n0\r\n\r\n", httpx2.RemoteProtocolError),
        (HEAD + b"Content-Length: 2000\r\n\r\n", egress.ResponseTooLarge),
        (HEAD + b"\r\n" + b"x" * 2000, egress.ResponseTooLarge),
        (CHUNKED + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", egress.ResponseTooLarge),
        (HEAD + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx", httpx2.RemoteProtocolError),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", httpx2.RemoteProtocolError),
        (STREAM.replace(b"Transfer", b"Content-Encoding: gzip\r\nTransfer"), httpx2.RemoteProtocolError),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!", httpx2.RemoteProtocolError),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", httpx2.RemoteProtocolError),
        (HEAD + BOTH, httpx2.RemoteProtocolError),
        (HEAD + b"Content-Length: +2\r\n\r\nok", httpx2.RemoteProtocolError),
        (HEAD + b"Content-Length: 2, 2\r\n\r\nok", httpx2.RemoteProtocolError),
        (HEAD + b"Content-Length : 2\r\n\r\nok", httpx2.RemoteProtocolError),
        (HEAD + b"X: a\x00b\r\nContent-Length: 2\r\n\r\nok", httpx2.RemoteProtocolError),
        (HEAD + b"X: a\rContent-Length: 2\r\n\r\nok", httpx2.RemoteProtocolError),
        (CHUNKED + b"-1\r\nok\r\n0\r\n\r\n", httpx2.RemoteProtocolError),
        (CHUNKED + b"fffffffffffffffff\r\nok\r\n0\r\n\r\n", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", httpx2.RemoteProtocolError),
    ],
    ids=[
        *("nothing", "cut short", "cut chunks", "nonsense", "endless head", "endless 1xx"),
        *("endless trailers", "endless trailer", "endless extension", "announced too long", "too long"),
        "chunks too long",
        *("unknown encoding", "bad gzip", "gzip stream", "two lengths", "same length twice", "length and chunks"),
        *("signed length", "list of lengths", "space before colon", "NUL", "bare CR", "negative chunk", "huge chunk"),
        "upgrade",
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_used_is_an_error_and_ends_the_connection(
    run: Run[Any], says: bytes, expected: type[Exception]
) -> None:
    def talk(conn: socket.socket, number: int) -> None:
        read_request(conn)
        with suppress(OSError):
            conn.sendall(says)
            conn.shutdown(socket.SHUT_WR)
        await_end(conn)

    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        with pytest.raises(expected):
            await ask(pool, server, limit=1000)
        assert await in_thread(server.left.acquire)
        assert not pool._lanes, "nothing is left of it"

    with byte_server(talk) as server:
        run(work())


def peak_of(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_is_noticed_before_it_is_unpacked(run: Run[Any]) -> None:
    bomb = gzip.compress(b"\0" * 60_000_000, 1)
    says = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb

    def work() -> None:
        with pytest.raises(egress.ResponseTooLarge):
            run(ask_once(server))

    with byte_server(saying(says)) as server:
        assert peak_of(work) < 40_000_000


def test_an_endless_answer_takes_no_more_than_its_limit(run: Run[Any]) -> None:
    def talk(conn: socket.socket, number: int) -> None:
        read_request(conn)
        conn.sendall(CHUNKED)
        while True:
            conn.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    def work() -> None:
        with pytest.raises(egress.ResponseTooLarge):
            run(ask_once(server))

    with byte_server(talk) as server:
        assert peak_of(work) < 40_000_000
