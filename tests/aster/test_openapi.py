"""The OpenAPI document and its page: complete, honest, and working under the content security policy."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from rest_framework.serializers import Serializer

from agents.api_changes_docs import AcceptChangeIn
from agents.api_schedules import ScheduleIn
from agents.api_tickets_docs import TicketIn
from agents.serializers import AgentIn, LlmConfigIn, MessageIn
from aster.accounts.api_bodies import ApiKeyIn, MemberIn, OrganizationIn, RoleIn
from aster.urls import api_v1
from connectors.api_docs import ConnectorIn
from connectors.openapi.api_docs import ApiConnectorIn, DocumentIn
from integrations.registry_bodies import AddEntryIn
from integrations.serializers import AuthConfigIn, BeginIn, CallIn, DiscoverIn, FixIn, ServerIn, ServerTestIn
from tests.aster.api_contract import document, validate

BODIES: dict[str, type[Serializer[Any]]] = {
    body.__name__: body
    for body in (
        *(AddEntryIn, AgentIn, LlmConfigIn, ApiKeyIn, MemberIn, OrganizationIn, RoleIn, AuthConfigIn, BeginIn, CallIn),
        *(DiscoverIn, FixIn, MessageIn, ScheduleIn, ServerIn, ServerTestIn, AcceptChangeIn, TicketIn),
        *(ConnectorIn, ApiConnectorIn, DocumentIn),
    )
}
OPERATIONS = [
    pytest.param(method, path, described, id=described["operationId"])
    for path, methods in document()["paths"].items()
    for method, described in methods.items()
]


def test_the_document_is_valid_and_without_warnings() -> None:
    out = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", stdout=out)
    made = json.loads(out.getvalue())
    assert made["openapi"].startswith("3.1")


def test_it_tells_where_the_api_is_and_how_to_sign_in(settings: Any) -> None:
    made = document()
    assert [server["url"] for server in made["servers"]] == [settings.ASTER_PUBLIC_URL]
    schemes = made["components"]["securitySchemes"]
    assert schemes["bearerKey"]["scheme"] == "bearer"
    assert (schemes["headerKey"]["in"], schemes["headerKey"]["name"]) == ("header", "X-API-Key")
    assert (schemes["sessionCookie"]["in"], schemes["sessionCookie"]["name"]) == (
        "cookie",
        settings.SESSION_COOKIE_NAME,
    )


def test_every_address_is_in_it_and_every_operation_has_a_name_of_its_own() -> None:
    paths = document()["paths"]
    assert len(paths) == len(api_v1)
    names = [described["operationId"] for methods in paths.values() for described in methods.values()]
    assert len(names) == len(set(names)) and all(name.islower() and name.isidentifier() for name in names)


@pytest.mark.parametrize(("method", "path", "described"), OPERATIONS)
def test_every_operation_is_explained_with_examples(method: str, path: str, described: dict[str, Any]) -> None:
    assert described["summary"] and described["tags"]
    by_ticket = described["tags"] == ["Embedded pages"]
    keys_and_cookies = [{"bearerKey": []}, {"headerKey": []}, {"sessionCookie": []}]
    assert described["security"] == ([{"sessionTicket": []}] if by_ticket else keys_and_cookies)
    assert {"401", "403"} <= described["responses"].keys()
    assert "404" in described["responses"] or "{" not in path
    for parameter in described.get("parameters", []):
        assert parameter["description"], parameter["name"]
    sent = described.get("requestBody", {}).get("content", {}).get("application/json")
    assert sent is None or sent["examples"]
    for status, answer in described["responses"].items():
        content = answer.get("content", {}).get("application/json")
        assert (content is None) == (status == "204")
        assert content is None or content["examples"], status


@pytest.mark.parametrize(("method", "path", "described"), OPERATIONS)
def test_the_examples_are_true_to_their_shapes(method: str, path: str, described: dict[str, Any]) -> None:
    sent = described.get("requestBody", {}).get("content", {}).get("application/json")
    if sent:
        body = BODIES[sent["schema"]["$ref"].rsplit("/", 1)[1].removeprefix("Patched")]
        for example in sent["examples"].values():
            checked = body(data=example["value"], partial=method == "patch")
            assert checked.is_valid(), checked.errors
    for answer in described["responses"].values():
        if content := answer.get("content", {}).get("application/json"):
            for example in content["examples"].values():
                validate(content["schema"], example["value"])


@pytest.mark.django_db
def test_the_document_and_its_page_are_public_and_keep_the_policy(client: Client) -> None:
    assert client.get("/api/openapi.json").status_code == 200
    page = client.get("/api/docs/")
    assert page.status_code == 200
    assert "unsafe" not in page["Content-Security-Policy"]
    assert b"<script>" not in page.content and b"style=" not in page.content
