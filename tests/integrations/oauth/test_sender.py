from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from aster.egress import AsyncLine, Policy, client
from aster.errors import UpstreamError
from integrations.oauth.sender import MAX_BODY, Answer, read_json_object, send, send_async
from tests.integrations.oauth.wire import Wire

URL = "https://as.example/token"
Transmit = Callable[..., Answer]


def in_thread(way: Wire | Policy, *args: Any, **kwargs: Any) -> Answer:
    return send(way.http if isinstance(way, Wire) else client(policy=way), *args, **kwargs)


def on_loop(way: Wire | Policy, *args: Any, **kwargs: Any) -> Answer:
    async def run() -> Answer:
        async with way.line() if isinstance(way, Wire) else AsyncLine(policy=way) as line:
            return await send_async(line, *args, **kwargs)

    return asyncio.run(run())


@pytest.fixture(params=[in_thread, on_loop])
def transmit(request: pytest.FixtureRequest) -> Transmit:
    """`send` and `send_async` keep the same rules: every test here runs with both."""
    way: Transmit = request.param
    return way


def test_an_answer_comes_back_whole(transmit: Transmit) -> None:
    wire = Wire({URL: httpx2.Response(201, headers={"x-a": "b"}, content=b"body")})
    answer = transmit(wire, "POST", URL, step="token", headers={"x-c": "d"}, content=b"sent")
    assert (answer.url, answer.status, answer.headers["X-A"], answer.body) == (URL, 201, "b", b"body")
    (request,) = wire.requests
    assert (request.method, request.content) == ("POST", b"sent")
    assert (request.headers["accept"], request.headers["x-c"]) == ("application/json", "d")


def test_an_answer_does_not_show_its_content(transmit: Transmit) -> None:
    wire = Wire({URL: httpx2.Response(200, headers={"set-cookie": "s3cret"}, content=b"s3cret")})
    assert "s3cret" not in repr(transmit(wire, "GET", URL, step="token"))


def test_redirects_are_not_followed_even_by_a_client_that_would(transmit: Transmit) -> None:
    wire = Wire({URL: httpx2.Response(302, headers={"location": "https://evil.example/"})})
    wire.http.follow_redirects = True
    assert transmit(wire, "POST", URL, step="token").status == 302
    assert wire.asked == [URL]


@pytest.mark.parametrize("body", [b"x" * (MAX_BODY + 1), gzip.compress(b"x" * (MAX_BODY + 1))])
def test_an_answer_that_is_too_long_is_refused(transmit: Transmit, body: bytes) -> None:
    headers = {"content-encoding": "gzip"} if body.startswith(b"\x1f") else {}
    wire = Wire({URL: httpx2.Response(200, headers=headers, content=body)})
    with pytest.raises(UpstreamError, match=r"as\.example sent more than 1024 KiB") as caught:
        transmit(wire, "GET", URL, step="discovery")
    assert caught.value.step == "discovery"


@pytest.mark.parametrize(
    ("fault", "retryable"), [(httpx2.ReadTimeout("s3cret"), True), (httpx2.LocalProtocolError("s3cret"), False)]
)
def test_a_network_fault_becomes_an_error_of_this_step(transmit: Transmit, fault: Exception, retryable: bool) -> None:
    with pytest.raises(UpstreamError) as caught:
        transmit(Wire({URL: fault}), "GET", URL, step="token", headers={"authorization": "s3cret"})
    assert (caught.value.step, caught.value.retryable) == ("token", retryable)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_unusable_url_is_an_error_of_this_step(transmit: Transmit) -> None:
    with pytest.raises(UpstreamError) as caught:
        transmit(Wire(), "GET", "https://as.example/\x00", step="token")
    assert caught.value.step == "token"


def test_a_private_address_is_refused_by_the_guarded_client(transmit: Transmit) -> None:
    with pytest.raises(UpstreamError) as caught:
        transmit(Policy(), "GET", "https://127.0.0.1:1/", step="discovery")
    assert (caught.value.code, caught.value.step) == ("forbidden_address", "discovery")


@pytest.fixture
def silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_a_server_that_never_answers_costs_no_more_than_the_deadline(transmit: Transmit, silent_server: str) -> None:
    with pytest.raises(UpstreamError, match=r"within 0\.2 s") as caught:
        transmit(Policy(debug=True), "GET", silent_server, step="token", seconds=0.2)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"a": [1, "\xc3\xa9"]}', {"a": [1, "é"]}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'"text"', None),
        (b"[]", None),
        (b"<html>", None),
        (b"", None),
        (b"\xff\xfe\xfd", None),
        (b'{"a": NaN}', None),
        (b'{"a": 1e999}', None),
        (b'{"a": "\\u0000"}', None),
        (b'{"a": "\\ud800"}', None),
        (b"[" * 100_000, None),
        (b'{"a": %s}' % (b"9" * 10_000), None),
    ],
)
def test_only_a_json_object_that_can_be_stored_is_read(body: bytes, document: object) -> None:
    assert read_json_object(body) == document
