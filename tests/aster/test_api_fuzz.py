"""Whatever is sent to whichever endpoint, the answer is one the document describes, and never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.aster.api_contract import ContractClient, api, document
from tests.conftest import Person

pytestmark = pytest.mark.django_db(transaction=True)

VALUES: list[Any] = [
    None, True, -1, 0, 10**30, 1.5, "", " ", "x" * 5000, "[REDACTED]", "²", "٣", "a\nb", "http://[", "😀",
    [], [None], [[]], [1], ["x"], {}, {"": ""}, {"a": None}, {"a": {"b": []}}, {"a\r\nb": "c"}, {"x": ["y"]},
]  # fmt: skip
BODIES: list[bytes] = [
    b"", b"null", b"[]", b"[1]", b'"x"', b"1", b"true", b"{", b"\xff", b"{}", b'{"a": NaN}', b'{"name": "\\u0000"}',
    b'{"name": "\\ud800"}', b'{"\\u0000": 1}', b"[" * 100_000, b'{"a":' * 60 + b"1" + b"}" * 60, b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5000 + b"}",
]  # fmt: skip
KEYS = ["0", "-1", "²", "9" * 30, "x" * 300, "a b", "%00", "..%2f", "no-such", "1e3"]


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
    body: dict[str, Any] = {**examples[0]["value"]} if examples else {}
    return body


WRITES = [pytest.param(m, p, d, id=d["operationId"]) for m, p, d in operations() if m in ("post", "put", "patch")]
ALL = [pytest.param(m, p, d, id=d["operationId"]) for m, p, d in operations()]


@pytest.fixture
def client(alice: Person) -> ContractClient:
    """Somebody who has one of everything, so that bodies are looked at."""
    made = api(alice)
    auth = {"name": "Key", "auth_type": "BEARER", "token": "t"}
    server = {"name": "Notes", "url": "http://127.0.0.1:9/mcp", "auth_config": auth, "test_connection": False}
    assert made.post("/api/v1/config/mcp-server", server).status_code == 201
    assert made.post("/api/v1/config/agent", {"name": "Bot"}).status_code == 201
    llm = {"name": "LLM", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    assert made.post("/api/v1/config/llm", llm).status_code == 201
    return made


def address(client: ContractClient, path: str) -> str:
    """The path with the id of something that is there."""
    if "{" not in path:
        return path
    collection = path.split("/{")[0].replace("/oauth", "/auth_configs")
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
        example["url"] = "http://127.0.0.1:9/mcp"
    for name in shape_of(described).get("properties", {}):
        for value in VALUES:
            response = getattr(client, method)(where, {**example, name: value})
            assert response.status_code < 500 or response.json().get("step"), (name, value)


@pytest.mark.parametrize(("method", "path", "described"), WRITES)
def test_a_body_that_is_no_object_is_refused(
    client: ContractClient, method: str, path: str, described: dict[str, Any]
) -> None:
    where = address(client, path)
    for body in BODIES:
        response = client.generic(method.upper(), where, body, content_type="application/json")
        assert response.status_code < 500 or response.json().get("step"), body[:40]


@pytest.mark.parametrize(("method", "path", "described"), [case for case in ALL if "{" in case.values[1]])  # type: ignore[operator]
def test_a_strange_key_is_not_found(
    client: ContractClient, method: str, path: str, described: dict[str, Any]
) -> None:
    for key in KEYS:
        where = path.replace("{key}", key)
        if "{id}" in path:
            if not key.isdecimal() or not key.isascii():
                continue
            where = path.replace("{id}", key)
        body = json.dumps(example_of(described)).encode() if method in ("post", "put", "patch") else b""
        response = client.generic(method.upper(), where, body, content_type="application/json")
        expected = {400, 404, 422} if method in ("put", "post", "patch") else {404}
        assert response.status_code in expected or (method == "put" and response.status_code == 201), (key, response)


LISTS = [case for case in ALL if any(p["name"] == "cursor" for p in case.values[2].get("parameters", []))]  # type: ignore[union-attr]


@pytest.mark.parametrize(("method", "path", "described"), LISTS)
@pytest.mark.parametrize(
    "query",
    ["cursor=x", "cursor=cD1hYmM=", "cursor=cD0lMDA=", "cursor=bz05OTk5OTk5OTk5OTk5", "cursor=cD05OTk5OTk5OTk5OTk5OTk5OTk5OTk5OQ==",
     "page_size=x", "page_size=0", "page_size=-1", "page_size=99999999999999", "page_size=", "cursor=%00", "nonsense=1"],
)  # fmt: skip
def test_strange_pages_are_refused(
    client: ContractClient, method: str, path: str, described: dict[str, Any], query: str
) -> None:
    if path.endswith("/tools"):
        return
    response = client.get(f"{address(client, path)}?{query}")
    assert response.status_code in (200, 400, 404)
