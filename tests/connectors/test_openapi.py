"""OpenAPI documents: which operations they have, what each takes, and the requests that come of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aster.errors import InvalidInput
from connectors.openapi.document import MAX_NAME, MAX_PARAMETERS, MAX_READ, Document, read_document

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
        ({"requestBody": {"required": True, "content": {"multipart/form-data": {}}}}, "multipart/form-data"),
        ({"requestBody": {"required": True, "content": {"application/\u00e9json": {}}}}, "neither JSON nor a form"),
        ({"parameters": [{"name": "session", "in": "cookie", "required": True}]}, "cookie"),
        ({"servers": [{"url": "https://elsewhere.example"}]}, "https://elsewhere.example"),
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


def test_types_that_contain_each_other_many_times_over_are_read_at_once() -> None:
    names = [f"T{number}" for number in range(30)]
    everything = {name: {"$ref": f"#/components/schemas/{name}"} for name in names}
    document = with_operation({"requestBody": {"content": {"application/json": {"schema": everything["T0"]}}}})
    document["components"] = {
        **PETS["components"],
        "schemas": {
            **PETS["components"]["schemas"],
            **{n: {"type": "object", "properties": everything} for n in names},
        },
    }
    found = read(document).operations[-1]
    assert len(json.dumps(found.schema)) < 80_000 and set(found.schema["properties"]["body"]["properties"]) == set(
        names
    )


def sharing(operations: int, choices: int) -> dict[str, Any]:
    """Operations that all refer to one parameter and one body, each by an alias of its own."""
    schema = {"enum": [f"v{number}" for number in range(choices)]}
    content = {"application/json": {"schema": schema}}
    numbers = range(operations)
    components = {
        "parameters": {"p": {"name": "p", "in": "query", "schema": schema}}
        | {f"p{n}": {"$ref": "#/components/parameters/p"} for n in numbers},
        "requestBodies": {"b": {"content": content}},
    }
    asks = {"requestBody": {"$ref": "#/components/requestBodies/b"}}
    paths = {
        f"/{n}": {"post": {"parameters": [{"$ref": f"#/components/parameters/p{n}"}] * 3, **asks}} for n in numbers
    }
    return {**PETS, "paths": paths, "components": components}


def test_what_operations_share_is_read_once() -> None:
    one, other = (each.schema["properties"] for each in read(sharing(2, 3)).operations)
    assert one["p"] == {"enum": ["v0", "v1", "v2"]} and one["p"] is other["p"] and one["body"] is other["body"]


def test_a_document_that_describes_too_much_altogether_is_read_so_far() -> None:
    found = read(sharing(700, 2_800))
    assert 100 < len(found.operations) < 700 and "altogether" in found.problems[-1]


def test_more_operations_than_anybody_reads_are_left_out_and_told_of() -> None:
    paths = {f"/{number}": {"get": {"operationId": "same"}} for number in range(MAX_READ + 1)}
    found = read({**PETS, "paths": paths})
    assert len({each.name for each in found.operations}) == MAX_READ and "further ones" in found.problems[-1]


def test_an_operation_has_so_many_parameters_and_no_more() -> None:
    alike = [{"name": f"{'$' * number}x", "in": "query"} for number in range(1, MAX_PARAMETERS)]
    found = read(with_operation({"parameters": [*alike, {"name": "x", "in": "query"}]}))
    assert len(found.operations[-1].places) == MAX_PARAMETERS
    more = [{"name": f"p{number}", "in": "query"} for number in range(MAX_PARAMETERS + 1)]
    assert f"more than {MAX_PARAMETERS} parameters" in read(with_operation({"parameters": more})).problems[0]


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        ({"type": [{"a": 1}, ["string"], "integer"]}, {"type": "integer"}),
        ({"multipleOf": 10**400, "minimum": -(10**400), "maximum": 7}, {"maximum": 7}),
        ({"required": [[1]], "enum": [{}]}, {"enum": [{}]}),
    ],
)
def test_what_a_schema_cannot_say_is_left_out_of_it(schema: dict[str, Any], left: dict[str, Any]) -> None:
    found = read(with_operation({"parameters": [{"name": "x", "in": "query", "schema": schema}]}))
    assert found.operations[-1].schema["properties"] == {"x": left}


def test_the_same_name_in_path_query_and_body_is_three_arguments() -> None:
    places = [{"name": "id", "in": each, "required": True, "schema": {"type": "string"}} for each in ("query", "path")]
    body = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    found = read(
        with_operation({"parameters": [*places, {"name": "body", "in": "query"}], "requestBody": body}, "/odd/{id}")
    )
    operation = found.operations[-1]
    assert {name: (place.where, place.name) for name, place in operation.places.items()} == {
        "id": ("path", "id"), "query_id": ("query", "id"), "body": ("query", "body"),
    }  # fmt: skip
    assert operation.body == "request_body" and operation.schema["required"] == ["id", "query_id", "request_body"]


def test_an_operations_own_parameter_counts_before_its_paths() -> None:
    item = {
        "parameters": [{"name": "limit", "in": "query", "schema": {"type": "string"}}],
        "get": {"parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer"}}]},
    }
    found = read({**PETS, "paths": {"/x": item}}).operations[0]
    assert found.schema["properties"] == {"limit": {"type": "integer"}}


def test_arguments_have_names_that_models_take() -> None:
    odd = [{"name": name, "in": "query"} for name in ("filter[name]", "$top", "päth", "x" * 100)]
    found = read(with_operation({"parameters": odd})).operations[-1]
    assert {place.name for place in found.places.values()} == {each["name"] for each in odd}
    assert {"filter_name", "top", "p_th"} <= set(found.places) and all(len(name) <= 64 for name in found.places)


def test_a_dialect_of_openapi_3_0_becomes_json_schema() -> None:
    schema = {
        "type": "object", "required": ["id", "example"], "example": {"id": 1}, "x-go": 1,
        "properties": {
            "id": {"type": "integer", "readOnly": True},
            "example": {"type": "string", "nullable": True, "minLength": "3"},
            "age": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
            "x-note": {"type": "any", "enum": [], "required": True},
        },
    }  # fmt: skip
    body = {"requestBody": {"content": {"application/json; charset=utf-8": {"schema": schema}}}}
    assert read(with_operation(body)).operations[-1].schema["properties"]["body"] == {
        "type": "object", "required": ["example"],
        "properties": {
            "example": {"type": ["string", "null"]}, "age": {"type": "integer", "exclusiveMinimum": 0}, "x-note": {},
        },
    }  # fmt: skip


def test_yaml_means_what_json_would() -> None:
    text = """
