"""OpenAPI documents: which operations they have, what each takes, and the requests that come of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aster.errors import InvalidInput
from connectors.openapi import MAX_NAME, Document, call_operation, read_document
from connectors.rest import Rest
from tests.fakes.mcp_servers import serve
from tests.fakes.rest_providers import TOKEN, Asked, RestProvider, Said

PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets"},
    "servers": [{"url": "https://{region}.pets.example"}, {"url": "https://pets.example/v1"}],
    "paths": {
        "/pets": {
            "parameters": [{"name": "trace", "in": "header", "schema": {"type": "string"}}],
            "get": {
                "operationId": "listPets", "summary": "List pets",
                "parameters": [
                    {"$ref": "#/components/parameters/limit"}, {"name": "session", "in": "cookie"},
                    {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                ],
            },
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                },
            },
        },
        "/pets/{id}": {
            "delete": {"operationId": "deletePet", "parameters": [{"name": "id", "in": "path", "required": True}]},
        },
    },
    "components": {
        "parameters": {"limit": {"name": "limit", "in": "query", "schema": {"type": "integer", "x-go": "int"}}},
        "schemas": {
            "Pet": {
                "type": "object", "required": ["name"],
                "properties": {"name": {"type": "string"}, "mother": {"$ref": "#/components/schemas/Pet"}},
            },
        },
    },
}  # fmt: skip


def read(document: Any, prefix: str = "pets") -> Document:
    return read_document(document if isinstance(document, str) else json.dumps(document), prefix=prefix)


def with_operation(operation: dict[str, Any], path: str = "/odd") -> dict[str, Any]:
    return {**PETS, "paths": {**PETS["paths"], path: {"get": operation}}}


def test_operations_become_tools_with_names_of_their_own() -> None:
    document = read(PETS)
    assert [each.name for each in document.operations] == ["pets_list_pets", "pets_post_pets", "pets_delete_pet"]
    assert (document.title, document.url, document.problems) == ("Pets", "https://pets.example/v1", ())
    listing, making, _ = document.operations
    assert listing.schema["properties"] == {
        "trace": {"type": "string"}, "limit": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    }  # fmt: skip
    assert making.schema["required"] == ["body"] and listing.only_reads and not making.only_reads


def test_the_same_in_yaml() -> None:
    assert (
        read("openapi: 3.1.0\npaths:\n  /pets:\n    get: {operationId: listPets}\n").operations[0].name
        == "pets_list_pets"
    )


def test_what_contains_itself_ends_somewhere() -> None:
    body = read(PETS).operations[1].schema["properties"]["body"]
    depth = 0
    while body:
        body, depth = body.get("properties", {}).get("mother", {}), depth + 1
    assert 2 < depth < 20


def test_two_operations_of_one_name_are_told_apart() -> None:
    document = read(with_operation({"operationId": "list_pets"}))
    assert [each.name for each in document.operations][-1] == "pets_list_pets_2"


def test_names_fit_everywhere() -> None:
    long = read(with_operation({"operationId": "ä" * 5 + "x" * 500}))
    assert all(len(each.name) <= MAX_NAME and each.name.isascii() for each in long.operations)


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"parameters": [{"$ref": "https://elsewhere.example/p.json"}]}, "another document"),
        ({"parameters": [{"$ref": "#/components/parameters/loop"}]}, "circles"),
        ({"requestBody": {"content": {"multipart/form-data": {}}}}, "multipart/form-data"),
        ({"parameters": [{"name": "x", "in": "query", "schema": {"enum": ["y" * 100] * 1000}}]}, "too much"),
    ],
)
def test_an_odd_operation_costs_itself_alone(operation: dict[str, Any], words: str) -> None:
    document = with_operation(operation)
    looping = {"loop": {"$ref": "#/components/parameters/loop"}, **PETS["components"]["parameters"]}
    document["components"] = {**PETS["components"], "parameters": looping}
    found = read(document)
    assert len(found.operations) == 3 and words in found.problems[0] and "GET /odd" in found.problems[0]


def test_a_path_that_nobody_can_fill_is_left_out() -> None:
    assert "owner" in read(with_operation({}, "/owners/{owner}")).problems[0]


def test_thousands_of_operations_are_read() -> None:
    paths = {f"/things/{number}": {"get": {"operationId": f"get{number}"}} for number in range(2_000)}
    assert len(read({**PETS, "paths": paths}).operations) == 2_000


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"swagger": "2.0", "paths": {}}, "Swagger 2"),
        ({"hello": 1}, "no OpenAPI document"),
        ({"openapi": "3.1.0"}, "no paths"),
        ({"openapi": "3.1.0", "paths": {"/x": {"get": 5}}}, "no operation"),
        ("[1]", "not an object"),
        ("{", "neither JSON nor YAML"),
        ("a: &a [1]\nb: *a", "neither JSON nor YAML"),
        ("{" * 10_000, "neither JSON nor YAML"),
        ("x" * (10 * 1024 * 1024 + 1), "larger than"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_document_is_refused_with_words(document: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read(document)


def test_arguments_go_where_they_belong() -> None:
    def says(asked: Asked) -> Said:
        return Said({"path": asked.path, "params": asked.params, "body": asked.body})

    api = RestProvider(says, Said({}, 401))
    document = read(PETS)

    async def ask(number: int, arguments: dict[str, Any]) -> Any:
        async def token(rejected: str | None) -> str:
            return TOKEN

        return await call_operation(Rest("Pets", base, token=token), document.operations[number], arguments)

    with serve(api) as base:
        listed = asyncio.run(ask(0, {"limit": 5, "trace": "t1", "tags": None}))
        made = asyncio.run(ask(1, {"body": {"name": "Rex"}, "trace": "Authorization"}))
        gone = asyncio.run(ask(2, {"id": "../users?x=1#"}))
    assert listed["params"] == {"limit": "5"} and api.asked[0].headers["trace"] == "t1"
    assert made["body"] == {"name": "Rex"} and api.asked[1].headers["authorization"] == f"Bearer {TOKEN}"
    assert gone["path"] in ("/pets/../users?x=1#", "/pets/..%2Fusers%3Fx%3D1%23") and api.asked[2].method == "DELETE"
    assert not gone["params"]
