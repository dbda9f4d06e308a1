"""Lines and the connections under every async client, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpcore2
import httpx2
import pytest

from aster import egress
from aster.egress import AsyncLine, Policy
from aster.egress.streams import AsyncioBackend
from aster.errors import ForbiddenAddress
from tests.aster.test_egress import DEBUG, PRODUCTION, AsyncDialler, answering, sending, serving
from tests.aster.test_egress_clients import make_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPBACK = answering("127.0.0.1")


def ask(url: str, times: int = 1, line: AsyncLine | None = None, **options: int) -> list[egress.Reply]:
    async def run() -> list[egress.Reply]:
        async with line or AsyncLine(policy=DEBUG, resolver=LOOPBACK) as opened:
            return [
                await opened.exchange("POST", httpx2.URL(url), headers={"x-a": "b"}, content=b"sent", **options)
                for _ in range(times)
            ]

    return asyncio.run(run())


class Listener:
    """Accepts one connection after the other and lets `talk` have each; remembers how many there were."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self.accepted = 0
        self._talk = talk
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/token"

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._socket.accept()
            except OSError:
                return
            self.accepted += 1
            with conn:
                conn.settimeout(5)
                with suppress(OSError):
                    self._talk(conn)

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[Listener]:
    listener = Listener(talk)
    yield listener
    listener.stop()


def answer_all(conn: socket.socket) -> None:
    while conn.recv(65536):
        conn.sendall(OK)


# --- Lines -----------------------------------------------------------------------------------------------------------
def test_a_line_sends_one_request_after_the_other_over_one_connection() -> None:
    with listening(answer_all) as server:
        assert [reply.body for reply in ask(server.url, times=3)] == [b"ok"] * 3
        assert server.accepted == 1


def test_what_goes_out_is_what_was_asked_and_nothing_else() -> None:
    heard: list[bytes] = []

    def remember(conn: socket.socket) -> None:
        heard.append(conn.recv(65536))
        conn.sendall(OK)

    with listening(remember) as server:
        ask(server.url + "?a=%20b")
    head, body = heard[0].split(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /token?a=%20b HTTP/1.1",
        b"Host: " + server.url.split("/")[2].encode(),
        b"User-Agent: Aster",
        b"Accept-Encoding: identity",
        b"Content-Length: 4",
        b"x-a: b",
    ]
    assert body == b"sent"


@pytest.mark.parametrize(
    "last_words",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
    ],
    ids=["says it closes", "ends with the connection", "says more than was asked"],
)
def test_a_connection_that_is_over_or_said_too_much_is_not_used_again(last_words: bytes) -> None:
    def talk(conn: socket.socket) -> None:
        conn.recv(65536)
        conn.sendall(last_words)

    with listening(talk) as server:
        assert [reply.body for reply in ask(server.url, times=2)] == [b"ok", b"ok"]
        assert server.accepted == 2


@pytest.mark.parametrize(
    "says", [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", b""], ids=["an answer", "the end"]
)
def test_what_a_server_says_unasked_is_no_answer_to_the_next_request(says: bytes) -> None:
    """Although the loop was too busy to hear it."""
    said = threading.Event()

    def talk(conn: socket.socket) -> None:
        conn.recv(65536)
        conn.sendall(OK)
        if not said.is_set():
            conn.sendall(says) if says else conn.shutdown(socket.SHUT_WR)
            said.set()
            conn.recv(65536)

    async def run() -> list[bytes]:
        async with AsyncLine(policy=DEBUG) as line:
            first = await line.exchange("POST", httpx2.URL(server.url), headers={})
            said.wait(5)
            second = await line.exchange("POST", httpx2.URL(server.url), headers={})
            return [first.body, second.body]

    with listening(talk) as server:
        assert asyncio.run(run()) == [b"ok", b"ok"]
        assert server.accepted == 2


def test_an_answer_that_arrived_in_time_counts_although_the_loop_came_to_it_late() -> None:
    asked, answered, over = threading.Event(), threading.Event(), threading.Event()

    def talk(conn: socket.socket) -> None:
        conn.recv(65536)
        asked.set()
        conn.sendall(OK)
        answered.set()

    async def run() -> bytes:
        async with AsyncLine(policy=DEBUG) as line:
            asking = asyncio.create_task(line.exchange("POST", httpx2.URL(server.url), headers={}, seconds=0.2))
            while not asked.is_set():
                await asyncio.sleep(0)
            answered.wait(5)
            over.wait(0.3)  # whatever holds up the loop
            return (await asking).body

    with listening(talk) as server:
        assert asyncio.run(run()) == b"ok"


@pytest.mark.parametrize("never_ending", [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, b"x"])
def test_who_never_comes_to_an_end_is_cut_off(never_ending: bytes) -> None:
    def talk(conn: socket.socket) -> None:
        conn.recv(65536)
        conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if never_ending == b"x" else b"")
        for _ in range(1_000_000):
            conn.sendall(never_ending * 100)

    with listening(talk) as server, pytest.raises(egress.ResponseTooLarge):
        ask(server.url, limit=1000)