openapi: 3.1.0
paths:
  /pets:
    get:
      parameters:
        - {name: on, in: query, schema: {type: string, enum: [yes, no, 12:30, 2024-01-31, ~, true, 7]}}
      responses: {200: {description: ok}}
"""
    choices = read(text).operations[0].schema["properties"]["on"]["enum"]
    assert choices == ["yes", "no", "12:30", "2024-01-31", None, True, 7]


@pytest.mark.parametrize("path", ["/a/../../b", "/a?x=1", "/a#b", "/a b", "/a\\b"])
def test_a_path_that_is_none_is_left_out(path: str) -> None:
    assert "path" in read(with_operation({}, path)).problems[0]


@pytest.mark.parametrize(
    ("servers", "source", "url", "hint"),
    [
        ([{"url": "https://a.example/v1"}], "", "https://a.example/v1", ""),
        ([{"url": "/v2"}], "https://a.example/docs/openapi.json", "https://a.example/v2", ""),
        ([{"url": "../v2"}], "https://a.example/docs/openapi.json", "https://a.example/v2", ""),
        ([{"url": "/v2"}], "", "", "without the host"),
        ([{"url": "https://{region}.a.example"}], "", "", "{region}"),
        (
            [{"url": "https://{region}.a.example", "variables": {"region": {"default": "eu"}}}],
            *("", "https://eu.a.example", "region"),
        ),
        ([{"url": "file:///etc"}, {"url": "https://[::1"}, 5, {}], "", "", "without the host"),
        ([{"url": "https://a.example/" + "x" * 2_000}], "", "", ""),
        (
            # A default is not filled in again: each would double what the one before it made.
            [{"url": "https://{a}.{b}.example", "variables": {"a": {"default": "{b}{b}"}, "b": {"default": "x"}}}],
            *("", "", "{b}{b}.x.example"),
        ),
        (
            [{"url": "https://a.example/{v}{v}", "variables": {"v": {"default": "x" * 900}}}],
            *("", f"https://a.example/{'x' * 1_800}", "with its defaults"),
        ),
        ([{"url": "https://a.example/{v}{v}{v}", "variables": {"v": {"default": "x" * 900}}}], "", "", ""),
        (None, "", "", ""),
    ],
    ids=lambda value: str(value)[:60],
)
def test_where_the_api_is(servers: Any, source: str, url: str, hint: str) -> None:
    found = read_document(json.dumps({**PETS, "servers": servers}), prefix="pets", source_url=source)
    assert found.url == url and hint in found.hint and bool(hint) == bool(found.hint)


def test_a_document_that_names_its_address_at_each_path() -> None:
    item = {"servers": [{"url": "https://lookups.example"}], "get": {}}
    found = read({"openapi": "3.0.1", "paths": {"/a": item, "/b": item}})
    assert found.url == "https://lookups.example" and len(found.operations) == 2


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"swagger": "2.0", "paths": {}}, "Swagger 2"),
        ({"hello": 1}, "no OpenAPI document"),
        ({"openapi": "3.1.0"}, "no paths"),
        ({"openapi": "3.1.0", "paths": {"/x": {"get": 5}}}, "no operation"),
        ("[1]", "not an object"),
        ("{", "neither JSON nor YAML"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("{" * 10_000, "neither JSON nor YAML"),
        ('{"a":' * 10_000, "too deeply"),
        ("[" * 10_000, "too deeply"),
        ("a: !!python/object/apply:os.system [ls]", "neither JSON nor YAML"),
        ("a: !!timestamp 2024-01-31", "neither JSON nor YAML"),
        ('{"openapi": NaN}', "neither JSON nor YAML"),
        ('{"openapi": 1e999}', "neither JSON nor YAML"),
        ("x" * (10 * 1024 * 1024 + 1), "larger than"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_document_is_refused_with_words(document: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read(document)
