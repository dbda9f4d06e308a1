"""Connectors from OpenAPI documents on the hub's pages and over the API."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from connectors.models import ApiDocument
from connectors.openapi.forms import read_numbers, write_numbers
from integrations.models import AuthConfig, McpServer
from tests.aster.api_contract import hold
from tests.conftest import Person, body
from tests.fakes.mcp_servers import serve

pytestmark = pytest.mark.django_db
START, LIST = "/hub/connectors/openapi/", "/api/v1/connectors/openapi"
SECURITY = {"securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Shop-Key"}}}


def pets(*names: str, **more: Any) -> str:
    paths = {
        f"/{name}": {"get": {"operationId": name, "tags": [name]}, "delete": {"summary": f"Delete {name}"}}
        for name in names
    }
    shop = {"openapi": "3.1.0", "info": {"title": "Pet shop"}, "servers": [{"url": "http://127.0.0.1:9/v1"}]}
    return json.dumps({**shop, "paths": paths, **more})


FORM = {"name": "Pet shop", "url": "http://127.0.0.1:9/v1", "sign_in": "header", "header": "X-Shop-Key"}


def give(browser: Client, text: str, at: str = START) -> str:
    """The address of the second step."""
    answer = browser.post(at, {"document": text})
    assert answer.status_code == 302, answer.content.decode()
    return str(answer["location"])


def choose(browser: Client, at: str, *numbers: int) -> str:
    answer = browser.post(at, {"operation": numbers})
    assert answer.status_code == 302
    return str(answer["location"])


def make(person: Person, **form: Any) -> McpServer:
    browser = person.browser()
    last = choose(browser, give(browser, pets("cats", "dogs", components=SECURITY)), 0, 3)
    answer = browser.post(last, {**FORM, "api_key": "s3cret", **form})
    assert answer.status_code == 302, answer.content.decode()
    return McpServer.objects.get()


class TestPages:
    def test_three_steps_lead_to_a_connector(self, alice: Person) -> None:
        browser = alice.browser()
        second = give(browser, pets("cats", "dogs", components=SECURITY))
        page = browser.get(second).content.decode()
        checked = re.findall(r'name="operation" value="(\d+)" checked', page)
        assert checked == ["0", "2"] and "Pet shop has 4 operations" in page
        last = choose(browser, second, 0, 3)
        page = browser.get(last).content.decode()
        assert 'value="pet_shop_delete_dogs"' in page and 'value="pet-shop:delete"' in page
        assert 'value="X-Shop-Key"' in page and 'value="http://127.0.0.1:9/v1"' in page
        form = {**FORM, "api_key": "s3cret", "name-0": "meow", "scopes-0": "cats:see cats:hear"}
        answer = browser.post(last, form, follow=True)
        assert "Pet shop is enabled" in answer.content.decode() and "s3cret" not in answer.content.decode()
        server = McpServer.objects.get()
        assert [tool.name for tool in server.tools.all()] == ["pet_shop_delete_dogs", "pet_shop_meow"]
        assert server.tool_scopes["pet_shop_meow"] == ["cats:hear", "cats:see"]
        assert AuthConfig.objects.get().custom_headers == {"X-Shop-Key": "s3cret"}
        assert "2 tools" in browser.get("/hub/connectors/").content.decode()

    def test_a_file_may_be_larger_than_a_form(self, alice: Person) -> None:
        text = pets("cats", info={"title": "Large", "description": "x" * 3_000_000})
        file = SimpleUploadedFile("openapi.json", b"\xef\xbb\xbf" + text.encode())
        assert alice.browser().post(START, {"file": file}).status_code == 302
        assert ApiDocument.objects.get().title == "Large"

    def test_an_address_is_fetched(self, alice: Person) -> None:
        async def site(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": pets("cats", servers=[{"url": "/v3"}]).encode()})

        with serve(site) as base:
            browser = alice.browser()
            answer = browser.post(START, {"document_url": f"{base}/openapi.json"})
        page = browser.get(choose(browser, answer["location"], 0)).content.decode()
        assert f'value="{base}/v3"' in page

    @pytest.mark.parametrize(
        ("form", "words"),
        [
            ({}, "in one of these ways"),
            ({"document": "{}", "document_url": "https://pets.example/openapi.json"}, "in one of these ways"),
            ({"document": "{}"}, "no OpenAPI document"),
            ({"document": '{"swagger": "2.0"}'}, "Swagger 2"),
            ({"file": SimpleUploadedFile("x", b"\xff\xfe")}, "not text in UTF-8"),
            ({"file": SimpleUploadedFile("x", b"x" * (11 * 1024 * 1024))}, "larger than 10 MB"),
            ({"document_url": "http://10.0.0.1/openapi.json"}, "private address"),
        ],
    )
    def test_what_is_no_document_is_told_of_on_the_page(self, alice: Person, form: Any, words: str) -> None:
        answer = alice.browser().post(START, form)
        assert answer.status_code == 400 and words in answer.content.decode() and not ApiDocument.objects.exists()

    @pytest.mark.parametrize("numbers", [[], range(101), [5000], ["x"]])
    def test_too_few_and_too_many_operations_are_refused(self, alice: Person, numbers: Any) -> None:
        browser = alice.browser()
        second = give(browser, pets(*(f"p{n}" for n in range(60))))
        answer = browser.post(second, {"operation": list(numbers)})
        assert answer.status_code == 400 and "Choose 1 to 100 operations" in answer.content.decode()

    def test_thousands_of_operations_fit_on_the_page(self, alice: Person) -> None:
        browser = alice.browser()
        page = browser.get(give(browser, pets(*(f"p{n}" for n in range(1_000))))).content.decode()
        assert page.count('type="checkbox"') == 2_000 and page.count(" checked") == 30

    @pytest.mark.parametrize(
        ("form", "words"),
        [
            ({"url": "http://10.0.0.1"}, "private address"),
            ({"api_key": ""}, "This is needed"),
            ({"name-0": "same", "name-3": "same"}, "Two operations are called pet_shop_same"),
            ({"scopes-0": "NOT"}, "is not a scope"),
        ],
    )
    def test_a_refusal_keeps_what_was_entered_but_no_secret(self, alice: Person, form: Any, words: str) -> None:
        browser = alice.browser()
        last = choose(browser, give(browser, pets("cats", "dogs")), 0, 3)
        answer = browser.post(last, {**FORM, "name": "My pets", "api_key": "s3cret", **form})
        page = answer.content.decode()
        assert answer.status_code == 400 and words in page and 'value="My pets"' in page and "s3cret" not in page
        assert not McpServer.objects.exists() and not AuthConfig.objects.exists()

    def test_settings_change_and_a_secret_stays_when_left_empty(self, alice: Person) -> None:
        server = make(alice)
        before = server.args
        browser = alice.browser()
        at = f"/hub/connectors/openapi/{server.slug}/"
        page = browser.get(at).content.decode()
        assert "s3cret" not in page and "Replace document" in page
        names = {"name-0": "pet_shop_cats", "scopes-0": "pet-shop:read", "scopes-1": "pet-shop:delete"}
        form = {**FORM, "name": "Animals", "header": "X-Other", **names, "name-1": "pet_shop_delete_dogs"}
        assert browser.post(at, form).status_code == 302
        server.refresh_from_db()
        assert (server.name, server.is_enabled, server.args) == ("Animals", False, before)  # no other operations
        assert AuthConfig.objects.get().custom_headers == {"X-Other": "s3cret"}

    def test_other_operations_are_chosen_and_saved_as_one(self, alice: Person) -> None:
        server = make(alice)
        browser = alice.browser()
        second = f"/hub/connectors/openapi/{server.slug}/{server.args[0]}/"
        assert re.findall(r'value="(\d+)" checked', browser.get(second).content.decode()) == ["0", "3"]
        last = choose(browser, second, 0, 2)
        assert "Not saved yet" in browser.get(last).content.decode()
        assert browser.post(last, {**FORM, "is_enabled": "on"}).status_code == 302
        server.refresh_from_db()
        names = server.tools.filter(gone_at=None).values_list("name", flat=True)
        assert sorted(names) == ["pet_shop_cats", "pet_shop_dogs"]

    def test_a_newer_document_says_what_is_gone(self, alice: Person) -> None:
        server = make(alice)
        browser = alice.browser()
        second = give(browser, pets("cats", "birds"), f"/hub/connectors/openapi/{server.slug}/document/")
        page = browser.get(second).content.decode()
        assert "Gone from the document" in page and "DELETE /dogs" in page
        assert browser.post(choose(browser, second, 0, 2), {**FORM, "is_enabled": "on"}).status_code == 302
        server.refresh_from_db()
        names = server.tools.filter(gone_at=None).values_list("name", flat=True)
        assert sorted(names) == ["pet_shop_birds", "pet_shop_cats"] and ApiDocument.objects.count() == 1

    def test_what_a_document_says_is_text_on_the_page(self, alice: Person) -> None:
        odd = 'x<form action="https://elsewhere.example">'
        servers = [{"url": f"https://api.example/{{{odd}}}", "variables": {odd: {"default": "v1"}}}]
        browser = alice.browser()
        page = browser.get(choose(browser, give(browser, pets("cats", servers=servers)), 0)).content.decode()
        assert "&lt;form" in page and odd not in page

    def test_a_connectors_document_is_no_draft_on_any_page(self, alice: Person) -> None:
        pk = make(alice).args[0]
        browser = alice.browser()
        last = choose(browser, give(browser, pets("birds")), 0)
        browser.post(last, {**FORM, "name": "Birds", "api_key": "s3cret"})
        at = f"/hub/connectors/openapi/{McpServer.objects.get(name='Birds').slug}/{pk}/"
        for path in (f"/hub/connectors/openapi/drafts/{pk}/", at):
            for page in (path, f"{path}settings/?chosen=0"):
                assert browser.post(page, {**FORM, "operation": [0]}).status_code == 404, page
        assert ApiDocument.objects.filter(pk=pk).exists()

    def test_disabling_asks_first(self, alice: Person) -> None:
        server = make(alice)
        browser = alice.browser()
        at = f"/hub/connectors/openapi/{server.slug}/disable/"
        assert "Disable Pet shop?" in browser.get(at).content.decode() and McpServer.objects.exists()
        assert "Pet shop is disabled" in browser.post(at, follow=True).content.decode()
        assert not McpServer.objects.exists() and not ApiDocument.objects.exists()

    def test_members_and_other_organizations_do_not_get_in(self, alice: Person, bob: Person, charlie: Person) -> None:
        server = make(alice)
        draft = give(alice.browser(), pets("cats"))
        at = f"/hub/connectors/openapi/{server.slug}/"
        for path in (START, draft, f"{draft}settings/?chosen=0", at, f"{at}document/", f"{at}disable/"):
            assert bob.browser().get(path).status_code == 403, path
            if path != START:
                assert charlie.browser().get(path).status_code == 404, path
        other = give(charlie.browser(), pets("cats"))
        assert alice.browser().get(f"{at}{other.split('/')[-2]}/").status_code == 404


class TestApi:
    def test_a_document_is_looked_at_without_storing_anything(self, alice: Person) -> None:
        answer = alice.api().post(f"{LIST}/preview", {"document": pets("cats", components=SECURITY)}, format="json")
        hold(answer)
        found = body(answer)
        assert (found["title"], found["sign_in"], found["header"]) == ("Pet shop", "header", "X-Shop-Key")
        listed = [(each["key"], each["name"], each["scopes"], each["is_chosen"]) for each in found["operations"]]
        assert listed == [
            ("GET /cats", "pet_shop_cats", ["pet-shop:read"], True),
            ("DELETE /cats", "pet_shop_delete_cats", ["pet-shop:delete"], False),
        ]
        assert not ApiDocument.objects.exists()

    def test_a_script_makes_changes_and_disables(self, alice: Person) -> None:
        api = alice.api()
        sent = {"document": pets("cats", "dogs"), "sign_in": "api_key", "api_key": "s3cret",
                "operations": [{"key": "GET /cats", "name": "meow", "scopes": []}]}  # fmt: skip
        made = api.post(LIST, sent, format="json")
        hold(made)
        assert made.status_code == 201 and "s3cret" not in made.content.decode() and body(made)["has_secret"]
        assert body(made)["operations"] == [{"key": "GET /cats", "name": "pet_shop_meow", "scopes": []}]
        at = f"{LIST}/{body(made)['slug']}"
        changed = api.patch(at, {"operations": [{"key": "GET /cats"}, {"key": "GET /dogs"}]}, format="json")
        hold(changed)
        assert body(changed)["tools"] == ["pet_shop_meow", "pet_shop_dogs"]
        newer = api.patch(at, {"document": pets("dogs")}, format="json")
        assert body(newer)["tools"] == ["pet_shop_dogs"] and body(api.get(at)) == body(newer)
        listed = api.get(LIST)
        hold(listed)
        assert [each["slug"] for each in body(listed)["results"]] == ["pet-shop"]
        gone = api.delete(at)
        hold(gone)
        assert body(gone) == {"revoked": 0, "not_revoked": []} and api.get(at).status_code == 404
        assert not ApiDocument.objects.exists() and not AuthConfig.objects.exists()

    def test_a_document_may_be_larger_than_other_bodies(self, alice: Person) -> None:
        sent = {"document": pets("cats", info={"title": "Large", "description": "x" * 5_000_000})}
        assert alice.api().post(f"{LIST}/preview", sent, format="json").status_code == 200
        sent = {"document": "x" * (13 * 1024 * 1024)}
        answer = alice.api().post(f"{LIST}/preview", sent, format="json")
        assert answer.status_code == 413, answer.content[:300]

    @pytest.mark.parametrize(
        ("sent", "status", "field"),
        [
            ({}, 400, "document"),
            ({"document": "{}", "document_url": "https://x.example"}, 400, "document"),
            ({"document": "[]"}, 400, "document"),
            ({"document": pets("cats"), "nonsense": 1}, 400, "nonsense"),
            ({"document": pets("cats"), "operations": [{"key": "GET /dogs"}]}, 400, "operations"),
            ({"document": pets("cats"), "operations": [{"name": "x"}]}, 400, "operations"),
            ({"document": pets("cats"), "sign_in": "oauth"}, 400, "client_id"),
            ({"document": pets("cats"), "sign_in": "magic"}, 400, "sign_in"),
            ({"document": pets("cats"), "api_key": "s3cret"}, 400, "api_key"),
            ({"document": pets("cats"), "url": "http://10.0.0.1"}, 422, "url"),
            ({"document": pets("cats"), "url": "http://[bad"}, 400, "url"),
            ({"document_url": "http://10.0.0.1/openapi.json"}, 422, "document_url"),
            ({"document_url": "http://127.0.0.1:9/openapi.json"}, 502, "document_url"),
        ],
    )
    def test_bad_input_names_the_field_and_stores_nothing(
        self, alice: Person, sent: dict[str, Any], status: int, field: str
    ) -> None:
        answer = alice.api().post(LIST, sent, format="json")
        hold(answer)
        assert answer.status_code == status and any(name.startswith(field) for name in body(answer)["fields"])
        assert "s3cret" not in answer.content.decode()
        assert not any(model.objects.exists() for model in (McpServer, AuthConfig, ApiDocument))  # type: ignore[attr-defined]

    def test_members_and_others(self, alice: Person, bob: Person, charlie: Person) -> None:
        at = f"{LIST}/{make(alice).slug}"
        sent = {"document": pets("cats")}
        assert bob.api().get(LIST).status_code == bob.api().post(LIST, sent, format="json").status_code == 403
        assert bob.api().post(f"{LIST}/preview", sent, format="json").status_code == 403
        for method in ("get", "patch", "delete"):
            assert getattr(bob.api(), method)(at).status_code == 403
            assert getattr(charlie.api(), method)(at).status_code == 404
            assert getattr(alice.api(), method)(f"{LIST}/unknown").status_code == 404
        assert alice.api("aster:read").delete(at).status_code == 403


@pytest.mark.parametrize("numbers", [[], [0], [0, 1, 2, 7], [3, 5, 6]])
def test_numbers_in_an_address_come_back(numbers: list[int]) -> None:
    assert read_numbers(write_numbers(numbers), 8) == numbers


@pytest.mark.parametrize("text", ["x", "-", "1-", "-1", "9-999999999", "5-2", "²", "0x1"])
def test_an_address_that_says_nothing_chooses_nothing(text: str) -> None:
    assert read_numbers(text, 1) == []


def test_the_servers_own_pages_leave_its_document_alone(alice: Person) -> None:
    server = make(alice)
    at = f"/api/v1/config/mcp-server/{server.slug}"
    assert alice.api().patch(at, {"description": "Cats and dogs"}, format="json").status_code == 200
    changed = McpServer.objects.get()
    assert changed.description == "Cats and dogs" and changed.args == server.args and changed.command == "openapi"
