"""Whatever is sent to whichever endpoint, the answer is one the document describes, and never a 500."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from agents.models import Conversation
from integrations.models import AuthConfig, Connection
from tests.aster.api_contract import ContractClient, document
from tests.conftest import Person
from tests.fakes.registry import weather
from tests.integrations.registry_stage import ANYWHERE, put

# Calls write their records from another thread, which must see what is stored.
pytestmark = pytest.mark.django_db(transaction=True)

VALUES: list[Any] = [
    None, True, -1, 10**30, "", "x" * 5000, "[REDACTED]", "²", "http://[",
    [None], [[]], ["x"], {}, {"a": None}, {"a\r\nb": "c"}, {"x": ["y"]},
]  # fmt: skip
BODIES: list[bytes] = [
    b"", b"null", b"[]", b"[1]", b'"x"', b"1", b"true", b"{", b"\xff", b"{}", b'{"a": NaN}', b'{"name": "\\u0000"}',
    b'{"name": "\\ud800"}', b'{"\\u0000": 1}', b"[" * 100_000, b'{"a":' * 60 + b"1" + b"}" * 60, b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5000 + b"}",
]  # fmt: skip
ORIGIN = "https://app.example"
KEYS = ["0", "-1", "²", "9" * 30, "x" * 300, "9" * 5000, "a b", "..%2f", "no-such", "1e3"]


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, described in methods.items():
            yield method, path, described


def shape_of(described: dict[str, Any]) -> dict[str, Any]:
    content = described.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rsplit("/", 1)[-1]
    shape: dict[str, Any] = document()["components"]["schemas"].get(name, {})
    return shape


def example_of(described: dict[str, Any]) -> dict[str, Any]:
    content = described.get("requestBody", {}).get("content", {}).get("application/json", {})
    examples = list(content.get("examples", {}).values())
    text = json.dumps(examples[0]["value"] if examples else {})
    # No name is looked up and nobody answers.
    body: dict[str, Any] = json.loads(re.sub(r'"https://[^/"]+', '"http://127.0.0.1:9', text))
    return body


WRITES_AT = [case for case in operations() if case[0] in ("post", "put", "patch")]
WRITES = [pytest.param(*case, id=case[2]["operationId"]) for case in WRITES_AT]


@pytest.fixture
def client(alice: Person, settings: Settings) -> Everywhere:
    """Somebody who has one of everything, so that bodies are looked at."""
    settings.ASTER_REGISTRIES = [ANYWHERE]
    put(weather("http://127.0.0.1:9/mcp"))
    made = Everywhere()
    made.credentials(HTTP_AUTHORIZATION=f"Bearer {alice.key()}")
    auth = {"name": "Key", "auth_type": "BEARER", "token": "t"}
    server = {"name": "Notes", "url": "http://127.0.0.1:9/mcp", "auth_config": auth, "test_connection": False}
    assert made.post("/api/v1/config/mcp-server", server).status_code == 201
    Connection.objects.create(auth_config=AuthConfig.objects.get(), user=alice.user)
    llm = {"name": "LLM", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    llm_id = made.post("/api/v1/config/llm", llm).json()["id"]
    agent = made.post("/api/v1/config/agent", {"name": "Bot", "llm_config_id": llm_id})
    assert agent.status_code == 201
    Conversation.objects.create(organization=alice.organization, agent_id=agent.json()["id"], user=alice.user)
    task = {"name": "Report", "agent_id": agent.json()["id"], "prompt": "Report.", "every_seconds": 3600}
    assert made.post("/api/v1/schedules", task).status_code == 201
    assert made.post("/api/v1/connectors/notion", {"client_id": "a", "client_secret": "b"}).status_code == 201
    pets = json.dumps({"openapi": "3.1.0", "info": {"title": "Pets"}, "paths": {"/pets": {"get": {}}}})
    described = {"document": pets, "name": "Pets", "url": "http://127.0.0.1:9/v1", "sign_in": "none"}
    assert made.post("/api/v1/connectors/openapi", described).status_code == 201
    asked = {"agents": [agent.json()["id"]], "scopes": ["aster:connect", "aster:call"], "origin": ORIGIN}
    ticket = made.post("/api/v1/session-tickets", {**asked, "seconds": 3600})
    assert ticket.status_code == 201
    made.ticket = ticket.json()["ticket"]
    assert made.patch("/api/v1/config/agent/bot", {"mcp_server_config_ids": ["notes"]}).status_code == 200
    return made


class Everywhere(ContractClient):
    """Goes where keys go with its key, and where only tickets go with a ticket of it."""

    ticket = ""

    def request(self, **kwargs: Any) -> Any:
        if not re.match("/api/v1/session(/|$)", kwargs["PATH_INFO"]):
            return super().request(**kwargs)
        on_page = ContractClient()
        on_page.credentials(HTTP_AUTHORIZATION=f"Bearer {self.ticket}", HTTP_ORIGIN=ORIGIN)
        return on_page.request(**kwargs)


def address(client: ContractClient, path: str) -> str:
    """The path with the id of something that is there."""
    if "{" not in path:
        return path
    path = path.replace("{server}", "notes").replace("openapi/{slug}", "openapi/pets").replace("{slug}", "notion")
    if "{" not in path:
        return path
    collection = path.split("/{")[0].replace("/oauth", "/auth_configs").replace("/v1/agents", "/v1/config/agent")
    collection = collection.replace("/session/agents", "/config/agent")
    rows = client.get(collection).json()["results"]
    return path.replace("{key}", str(rows[0]["id"] if rows else 1)).replace("{id}", str(rows[0]["id"] if rows else 1))


@pytest.mark.parametrize(("method", "path", "described"), WRITES)
def test_a_wrong_type_in_any_field_is_refused(
    client: ContractClient, method: str, path: str, described: dict[str, Any]
) -> None:
    where, example = address(client, path), example_of(described)
    if "test_connection" in shape_of(described).get("properties", {}):
        example["test_connection"] = False
        example.pop("auth_config_id", None)
    for name in shape_of(described).get("properties", {}):
        for value in VALUES:
            response = getattr(client, method)(where, {**example, name: value})
            assert response.status_code < 500 or response.json().get("step"), (name, value)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:12].decode(errors="replace"))
def test_a_body_that_is_no_proper_object_is_refused(client: ContractClient, body: bytes) -> None:
    for method, path, _ in WRITES_AT:
        response = client.generic(method.upper(), address(client, path), body, content_type="application/json")
        assert response.status_code < 500 or response.json().get("step"), path
        if body not in (b"", b"{}"):
            # Where no body is read, none is refused.
            assert response.status_code in (400, 409) or not reads_body(path), path


def reads_body(path: str) -> bool:
    bodiless = ("/disconnect", "/{server}/connect", "/tools/refresh", "/{key}/test", "/{key}/diagnose", "/run")
    return not path.endswith((*bodiless, "/stop", "/approve", "/deny"))


@pytest.mark.parametrize("key", KEYS)
def test_a_strange_key_is_not_found(client: ContractClient, key: str) -> None:
    for method, path, described in operations():
        if "{" not in path or ("{id}" in path and not key.isdecimal()):
            continue
        where = path.replace("{key}", key).replace("{id}", key).replace("{slug}", key).replace("{server}", "notes")
        body = json.dumps(example_of(described)).encode() if method in ("post", "put", "patch") else b""
        response = client.generic(method.upper(), where, body, content_type="application/json")
        expected = {400, 404, 422} if method == "put" else {404}
        may_create = method == "put" and key == "no-such"
        assert response.status_code in expected or (may_create and response.status_code == 201), path


@pytest.mark.parametrize(
    "query",
    ["cursor=x", "cursor=cD1hYmM=", "cursor=cD0lMDA=", "cursor=bz05OTk5OTk5OTk5OTk5", f"cursor={'cD05'}{'OTk5' * 8}",
     "page_size=x", "page_size=0", "page_size=-1", "page_size=99999999999999", "page_size="],
)  # fmt: skip
def test_a_strange_page_is_refused(client: ContractClient, query: str) -> None:
    for method, path, described in operations():
        pages = any(parameter["name"] == "cursor" for parameter in described.get("parameters", []))
        if method == "get" and pages and not path.endswith("/tools"):
            response = client.get(f"{address(client, path)}?{query}")
            assert response.status_code in ({400} if "page_size" in query else {200, 400, 404}), path
