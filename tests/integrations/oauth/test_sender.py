from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator

import httpx2
import pytest

from aster.egress import Policy, client
from aster.errors import UpstreamError
from integrations.oauth.sender import MAX_BODY, read_json_object, send
from tests.integrations.oauth.wire import Wire

URL = "https://as.example/token"


def test_an_answer_comes_back_whole() -> None:
    wire = Wire({URL: httpx2.Response(201, headers={"x-a": "b"}, content=b"body")})
    answer = send(wire.http, "POST", URL, step="token", headers={"x-c": "d"}, content=b"sent")
    assert (answer.url, answer.status, answer.headers["X-A"], answer.body) == (URL, 201, "b", b"body")
    (request,) = wire.requests
    assert (request.method, request.content) == ("POST", b"sent")
    assert (request.headers["accept"], request.headers["x-c"]) == ("application/json", "d")


def test_an_answer_does_not_show_its_content() -> None:
    wire = Wire({URL: httpx2.Response(200, headers={"set-cookie": "s3cret"}, content=b"s3cret")})
    assert "s3cret" not in repr(send(wire.http, "GET", URL, step="token"))


def test_redirects_are_not_followed_even_by_a_client_that_would() -> None:
    wire = Wire({URL: httpx2.Response(302, headers={"location": "https://evil.example/"})})
    wire.http.follow_redirects = True
    assert send(wire.http, "POST", URL, step="token").status == 302
    assert wire.asked == [URL]


@pytest.mark.parametrize("body", [b"x" * (MAX_BODY + 1), gzip.compress(b"x" * (MAX_BODY + 1))])
def test_an_answer_that_is_too_long_is_refused(body: bytes) -> None:
    headers = {"content-encoding": "gzip"} if body.startswith(b"\x1f") else {}
    wire = Wire({URL: httpx2.Response(200, headers=headers, content=body)})
    with pytest.raises(UpstreamError, match=r"as\.example sent more than 1024 KiB") as caught:
        send(wire.http, "GET", URL, step="discovery")
    assert caught.value.step == "discovery"


@pytest.mark.parametrize(
    ("fault", "retryable"), [(httpx2.ReadTimeout("s3cret"), True), (httpx2.LocalProtocolError("s3cret"), False)]
)
def test_a_network_fault_becomes_an_error_of_this_step(fault: Exception, retryable: bool) -> None:
    with pytest.raises(UpstreamError) as caught:
        send(Wire({URL: fault}).http, "GET", URL, step="token", headers={"authorization": "s3cret"})
    assert (caught.value.step, caught.value.retryable) == ("token", retryable)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_unusable_url_is_an_error_of_this_step() -> None:
    with pytest.raises(UpstreamError) as caught:
        send(Wire().http, "GET", "https://as.example/\x00", step="token")
    assert caught.value.step == "token"


def test_a_private_address_is_refused_by_the_guarded_client() -> None:
    with pytest.raises(UpstreamError) as caught:
        send(client(policy=Policy()), "GET", "https://127.0.0.1:1/", step="discovery")
    assert (caught.value.code, caught.value.step) == ("forbidden_address", "discovery")


@pytest.fixture
def silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_a_server_that_never_answers_costs_no_more_than_the_deadline(silent_server: str) -> None:
    with pytest.raises(UpstreamError, match=r"within 0\.2 s") as caught:
        send(client(policy=Policy(debug=True)), "GET", silent_server, step="token", seconds=0.2)
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
