"""What the tests of the gateway share: requests as they stand on the wire, and servers with more than tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import pytest
from mcp.shared.inbound import NAME_BEARING_METHODS, encode_header_value

from agents.models import Agent
from agents.services.agents import save_agent
from integrations.models import McpServer
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, scripted_app

MODERN = "2026-07-28"


@pytest.fixture(autouse=True)
def strictly_async(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query on the event loop is an error, as it is where Aster runs."""
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE", raising=False)


ACCEPT = {"accept": "application/json, text/event-stream"}
FORMS: dict[str, Any] = {"elicitation": {"form": {}}}
LINKS: dict[str, Any] = {"elicitation": {"url": {}}}


def modern_body(method: str, params: Mapping[str, Any] | None = None, can: Mapping[str, Any] | None = None) -> Any:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": dict(can or {}),
    }
    given = dict(params or {})
    given["_meta"] = {**meta, **given.get("_meta", {})}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": given}


def modern_headers(body: Mapping[str, Any], key: str) -> dict[str, str]:
    method = body["method"]
    headers = {**ACCEPT, "authorization": f"Bearer {key}", "mcp-protocol-version": MODERN, "mcp-method": method}
    if name := NAME_BEARING_METHODS.get(method):
        headers["mcp-name"] = encode_header_value(str(body["params"][name]))
    return headers


def ask(
    url: str, key: str, method: str, params: Mapping[str, Any] | None = None, can: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The answer to one request of 2026-07-28: its message."""
    body = modern_body(method, params, can)
    answer = httpx2.post(url, json=body, headers=modern_headers(body, key), timeout=20)
    return message_of(answer)


def ask_legacy(
    url: str,
    key: str,
    method: str,
    params: Mapping[str, Any] | None = None,
    version: str = "2025-11-25",
    **headers: str,
) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params or {})}
    sent = {**ACCEPT, "authorization": f"Bearer {key}", "mcp-protocol-version": version}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return message_of(httpx2.post(url, json=body, headers=sent, timeout=20))


def message_of(answer: httpx2.Response) -> dict[str, Any]:
    """The message with the request's id, from a JSON body or the last event of a stream."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
        said: dict[str, Any] = json.loads(data[-1])
    else:
        said = answer.json()
    return said


def offering_app(**results: Any) -> FakeServer:
    """A modern server with everything, as far as it is said what it answers (see scripted_app)."""
    capabilities = {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}
    discover = {"supportedVersions": [MODERN], "capabilities": capabilities}
    return scripted_app(server_discover=discover, **results)


def prompts(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda params: {"prompts": [{"name": name} for name in names]}


def resources(*uris: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda params: {"resources": [{"uri": uri, "name": uri} for uri in uris]}


def templates(*uris: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda params: {"resourceTemplates": [{"uriTemplate": uri, "name": uri} for uri in uris]}


def reads(words: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda params: {"contents": [{"uri": params["uri"], "text": words}]}


def add_server(admin: Person, name: str, base: str) -> McpServer:
    return save_server(McpServer(name=name, url=f"{base}/mcp"), actor=admin.actor).server


def add_agent(admin: Person, *servers: McpServer) -> Agent:
    return save_agent(Agent(name="Helper"), actor=admin.actor, server_ids=[server.pk for server in servers])
