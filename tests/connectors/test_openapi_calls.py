"""Operations of OpenAPI documents as requests: where each argument goes, and how an answer is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from aster.errors import UpstreamError
from connectors.openapi.calls import Unfit, call_operation, check_arguments, check_in_time, read_problem, show_answer
from connectors.openapi.document import Operation, read_document
from connectors.rest import Rest
from integrations.mcp_client import AuthChallenge
from tests.fakes.mcp_servers import serve
from tests.fakes.rest_providers import TOKEN, Asked, RestProvider, Said

STYLES = [
    {"name": "repeated", "in": "query", "schema": {"type": "array", "items": {"type": "boolean"}}},
    {"name": "commas", "in": "query", "explode": False, "schema": {"type": "array"}},
    {"name": "pipes", "in": "query", "style": "pipeDelimited", "explode": False, "schema": {"type": "array"}},
    {"name": "deep", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
    {"name": "fields", "in": "query", "schema": {"type": "object"}},
    {"name": "filter[name]", "in": "query", "schema": {"type": "string"}},
    {"name": "as_json", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}},
    {"name": "X-Trace", "in": "header", "schema": {"type": "string", "maxLength": 20}},
    {"name": "X-Key", "in": "header"},
    {"name": "Authorization", "in": "header"},
]


def body(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


NAMED = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.3",
    "paths": {
        "/pets": {
            "get": {"operationId": "list", "parameters": STYLES},
            "post": {"operationId": "make", **body("application/vnd.pets+json", NAMED)},
            "put": {"operationId": "enter", **body("application/x-www-form-urlencoded", {"type": "object"})},
        },
        "/pets/{id}/toys/{toy}": {
            "parameters": [
                {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "(a+)+$"}},
                {"name": "toy", "in": "path", "required": True, "schema": {"enum": ["ball", "bone"]}},
            ],
            "get": {"operationId": "toy"},
        },
    },
}
OPERATIONS = {each.name: each for each in read_document(json.dumps(DOCUMENT), prefix="p").operations}


class Desk:
    def __init__(self, api: RestProvider, url: str) -> None:
        self.api = api
        self.rest = Rest("Pets", url, token=self._token, credentials={"X-Key": "s3cret"}, problem=read_problem)

    async def _token(self, rejected: str | None) -> str:
        return TOKEN

    def call(self, name: str, **arguments: Any) -> Asked:
        self.result = show_answer(asyncio.run(call_operation(self.rest, OPERATIONS[f"p_{name}"], arguments)))
        return self.api.asked[-1]

    def told(self, said: Said) -> Any:
        self.api.next_answers = [said]
        self.call("list")
        return self.result


@pytest.fixture
def desk() -> Iterator[Desk]:
    api = RestProvider(lambda asked: Said({"ok": True}), Said({}, 401))
    with serve(api) as base:
        yield Desk(api, f"{base}/v1")


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ({"repeated": [True, False]}, "repeated=true&repeated=false"),
        ({"commas": ["a", 1]}, "commas=a%2C1"),
        ({"pipes": ["a", "b"]}, "pipes=a%7Cb"),
        ({"deep": {"age": 3, "tags": ["x", "y"]}}, "deep%5Bage%5D=3&deep%5Btags%5D=x&deep%5Btags%5D=y"),
        ({"fields": {"a": 1, "b": "c d"}}, "a=1&b=c+d"),
        ({"filter_name": "Rex & co"}, "filter%5Bname%5D=Rex+%26+co"),
        ({"as_json": {"a": [1]}}, "as_json=%7B%22a%22%3A+%5B1%5D%7D"),
        ({"repeated": []}, ""),
        ({"repeated": None}, ""),
    ],
)
def test_what_goes_into_a_query_is_written_as_the_document_says(
    desk: Desk, arguments: dict[str, Any], query: str
) -> None:
    assert desk.call("list", **arguments).query.replace("%20", "+") == query


def test_nobody_chooses_what_aster_signs_in_with(desk: Desk) -> None:
    asked = desk.call("list", **{"X-Key": "mine", "X-Trace": "t1"})
    assert (asked.headers["x-key"], asked.headers["x-trace"]) == ("s3cret", "t1")
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert "Authorization" not in OPERATIONS["p_list"].schema["properties"]


def test_bodies_have_the_type_that_the_document_names(desk: Desk) -> None:
    asked = desk.call("make", body={"name": "Rex", "tags": ["ä"]})
    assert asked.body == {"name": "Rex", "tags": ["ä"]}
    assert asked.headers["content-type"] == "application/vnd.pets+json"
    asked = desk.call("enter", body={"name": "R&x", "tags": ["a", "b"], "owner": {"id": 1}, "none": None})
    assert asked.body == {"name": ["R&x"], "tags": ["a", "b"], "owner[id]": ["1"]}


def test_a_value_stays_in_its_part_of_the_path(desk: Desk) -> None:
    assert desk.call("toy", id="a/b?c=1#d%2e", toy="ball").path == "/v1/pets/a%2Fb%3Fc%3D1%23d%252e/toys/ball"


@pytest.mark.parametrize("value", ["..", ".", "", "../users", "a/../b", "a\\..\\b", "..%2f"[:2] + "/x"])
def test_a_value_that_leads_elsewhere_is_not_sent(desk: Desk, value: str) -> None:
    with pytest.raises(Unfit, match="id"):
        desk.call("toy", id=value, toy="ball")
    assert not desk.api.asked


def test_a_pattern_that_takes_for_ever_is_left_to_the_api(desk: Desk) -> None:
    assert desk.call("toy", id="a" * 40 + "!", toy="bone").path.startswith("/v1/pets/aaa")


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("toy", {"id": "1"}, "toy: is missing"),
        ("toy", {"id": "1", "toy": "s3cret"}, 'toy: must be one of "ball", "bone"'),
        ("toy", {"id": 1, "toy": "ball"}, "id: must be string"),
        ("make", {"body": {"name": 5}}, "body.name: must be string"),
        ("make", {"body": {}}, "body.name: is missing"),
        ("make", {}, "body: is missing"),
        ("list", {"repeated": "s3cret"}, "repeated: must be array"),
        ("list", {"X-Trace": "s3cret" * 9}, "X-Trace: is too long, characters at most 20"),
        ("list", {"X-Trace": "a\r\nX-Other: s3cret"}, "X-Trace: has characters that a header cannot carry"),
        ("list", {"filter_name": "s3cret\ud800"}, "characters that cannot be sent"),
        ("list", {"nonsense": "s3cret"}, "nonsense: there is no such argument"),
    ],
)
def test_an_argument_that_does_not_fit_is_named_and_not_repeated(
    desk: Desk, name: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(Unfit) as caught:
        desk.call(name, **arguments)
    assert words in str(caught.value) and "s3cret" not in str(caught.value) and not desk.api.asked


# A schema against which each item takes long, and none is wrong.
BRANCHES = [{"required": [f"p{n}"], "properties": {f"p{n}": {"type": "string"} for n in range(50)}} for n in range(40)]
HEAVY = {"type": "array", "items": {"anyOf": BRANCHES}}


def taking(schema: dict[str, Any]) -> Operation:
    paths = {"/a": {"post": body("application/json", schema)}}
    return read_document(json.dumps({"openapi": "3.0.3", "paths": paths}), prefix="p").operations[0]


class Counted(list[Any]):
    asked = 0

    def __getitem__(self, at: Any) -> Any:
        self.asked += 1
        return super().__getitem__(at)


def test_after_the_first_errors_nothing_more_is_checked() -> None:
    items = Counted([1] * 1_000)
    with pytest.raises(Unfit, match=r"body\.4: must be string") as caught:
        check_arguments(taking({"type": "array", "items": {"type": "string"}}), {"body": items})
    assert 0 < items.asked < 10 and str(caught.value).count("must be") == 5


@pytest.mark.parametrize("count", [120, 300], ids=["tiny", "larger"])
def test_while_arguments_are_checked_other_calls_go_on(count: int) -> None:
    turns = 0

    async def run() -> None:
        checking = asyncio.create_task(check_in_time(taking(HEAVY), {"body": [{"p39": "x"}] * count}, 30.0))
        while not checking.done():
            nonlocal turns
            turns += 1
            await asyncio.sleep(0)
        await checking

    asyncio.run(run())
    assert turns > 5


@pytest.mark.parametrize("count", [120, 6_000], ids=["tiny", "larger"])
def test_what_takes_longer_than_a_call_may_is_not_checked_to_its_end(count: int) -> None:
    items = Counted([{"p39": "x"}] * count)
    with pytest.raises(Unfit, match="too long to check"):
        asyncio.run(check_in_time(taking(HEAVY), {"body": items}, 0.0))
    assert items.asked < count


def test_more_than_can_be_sent_is_refused_before_it_is_looked_at() -> None:
    items = Counted(["x" * 100] * 1_500)
    with pytest.raises(Unfit, match=r"They have 15\d kB as JSON; 100 kB can be sent"):
        asyncio.run(check_in_time(taking({"type": "array"}), {"body": items}, 30.0))
    assert not items.asked


@pytest.mark.parametrize("digits", [400, 5_000])
def test_a_number_that_nobody_can_reckon_with_is_refused(digits: int) -> None:
    half = taking({"type": "number", "multipleOf": 0.5})
    with pytest.raises(Unfit, match="too large a number"):
        asyncio.run(check_in_time(half, {"body": 10**digits}, 30.0))


@pytest.mark.parametrize(
    ("said", "structured"),
    [
        (Said({"name": "Rex"}), {"name": "Rex"}),
        (Said([1, 2]), {"result": [1, 2]}),
        (Said(b"null"), {"result": None}),
        (Said(b"name,age\nRex,3\n", headers={"content-type": "text/csv"}), {"result": "name,age\nRex,3\n"}),
        (Said(b"", 204), {"status": 204}),
    ],
)
def test_an_answer_is_what_the_api_says(desk: Desk, said: Said, structured: dict[str, Any]) -> None:
    result = desk.told(said)
    assert result.structured_content == structured and not result.is_error


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Said(b"\xff\xd8\xff", headers={"content-type": "image/jpeg"}), "no text: image/jpeg, 3 bytes"),
        (Said({"x": "y" * 500_000}), "500 kB"),
    ],
)
def test_what_cannot_be_shown_is_told_of(desk: Desk, said: Said, words: str) -> None:
    result = desk.told(said)
    assert result.is_error and words in result.content[0].text


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Said({"type": "about:blank", "title": "No", "detail": "Pet 7 is asleep."}, 409), "Pet 7 is asleep."),
        (Said({"errors": [{"message": "Too young"}]}, 422), "Too young"),
        (Said({"error": {"code": 1, "message": "Bad"}}, 400), "Bad"),
        (Said(b"<html>", 404), "status 404"),
        (Said({"error": [[[[[[{}]]]]]]}, 400), "status 400"),
        (Said({}, 302, {"location": "https://elsewhere.example"}), "redirect"),
        (Said({"message": "down"}, 503), "has a problem: down"),
    ],
)
def test_a_refusal_is_told_in_the_apis_own_words(desk: Desk, said: Said, words: str) -> None:
    with pytest.raises(UpstreamError, match="Pets") as caught:
        desk.told(said)
    assert words in caught.value.message


def test_a_scope_that_is_missing_is_asked_for(desk: Desk) -> None:
    wants = {"www-authenticate": 'Bearer error="insufficient_scope", scope="pets:read pets:write"'}
    with pytest.raises(AuthChallenge) as caught:
        desk.told(Said({"message": "no"}, 403, wants))
    assert 'scope="pets:read pets:write"' in caught.value.www_authenticate[0]


def test_an_operation_comes_back_from_storage_as_it_was() -> None:
    for each in OPERATIONS.values():
        assert Operation.from_json(json.loads(json.dumps(each.as_json()))) == each