def test_another_origin_gets_another_connection() -> None:
    async def run() -> None:
        async with AsyncLine(policy=DEBUG) as line:
            for url in (one.url, other.url, other.url):
                await line.exchange("POST", httpx2.URL(url), headers={})

    with listening(answer_all) as one, listening(answer_all) as other:
        asyncio.run(run())
        assert (one.accepted, other.accepted) == (1, 1)


def test_a_line_skips_what_only_announces_the_answer() -> None:
    with listening(lambda conn: conn.recv(65536) and conn.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)) as server:
        assert ask(server.url)[0].status == 200


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", httpx2.RemoteProtocolError),
        (b"not HTTP at all\r\n\r\n", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000 + b"\r\n\r\n", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n", egress.ResponseTooLarge),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000, egress.ResponseTooLarge),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n", httpx2.RemoteProtocolError),
    ],
    ids=["none", "cut short", "nonsense", "endless head", "announced too long", "too long", "unknown encoding"],
)
def test_an_answer_that_cannot_be_used_is_an_error_and_ends_the_connection(
    answer: bytes, expected: type[Exception]
) -> None:
    closed = threading.Event()

    def talk(conn: socket.socket) -> None:
        conn.recv(65536)
        conn.sendall(answer)
        conn.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert conn.recv(65536) == b""
        closed.set()

    async def run() -> None:
        async with AsyncLine(policy=DEBUG) as line:
            with pytest.raises(expected):
                await line.exchange("POST", httpx2.URL(server.url), headers={}, limit=1000)
            assert await asyncio.to_thread(closed.wait, 5)

    with listening(talk) as server:
        asyncio.run(run())


@pytest.mark.parametrize(("url", "found"), [("https://mcp.example/", "10.0.0.1"), ("https://127.0.0.1/", "")])
def test_a_line_never_dials_what_the_guard_refuses(url: str, found: str) -> None:
    dialler = AsyncDialler()
    with pytest.raises(ForbiddenAddress):
        ask(url, line=AsyncLine(policy=PRODUCTION, resolver=answering(found), connector=dialler))
    assert dialler.dials == []


def test_a_line_dials_the_vetted_address() -> None:
    dialler = AsyncDialler()
    line = AsyncLine(policy=Policy(), resolver=answering("93.184.215.14"), connector=dialler)
    assert ask("https://mcp.example/", line=line)[0].body == b"ok"
    assert dialler.dials == [("93.184.215.14", 443)]


def test_a_header_that_is_not_valid_is_not_sent_and_not_repeated() -> None:
    dialler = AsyncDialler()
    line = AsyncLine(policy=Policy(), resolver=answering("93.184.215.14"), connector=dialler)

    async def run() -> None:
        await line.exchange("POST", httpx2.URL("https://mcp.example/"), headers={"authorization": "s3cret\n"})

    with pytest.raises(httpx2.LocalProtocolError) as refused:
        asyncio.run(run())
    assert "s3cret" not in str(refused.value)
    assert dialler.dials == []


def test_a_cancelled_exchange_leaves_no_half_used_connection() -> None:
    asked = threading.Event()

    def talk(conn: socket.socket) -> None:
        conn.recv(65536)
        if not asked.is_set():
            asked.set()
            assert conn.recv(65536) == b""  # closed by the client
            return
        conn.sendall(OK)

    async def run() -> egress.Reply:
        async with AsyncLine(policy=DEBUG) as line:
            first = asyncio.create_task(line.exchange("POST", httpx2.URL(server.url), headers={}))
            await asyncio.to_thread(asked.wait, 5)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            return await line.exchange("POST", httpx2.URL(server.url), headers={})

    with listening(talk) as server:
        assert asyncio.run(run()).body == b"ok"


