"""What the gateway answers to requests as they stand on the wire: bad ones above all, and every revision on one URL.

Whatever answers a request, the SDK or a relay of Aster's own: these hold.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from agents.models import Agent, ToolCall
from integrations.models import McpServer
from tests.agents.gateway_wire import (
    ACCEPT,
    MODERN,
    add_agent,
    add_server,
    ask_legacy,
    message_of,
    modern_body,
    modern_headers,
    strictly_async,
)
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, modern_and_legacy_app, serve

__all__ = ["strictly_async"]
pytestmark = pytest.mark.django_db(transaction=True)

LEGACY = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
ECHO = {"name": "echo", "arguments": {"text": "hello"}}
PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


@pytest.fixture
def fake() -> FakeServer:
    return modern_and_legacy_app()


@pytest.fixture
def server(alice: Person, fake: FakeServer) -> Iterator[McpServer]:
    with serve(fake) as base:
        yield add_server(alice, "Fake", base)


@pytest.fixture
def agent(alice: Person, server: McpServer) -> Agent:
    return add_agent(alice, server)


@pytest.fixture
def url(aster: str, agent: Agent) -> str:
    return f"{agent.gateway_url}/fake"


@pytest.fixture
def key(alice: Person) -> str:
    return alice.key()


def post(url: str, key: str, content: Any, **headers: str | None) -> httpx2.Response:
    """A modern tools/call unless told otherwise; a header None is left out."""
    body = content if isinstance(content, dict) else modern_body("tools/call", ECHO)
    sent: dict[str, str | None] = {**modern_headers(body, key), "content-type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    given = {name: value for name, value in sent.items() if value is not None}
    return httpx2.post(url, content=raw, headers=given, timeout=20)


def error_of(answer: httpx2.Response) -> tuple[int, int, Any]:
    said = answer.json()
    return answer.status_code, said["error"]["code"], said.get("id")


# --- Who may ask ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"host": "evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
    ],
)
@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_request_from_a_strange_page_or_for_a_strange_host_is_refused(
    url: str, key: str, fake: FakeServer, headers: dict[str, str], era: str
) -> None:
    version = MODERN if era == "modern" else "2025-11-25"
    fake.requests.clear()
    answer = post(url, key, modern_body("tools/call", ECHO), mcp_protocol_version=version, **headers)
    assert answer.status_code in (403, 421) and fake.requests == []


def test_the_public_addresss_own_page_may_ask(aster: str, url: str, key: str) -> None:
    assert post(url, key, modern_body("tools/call", ECHO), origin=aster).status_code == 200


@pytest.mark.parametrize("era", [MODERN, "2025-11-25"])
def test_a_body_of_more_than_four_mebibytes_is_refused(url: str, key: str, fake: FakeServer, era: str) -> None:
    fake.requests.clear()
    body = modern_body("tools/call", {"name": "echo", "arguments": {"text": "x" * (4 * 1024 * 1024)}})
    assert post(url, key, body, mcp_protocol_version=era).status_code == 413 and fake.requests == []


def test_a_body_without_a_length_is_bounded_as_it_comes(url: str, key: str) -> None:
    headers = {**modern_headers(modern_body("tools/call", ECHO), key), "content-type": "application/json"}

    def endless() -> Iterator[bytes]:
        yield b'{"x": "'
        for _ in range(200):
            yield b"x" * 65536

    assert httpx2.post(url, content=endless(), headers=headers, timeout=20).status_code == 413


# --- 2026-07-28 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"mcp_method": "tools/list"}, -32020),
        ({"mcp_method": "TOOLS/CALL"}, -32020),
        ({"mcp_method": None}, -32020),
        ({"mcp_name": "add"}, -32020),
        ({"mcp_name": None}, -32020),
        ({"mcp_name": "=?base64?!!?="}, -32020),
    ],
)
def test_headers_that_say_something_else_than_the_body_are_refused(
    url: str, key: str, fake: FakeServer, headers: dict[str, str | None], code: int
) -> None:
    fake.requests.clear()
    answer = post(url, key, modern_body("tools/call", ECHO), **headers)
    assert error_of(answer) == (400, code, 1) and fake.requests == []


def test_a_header_that_comes_twice_is_refused(url: str, key: str) -> None:
    body = modern_body("tools/call", ECHO)
    headers = [*modern_headers(body, key).items(), ("mcp-method", "tools/list")]
    assert error_of(httpx2.post(url, json=body, headers=headers))[:2] == (400, -32020)


def test_names_in_headers_may_be_encoded_and_have_space_around_them(url: str, key: str) -> None:
    body = modern_body("tools/call", ECHO)
    assert post(url, key, body, mcp_name="=?base64?ZWNobw==?=").status_code == 200
    place = urlsplit(url)
    lines = [f"{name}:   {value}  " for name, value in modern_headers(body, key).items()]
    raw = json.dumps(body)
    head = [f"POST {place.path} HTTP/1.1", f"host: {place.netloc}", f"content-length: {len(raw)}", "connection: close"]
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=10) as line:
        line.sendall("\r\n".join([*head, "content-type: application/json", *lines, "", raw]).encode())
        assert b" 200 " in line.recv(65536).splitlines()[0]


def test_a_version_that_the_body_and_the_header_name_differently_is_refused(url: str, key: str) -> None:
    body = modern_body("tools/list", {"_meta": {PROTOCOL_VERSION: "2099-01-01"}})
    assert error_of(post(url, key, body)) == (400, -32020, 1)


@pytest.mark.parametrize("version", ["2099-01-01", "nonsense", "1.0.0"])
def test_a_version_we_do_not_speak_is_refused_with_those_that_we_do(url: str, key: str, version: str) -> None:
    body = modern_body("tools/list", {"_meta": {PROTOCOL_VERSION: version}})
    answer = post(url, key, body, mcp_protocol_version=version)
    assert error_of(answer) == (400, -32022, 1)
    assert answer.json()["error"]["data"] == {"supported": [MODERN], "requested": version}


@pytest.mark.parametrize("missing", [PROTOCOL_VERSION, CAPABILITIES, None])
def test_a_request_without_what_every_request_carries_is_refused(url: str, key: str, missing: str | None) -> None:
    body = modern_body("tools/list")
    if missing:
        del body["params"]["_meta"][missing]
    else:
        del body["params"]["_meta"]
    assert error_of(post(url, key, body)) == (400, -32602, 1)


@pytest.mark.parametrize(
    "method",
    ["unknown/method", "initialize", "ping", "logging/setLevel", "resources/subscribe", "tasks/get", "roots/list"],
)
def test_a_method_that_is_not_there_is_404(url: str, key: str, method: str) -> None:
    assert error_of(post(url, key, modern_body(method))) == (404, -32601, 1)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 5000, -32700),
        (b"[]", -32600),
        (b"7", -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "result": {}}', -32600),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "tools/list"}', -32600),
        (b'{"jsonrpc": "2.0", "id": null, "method": "tools/list"}', -32600),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "tools/list"}', -32600),
    ],
)
def test_what_is_no_request_is_refused(url: str, key: str, content: bytes, code: int) -> None:
    answer = post(url, key, content)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": 5},
        {"name": "echo", "arguments": []},
        {"name": "echo", "arguments": "x"},
        {"name": "echo", "inputResponses": 5},
    ],
)
def test_a_call_without_a_name_or_with_arguments_that_are_none_is_refused(
    url: str, key: str, fake: FakeServer, params: dict[str, Any]
) -> None:
    fake.requests.clear()
    body = modern_body("tools/call", params)
    answer = httpx2.post(
        url,
        json=body,
        headers={
            **modern_headers(modern_body("tools/list"), key),
            "mcp-method": "tools/call",
            "mcp-name": str(params.get("name", "")),
        },
    )
    assert answer.status_code == 400 and answer.json()["error"]["code"] in (-32602, -32020)
    assert fake.requests == []


def test_a_client_that_takes_no_stream_is_told_so(url: str, key: str) -> None:
    assert post(url, key, modern_body("tools/list"), accept="text/html").status_code == 406


def test_a_notification_is_taken_and_answered_with_nothing(url: str, key: str) -> None:
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    answer = post(url, key, body, mcp_method="notifications/cancelled")
    assert answer.status_code == 202 and answer.content == b""


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
def test_only_post_is_there(url: str, key: str, method: str) -> None:
    headers = {"authorization": f"Bearer {key}", "mcp-protocol-version": MODERN, **ACCEPT}
    answer = httpx2.request(method, url, headers=headers)
    assert answer.status_code == 405 and "POST" in answer.headers["allow"]


@pytest.mark.parametrize("number", [0, -1, 2**53, "a", "ü"])
def test_the_answer_carries_the_id_of_its_request(url: str, key: str, number: Any) -> None:
    assert post(url, key, {**modern_body("tools/call", ECHO), "id": number}).json()["id"] == number
    refused = {**modern_body("tools/call", {"name": "nonsense"}), "id": number}
    assert post(url, key, refused, mcp_name="nonsense").json()["id"] == number


# --- The older eras -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", LEGACY)
def test_every_older_revision_shakes_hands_lists_and_calls_on_the_same_url(url: str, key: str, version: str) -> None:
    hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
    headers = {**ACCEPT, "authorization": f"Bearer {key}"}
    answer = httpx2.post(url, json=body, headers=headers)
    assert message_of(answer)["result"]["protocolVersion"] == version
    session = {"mcp_session_id": answer.headers["mcp-session-id"]}
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    sent = {**headers, "mcp-protocol-version": version, "mcp-session-id": session["mcp_session_id"]}
    assert httpx2.post(url, json=done, headers=sent).status_code == 202
    listed = ask_legacy(url, key, "tools/list", {}, version, **session)["result"]
    assert "echo" in {tool["name"] for tool in listed["tools"]} and "resultType" not in listed
    said = ask_legacy(url, key, "tools/call", ECHO, version, **session)["result"]
    assert said["content"][0]["text"] == "hello" and "resultType" not in said
    assert ask_legacy(url, key, "ping", {}, version, **session)["result"] == {}


def test_a_handshake_for_a_version_nobody_knows_is_answered_with_the_newest_of_its_era(url: str, key: str) -> None:
    hello = {"protocolVersion": "2019-01-01", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
    answer = httpx2.post(url, json=body, headers={**ACCEPT, "authorization": f"Bearer {key}"})
    assert message_of(answer)["result"]["protocolVersion"] == "2025-11-25"


def test_a_request_without_a_version_is_of_2025_03_26(url: str, key: str) -> None:
    """2025-06-18 and 2025-11-25, Streamable HTTP, Protocol Version Header: what the server is to assume."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ECHO}
    headers = {**ACCEPT, "authorization": f"Bearer {key}", "mcp-session-id": "plain.0"}
    assert message_of(httpx2.post(url, json=body, headers=headers))["result"]["content"][0]["text"] == "hello"


