"""What leaves Aster: the judgement on URLs and addresses, the dial, the answer and the clients."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpcore2
import httpx2
import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django.fixtures import Settings

from aster import egress
from aster.egress import Policy, check_url
from aster.egress.addresses import Reach, classify, parse_address
from aster.errors import ForbiddenAddress, InvalidInput, UpstreamError

PUBLIC = "93.184.215.14"
DEBUG = Policy(debug=True)
PRODUCTION = Policy()


def answering(*found: str) -> Callable[[str, int], Sequence[str]]:
    return lambda host, port: found


def not_found(host: str, port: int) -> Sequence[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Dialler(httpcore2.NetworkBackend):
    """Records every dial and answers it with one canned response, so that no packet leaves."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> None:
        self.answer, self.sent, self.closed = answer, b"", 0
        self.dials: list[tuple[str, int]] = []
        self.server_names: list[str | None] = []

    def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore2.NetworkStream:
        self.dials.append((host, port))
        return Wire(self)


class Wire(httpcore2.NetworkStream):
    def __init__(self, dialler: Dialler) -> None:
        self.dialler, self.rest = dialler, dialler.answer

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        chunk, self.rest = self.rest[:max_bytes], self.rest[max_bytes:]
        return chunk

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.dialler.sent += buffer

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Wire:
        self.dialler.server_names.append(server_hostname)
        return self

    def close(self) -> None:
        self.dialler.closed += 1

    def get_extra_info(self, info: str) -> Any:
        return None


class AsyncDialler(httpcore2.AsyncNetworkBackend):
    def __init__(self) -> None:
        self.dials: list[tuple[str, int]] = []

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        self.dials.append((host, port))
        return httpcore2.AsyncMockStream([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])


def guarded(dialler: Dialler, *found: str, policy: Policy = PRODUCTION) -> httpx2.Client:
    return httpx2.Client(
        transport=egress.EgressTransport(policy=policy, resolver=answering(*found), connector=dialler), trust_env=False
    )


