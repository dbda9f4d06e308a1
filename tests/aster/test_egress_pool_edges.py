"""The kept connections of the data plane: event streams, what is never sent or dialled, places, the end, and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
import pytest

from aster import egress
from aster.egress import Policy, Pool
from aster.egress.streams import AsyncioBackend
from aster.errors import ForbiddenAddress
from tests.aster.byte_server import OK, ByteServer, await_end, byte_server, read_request, saying
from tests.aster.pooling import HEAD, STREAM, Run, a_pool, ask, in_thread
from tests.aster.test_egress import DEBUG, PRODUCTION, AsyncDialler, answering
from tests.aster.test_egress_clients import make_tls


# --- Event streams ----------------------------------------------------------------------------------------------------
def test_a_stream_is_there_with_its_first_event_and_its_connection_is_kept_after_its_last(run: Run[Any]) -> None:
    heard = threading.Event()

    def talk(conn: socket.socket, number: int) -> None:
        while True:
            heard.clear()
            read_request(conn)
            conn.sendall(STREAM + b"5\r\none\n\n\r\n")
            heard.wait(5)
            conn.sendall(b"5\r\ntwo\n\n\r\n0\r\n\r\n")

    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        for _ in range(2):
            async with pool.post(server.url, b"{}", {}, lane="one") as answer:
                chunks = answer.chunks()
                assert await anext(chunks) == b"one\n\n"
                heard.set()
                assert [each async for each in chunks] == [b"two\n\n"]

    with byte_server(talk) as server:
        run(work())
        assert server.accepted == 1


@pytest.mark.parametrize(("rest", "fails"), [(b"0\r\n\r\n", False), (b"", True), (b"zz\r\n", True)])
def test_a_stream_that_breaks_off_says_so_after_what_had_arrived(run: Run[Any], rest: bytes, fails: bool) -> None:
    def talk(conn: socket.socket, number: int) -> None:
        read_request(conn)
        conn.sendall(STREAM + b"5\r\none\n\n\r\n" + rest)
        conn.shutdown(socket.SHUT_WR)
        await_end(conn)

    async def work() -> tuple[list[bytes], bool]:
        got: list[bytes] = []
        async with a_pool(policy=DEBUG).post(server.url, b"{}", {}, lane="one") as answer:
            try:
                async for piece in answer.chunks():
                    got.append(piece)  # noqa: PERF401  kept also of a stream that breaks off
            except httpx2.TransportError:
                return got, True
            return got, False

    with byte_server(talk) as server:
        assert run(work()) == ([b"one\n\n"], fails)


@pytest.mark.parametrize("piece", [b"x" * 65536, b"x"], ids=["large chunks", "small chunks"])
def test_what_nobody_takes_of_an_endless_stream_stays_with_the_server(run: Run[Any], piece: bytes) -> None:
    sent: list[int] = []
    stuck, told = threading.Event(), threading.Event()

    def talk(conn: socket.socket, number: int) -> None:
        read_request(conn)
        conn.sendall(STREAM)
        conn.settimeout(0.3)
        block = (b"%x\r\n" % len(piece) + piece + b"\r\n") * (65536 // len(piece))
        with suppress(TimeoutError):
            while len(sent) < 1000:
                sent.append(conn.send(block))
        stuck.set()
        told.wait(5)

    async def work() -> None:
        async with a_pool(policy=DEBUG).post(server.url, b"{}", {}, lane="one") as answer:
            assert await asyncio.to_thread(stuck.wait, 20)
            assert len(sent) < 1000, "the server was slowed down"
            held = sum(map(len, answer._held))
            assert held < 1_000_000
            taken, chunks = 0, answer.chunks()
            while taken <= held:  # and goes on once somebody takes it
                taken += len(await anext(chunks))
        told.set()

    with byte_server(talk) as server:
        run(work())


# --- What is never sent, never dialled --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer s3cret\r\nX-Evil: 1"},
        {"Authorization": "Bearer s3cret\n"},
        {"X-Key": "s3cret\0"},
        {"X-Key": "s3crét"},
        {"X-s3cret\r\nX-Evil: 1": "1"},
        {"X-s3cret: 1": "1"},
        {"": "s3cret"},
    ],
)
def test_a_header_that_is_not_valid_is_not_sent_and_not_repeated(run: Run[Any], headers: dict[str, str]) -> None:
    dialler = AsyncDialler()

    async def work() -> str:
        pool = a_pool(policy=Policy(), resolver=answering("93.184.215.14"), connector=dialler)
        with pytest.raises(httpx2.LocalProtocolError) as refused:
            async with pool.post("https://mcp.example/", b"{}", headers, lane="one"):
                pass
        return f"{refused.value!r} {refused.value.__context__!r} {refused.value.__cause__!r}"

    said = run(work())
    assert "s3cr" not in said
    assert dialler.dials == []


def test_no_repr_tells_what_an_answer_holds(run: Run[Any]) -> None:
    async def work() -> str:
        async with a_pool(policy=DEBUG).post(
            server.url, b"s3cret", {"Authorization": "s3cret"}, lane="s3cret"
        ) as answer:
            assert answer.header("set-cookie") == "s3cret" and answer.body == b"s3cret"
            return f"{answer!r} {answer._wire!r}"

    with byte_server(saying(HEAD + b"Set-Cookie: s3cret\r\nContent-Length: 6\r\n\r\ns3cret")) as server:
        assert "s3cret" not in run(work())


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://mcp.example/", ("10.0.0.1",)),
        ("https://mcp.example/", ("93.184.215.14", "127.0.0.1")),
        ("https://mcp.example/", ("169.254.169.254",)),
        ("https://mcp.example/", ("::ffff:127.0.0.1",)),
        ("https://127.0.0.1/", ()),
        ("https://localhost/", ()),
        ("https://[::1]/", ()),
        ("http://mcp.example/", ("93.184.215.14",)),
        ("ftp://mcp.example/", ("93.184.215.14",)),
        ("https://user:s3cret@mcp.example/", ("93.184.215.14",)),
    ],
)
def test_what_the_guard_refuses_is_never_dialled(run: Run[Any], url: str, found: tuple[str, ...]) -> None:
    dialler = AsyncDialler()

    async def work() -> Pool:
        pool = a_pool(policy=PRODUCTION, resolver=answering(*found), connector=dialler)
        for _ in range(2):
            with pytest.raises(ForbiddenAddress) as refused:
                async with pool.post(url, b"{}", {}, lane="one"):
                    pass
            assert isinstance(refused.value, httpx2.TransportError)
            assert "s3cret" not in str(refused.value)
        return pool

    assert not run(work())._lanes
    assert dialler.dials == []


class Elsewhere(AsyncioBackend):
    """Dials `port` of this machine, whatever address was vetted, and remembers which that was."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.dials: list[str] = []

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        self.dials.append(host)
        return await super().connect_tcp("127.0.0.1", self.port, timeout=5)


