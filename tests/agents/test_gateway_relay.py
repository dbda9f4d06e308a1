"""The gateway's short way answers what the SDK's server would: every request here goes both ways."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator, MutableMapping
from typing import Any

import httpx2
import pytest

from agents.gateway.plain import LIST, PlainRequest
from agents.gateway.relay import Caller
from agents.gateway.tool_list import MOST_PAGES, list_tools
from agents.models import Agent, ToolCall
from agents.services.agents import save_agent
from agents.services.endpoints import Endpoint
from agents.services.rules import load_rules
from integrations.models import McpServer
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, Receive, Send, modern_and_legacy_app, serve

pytestmark = pytest.mark.django_db(transaction=True)

MODERN, LEGACY = "2026-07-28", "2025-11-25"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
# What nobody acts on, but the short way leaves to the SDK's server
DETOUR = {"com.example/detour": 1}


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    yield modern_and_legacy_app()


@pytest.fixture
def agent(alice: Person, fake: FakeServer) -> Iterator[Agent]:
    with serve(fake) as base:
        server = save_server(McpServer(name="Tools", slug="tools", url=f"{base}/mcp"), actor=alice.actor).server
        fake.requests.clear()
        yield save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk])


@pytest.fixture
def prefix(agent: Agent) -> str:
    return f"tools_{McpServer.objects.get().pk}__"


class Asking:
    """A client that says what it is told to, byte by byte if need be."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.http = httpx2.Client(timeout=10, headers={"Authorization": f"Bearer {key}"})

    def raw(self, body: bytes | str, headers: dict[str, str] | None = None, method: str = "POST") -> httpx2.Response:
        common = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        return self.http.request(method, self.url, content=body, headers={**common, **(headers or {})})

    def rpc(
        self, method: str, params: dict[str, Any], version: str, *, number: Any = 7, detour: bool = False
    ) -> tuple[int, Any]:
        meta = {**(META if version == MODERN else {}), **(DETOUR if detour else {})}
        if meta or "_meta" in params:
            params = {**params, "_meta": {**meta, **params.get("_meta", {})}}
        headers = {"mcp-protocol-version": version}
        if version == MODERN:
            headers |= {"mcp-method": method, "mcp-name": str(params.get("name", ""))}
        body = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return said(self.raw(body, headers))


def said(response: httpx2.Response) -> tuple[int, Any]:
    """Status and JSON, whether it came as such or as the one event of a stream."""
    if "text/event-stream" in response.headers.get("content-type", ""):
        data = [line[5:].strip() for line in response.text.split("\n") if line.startswith("data:")]
        return response.status_code, json.loads(data[-1])
    try:
        return response.status_code, response.json()
    except ValueError:
        return response.status_code, response.text


@pytest.fixture
def asking(aster: str, agent: Agent, alice: Person) -> Iterator[Asking]:
    client = Asking(agent.gateway_url, alice.key())
    yield client
    client.http.close()