@contextmanager
def serving(talk: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A raw server on loopback: `talk` gets every connection after its request head was read."""

    def accept() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(raw,), daemon=True).start()

    def handle(raw: socket.socket) -> None:
        try:
            with tls.wrap_socket(raw, server_side=True) if tls else raw as conn:
                conn.settimeout(5)
                while conn.recv(65536):
                    talk(conn)
        except OSError:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def sending(head: str, body: bytes = b"") -> Callable[[socket.socket], None]:
    length = "" if "Transfer-Encoding" in head or "Content-Length" in head else f"Content-Length: {len(body)}\r\n"
    return lambda conn: conn.sendall(f"HTTP/1.1 {head}\r\n{length}\r\n".encode() + body)


# --- Addresses -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "reach"),
    [
        (PUBLIC, Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("::ffff:93.184.215.14", Reach.PUBLIC),
        ("64:ff9b::5db8:d70e", Reach.PUBLIC),  # NAT64 of a public address: the only way out of IPv6-only networks
        ("127.0.0.1", Reach.LOOPBACK),
        ("127.255.255.254", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("10.0.0.5", Reach.PRIVATE),
        ("172.31.255.255", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd12:3456::1", Reach.PRIVATE),
        ("::ffff:10.0.0.5", Reach.PRIVATE),
        ("169.254.169.254", Reach.METADATA),
        ("169.254.170.2", Reach.METADATA),
        ("::ffff:169.254.169.254", Reach.METADATA),
        ("64:ff9b::a9fe:a9fe", Reach.METADATA),
        ("fd00:ec2::254", Reach.METADATA),
        ("fd20:ce::254", Reach.METADATA),
        ("100.100.100.200", Reach.METADATA),
        ("168.63.129.16", Reach.METADATA),
        ("192.0.0.192", Reach.METADATA),
        ("fe80::1%eth0", Reach.METADATA),
        ("0.0.0.0", Reach.UNUSABLE),
        ("::", Reach.UNUSABLE),
        ("::7f00:1", Reach.UNUSABLE),  # IPv4-compatible
        ("::ffff:0:7f00:1", Reach.UNUSABLE),  # IPv4-translated
        ("64:ff9b::a00:5", Reach.UNUSABLE),  # NAT64 of 10.0.0.5
        ("64:ff9b:1::808:808", Reach.UNUSABLE),
        ("2002:5db8:d70e::1", Reach.UNUSABLE),  # 6to4
        ("2002:7f00:1::1", Reach.UNUSABLE),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Reach.UNUSABLE),  # Teredo
        ("2606:4700::5efe:a00:5", Reach.UNUSABLE),  # ISATAP
        ("2606:4700::200:5efe:a00:5", Reach.UNUSABLE),
        ("2001:db8::1", Reach.UNUSABLE),
        ("fec0::1", Reach.UNUSABLE),
        ("ff02::1", Reach.UNUSABLE),
        ("224.0.0.1", Reach.UNUSABLE),
        ("240.0.0.1", Reach.UNUSABLE),
        ("255.255.255.255", Reach.UNUSABLE),
        ("192.0.2.1", Reach.UNUSABLE),
    ],
)
def test_every_address_is_judged_by_where_it_leads(text: str, reach: Reach) -> None:
    assert classify(parse_address(text)) is reach
    if reach is not Reach.PUBLIC:
        with pytest.raises(ForbiddenAddress):
            check_url("https://mcp.example.com", resolver=answering(PUBLIC, text), policy=PRODUCTION)


def test_an_unparsed_mapped_address_is_judged_by_its_ipv4() -> None:
    assert classify(ipaddress.ip_address("::ffff:10.0.0.5")) is Reach.PRIVATE


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "224.0.0.1"])
def test_metadata_and_reserved_addresses_stay_refused_whatever_the_operator_lists(address: str, debug: bool) -> None:
    policy = Policy(debug=debug, allowed=("mcp.lan", address, "0.0.0.0/0", "::/0"))
    with pytest.raises(ForbiddenAddress, match="Aster never connects there"):
        check_url("https://mcp.lan", resolver=answering(address), policy=policy)


@pytest.mark.parametrize(
    ("entry", "url", "address"),
    [
        ("mcp.lan", "http://mcp.lan/mcp", "10.0.0.5"),
        ("MCP.lan.", "https://mcp.LAN./mcp", "10.0.0.5"),
        ("mcp.lan:8443", "https://mcp.lan:8443", "fd12::1"),
        ("10.0.0.5", "http://10.0.0.5", ""),
        ("10.0.0.5:8080", "http://10.0.0.5:8080", ""),
        ("10.0.0.0/8", "https://mcp.lan", "10.0.0.5"),
        ("10.0.0.0/8:443", "https://mcp.lan", "10.0.0.5"),
        ("fd12::/16", "http://[fd12::1]:99", ""),
        ("[fd12::1]:8080", "http://[fd12::1]:8080", ""),
        ("db.internal", "https://db.internal", "10.0.0.5"),
        ("10.0.0.0/8", "https://db.internal", "10.0.0.5"),
    ],
)
def test_what_the_operator_lists_may_be_reached(entry: str, url: str, address: str) -> None:
    check_url(url, resolver=answering(address), policy=Policy(allowed=(entry,)))
    with pytest.raises(ForbiddenAddress):
        check_url(url, resolver=answering(address), policy=PRODUCTION)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("mcp.lan:8443", "https://mcp.lan"),
        ("10.0.0.5:8080", "https://mcp.lan"),
        ("10.0.0.6", "https://mcp.lan"),
        ("lan", "https://mcp.lan"),
        ("10.0.0.0/8", "http://mcp.lan"),  # plain http needs the name itself on the list
        ("127.0.0.1", "http://127.0.0.1"),
        ("localhost", "https://localhost"),
    ],
)
def test_a_list_entry_reaches_no_further_than_it_says(entry: str, url: str) -> None:
    with pytest.raises(ForbiddenAddress):
        check_url(url, resolver=answering("10.0.0.5"), policy=Policy(allowed=(entry,)))


@pytest.mark.parametrize("entry", ["http://mcp.lan", "10.0.0.5:0", "mcp.lan:x", "a b", "*.lan", "10.0.0.0/99"])
def test_an_entry_that_cannot_be_understood_fails_loudly(entry: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="ASTER_ALLOWED_HOSTS_PRIVATE"):
        Policy(allowed=(entry,)).lists("mcp.lan", 443)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/mcp", "http://[::1]:9000", "http://localhost:9000"])
def test_loopback_is_reached_in_debug_and_never_in_production(url: str) -> None:
    check_url(url, resolver=answering("::1", "127.0.0.1"), policy=DEBUG)
    for production in (PRODUCTION, Policy(allowed=("localhost", "127.0.0.0/8", "::1"))):
        for resolve in (True, False):
            with pytest.raises(ForbiddenAddress, match="only when DEBUG is on"):
                check_url(url, resolve=resolve, resolver=answering("127.0.0.1"), policy=production)


def test_debug_allows_plain_http_but_no_private_network() -> None:
    check_url("http://mcp.example.com", resolver=answering(PUBLIC), policy=DEBUG)
    with pytest.raises(ForbiddenAddress, match="ASTER_ALLOWED_HOSTS_PRIVATE"):
        check_url("http://10.0.0.5", policy=DEBUG)


@pytest.mark.parametrize("host", ["printer.local", "db.internal", "metadata.google.internal", "a.localhost"])
def test_local_names_are_not_stored_unless_the_operator_vouches(host: str) -> None:
    for resolver in (not_found, answering(PUBLIC)):
        with pytest.raises(ForbiddenAddress):
            check_url(f"https://{host}", resolver=resolver, policy=PRODUCTION)


def test_a_name_that_does_not_resolve_yet_can_be_stored() -> None:
    check_url("https://mcp.example.com/mcp", resolver=not_found, policy=PRODUCTION)
    check_url("https://mcp.example.com/mcp", resolve=False, resolver=answering("10.0.0.5"), policy=PRODUCTION)


def test_a_slow_lookup_does_not_hold_up_saving() -> None:
    over = threading.Event()

    def look_up(host: str, port: int) -> Sequence[str]:
        over.wait(5)
        return ["10.0.0.5"]

    check_url("https://mcp.example.com", resolver=look_up, policy=PRODUCTION, lookup_seconds=0.01)
    over.set()


def test_the_messages_say_what_to_do_and_keep_looked_up_addresses_to_themselves() -> None:
    with pytest.raises(ForbiddenAddress) as literal:
        check_url("https://10.0.0.5", policy=PRODUCTION)
    assert literal.value.code == "forbidden_address"
    assert literal.value.message == (
        "10.0.0.5 is a private address. Ask the operator to list the host in ASTER_ALLOWED_HOSTS_PRIVATE."
    )
    with pytest.raises(ForbiddenAddress, match=r"mcp\.example\.com resolves to a private address") as name:
        check_url("https://mcp.example.com", resolver=answering("10.0.0.5"), policy=PRODUCTION)
    assert "10.0.0.5" not in name.value.message


# --- URLs ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "url",
    [
        "",
        "mcp.example.com",
        "ftp://mcp.example.com",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "wss://mcp.example.com",
        "//mcp.example.com",
        "https:///path",
        "https:mcp.example.com",
        "https://user@mcp.example.com",
        "https://user:pass@mcp.example.com",
        "https://mcp.example.com#part",
        "https://mcp.example.com/#",
        "https://mcp.example.com/a b",
        "https://mcp.example.com/\r\nHost: x",
        "https://mcp.example.com\\@127.0.0.1/",
        "https://mcp.example.com/\u2028",
        "https://mcp.example.com:0",
        "https://mcp.example.com:65536",
        "https://mcp.example.com:-1",
        "https://mcp.example.com:x",
        "https://" + "a" * 2050,
        "https://" + "a" * 64 + ".com",
        "https://a..b",
        "https://-a.com",
        "https://ex%41mple.com",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "https://2130706433",
        "https://0x7f.1",
        "https://0x7f000001",
        "https://0177.0.0.1",
        "https://127.1",
        "https://127.0.0.1.",
        "https://\uff11\uff12\uff17.0.0.1",
    ],
)
def test_a_malformed_or_misleading_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_url(url, resolver=answering(PUBLIC), policy=DEBUG)
    assert refused.value.code == "invalid_url"


def test_the_words_about_a_scheme_name_those_that_are_allowed() -> None:
    for policy, allowed in ((DEBUG, "http:// or https://"), (PRODUCTION, "https://")):
        with pytest.raises(InvalidInput, match=f"starts with {allowed} and"):
            check_url("ftp://mcp.example.com", resolver=answering(PUBLIC), policy=policy)


@pytest.mark.parametrize(
    "url",
    [
        "https://mcp.example.com",
        "HTTPS://MCP.Example.com:8443/mcp?a=b%20c",
        "https://m\u00fcnchen.example/",
        "https://a_b.c",
    ],
)
def test_an_ordinary_url_passes(url: str) -> None:
    check_url(url, resolver=answering(PUBLIC, "2606:4700::1"), policy=PRODUCTION)


def test_ideographic_dots_do_not_hide_an_address() -> None:
    with pytest.raises(ForbiddenAddress, match="loopback"):
        check_url("https://127\u30020\u30020\u30021/", policy=PRODUCTION)


# --- The dial --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://mcp.example.com", ["10.0.0.5"]),
        ("https://mcp.example.com", [PUBLIC, "127.0.0.1"]),
        ("https://metadata.google.internal", ["169.254.169.254"]),
        ("https://127.0.0.1", []),
        ("https://[::ffff:127.0.0.1]", []),
        ("https://2130706433", ["127.0.0.1"]),
        ("http://mcp.example.com", [PUBLIC]),
        ("ftp://mcp.example.com", [PUBLIC]),
        ("https://mcp.example.com:0", [PUBLIC]),
    ],
)
def test_a_refused_request_never_dials(url: str, found: list[str]) -> None:
    dialler, async_dialler = Dialler(), AsyncDialler()

    async def get() -> None:
        transport = egress.AsyncEgressTransport(policy=PRODUCTION, resolver=answering(*found), connector=async_dialler)
        async with httpx2.AsyncClient(transport=transport, trust_env=False) as http:
            await http.get(url)

    with guarded(dialler, *found) as http, pytest.raises(ForbiddenAddress) as refused:
        http.get(url)
    assert isinstance(refused.value, httpx2.TransportError)
    with pytest.raises(egress.RequestRefused):
        asyncio.run(get())
    assert dialler.dials == async_dialler.dials == []
    assert egress.explain(refused.value, url).step == "url"


def test_credentials_in_a_url_are_refused_by_the_transport_too() -> None:
    with guarded(Dialler(), PUBLIC) as http, pytest.raises(ForbiddenAddress, match="user name and password"):
        http.get("https://user:secret@mcp.example.com")


def test_the_vetted_address_is_dialled_while_tls_and_host_keep_the_name() -> None:
    dialler = Dialler()
    with guarded(dialler, PUBLIC) as http:
        answer = http.get(
            "https://mcp.example.com:8443/mcp",
            headers={"Host": "metadata.google.internal", "Accept-Encoding": "gzip"},
            extensions={"sni_hostname": "other.example.com"},
        )
    assert answer.text == "ok"
    assert dialler.dials == [(PUBLIC, 8443)]
    assert dialler.server_names == ["mcp.example.com"]
    assert b"Host: mcp.example.com:8443\r\n" in dialler.sent
    assert b"Accept-Encoding: identity\r\n" in dialler.sent
    assert b"metadata" not in dialler.sent


def test_a_name_that_rebinds_is_refused_at_its_second_dial() -> None:
    dialler = Dialler(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    answers = [["10.0.0.5"], [PUBLIC]]
    transport = egress.EgressTransport(policy=PRODUCTION, resolver=lambda host, port: answers.pop(), connector=dialler)
    with httpx2.Client(transport=transport) as http:
        assert http.get("https://mcp.example.com").status_code == 200
        assert len(answers) == 1, "the name is looked up once per dial, not once to check and once to connect"
        with pytest.raises(ForbiddenAddress):
            http.get("https://mcp.example.com")
    assert dialler.dials == [(PUBLIC, 443)]


@pytest.mark.parametrize("location", ["https://10.0.0.5/", "http://mcp.example.com/", "https://inner.example.com/"])
def test_a_redirect_is_not_followed_and_its_target_is_checked_like_any_other(location: str) -> None:
    dialler = Dialler(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    transport = egress.EgressTransport(
        policy=PRODUCTION,
        resolver=lambda host, port: ["10.0.0.5"] if host.startswith("inner") else [PUBLIC],
        connector=dialler,
    )
    with httpx2.Client(transport=transport) as http:
        answer = http.get("https://mcp.example.com")
        assert answer.status_code == 302
        assert answer.next_request is not None
        with pytest.raises(ForbiddenAddress):
            http.send(answer.next_request)
    assert dialler.dials == [(PUBLIC, 443)]


def test_the_next_vetted_address_is_tried_when_one_does_not_answer() -> None:
    with serving(sending("200 OK", b"here")) as port:
        transport = egress.EgressTransport(policy=DEBUG, resolver=answering("127.0.0.2", "127.0.0.1"))
        with httpx2.Client(transport=transport) as http:
            assert http.get(f"http://mcp.example.com:{port}").text == "here"


# --- The answer ------------------------------------------------------------------------------------------------------
def fetch(port: int, **kwargs: Any) -> httpx2.Response:
    with httpx2.Client(transport=egress.EgressTransport(policy=DEBUG), timeout=5, trust_env=False) as http:
        return http.get(f"http://127.0.0.1:{port}", **kwargs)


def fetch_async(port: int, **kwargs: Any) -> httpx2.Response:
    async def get() -> httpx2.Response:
        async with egress.async_client(policy=DEBUG) as http:
            return await http.get(f"http://127.0.0.1:{port}", **kwargs)

    return asyncio.run(get())


both = pytest.mark.parametrize("get", [fetch, fetch_async])
MEBIBYTE = b"x" * 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@both
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"hello")),
        ("gzip", gzip.compress(b"hel") + gzip.compress(b"lo")),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", raw_deflate(b"hello")),
        ("identity", b"hello"),
    ],
)
def test_a_compressed_answer_is_decoded_once(get: Callable[..., httpx2.Response], encoding: str, body: bytes) -> None:
    with serving(sending(f"200 OK\r\nContent-Encoding: {encoding}", body)) as port:
        answer = get(port)
    assert answer.text == "hello"
    assert answer.headers.get("content-encoding") in (None, "identity")


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("br", b"x"), ("gzip, gzip", b"x"), ("gzip", b"no gzip"), ("gzip", gzip.compress(b"hello")[:-4])],
)
def test_an_encoding_that_cannot_be_undone_is_an_upstream_fault(encoding: str, body: bytes) -> None:
    with (
        serving(sending(f"200 OK\r\nContent-Encoding: {encoding}", body)) as port,
        pytest.raises(httpx2.RemoteProtocolError) as failed,
    ):
        fetch(port)
    assert egress.explain(failed.value, f"http://127.0.0.1:{port}").step == "http"


@both
@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("200 OK", MEBIBYTE * 9),
        ("200 OK\r\nTransfer-Encoding: chunked", (b"100000\r\n" + MEBIBYTE + b"\r\n") * 9 + b"0\r\n\r\n"),
        ("200 OK\r\nContent-Encoding: gzip", gzip.compress(MEBIBYTE * 64, 1)),
        ("200 OK\r\nContent-Encoding: gzip", gzip.compress(b"") * 500_000),  # decodes to nothing, for ever
        ("200 OK\r\nContent-Type: text/event-stream", MEBIBYTE * 9),  # nobody asked for a stream
    ],
)
def test_an_answer_beyond_the_cap_is_cut_off(get: Callable[..., httpx2.Response], head: str, body: bytes) -> None:
    with serving(sending(head, body)) as port, pytest.raises(egress.ResponseTooLarge, match="8 MiB") as failed:
        get(port)
    assert isinstance(failed.value, UpstreamError)
    assert isinstance(failed.value, httpx2.TransportError)
    assert egress.explain(failed.value, "http://x") is failed.value


@both
def test_an_answer_just_within_the_cap_arrives_whole(get: Callable[..., httpx2.Response]) -> None:
    with serving(sending("200 OK", MEBIBYTE * 8)) as port:
        assert len(get(port).content) == egress.MAX_RESPONSE_BYTES


@both
def test_an_event_stream_that_was_asked_for_has_no_total_cap(get: Callable[..., httpx2.Response]) -> None:
    with serving(sending("200 OK\r\nContent-Type: text/event-stream; charset=utf-8", MEBIBYTE * 9)) as port:
        assert len(get(port, headers={"Accept": "application/json, text/event-stream"}).content) == 9 * len(MEBIBYTE)


def test_without_a_policy_the_settings_decide(settings: Settings) -> None:
    settings.DEBUG, settings.ASTER_ALLOWED_HOSTS_PRIVATE = False, ["mcp.lan"]
    assert Policy.from_settings() == Policy(allowed=("mcp.lan",))
    check_url("http://mcp.lan", resolver=answering("10.0.0.5"))
    dialler = Dialler()
    with httpx2.Client(transport=egress.EgressTransport(resolver=answering("10.0.0.5"), connector=dialler)) as http:
        assert http.get("http://mcp.lan").text == "ok"
        settings.ASTER_ALLOWED_HOSTS_PRIVATE = []
        with pytest.raises(ForbiddenAddress):
            http.get("http://mcp.lan")
    assert dialler.dials == [("10.0.0.5", 80)]
