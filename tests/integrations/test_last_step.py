"""The last step of a sign-in and the end of a connection: what providers do wrong there leaves nothing half done."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import JSONResponse, Response

from aster.accounts.models import AuditEvent
from aster.errors import UpstreamError
from integrations.models import AuthConfig, ClientRegistration, Connection, McpServer, RefreshAttempt
from integrations.services import grants
from integrations.services.connections import complete_connection
from integrations.services.disconnection import disconnect
from tests.aster.api_contract import api
from tests.conftest import Person
from tests.fakes.provider import BROKEN_TOKEN_ANSWERS, Site
from tests.integrations.grants import Crew, crew
from tests.integrations.hub import auth_of
from tests.integrations.sign_in import add_server, allow, begin, sign_in, why_not
from tests.walks.conftest import callback_params, consent

__all__ = ["crew"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(place: Site, alice: Person) -> McpServer:
    return add_server(place, alice)


# --- Codes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(BROKEN_TOKEN_ANSWERS) - {"drip"}))
def test_a_broken_answer_to_a_code_stores_nothing_and_the_next_try_works(
    place: Site, server: McpServer, alice: Person, kind: str
) -> None:
    params = allow(server, alice)
    place.provider.break_token(kind)
    problem = why_not(complete_connection, params, actor=alice.actor)
    assert isinstance(problem, UpstreamError) and problem.step == "token"
    assert "secret-of-the-provider" not in problem.message and "at-broken" not in problem.message
    assert not Connection.objects.exists() and not RefreshAttempt.objects.exists()
    assert not AuditEvent.objects.filter(action="connected").exists()
    assert sign_in(server, alice).status == "connected"


def test_an_answer_to_a_code_that_drips_is_given_up(
    place: Site, server: McpServer, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "TOKEN_REQUEST_SECONDS", 0.3)
    params = allow(server, alice)
    place.provider.break_token("drip")
    assert why_not(complete_connection, params, actor=alice.actor).retryable
    assert not Connection.objects.exists()


def test_a_token_without_an_end_or_a_refresh_token_is_a_connection_too(
    place: Site, server: McpServer, alice: Person
) -> None:
    params = allow(server, alice)
    place.provider.fail_next_token(200, {"access_token": "at-plain", "token_type": "bearer"})
    connection = complete_connection(params, actor=alice.actor)
    assert (connection.expires_at, connection.refresh_at, connection.refresh_token) == (None, None, "")
    assert connection.scopes == ["read"], "what was asked for, since the answer names none (RFC 6749 §5.1)"


# --- A move that a call notices ---------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_server_that_moved_is_noticed_by_a_call_and_healed_by_connecting_again(
    place: Site, elsewhere: Site, alice: Person
) -> None:
    server = add_server(place, alice)
    sign_in(server, alice)
    client, call = api(alice), {"name": "echo", "arguments": {"text": "hello"}}
    url = f"/api/v1/config/mcp-server/{server.slug}/tools/call"
    assert client.post(url, call).status_code == 200
    place.mcp.move_to(elsewhere.provider)
    refused = client.post(url, call)
    assert (refused.status_code, refused.json()["code"]) == (409, "connection_required")
    assert Connection.objects.get().status == "connection_error"
    link = refused.json()["authorization_url"]
    assert link.startswith(elsewhere.origin), "the very first link leads to the new provider"
    complete_connection(callback_params(consent(link)), actor=alice.actor)
    assert client.post(url, call).status_code == 200
    assert all("refresh_token" not in form for form in elsewhere.provider.forms)


# --- At once ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_people_who_click_connect_at_once_share_one_registered_client(
    place: Site, alice: Person, bob: Person, crew: Crew
) -> None:
    server = add_server(place, alice)
    place.provider.registrations_meet = asyncio.Barrier(2)
    waits = [crew.start(begin, server, person) for person in (alice, bob)]
    urls = [wait() for wait in waits]
    assert place.asked().count("/register") == 2
    made = ClientRegistration.objects.get()
    assert all(f"client_id={made.client_id}" in url for url in urls)
    for url, person, name in zip(urls, (alice, bob), ("Ada Park", "Ben Okafor"), strict=True):
        assert complete_connection(callback_params(consent(url, name)), actor=person.actor).status == "connected"


# --- Ends -------------------------------------------------------------------------------------------------------------


def test_a_provider_that_revokes_is_said_to(place: Site, server: McpServer, alice: Person) -> None:
    connection = sign_in(server, alice)
    assert disconnect(connection, actor=alice.actor).outcome == "revoked"
    assert not place.provider.is_live(connection.access_token)
    assert place.provider.ledger.peek_refresh_token(connection.refresh_token) is None


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        (Response("busy", 503), "failed", "503"),
        (JSONResponse({"error": "unsupported_token_type"}, 400), "unsupported", "does not revoke this kind of token"),
    ],
)
def test_a_revocation_that_fails_is_told_and_the_tokens_are_gone_here(
    place: Site, server: McpServer, alice: Person, answer: Response, outcome: str, words: str
) -> None:
    connection = sign_in(server, alice)
    place.provider.answers["revoke"] = lambda form: answer
    ended = disconnect(connection, actor=alice.actor)
    assert ended.outcome == outcome and words in ended.words
    assert not Connection.objects.exists()
    assert AuditEvent.objects.get(action="disconnected").changes["revocation"][1].startswith(outcome)


def test_a_provider_without_revocation_is_not_asked(place: Site, alice: Person) -> None:
    place.provider.metadata_changes = {"revocation_endpoint": None}
    server = add_server(place, alice)
    connection = sign_in(server, alice)
    assert disconnect(connection, actor=alice.actor).outcome == "unsupported"
    assert "/revoke" not in place.asked()
    assert not Connection.objects.exists()


def test_a_grant_is_revoked_where_it_came_from_not_where_the_server_is_now(
    place: Site, elsewhere: Site, server: McpServer, alice: Person
) -> None:
    connection = sign_in(server, alice)
    auth = AuthConfig.objects.filter(pk=auth_of(server).pk)
    auth.update(issuer=elsewhere.origin, revocation_url=f"{elsewhere.origin}/revoke")
    assert disconnect(connection, actor=alice.actor).outcome == "revoked"
    assert elsewhere.asked() == []
    assert not place.provider.is_live(connection.access_token)