def answering(result: Any, **more: Any) -> Any:
    """An app that gives `result` to every call."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        body = json.loads((await receive()).get("body") or b"{}")
        answer = {"jsonrpc": "2.0", "id": body.get("id"), **(more or {"result": result})}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    return app


TEXT = {"type": "text", "text": "hi"}
RESULTS: list[Any] = [
    {"content": [TEXT]},
    {"content": [TEXT], "isError": True},
    {"content": [TEXT], "isError": False, "structuredContent": {"a": None, "b": [1, {"c": None}]}},
    {"content": [TEXT], "structuredContent": None, "_meta": None},
    {"content": [TEXT], "structuredContent": [1, 2]},
    {"content": [TEXT], "structuredContent": "text"},
    {"content": [{**TEXT, "annotations": None, "_meta": None}]},
    {"content": [{**TEXT, "annotations": {"audience": ["user"], "priority": None}, "extra": 1}]},
    {"content": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}], "_meta": {"com.example/a": 1}},
    {"content": [{"type": "resource_link", "uri": "file:///a", "name": "a", "size": None}]},
    {"content": [{"type": "resource", "resource": {"uri": "file:///a", "text": "x", "mimeType": None}}]},
    {"content": [{"type": "hologram", "x": 1}]},
    {"content": [TEXT], "extra": {"kept": None}, "other": 1},
    {"content": [TEXT], "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "x", "version": "1"}, "a/b": 1}},
    {"content": [TEXT], "_meta": "text"},
    {"content": "text"},
    {"content": [7]},
    {"content": [{"type": "text", "text": 7}]},
    {"content": [{"type": "text"}]},
    {"content": [], "isError": "yes"},
    {"content": [], "isError": None},
    {"content": [], "resultType": "complete"},
    {"content": [], "resultType": "task"},
    {"resultType": "input_required", "inputRequests": {"a": {"method": "elicitation/create", "params": {}}}},
    {},
    {"structuredContent": {"deep": json.loads("[" * 150 + "]" * 150)}},
    {"content": [TEXT], "structuredContent": {"big": 2**70, "float": 1e300, "text": "\u2028\x00é"}},
    {"toolResult": 1},
    [],
    "text",
    None,
]


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_every_result_is_the_same_both_ways(asking: Asking, fake: FakeServer, prefix: str, version: str) -> None:
    different = []
    for result in RESULTS:
        fake.serve_instead(answering(result))
        call = {"name": f"{prefix}fail", "arguments": {}}
        short, long = (asking.rpc("tools/call", call, version, detour=detour) for detour in (False, True))
        for _, message in (short, long):
            message.get("result", {}).setdefault("isError", False)  # the same said in two ways
        if short != long:
            different.append((result, short, long))
    assert not different, different


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_every_refusal_is_the_same_both_ways(asking: Asking, fake: FakeServer, prefix: str, version: str) -> None:
    call, different = {"name": f"{prefix}fail", "arguments": {}}, []
    for code in (-32602, -32603, -32000, -32020, -32042, -32601):
        fake.serve_instead(answering(None, error={"code": code, "message": "no", "data": {"secret": 1}}))
        ways = [asking.rpc("tools/call", call, version, detour=detour) for detour in (False, True)]
        if ways[0] != ways[1]:
            different.append((code, *ways))
    assert not different, different


PARAMS: list[tuple[str, dict[str, Any]]] = [
    ("tools/list", {}),
    ("tools/list", {"cursor": None}),
    ("tools/list", {"cursor": ""}),
    ("tools/list", {"cursor": "nonsense"}),
    ("tools/list", {"cursor": 7}),
    ("tools/list", {"extra": 7}),
    ("tools/call", {"name": "{}echo", "arguments": {"text": "hi"}}),
    ("tools/call", {"name": "{}whoami", "arguments": None}),
    ("tools/call", {"name": "{}fail"}),
    ("tools/call", {"name": "{}fail", "arguments": [1]}),
    ("tools/call", {"name": "{}fail", "arguments": "x"}),
    ("tools/call", {"name": "{}refuse", "arguments": {}}),
    ("tools/call", {"name": "{}unknown", "arguments": {}}),
    ("tools/call", {"name": "", "arguments": {}}),
    ("tools/call", {"name": "{}structured", "arguments": {"broken": True}}),
    ("tools/call", {"name": "{}echo", "arguments": {}, "task": {}}),
    ("tools/call", {"name": "{}regional", "arguments": {"region": "é\n"}}),
]


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_every_request_is_answered_the_same_both_ways(asking: Asking, prefix: str, version: str) -> None:
    different = []
    for method, params in PARAMS:
        if "name" in params:
            params = {**params, "name": params["name"].replace("{}", prefix)}
        short, long = (asking.rpc(method, params, version, detour=detour) for detour in (False, True))
        if not params.get("name", "").endswith("whoami"):
            if short != long:
                different.append((params, short, long))
        else:
            assert short[1]["result"].keys() == long[1]["result"].keys()
    assert not different, different


def test_both_ways_are_recorded_alike(asking: Asking, prefix: str) -> None:
    for detour in (False, True):
        asking.rpc("tools/call", {"name": f"{prefix}fail", "arguments": {}}, MODERN, detour=detour)
    names = ("organization", "user", "agent", "server", "connection", "tool_name", "via", "outcome", "error_code")
    one, other = ToolCall.objects.values(*names)
    assert one == other


CAPABILITIES = [
    {"roots": {"listChanged": 5}},
    {"elicitation": {"form": 5}},
    {"sampling": 1},
    {"new": {"a": 1}},
    7,
    None,
]
INFO = [{}, {"name": "x"}, {"name": 7, "version": "1"}, {"name": "x", "version": "1", "icons": 7}, 7, None]
META_OF_MODERN: list[dict[str, Any]] = [
    *({"io.modelcontextprotocol/clientCapabilities": each} for each in CAPABILITIES),
    *({"io.modelcontextprotocol/clientInfo": each} for each in INFO),
    {"io.modelcontextprotocol/protocolVersion": LEGACY},
    {"io.modelcontextprotocol/protocolVersion": None},
    {"progressToken": 7},
]


def test_what_a_client_says_of_itself_is_judged_the_same_both_ways(asking: Asking, prefix: str) -> None:
    different = []
    for meta in META_OF_MODERN:
        call = {"name": f"{prefix}fail", "arguments": {}, "_meta": meta}
        short, long = (asking.rpc("tools/call", call, MODERN, detour=detour) for detour in (False, True))
        if short != long:
            different.append((meta, short, long))
    assert not different, different


def test_odd_meta_of_older_clients_is_judged_by_the_sdk(asking: Asking, prefix: str) -> None:
    def ask(meta: object, **more: Any) -> tuple[int, Any]:
        params = {"name": f"{prefix}fail", "arguments": {}, "_meta": meta, **more}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        return said(asking.raw(body, {"mcp-protocol-version": LEGACY}))

    odd: list[object] = [None, {}, [], 0, "", False, [1]]
    # With more in it than the short way knows, a request goes the long one.
    different = [(each, short, long) for each in odd if (short := ask(each)) != (long := ask(each, extra=1))]
    assert not different, different


IDS = [0, -1, 2**53, 2**63, 2**64, 10**300, "", "x" * 10_000, '\u00e9\u2028"\\', "7", 1.5, None, True, [1]]


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_the_id_comes_back_as_it_was(asking: Asking, prefix: str, version: str) -> None:
    call, different = {"name": f"{prefix}fail", "arguments": {}}, []
    for number in IDS:
        ways = [asking.rpc("tools/call", call, version, number=number, detour=detour) for detour in (False, True)]
        if ways[0] != ways[1]:
            different.append((number, *ways))
    assert not different, different


def deep(levels: int) -> Any:
    return json.loads("[" * levels + "]" * levels)


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_what_is_nested_deeply_is_answered_or_refused_the_same_both_ways(
    asking: Asking, fake: FakeServer, prefix: str, version: str
) -> None:
    different = []
    for levels in (180, *range(190, 202), 230, 260):
        for arguments, result in (({"a": deep(levels)}, {}), ({}, {"structuredContent": {"a": deep(levels)}})):
            fake.serve_instead(answering({"content": [TEXT], **result}))
            call = {"name": f"{prefix}fail", "arguments": arguments}
            ways = [asking.rpc("tools/call", call, version, detour=detour) for detour in (False, True)]
            if [status for status, _ in ways] != [ways[1][0]] * 2 or [*ways[0][1]] != [*ways[1][1]]:
                different.append((levels, bool(result), *(str(each)[:200] for each in ways)))
    assert not different, different


def test_cursors_that_somebody_made_up_take_no_memory(agent: Agent, alice: Person) -> None:
    rules = load_rules({("acme", agent.slug): None})["acme", agent.slug]

    for n in range(2 * MOST_PAGES):
        cursor = urlsafe_b64encode(json.dumps([n, "x"]).encode()).decode()
        request = PlainRequest(1, LIST, {"cursor": cursor}, "2026-07-28", {})
        assert list_tools(request, Caller(alice.actor, rules, Endpoint(agent), {}))
    assert len(rules.pages) == MOST_PAGES
