"""An API client that holds every answer against the OpenAPI document: status, shape, and no field too many."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator
from rest_framework.test import APIClient

from tests.conftest import Person

# A tool keeps whatever its server said, and a refusal may carry more than the common fields.
OPEN_SHAPES = {"ToolOut", "AgentToolOut", "ErrorOut"}
UNDOCUMENTED = {405, 406, 413, 415}


@cache
def document() -> dict[str, Any]:
    made: dict[str, Any] = SchemaGenerator(urlconf="aster.urls").get_schema(public=True)
    return made


@cache
def _closed_components() -> dict[str, Any]:
    shapes = {
        name: shape if name in OPEN_SHAPES or "properties" not in shape else {**shape, "additionalProperties": False}
        for name, shape in document()["components"]["schemas"].items()
    }
    return {"schemas": shapes}


def operation_at(method: str, path: str) -> dict[str, Any] | None:
    for template, operations in document()["paths"].items():
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
        fixed = "{" not in template
        if (path == template if fixed else _matches(pattern, path)) and method.lower() in operations:
            found: dict[str, Any] = operations[method.lower()]
            return found
    return None


def _matches(pattern: str, path: str) -> bool:
    return path not in document()["paths"] and re.fullmatch(pattern, path) is not None


def validate(shape: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**shape, "components": _closed_components()}).validate(value)


def hold(response: Any) -> None:
    """Fail unless the document describes this answer."""
    method, path = response.request["REQUEST_METHOD"], response.request["PATH_INFO"]
    if method in ("HEAD", "OPTIONS") or not path.startswith("/api/v1/"):
        return
    if response.status_code in UNDOCUMENTED:
        assert {"code", "detail", "fields"} <= response.json().keys()
        return
    found = operation_at(method, path)
    if found is None:
        assert response.status_code == 404, f"{method} {path} is not in the document"
        return
    described = found["responses"]
    assert str(response.status_code) in described, f"{method} {path}: {response.status_code} {response.content[:300]!r}"
    content = described[str(response.status_code)].get("content")
    if content is None:
        assert response.content == b""
        return
    kind = response["Content-Type"].partition(";")[0]
    assert kind in content, f"{method} {path}: {kind} is not in the document"
    if kind == "application/json":  # a stream is read by whoever asked for it
        validate(content[kind]["schema"], response.json())


class ContractClient(APIClient):
    default_format = "json"

    def request(self, **kwargs: Any) -> Any:
        response = super().request(**kwargs)
        hold(response)
        return response


def api(person: Person, *scopes: str) -> ContractClient:
    """A client with a key of this person, whose every answer is held against the document."""
    client = ContractClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {person.key(*scopes)}")
    return client
