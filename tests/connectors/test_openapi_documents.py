"""OpenAPI documents (public ones, some in their shape, and Aster's own): each is read, proposed, and called once."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from connectors.openapi.calls import call_operation, read_problem, show_answer
from connectors.openapi.document import Document, Operation, read_document
from connectors.openapi.documents import propose_operations, propose_scope
from connectors.openapi.sign_in import SignIn, propose_sign_in
from connectors.rest import Rest
from tests.aster.api_contract import document as own_document
from tests.fakes.mcp_servers import serve
from tests.fakes.rest_providers import Asked, RestProvider, Said

DATA = Path(__file__).parents[1] / "data" / "openapi"


def read(name: str) -> Document:
    found = read_document((DATA / f"{name}.yaml").read_text(), prefix=name)
    assert not found.problems
    return found


def named(document: Document, name: str) -> Operation:
    return next(each for each in document.operations if each.name == name)


def call(operation: Operation, said: Any, **arguments: Any) -> tuple[Asked, dict[str, Any]]:
    api = RestProvider(lambda asked: Said(said), Said({}, 401))
    api.tokens = {""}

    async def ask() -> Any:
        return await call_operation(Rest("The API", base, problem=read_problem), operation, arguments)

    with serve(api) as base:
        result = show_answer(asyncio.run(ask()))
    assert not result.is_error and result.structured_content is not None
    return api.asked[-1], result.structured_content


def test_tic_tac_toe() -> None:
    document = read("tictactoe")
    assert [(each.name, propose_scope("game", each)) for each in document.operations] == [
        ("tictactoe_get_board", "game:read"),
        ("tictactoe_get_square", "game:read"),
        ("tictactoe_put_square", "game:write"),
    ]
    assert (document.url, [each.name for each in propose_operations(document.operations)]) == (
        *("", ["tictactoe_get_board", "tictactoe_get_square"]),
    )
    assert propose_sign_in(document.raw) == SignIn("header", header="api-key")
    asked, said = call(named(document, "tictactoe_put_square"), "X", row=2, column=3, body="X")
    assert (asked.method, asked.path, asked.body, said) == ("PUT", "/board/2/3", "X", {"result": "X"})


def test_data_sets() -> None:
    document = read("datasets")
    assert document.url == "https://datasets.example/ds-api" and "scheme" in document.hint
    assert propose_sign_in(document.raw) == SignIn()
    asked, _ = call(named(document, "datasets_list_data_sets"), {"total": 0})
    assert asked.path == "/"
    given = {"dataset": "citations", "version": "v1", "body": {"criteria": "title:[a TO b]", "rows": 5}}
    asked, said = call(named(document, "datasets_perform_search"), [{"id": 1}], **given)
    assert (asked.path, said) == ("/citations/v1/records", {"result": [{"id": 1}]})
    assert asked.body == {"criteria": ["title:[a TO b]"], "rows": ["5"]}


def test_lookups() -> None:
    document = read("lookups")
    assert document.url == "https://lookups.phone.example" and propose_sign_in(document.raw) == SignIn("basic")
    given = {"PhoneNumber": "+15108675310", "Type": ["carrier", "caller-name"]}
    asked, said = call(named(document, "lookups_fetch_phone_number"), {"country_code": "US"}, **given)
    assert asked.path == "/v1/PhoneNumbers/%2B15108675310" and asked.query == "Type=carrier&Type=caller-name"
    assert said == {"country_code": "US"}


PUBLIC = {
    "figma.yaml": (54, "https://api.figma.com", SignIn("header", header="X-Figma-Token"), 30),
    "readme.json": (54, "https://api.readme.com/v2", SignIn("api_key"), 23),
    "stapi.json": (120, "http://stapi.co/api/v1/rest", SignIn(), 30),
}


def public(name: str) -> Document:
    return read_document(gzip.decompress((DATA / "public" / f"{name}.gz").read_bytes()).decode(), prefix=name[:5])


@pytest.mark.parametrize("name", PUBLIC)
def test_public_documents_are_read_whole_and_proposed(name: str) -> None:
    document = public(name)
    total, url, sign_in, chosen = PUBLIC[name]
    assert (len(document.operations), document.problems, document.url) == (total, (), url)
    assert propose_sign_in(document.raw) == sign_in
    assert len({each.name for each in document.operations if len(each.name) <= 60}) == total
    proposed = propose_operations(document.operations)
    assert len(proposed) == chosen and {propose_scope("it", each) for each in proposed} == {"it:read"}
    for each in document.operations:
        Draft202012Validator.check_schema(each.schema)
        assert '"$ref": "#' not in json.dumps(each.schema)


@pytest.mark.parametrize(
    ("name", "tool", "arguments", "path", "query", "sent"),
    [
        ("figma.yaml", "figma_get_file_nodes", {"file_key": "aB3", "ids": "1:5,1:6", "depth": 2},
         "/v1/files/aB3/nodes", "ids=1%3A5%2C1%3A6&depth=2", {}),
        ("figma.yaml", "figma_post_comment", {"file_key": "aB3", "body": {"message": "Nice"}},
         "/v1/files/aB3/comments", "", {"message": "Nice"}),
        ("readme.json", "readm_get_changelogs", {"page": 2, "visibility": "public"},
         "/changelogs", "page=2&visibility=public", {}),
        ("stapi.json", "stapi_get_animal_search", {"pageNumber": 0, "pageSize": 10},
         "/animal/search", "pageNumber=0&pageSize=10", {}),
    ],
)  # fmt: skip
def test_operations_of_public_documents_are_called_as_they_say(
    name: str, tool: str, arguments: dict[str, Any], path: str, query: str, sent: dict[str, Any]
) -> None:
    asked, said = call(named(public(name), tool), {"ok": 1}, **arguments)
    assert (asked.path, asked.query, asked.body, said) == (path, query, sent, {"ok": 1})


def test_our_own() -> None:
    document = read_document(json.dumps(own_document()), prefix="aster")
    assert not document.problems and len(document.operations) > 80
    assert propose_sign_in(document.raw).kind in ("api_key", "header")
    asked, _ = call(named(document, "aster_get_server"), {"slug": "notes"}, key="notes")
    assert (asked.method, asked.path) == ("GET", "/api/v1/config/mcp-server/notes")


@pytest.mark.parametrize(
    ("scheme", "kind", "words"),
    [
        ({"type": "http", "scheme": "bearer"}, "api_key", ""),
        ({"type": "apiKey", "in": "header", "name": "Authorization"}, "api_key", ""),
        ({"type": "apiKey", "in": "query", "name": "api_key"}, "none", "?api_key="),
        ({"type": "apiKey", "in": "cookie", "name": "sid"}, "none", "cookie"),
        ({"type": "oauth2", "flows": {"implicit": {}}}, "none", "authorization code"),
        ({"type": "openIdConnect"}, "oauth", "OpenID Connect"),
        ({"$ref": "#/nowhere"}, "none", ""),
        (5, "none", ""),
    ],
)
def test_how_a_document_says_one_signs_in(scheme: Any, kind: str, words: str) -> None:
    found = propose_sign_in({"components": {"securitySchemes": {"it": scheme}}})
    assert found.kind == kind and words in found.words and bool(words) == bool(found.words)


def test_a_sign_in_for_people_has_its_addresses_and_scopes() -> None:
    flow = {"authorizationUrl": "/auth", "tokenUrl": "https://a.example/token", "scopes": {"pets": "All", "a b": "no"}}
    scheme = {"type": "oauth2", "flows": {"authorizationCode": flow}}
    raw = {"components": {"securitySchemes": {"key": {"type": "apiKey", "in": "query", "name": "k"}, "it": scheme}}}
    found = propose_sign_in(raw, "https://a.example/openapi.json")
    assert (found.kind, found.authorization_url, found.token_url, found.scopes) == (
        *("oauth", "https://a.example/auth", "https://a.example/token", {"pets": "All"}),
    )
    raw["security"] = [{"nowhere": []}, {"it": []}]  # type: ignore[assignment]
    assert propose_sign_in(raw).kind == "oauth"