def test_a_name_that_moves_is_judged_again_with_the_next_connection(run: Run[Any]) -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"], ["169.254.169.254"], ["93.184.215.15"]])

    async def work() -> None:
        # Listed, so that plain http will do: that opens neither loopback nor metadata.
        policy = Policy(allowed=("mcp.example",))
        pool = a_pool(policy=policy, resolver=lambda host, port: next(answers), connector=dialler)

        async def post(lane: str) -> None:
            async with pool.post("http://mcp.example/", b"{}", {}, lane=lane):
                pass

        await post("a")
        await post("a")  # stays with the address that was vetted
        for lane in ("b", "c"):
            with pytest.raises(ForbiddenAddress):
                await post(lane)
        await post("d")

    with byte_server(saying(OK)) as server:
        dialler = Elsewhere(server.port)
        run(work())
    assert dialler.dials == ["93.184.215.14", "93.184.215.15"]


# --- Places, and the end ----------------------------------------------------------------------------------------------
class Crowd:
    """A server that holds every request until it is told to answer the longest waiting one."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.answer = threading.Semaphore(0)
        self.order: list[bytes] = []
        self.now = self.most = 0
        self._lock = threading.Lock()

    def talk(self, conn: socket.socket, number: int) -> None:
        while True:
            name = read_request(conn).split(b"X-Name: ")[1].split(b"\r")[0]
            with self._lock:
                self.order.append(name)
                self.now += 1
                self.most = max(self.most, self.now)
            self.asked.release()
            self.answer.acquire(timeout=5)
            with self._lock:
                self.now -= 1
            conn.sendall(OK)


async def named(pool: Pool, server: ByteServer, name: str) -> str:
    async with pool.post(server.url, b"{}", {"X-Name": name}, lane="one"):
        return name


def test_beyond_the_places_of_a_lane_everybody_waits_in_order(run: Run[Any]) -> None:
    crowd = Crowd()

    async def work() -> None:
        pool = a_pool(policy=DEBUG, most_per_lane=2)
        held = asyncio.create_task(named(pool, server, "held"))
        assert await in_thread(crowd.asked.acquire)
        tasks = [asyncio.create_task(named(pool, server, str(n))) for n in range(6)]
        assert await in_thread(crowd.asked.acquire)
        for _ in range(5):  # one at a time: each answer lets the next one in
            crowd.answer.release()
            assert await in_thread(crowd.asked.acquire)
        crowd.answer.release()
        crowd.answer.release()
        assert await asyncio.gather(held, *tasks) == ["held", *(str(n) for n in range(6))]
        (lane,) = pool._lanes.values()
        assert (lane.busy, len(lane.idle), len(lane.waiting)) == (0, 2, 0)

    with byte_server(crowd.talk) as server:
        run(work())
        assert (server.accepted, crowd.most) == (2, 2)
    assert crowd.order == [b"held", *(b"%d" % n for n in range(6))]


def test_who_stops_waiting_costs_nobody_a_place(run: Run[Any]) -> None:
    crowd = Crowd()

    async def work() -> None:
        pool = a_pool(policy=DEBUG, most_per_lane=1)

        async def ask_first() -> None:
            await named(pool, server, "first")
            later.cancel()  # just when its turn has come: it passes that on

        first = asyncio.create_task(ask_first())
        assert await in_thread(crowd.asked.acquire)
        gone, later, last = (asyncio.create_task(named(pool, server, name)) for name in ("gone", "later", "last"))
        await asyncio.sleep(0)
        gone.cancel()
        crowd.answer.release()
        await first
        assert await in_thread(crowd.asked.acquire)
        crowd.answer.release()
        assert await last == "last"
        assert gone.cancelled() and later.cancelled()
        (lane,) = pool._lanes.values()
        assert (lane.busy, len(lane.waiting)) == (0, 0)

    with byte_server(crowd.talk) as server:
        run(work())
        assert crowd.order == [b"first", b"last"]


def test_nothing_stays_of_a_lane_whose_dials_fail(run: Run[Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def work() -> None:
        pool = a_pool(policy=DEBUG, most_per_lane=1)

        async def post() -> None:
            async with pool.post(f"http://127.0.0.1:{port}/", b"{}", {}, lane="one"):
                pass

        outcomes = await asyncio.gather(*(post() for _ in range(5)), return_exceptions=True)
        assert {type(each) for each in outcomes} == {httpx2.ConnectError}
        assert not pool._lanes

    run(work())


def test_a_dial_that_is_given_up_gives_its_place_back(run: Run[Any]) -> None:
    class Never(httpcore2.AsyncNetworkBackend):
        async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
            dialling.set()
            await asyncio.Event().wait()
            raise AssertionError

    async def work() -> None:
        pool = a_pool(policy=DEBUG, connector=Never())

        async def post() -> None:
            async with pool.post("http://127.0.0.1:9/", b"{}", {}, lane="one"):
                pass

        task = asyncio.create_task(post())
        await dialling.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() and not pool._lanes

    dialling = asyncio.Event()
    run(work())


def test_idle_connections_beyond_the_most_are_closed_and_over_lanes_forgotten(run: Run[Any]) -> None:
    async def work() -> None:
        pool = a_pool(policy=DEBUG, most_idle=2)
        for lane in "abc":
            await ask(pool, server, lane)
        assert await in_thread(server.left.acquire)
        assert len(pool._lanes) == 2
        for lane in pool._lanes.values():
            lane.idle[0].idle_until = 0.0  # their time is over
        await ask(pool, server, "d")
        await ask(pool, server, "d")
        assert [key[1] for key in pool._lanes] == ["d"]

    with byte_server(saying(OK)) as server:
        run(work())


def test_a_closed_pool_has_no_connection_left_and_keeps_none(run: Run[Any]) -> None:
    async def work() -> None:
        pool = a_pool(policy=DEBUG)
        await asyncio.gather(ask(pool, server, "a"), ask(pool, server, "b"))
        await pool.aclose()
        for _ in range(2):
            assert await in_thread(server.left.acquire)
        await ask(pool, server, "a")
        assert await in_thread(server.left.acquire)

    with byte_server(saying(OK)) as server:
        run(work())


def test_the_pool_of_a_loop_is_kept_for_its_life_and_closed_with_it(run: Run[Any]) -> None:
    async def work() -> None:
        assert egress.kept_pool() is None
        async with egress.keep_async_pool(policy=DEBUG):
            pool = egress.kept_pool()
            assert pool
            await ask(pool, server)
            async with egress.keep_async_pool():
                assert egress.kept_pool() is pool
            assert await ask(pool, server) == b"ok"
        assert egress.kept_pool() is None
        assert await in_thread(server.left.acquire)

    with byte_server(saying(OK)) as server:
        run(work())
        assert server.accepted == 1


# --- TLS --------------------------------------------------------------------------------------------------------------
class Trusting(Elsewhere):
    """Trusts the certificate of a test. `before` runs between the handshake and the first request, on the loop."""

    def __init__(self, port: int, trusted: ssl.SSLContext, before: Callable[[], object] = bool) -> None:
        super().__init__(port)
        self.trusted, self.before = trusted, before

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        return _Trusting(await super().connect_tcp(host, port), self)


class _Trusting(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: httpcore2.AsyncNetworkStream, backend: Trusting) -> None:
        self._stream, self._backend = stream, backend

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        assert ssl_context.verify_mode == ssl.CERT_REQUIRED and ssl_context.check_hostname
        secured = await self._stream.start_tls(self._backend.trusted, server_hostname, timeout)
        self._backend.before()
        return secured


def secure_pool(server: ByteServer, trusted: ssl.SSLContext, before: Callable[[], object] = bool) -> Pool:
    return a_pool(
        policy=PRODUCTION, resolver=answering("93.184.215.14"), connector=Trusting(server.port, trusted, before)
    )


async def ask_securely(pool: Pool, name: str = "mcp.example") -> bytes:
    async with pool.post(f"https://{name}/mcp", b"{}", {}, lane="one") as answer:
        return bytes(answer.body)


def test_tls_connections_are_kept_and_checked_against_the_name(run: Run[Any], tmp_path: Path) -> None:
    ours, theirs = make_tls(tmp_path, "mcp.example")

    async def work() -> None:
        pool = secure_pool(server, theirs)
        assert [await ask_securely(pool) for _ in range(3)] == [b"ok"] * 3
        with pytest.raises(httpx2.ConnectError, match="mismatch"):
            await ask_securely(pool, "other.example")
        await pool.aclose()

    with byte_server(saying(OK), ours) as server:
        run(work())
        assert server.accepted == 2


def test_what_tls_itself_says_after_the_handshake_is_nobody_s_word(run: Run[Any], tmp_path: Path) -> None:
    """Session tickets come unasked (RFC 8446 §4.6.1), and may be there before the first request goes out."""
    ours, theirs = make_tls(tmp_path, "mcp.example")
    ready = threading.Event()

    def talk(conn: socket.socket, number: int) -> None:
        ready.set()  # the handshake is over, and the tickets are on their way
        saying(OK)(conn, number)

    async def work() -> bytes:
        return await ask_securely(secure_pool(server, theirs, lambda: ready.wait(0.3)))

    with byte_server(talk, ours) as server:
        assert run(work()) == b"ok"


def test_a_certificate_that_nobody_vouches_for_is_refused(run: Run[Any], tmp_path: Path) -> None:
    ours, _ = make_tls(tmp_path, "mcp.example")

    async def work() -> None:
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            await ask_securely(secure_pool(server, ssl.create_default_context()))

    with byte_server(saying(OK), ours) as server:
        run(work())


def test_words_in_the_clear_before_the_handshake_are_no_answer(run: Run[Any], tmp_path: Path) -> None:
    ours, theirs = make_tls(tmp_path, "mcp.example")

    def talk(conn: socket.socket, number: int) -> None:
        conn.sendall(HEAD + b"Content-Length: 6\r\n\r\nforged")
        with ours.wrap_socket(conn, server_side=True) as secure:
            saying(OK)(secure, number)

    async def work() -> None:
        with pytest.raises(httpx2.TransportError):
            await ask_securely(secure_pool(server, theirs))

    with byte_server(talk) as server:
        run(work())


def test_who_speaks_before_being_asked_has_said_nothing_that_counts(run: Run[Any]) -> None:
    spoken = threading.Event()

    def talk(conn: socket.socket, number: int) -> None:
        conn.sendall(OK.replace(b"ok", b"no"))
        spoken.set()
        await_end(conn)

    class Late(AsyncioBackend):
        async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
            stream = await super().connect_tcp(*args, **kwargs)
            spoken.wait(5)  # the loop is too busy to hear it
            return stream

    async def work() -> None:
        pool = a_pool(policy=DEBUG, connector=Late())
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask(pool, server)
        assert await in_thread(server.left.acquire)
        assert not pool._lanes

    with byte_server(talk) as server:
        run(work())


def test_many_long_requests_and_answers_at_once_stay_apart(run: Run[Any]) -> None:
    def talk(conn: socket.socket, number: int) -> None:
        while True:
            body = read_request(conn).partition(b"\r\n\r\n")[2]
            conn.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[::-1])

    async def work() -> None:
        pool = a_pool(policy=DEBUG)

        async def echo(n: int) -> None:
            sent = b"%05d" % n + bytes([n % 256]) * 300_000
            async with pool.post(server.url, sent, {}, lane=n % 3) as answer:
                assert answer.body == sent[::-1]

        await asyncio.gather(*(echo(n) for n in range(60)))

    with byte_server(talk) as server:
        run(work())
