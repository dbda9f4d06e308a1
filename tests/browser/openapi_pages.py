"""The pages about connectors from OpenAPI documents, step by step."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

from tests.browser.installation import Installation

FLOW = {"authorizationUrl": "https://pets.example/authorize", "tokenUrl": "https://pets.example/token"}


def pet_shop(*tags: str) -> str:
    paths: dict[str, Any] = {}
    for tag in tags:
        words = f"{tag} with everything that belongs to them, and all who ever had to do with one"
        one = {"parameters": [{"name": "id", "in": "path", "required": True}]}
        paths[f"/{tag}"] = {"get": {"tags": [tag], "summary": words}, "post": {"tags": [tag], "summary": "Make one"}}
        paths[f"/{tag}/of/a/very/long/path/{{id}}"] = {**one, "delete": {"tags": [tag], "summary": "Delete one"}}
    paths["/photos"] = {"post": {"requestBody": {"required": True, "content": {"multipart/form-data": {}}}}}
    security = {"it": {"type": "oauth2", "flows": {"authorizationCode": {**FLOW, "scopes": {"pets": "Pets"}}}}}
    servers = [{"url": "http://127.0.0.1:9/v1"}]
    return json.dumps({
        "openapi": "3.1.0", "info": {"title": "Pet shop"}, "servers": servers, "paths": paths,
        "components": {"securitySchemes": security},
    })  # fmt: skip


def fill_api_connector(running: Installation) -> None:
    sent = {"document": pet_shop("cats", "dogs"), "sign_in": "api_key", "api_key": "not-a-real-key", "name": "Pets"}
    running.api("POST", "connectors/openapi", sent)


def document_refused(page: Page) -> None:
    page.goto(_at(page, "/hub/connectors/openapi/"))
    page.get_by_label("Text").fill("{}")
    page.get_by_role("button", name="Show its operations").click()
    expect(page.get_by_role("alert")).to_be_visible()


def operations_shown(page: Page) -> None:
    page.goto(_at(page, "/hub/connectors/openapi/"))
    page.get_by_label("Text").fill(pet_shop("cats", "dogs", "birds"))
    page.get_by_role("button", name="Show its operations").click()
    expect(page.get_by_text("3 of 9 chosen")).to_be_visible()


def operations_filtered(page: Page) -> None:
    operations_shown(page)
    page.get_by_label("Search operations").fill("birds path")
    page.get_by_role("button", name="Check shown", exact=True).click()
    expect(page.get_by_text("4 of 9 chosen, 1 shown")).to_be_visible()


def operations_named(page: Page) -> None:
    operations_shown(page)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("button", name="Enable")).to_be_visible()


def operations_replaced(page: Page) -> None:
    page.goto(_at(page, "/hub/connectors/openapi/pets/document/"))
    page.get_by_label("Text").fill(pet_shop("cats", "birds"))
    page.get_by_role("button", name="Show its operations").click()
    expect(page.get_by_text("Gone from the document")).to_be_visible()


def operations_unsaved(page: Page) -> None:
    operations_replaced(page)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Not saved yet")).to_be_visible()


API_CONNECTOR_ACTS = {
    "connector-document-refused": document_refused,
    "connector-operations": operations_shown,
    "connector-operations-filtered": operations_filtered,
    "connector-operations-named": operations_named,
    "connector-operations-replaced": operations_replaced,
    "connector-operations-unsaved": operations_unsaved,
}


def _at(page: Page, path: str) -> str:
    parts = urlsplit(page.url)
    return f"{parts.scheme}://{parts.netloc}{path}"
