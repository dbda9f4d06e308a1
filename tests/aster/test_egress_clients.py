"""The clients over real sockets on loopback: deadlines, TLS, pools, and what people are told when it goes wrong."""

from __future__ import annotations

import asyncio
import datetime
import gc
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aster import egress
from aster.egress import Policy
from aster.errors import ForbiddenAddress, UpstreamError
from tests.aster.test_egress import DEBUG, AsyncDialler, Dialler, answering, not_found, sending, serving

LOOPBACK = answering("127.0.0.1")
OVER = threading.Event()  # never set: waiting on it is how a server is slow


def drip(data: bytes, every: float = 0.05) -> Callable[[socket.socket], None]:
    """Sends one byte at a time, always well before a read timeout would fire."""

    def talk(conn: socket.socket) -> None:
        for number in range(len(data)):
            conn.sendall(data[number : number + 1])
            OVER.wait(every)

    return talk


def fall_silent(conn: socket.socket) -> None:
    OVER.wait(3)


@contextmanager
def hurrying(seconds: float) -> Iterator[None]:
    """The block ends by a DeadlineExceeded, and soon."""
    started = time.monotonic()
    with pytest.raises(egress.DeadlineExceeded, match=f"within {seconds:g} s"), egress.deadline(seconds):
        yield
    assert time.monotonic() - started < seconds + 1


# --- Deadlines -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 200,
        b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b"x" * 200,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10,
    ],
)
def test_a_peer_that_drips_bytes_is_cut_off_at_the_deadline(data: bytes) -> None:
    with serving(drip(data)) as port, hurrying(0.3):
        egress.client(policy=DEBUG).get(f"http://127.0.0.1:{port}")


def test_a_peer_that_reads_nothing_is_cut_off_at_the_deadline() -> None:
    with serving(fall_silent) as port, hurrying(0.3):
        egress.client(policy=DEBUG).post(f"http://127.0.0.1:{port}", content=b"x" * 30_000_000)


def test_a_peer_that_never_finishes_the_tls_handshake_is_cut_off_at_the_deadline() -> None:
    with serving(fall_silent) as port, hurrying(0.3):
        egress.client(policy=DEBUG).get(f"https://127.0.0.1:{port}")


def test_a_slow_lookup_counts_towards_the_deadline() -> None:
    def look_up(host: str, port: int) -> Sequence[str]:
        OVER.wait(3)
        return ["127.0.0.1"]

    transport = egress.EgressTransport(policy=DEBUG, resolver=look_up)
    with httpx2.Client(transport=transport, timeout=None) as http, hurrying(0.2):
        http.get("http://mcp.example.com")


def test_a_deadline_that_has_passed_dials_nothing() -> None:
    dialler = Dialler()
    with httpx2.Client(transport=egress.EgressTransport(policy=DEBUG, connector=dialler)) as http:
        with pytest.raises(egress.DeadlineExceeded), egress.deadline(0):
            http.get("http://127.0.0.1:9")
        assert dialler.dials == []
        with egress.deadline(5):
            assert http.get("http://127.0.0.1:9").text == "ok"