# --- The connections under every async client ------------------------------------------------------------------------
def test_words_in_the_clear_before_the_handshake_are_never_read_as_the_server_s(tmp_path: Path) -> None:
    """Whoever is on the way can write into a connection before TLS begins: that must not become an answer."""
    server_side, client_side = make_tls(tmp_path, "mcp.example")

    def talk(conn: socket.socket) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        with server_side.wrap_socket(conn, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(OK)

    async def run() -> None:
        host, port = server.url.split("/")[2].split(":")
        stream = await AsyncioBackend().connect_tcp(host, int(port), timeout=5)
        while not stream.get_extra_info("is_readable_now"):
            await asyncio.sleep(0)
        await stream.start_tls(client_side, "mcp.example", timeout=5)

    with listening(talk) as server, pytest.raises(httpcore2.ConnectError):
        asyncio.run(run())


def test_a_connection_speaks_tls_in_both_directions(tmp_path: Path) -> None:
    server_side, client_side = make_tls(tmp_path, "mcp.example")
    long = b"x" * 300_000

    def talk(conn: socket.socket) -> None:
        with server_side.wrap_socket(conn, server_side=True) as secure:
            received = b""
            while len(received) < len(long):
                received += secure.recv(65536)
            secure.sendall(received[::-1])

    async def run() -> bytes:
        host, port = server.url.split("/")[2].split(":")
        plain = await AsyncioBackend().connect_tcp(host, int(port), timeout=5)
        secure = await plain.start_tls(client_side, "mcp.example", timeout=5)
        assert isinstance(secure.get_extra_info("ssl_object"), ssl.SSLObject)
        await secure.write(long, timeout=5)
        received = b""
        while piece := await secure.read(1000, timeout=5):
            received += piece
        await secure.aclose()
        return received

    with listening(talk) as server:
        assert asyncio.run(run()) == long


def test_a_peer_that_reads_nothing_ends_the_write_in_time() -> None:
    over = threading.Event()

    async def run() -> None:
        host, port = server.url.split("/")[2].split(":")
        stream = await AsyncioBackend().connect_tcp(host, int(port), timeout=5)
        with pytest.raises(httpcore2.WriteTimeout):
            for _ in range(1000):
                await stream.write(b"x" * 100_000, timeout=0.2)
        await stream.aclose()

    with listening(lambda conn: over.wait(5) and None) as server:
        asyncio.run(run())
        over.set()


def test_a_peer_that_says_nothing_ends_the_read_in_time() -> None:
    with serving(lambda conn: None) as port:

        async def run() -> None:
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", port, timeout=5)
            with pytest.raises(httpcore2.ReadTimeout):
                await stream.read(10, timeout=0.05)
            await stream.aclose()

        asyncio.run(run())


def test_what_nobody_reads_yet_stays_with_the_peer() -> None:
    sent: list[int] = []
    stuck = threading.Event()

    def talk(conn: socket.socket) -> None:
        conn.settimeout(0.3)
        with suppress(TimeoutError):
            while len(sent) < 1000:
                sent.append(conn.send(b"x" * 100_000))
        stuck.set()

    async def run() -> int:
        host, port = server.url.split("/")[2].split(":")
        stream = await AsyncioBackend().connect_tcp(host, int(port), timeout=5)
        assert await asyncio.to_thread(stuck.wait, 20)
        received = 0
        while piece := await stream.read(65536, timeout=5):
            received += len(piece)
        await stream.aclose()
        return received

    with listening(talk) as server:
        assert asyncio.run(run()) == sum(sent)
        assert len(sent) < 1000, "the sender was slowed down"


def test_an_async_client_still_asks_over_them() -> None:
    with serving(sending("200 OK", b"ok")) as port:

        async def run() -> bytes:
            async with egress.async_client(policy=DEBUG) as http:
                return (await http.post(f"http://127.0.0.1:{port}/", content=b"x" * 200_000)).content

        assert asyncio.run(run()) == b"ok"