def test_a_batch_is_refused_as_a_whole(url: str, key: str, fake: FakeServer) -> None:
    """2025-03-26 had batches and the next revision dropped them; what is not done must not be done in part."""
    fake.requests.clear()
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ECHO}
    for version in ("2025-03-26", "2025-06-18", MODERN):
        headers = {**ACCEPT, "authorization": f"Bearer {key}", "mcp-protocol-version": version}
        answer = httpx2.post(url, json=[call, {**call, "id": 2}], headers=headers)
        assert answer.status_code == 400 and "error" in answer.json()
    assert fake.requests == [] and not ToolCall.objects.exists()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("unknown/method", {}),
        ("logging/setLevel", {"level": "info"}),
        ("resources/subscribe", {"uri": "note://1"}),
        ("server/discover", {}),
        ("subscriptions/listen", {"notifications": {}}),
    ],
)
def test_unknown_methods_of_the_older_eras_are_errors_of_json_rpc(
    url: str, key: str, method: str, params: dict[str, Any]
) -> None:
    assert ask_legacy(url, key, method, params)["error"]["code"] == -32601


# --- Progress and cancellation --------------------------------------------------------------------------------------


def progress_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    lines = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: {")]
    return [line["params"] for line in lines if line.get("method") == "notifications/progress"]


@pytest.mark.parametrize("version", [MODERN, "2025-06-18"])
@pytest.mark.parametrize("token", ["mine", 42])
def test_progress_comes_with_the_clients_own_token(url: str, key: str, version: str, token: Any) -> None:
    params = {"name": "slow", "arguments": {"seconds": 0}, "_meta": {"progressToken": token}}
    if version == MODERN:
        answer = post(url, key, modern_body("tools/call", params))
    else:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {**ACCEPT, "authorization": f"Bearer {key}", "mcp-protocol-version": version}
        answer = httpx2.post(url, json=body, headers=headers, timeout=20)
    told = progress_of(answer)
    assert [(each["progressToken"], each["progress"], each["message"]) for each in told] == [(token, 0.5, "half way")]
    assert message_of(answer)["result"]["content"][0]["text"] == "done"


def test_without_a_token_no_progress_is_told(url: str, key: str) -> None:
    body = modern_body("tools/call", {"name": "slow", "arguments": {"seconds": 0}})
    answer = post(url, key, body)
    assert progress_of(answer) == [] and message_of(answer)["result"]["content"][0]["text"] == "done"


@pytest.mark.parametrize("version", [MODERN, "2025-11-25"])
def test_a_client_that_leaves_cancels_the_call_upstream_and_the_record_says_so(
    url: str, key: str, fake: FakeServer, version: str
) -> None:
    """In the older eras the stream cannot be resumed here, so that nobody would ever see the answer."""
    params = {"name": "slow", "arguments": {"seconds": 30}, "_meta": {"progressToken": 1}}
    body = modern_body("tools/call", params)
    headers = {**modern_headers(body, key), "mcp-protocol-version": version}
    with httpx2.stream("POST", url, json=body, headers=headers, timeout=20) as answer:
        assert "half way" in next(line for line in answer.iter_lines() if line.startswith("data"))
    ends = time.monotonic() + 10
    while not (ToolCall.objects.exists() and fake.left) and time.monotonic() < ends:
        time.sleep(0.02)
    row = ToolCall.objects.get()
    assert (row.outcome, row.error_code, row.tool_name) == ("failed", "cancelled", "slow") and row.duration_ms < 20_000
    assert fake.left == ["slow"]