class SlowDialler(Dialler):
    """Needs 50 ms for every dial, and then fails if told to."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error

    def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore2.NetworkStream:
        stream = super().connect_tcp(host, port)
        OVER.wait(0.05)
        if self.error:
            raise self.error
        return stream


def test_a_deadline_that_passes_between_dial_and_tls_closes_the_connection() -> None:
    dialler = SlowDialler()
    with httpx2.Client(transport=egress.EgressTransport(policy=DEBUG, connector=dialler)) as http, hurrying(0.02):
        http.get("https://127.0.0.1:9")
    assert dialler.server_names == []
    assert dialler.closed == 1


def test_all_addresses_of_a_name_share_one_connect_timeout() -> None:
    dialler = SlowDialler(httpcore2.ConnectTimeout())
    transport = egress.EgressTransport(
        policy=DEBUG, resolver=answering(*[f"127.0.0.{n}" for n in range(1, 99)]), connector=dialler
    )
    with httpx2.Client(transport=transport, timeout=0.06) as http, pytest.raises(httpx2.ConnectTimeout):
        http.get("http://mcp.example.com")
    assert len(dialler.dials) < 4


def test_of_nested_deadlines_the_earlier_counts() -> None:
    with serving(fall_silent) as port, hurrying(0.2), egress.deadline(60):
        egress.client(policy=DEBUG).get(f"http://127.0.0.1:{port}")


def test_the_timeout_of_a_step_stays_its_own_below_the_deadline() -> None:
    with serving(fall_silent) as port, egress.deadline(60), pytest.raises(httpx2.ReadTimeout) as late:
        egress.client(policy=DEBUG).get(f"http://127.0.0.1:{port}", timeout=0.1)
    assert not isinstance(late.value, egress.DeadlineExceeded)
    assert egress.explain(late.value, "http://x").message == "The server did not answer within 0.1 s."


def test_a_connection_outlives_the_deadline_it_was_opened_under() -> None:
    connections = set[int]()

    def talk(conn: socket.socket) -> None:
        connections.add(conn.fileno())
        sending("200 OK")(conn)

    with serving(talk) as port:
        with egress.deadline(5):
            egress.client(policy=DEBUG).get(f"http://127.0.0.1:{port}")
        assert egress.client(policy=DEBUG).get(f"http://127.0.0.1:{port}").status_code == 200
    assert len(connections) == 1


# --- The shared sync client ------------------------------------------------------------------------------------------
def test_there_is_one_sync_client_and_one_tls_context_per_process() -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.extend([egress.client(policy=DEBUG), egress.tls_context()]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 2
    assert egress.tls_context().verify_mode is ssl.CERT_REQUIRED
    assert egress.tls_context().check_hostname


def test_a_forked_worker_does_not_use_its_parents_connections() -> None:
    parents = egress.client(policy=DEBUG)
    child = os.fork()
    if child == 0:
        os._exit(0 if egress.client(policy=DEBUG) is not parents else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert egress.client(policy=DEBUG) is parents


def test_the_shared_client_keeps_no_cookies_and_follows_no_redirect() -> None:
    seen = list[bytes]()

    def talk(conn: socket.socket) -> None:
        sending("302 Found\r\nSet-Cookie: session=one-tenant\r\nLocation: /next")(conn)
        seen.append(conn.recv(65536, socket.MSG_PEEK))

    with serving(talk) as port:
        for _ in range(2):
            assert egress.client(policy=DEBUG).get(f"http://127.0.0.1:{port}/first").status_code == 302
    assert seen[0].startswith(b"GET /first")
    assert b"one-tenant" not in seen[0]


def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with serving(sending("200 OK", b"direct")) as port:
        assert egress.client(policy=Policy(debug=True, allowed=("fresh.lan",))).get(f"http://127.0.0.1:{port}").text


def test_the_resolver_of_the_system_is_used_and_timeouts_may_be_off() -> None:
    with serving(sending("200 OK", b"here")) as port:
        assert egress.client(policy=DEBUG).get(f"http://localhost:{port}", timeout=None).text == "here"


def test_a_bug_is_not_dressed_up_as_a_network_error() -> None:
    def look_up(host: str, port: int) -> Sequence[str]:
        raise RuntimeError("bug")

    transport = egress.EgressTransport(policy=DEBUG, resolver=look_up)
    with httpx2.Client(transport=transport) as http, pytest.raises(RuntimeError, match="bug"):
        http.get("http://mcp.example.com")


# --- The async clients -----------------------------------------------------------------------------------------------
def count_connections(keep: bool) -> int:
    connections = set[tuple[str, int]]()

    def talk(conn: socket.socket) -> None:
        connections.add(conn.getpeername())
        sending("200 OK")(conn)

    async def call(port: int, policy: Policy | None) -> None:
        for number in range(3):
            async with egress.async_client(headers={"X-Number": str(number)}, policy=policy) as http:
                assert http.headers["X-Number"] == str(number)
                assert (await http.get(f"http://127.0.0.1:{port}")).status_code == 200

    async def run(port: int) -> None:
        if not keep:
            return await call(port, DEBUG)
        async with egress.keep_async_pool(policy=DEBUG):
            async with egress.keep_async_pool():
                await call(port, None)
            await call(port, None)

    with serving(talk) as port:
        asyncio.run(run(port))
    return len(connections)


def test_clients_share_the_pool_that_is_kept_for_their_loop() -> None:
    assert count_connections(keep=True) == 1


def test_without_a_kept_pool_every_client_has_its_own_connections() -> None:
    assert count_connections(keep=False) == 3


def test_a_kept_pool_is_closed_and_forgotten_at_the_end() -> None:
    hung_up = threading.Event()

    def talk(conn: socket.socket) -> None:
        sending("200 OK")(conn)
        if not conn.recv(1):
            hung_up.set()

    async def run(port: int) -> weakref.ref[asyncio.AbstractEventLoop]:
        async with egress.keep_async_pool(policy=DEBUG):
            async with egress.async_client() as http:
                await http.get(f"http://127.0.0.1:{port}")
            assert not hung_up.is_set()
        await asyncio.to_thread(hung_up.wait, 5)
        return weakref.ref(asyncio.get_running_loop())

    with serving(talk) as port:
        loop = asyncio.run(run(port))
    assert hung_up.is_set()
    gc.collect()
    assert loop() is None


def test_an_async_lookup_leaves_the_loop_free() -> None:
    looked_up = threading.Event()

    def look_up(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"] if looked_up.wait(5) else []

    async def run() -> httpx2.Response:
        transport = egress.AsyncEgressTransport(policy=DEBUG, resolver=look_up, connector=AsyncDialler())
        async with httpx2.AsyncClient(transport=transport) as http, asyncio.TaskGroup() as group:
            answer = group.create_task(http.get("http://mcp.example.com"))
            await asyncio.sleep(0)
            looked_up.set()
        return answer.result()

    assert asyncio.run(run()).text == "ok"


def test_an_async_lookup_ends_with_the_connect_timeout() -> None:
    over = threading.Event()

    def look_up(host: str, port: int) -> Sequence[str]:
        over.wait(5)
        return ["127.0.0.1"]

    async def run() -> None:
        async with httpx2.AsyncClient(
            transport=egress.AsyncEgressTransport(policy=DEBUG, resolver=look_up), timeout=0.05
        ) as http:
            await http.get("http://mcp.example.com")

    with pytest.raises(httpx2.ConnectTimeout):
        asyncio.run(run())
    over.set()


# --- What people are told --------------------------------------------------------------------------------------------
def make_tls(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server context with a self-signed certificate for `name`, and a client context that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


def fail(url: str, *, resolver: egress.Resolver = LOOPBACK) -> UpstreamError:
    """The same failure from both transports must be explained in the same words."""

    async def get() -> None:
        transport = egress.AsyncEgressTransport(policy=DEBUG, resolver=resolver)
        async with httpx2.AsyncClient(transport=transport, timeout=0.5) as http:
            await http.get(url)

    transport = egress.EgressTransport(policy=DEBUG, resolver=resolver)
    with httpx2.Client(transport=transport, timeout=0.5) as http, pytest.raises(httpx2.TransportError) as failed:
        http.get(url)
    with pytest.raises(httpx2.TransportError) as async_failed:
        asyncio.run(get())
    told, async_told = egress.explain(failed.value, url), egress.explain(async_failed.value, url)
    assert (told.message, told.step, told.retryable) == (async_told.message, async_told.step, async_told.retryable)
    return told


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_closed_port_is_named() -> None:
    port = free_port()
    told = fail(f"http://127.0.0.1:{port}/mcp?token=hidden")
    assert told.message == f"Nobody answers at 127.0.0.1:{port}. Is the server running?"
    assert (told.step, told.retryable) == ("dial", True)


def test_an_unknown_name_is_named() -> None:
    told = fail("https://mcp.example.com/mcp", resolver=not_found)
    assert told.message == "The name mcp.example.com does not resolve."
    assert (told.step, told.retryable) == ("dial", False)


def test_a_resolver_in_trouble_is_worth_another_try() -> None:
    def look_up(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    assert fail("https://mcp.example.com/mcp", resolver=look_up).retryable


def test_a_name_without_addresses_does_not_resolve() -> None:
    assert "does not resolve" in fail("https://mcp.example.com/mcp", resolver=answering()).message


def test_a_certificate_nobody_vouches_for_is_explained(tmp_path: Path) -> None:
    server, _ = make_tls(tmp_path, "mcp.example.com")
    with serving(sending("200 OK"), server) as port:
        told = fail(f"https://mcp.example.com:{port}")
    assert told.message == "The TLS certificate of mcp.example.com is not valid: self-signed certificate."
    assert (told.step, told.retryable) == ("dial", False)
    assert "SSL_CERT_FILE" in told.hint


def test_tls_checks_the_name_although_an_address_is_dialled(tmp_path: Path) -> None:
    server, trusting = make_tls(tmp_path, "mcp.example.com")
    transport = egress.EgressTransport(policy=DEBUG, resolver=answering("127.0.0.1"), tls=trusting)
    with serving(sending("200 OK", b"secure"), server) as port, httpx2.Client(transport=transport) as http:
        assert http.get(f"https://mcp.example.com:{port}").text == "secure"
        with pytest.raises(httpx2.ConnectError) as failed:
            http.get(f"https://other.example.com:{port}")
    told = egress.explain(failed.value, f"https://other.example.com:{port}")
    assert told.message.startswith("The TLS certificate of other.example.com is not valid: Hostname mismatch")


def test_tls_towards_a_plain_http_server_is_explained() -> None:
    with serving(sending("400 Bad Request")) as port:
        told = fail(f"https://127.0.0.1:{port}")
    assert told.message == f"No secure connection to 127.0.0.1:{port} could be made."
    assert "plain http" in told.hint


@pytest.mark.parametrize(
    ("talk", "words", "retryable", "status"),
    [
        (lambda conn: conn.shutdown(socket.SHUT_RDWR), "closed the connection without a complete answer", True, 502),
        (sending("200 OK\r\nContent-Length: 9", b"half"), "did not answer within 0.5 s", True, 504),
        (lambda conn: conn.sendall(b"220 smtp.example.com ESMTP\r\n\r\n"), "is not proper HTTP", False, 502),
        (fall_silent, "did not answer within 0.5 s", True, 504),
    ],
)
def test_a_failed_exchange_is_explained(
    talk: Callable[[socket.socket], None], words: str, retryable: bool, status: int
) -> None:
    with serving(talk) as port:
        told = fail(f"http://127.0.0.1:{port}")
    assert words in told.message
    assert (told.step, told.retryable) == ("http", retryable)
    assert (told.http_status, told.code) == (status, "timeout" if status == 504 else "upstream_error")


@pytest.mark.parametrize(
    ("error", "step", "retryable", "words"),
    [
        (httpx2.ConnectTimeout("x"), "dial", True, "No connection to mcp.example.com:443 within the time allowed"),
        (httpx2.ConnectError("x"), "dial", True, "No connection to mcp.example.com:443 could be made"),
        (httpx2.DecodingError("x"), "http", False, "is not proper HTTP"),
        (ForbiddenAddress("No."), "url", False, "No."),
        (ExceptionGroup("a", [ExceptionGroup("b", [httpx2.ReadError("x")])]), "http", True, "closed the connection"),
        (egress.DeadlineExceeded(7.5), "http", True, "did not answer within 7.5 s"),
        (httpx2.InvalidURL("secret"), "url", False, "the URL is not valid"),
        (ValueError("secret"), "dial", False, "mcp.example.com:443 could not be reached."),
    ],
)
def test_any_exception_is_explained(error: Exception, step: str, retryable: bool, words: str) -> None:
    told = egress.explain(error, "https://mcp.example.com/mcp")
    assert words in told.message
    assert (told.step, told.retryable) == (step, retryable)
    assert (told.code == "timeout") == isinstance(error, httpx2.TimeoutException)


@pytest.mark.parametrize(("status", "retryable"), [(401, False), (404, False), (429, True), (503, True)])
def test_an_error_status_is_explained(status: int, retryable: bool) -> None:
    with serving(sending(f"{status} X")) as port:
        answer = egress.client(policy=DEBUG).get(f"http://127.0.0.1:{port}")
    with pytest.raises(httpx2.HTTPStatusError) as failed:
        answer.raise_for_status()
    told = egress.explain(failed.value, f"http://127.0.0.1:{port}/hidden")
    assert told.message == f"127.0.0.1:{port} answered with HTTP status {status}."
    assert told.retryable is retryable


def test_a_url_that_cannot_be_parsed_is_not_repeated() -> None:
    assert egress.explain(httpx2.ReadError("x"), "http://x:secret").message.startswith("The server closed")


def test_no_route_is_explained() -> None:
    try:
        try:
            raise OSError(101, "Network is unreachable")
        except OSError as error:
            raise httpx2.ConnectError("x") from error
    except httpx2.ConnectError as error:
        assert "no route" in egress.explain(error, "https://[2606:4700::1]/").message


def test_a_credential_with_a_stray_newline_appears_in_no_error() -> None:
    transport = egress.EgressTransport(policy=DEBUG, connector=Dialler())
    with httpx2.Client(transport=transport) as http, pytest.raises(httpx2.LocalProtocolError) as failed:
        http.get("http://127.0.0.1:9", headers={"Authorization": "Bearer s3cr3t\nx"})
    assert "s3cr3t" not in f"{failed.value!r} {failed.value.__cause__!r}"
    assert egress.explain(failed.value, "http://127.0.0.1:9").step == "url"
