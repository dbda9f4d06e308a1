"""Which OAuth client Aster is: one that was pasted, a metadata document, one it registered, or one to be asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings
from starlette.responses import JSONResponse

from aster.accounts.models import AuditEvent
from aster.demo.records import Client as ProviderClient
from integrations.models import ClientMode, ClientRegistration, Connection, McpServer, PendingAuthorization
from integrations.models import callback_url as our_callback
from integrations.services.clients import client_for
from integrations.services.connections import complete_connection
from integrations.services.discovery import follow_provider
from integrations.services.refresh import fresh_access_token
from integrations.services.servers import save_auth_config
from tests.conftest import Person
from tests.fakes.provider import Site
from tests.integrations.hub import auth_of
from tests.integrations.sign_in import add_server, allow, begin, fresh, sign_in, why_not

pytestmark = pytest.mark.django_db

DOCUMENT = "/oauth/client-metadata.json"


@pytest.fixture
def document_url(settings: Settings) -> str:
    """Aster at an address that providers can reach, so that its metadata document is its client id."""
    settings.ASTER_CLIENT_METADATA_URL = f"{settings.ASTER_PUBLIC_URL}{DOCUMENT}"
    return settings.ASTER_CLIENT_METADATA_URL


def pasted(place: Site, client_id: str = "pasted", **fields: Any) -> dict[str, str]:
    """An app made at the provider by hand; returns what an admin pastes."""
    place.provider.add_client(ProviderClient(client_id, redirect_uris=(our_callback(),), **fields))
    return {"client_id": client_id}


# --- The order --------------------------------------------------------------------------------------------------------


def test_a_pasted_client_comes_before_everything_else(place: Site, alice: Person, document_url: str) -> None:
    place.provider.cimd = True
    server = add_server(place, alice, **pasted(place))
    assert sign_in(server, alice).client_id == "pasted"
    assert "/register" not in place.asked()


def test_a_metadata_document_comes_before_registration(
    place: Site, alice: Person, document_url: str, aster: str
) -> None:
    place.provider.cimd = True
    connection = sign_in(add_server(place, alice), alice)
    assert (connection.client_id, connection.token_endpoint_auth_method) == (document_url, "none")
    assert place.provider.ledger.clients[document_url].name == "Aster", "the provider has fetched it"
    assert "/register" not in place.asked()
    assert not ClientRegistration.objects.exists()


def test_without_support_for_documents_aster_registers_and_keeps_that_client(
    place: Site, alice: Person, bob: Person, document_url: str
) -> None:
    server = add_server(place, alice)
    hers, his = sign_in(server, alice), sign_in(server, bob, "Ben Okafor")
    made = ClientRegistration.objects.get()
    assert hers.client_id == his.client_id == made.client_id != document_url
    assert made.issuer == place.origin
    assert place.asked().count("/register") == 1
    assert AuditEvent.objects.filter(action="registered", actor=alice.user).count() == 1


def test_without_registration_an_admin_is_asked_to_paste_a_client(place: Site, alice: Person) -> None:
    place.provider.dynamic_registration = False
    problem = why_not(begin, add_server(place, alice), alice)
    assert problem.code == "registration_unsupported"
    assert our_callback() in problem.hint  # type: ignore[attr-defined]
    assert not PendingAuthorization.objects.exists()


def test_a_pre_created_app_without_an_id_is_named_beside_the_field(place: Site, alice: Person) -> None:
    assert "client_id" in why_not(add_server, place, alice, client_mode=ClientMode.KNOWN).fields
    assert "/register" not in place.asked()


def test_a_document_nobody_can_reach_is_not_offered_to_providers(
    place: Site, alice: Person, settings: Settings
) -> None:
    settings.ASTER_CLIENT_METADATA_URL = ""
    place.provider.cimd = True
    assert sign_in(add_server(place, alice), alice).client_id == ClientRegistration.objects.get().client_id
    demanding = add_server(place, alice, "Other", client_mode=ClientMode.CIMD)
    assert why_not(begin, demanding, alice).code == "client_metadata_unreachable"


def test_further_callbacks_need_a_registration_because_the_document_lists_one(
    place: Site, alice: Person, document_url: str
) -> None:
    place.provider.cimd = True
    more = "https://app.example/back"
    sign_in(add_server(place, alice, allowed_redirect_uris=[more]), alice)
    assert ClientRegistration.objects.get().redirect_uris == [our_callback(), more]


# --- The document -----------------------------------------------------------------------------------------------------


def test_the_document_says_who_aster_is_and_may_be_cached(client: Client, document_url: str) -> None:
    answer = client.get(DOCUMENT)
    assert answer.status_code == 200
    assert answer.json() == {
        "client_id": document_url,
        "client_name": "Aster",
        "client_uri": document_url.removesuffix(DOCUMENT),
        "redirect_uris": [our_callback()],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "application_type": "native",
        "token_endpoint_auth_method": "none",
    }
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert set(answer.headers["Cache-Control"].replace(" ", "").split(",")) == {"public", "max-age=3600"}
    assert "Cookie" not in answer.headers.get("Vary", "") and "Set-Cookie" not in answer.headers


def test_the_document_is_the_same_for_everybody(client: Client, bob: Person, document_url: str) -> None:
    assert client.get(DOCUMENT).content == bob.browser().get(DOCUMENT).content
    assert client.head(DOCUMENT).status_code == 200
    assert client.post(DOCUMENT).status_code == 405


def test_without_a_public_address_there_is_no_document(client: Client, settings: Settings) -> None:
    settings.ASTER_CLIENT_METADATA_URL = ""
    assert client.get(DOCUMENT).status_code == 404


# --- Registration -----------------------------------------------------------------------------------------------------


def test_a_refusal_to_register_is_shown_in_the_providers_words(place: Site, alice: Person) -> None:
    words = {"error": "invalid_redirect_uri", "error_description": "Only known apps."}
    place.provider.answers["register"] = lambda asked: JSONResponse(words, 403)
    problem = why_not(begin, add_server(place, alice), alice)
    assert "Only known apps." in problem.message
    assert our_callback() in problem.hint  # type: ignore[attr-defined]
    assert not ClientRegistration.objects.exists() and not PendingAuthorization.objects.exists()


def test_a_refused_method_falls_back_to_the_next(place: Site, alice: Person) -> None:
    place.provider.registration_methods = ("client_secret_post",)
    connection = sign_in(add_server(place, alice), alice)
    assert connection.token_endpoint_auth_method == "client_secret_post"
    tried = [asked["token_endpoint_auth_method"] for asked in place.provider.registration_attempts]
    assert tried == ["none", "client_secret_basic", "client_secret_post"]


def test_a_method_an_admin_chose_is_not_replaced_by_another(place: Site, alice: Person) -> None:
    place.provider.registration_methods = ("none",)
    server = add_server(place, alice, token_endpoint_auth_method="client_secret_basic")
    assert "Use none." in why_not(begin, server, alice).message
    assert len(place.provider.registration_attempts) == 1


def test_a_provider_that_is_busy_is_not_asked_with_every_method(place: Site, alice: Person) -> None:
    place.provider.answers["register"] = lambda asked: JSONResponse({}, 503)
    assert why_not(begin, add_server(place, alice), alice).retryable  # nothing else to do but wait
    assert place.asked("POST") == ["/register"]


def test_a_registered_secret_that_ran_out_is_replaced_at_the_next_sign_in(place: Site, alice: Person) -> None:
    place.provider.registration_methods = ("client_secret_basic",)
    place.provider.client_secret_seconds = 3600
    server = add_server(place, alice)
    first = sign_in(server, alice).client_id
    assert sign_in(server, alice).client_id == first
    ClientRegistration.objects.update(secret_expires_at=timezone.now() - timedelta(seconds=1))
    assert sign_in(server, alice).client_id != first
    assert ClientRegistration.objects.count() == 1


def test_a_client_the_provider_purged_costs_one_failed_sign_in(place: Site, alice: Person) -> None:
    server = add_server(place, alice)
    params = allow(server, alice)
    place.provider.purge_clients()
    assert why_not(complete_connection, params, actor=alice.actor).error == "invalid_client"  # type: ignore[attr-defined]
    assert not ClientRegistration.objects.exists()
    assert sign_in(server, alice).status == "connected"


def test_a_purged_client_ends_its_grants_and_is_registered_anew(place: Site, alice: Person) -> None:
    server = add_server(place, alice)
    connection = sign_in(server, alice)
    Connection.objects.filter(pk=connection.pk).update(expires_at=timezone.now())
    place.provider.purge_clients()
    assert why_not(fresh_access_token, connection).code == "connection_required"
    assert not ClientRegistration.objects.exists()
    assert sign_in(server, alice).client_id != connection.client_id


def test_odd_characters_in_a_pasted_secret_arrive_as_they_are(place: Site, alice: Person) -> None:
    client_id, secret = "aster:app/é", "p%20ss+w:rd&=“x” ~ü"
    app = ProviderClient.with_secret(client_id, secret, redirect_uris=(our_callback(),))
    place.provider.add_client(app)
    server = add_server(place, alice, client_id=client_id, client_secret=secret)
    assert place.provider.lookup(sign_in(server, alice).access_token)


# --- A server that moves to another provider --------------------------------------------------------------------------


def moved(server: McpServer, place: Site, elsewhere: Site) -> McpServer:
    place.mcp.move_to(elsewhere.provider)
    Connection.objects.update(status="connection_error")
    return server


def test_a_registered_client_is_left_behind_when_the_server_moves(place: Site, elsewhere: Site, alice: Person) -> None:
    server = add_server(place, alice)
    old = sign_in(server, alice)
    place.log.clear()
    new = sign_in(moved(server, place, elsewhere), alice)
    assert new.pk == old.pk
    assert (new.issuer, new.token_url) == (elsewhere.origin, f"{elsewhere.origin}/token")
    assert new.client_id in elsewhere.provider.ledger.clients
    assert elsewhere.provider.is_live(new.access_token, new.refresh_token)
    assert "/token" not in place.asked(), "the first provider hears nothing of it"
    assert {made.issuer for made in ClientRegistration.objects.all()} == {place.origin, elsewhere.origin}
    event = AuditEvent.objects.filter(action="discovered").latest("pk")
    assert event.changes["issuer"] == [place.origin, elsewhere.origin]


def test_old_tokens_are_never_sent_to_the_new_provider(place: Site, elsewhere: Site, alice: Person) -> None:
    server = add_server(place, alice)
    old = sign_in(server, alice)
    Connection.objects.update(expires_at=timezone.now())
    follow_provider(auth := fresh(auth_of(server)), server)
    place.mcp.move_to(elsewhere.provider)
    follow_provider(auth, server)
    save_auth_config(auth, actor=alice.actor)
    assert auth.issuer == elsewhere.origin
    fresh_access_token(old)
    assert elsewhere.provider.forms == []
    assert place.provider.forms[-1]["refresh_token"] == old.refresh_token


def test_a_pasted_client_is_not_taken_to_another_provider(place: Site, elsewhere: Site, alice: Person) -> None:
    elsewhere.provider.add_client(ProviderClient("pasted", redirect_uris=(our_callback(),)))
    server = add_server(place, alice, **pasted(place), client_secret="")
    sign_in(server, alice)
    problem = why_not(begin, moved(server, place, elsewhere), alice)
    assert problem.code == "issuer_changed"
    assert elsewhere.origin in problem.message
    assert "enter its issuer" in problem.hint  # type: ignore[attr-defined]
    assert fresh(auth_of(server)).issuer == place.origin
    assert elsewhere.asked("POST") == []


def test_an_issuer_that_an_admin_typed_is_not_given_up(place: Site, elsewhere: Site, alice: Person) -> None:
    server = add_server(place, alice, issuer=place.origin)
    sign_in(server, alice)
    assert why_not(begin, moved(server, place, elsewhere), alice).code == "issuer_changed"
    assert fresh(auth_of(server)).issuer == place.origin
    assert elsewhere.asked() == []


def test_an_issuer_that_an_admin_typed_stays_one_however_often_it_is_looked_up(
    place: Site, elsewhere: Site, alice: Person
) -> None:
    server = add_server(place, alice, issuer=place.origin)
    sign_in(server, alice)
    Connection.objects.update(status="connection_error")
    sign_in(server, alice)  # asks again who protects the server
    assert why_not(begin, moved(server, place, elsewhere), alice).code == "issuer_changed"


def test_endpoints_that_an_admin_typed_are_not_mixed_with_those_of_another_provider(
    place: Site, elsewhere: Site, alice: Person
) -> None:
    place.mcp.issuers = [elsewhere.origin]
    typed = {"authorization_url": f"{place.origin}/authorize", "token_url": f"{place.origin}/token"}
    server = add_server(place, alice, **typed, **pasted(place))
    place.provider.advertise_iss = False
    connection = sign_in(server, alice)
    assert (connection.token_url, connection.issuer, connection.revocation_url) == (typed["token_url"], "", "")
    assert elsewhere.asked("POST") == []


def test_the_scopes_of_the_old_provider_are_not_asked_of_the_new_one(
    place: Site, elsewhere: Site, alice: Person
) -> None:
    server = add_server(place, alice)
    sign_in(server, alice)
    elsewhere.provider.scopes = {"docs.all": "Everything", "docs.more": "More"}
    place.mcp.scopes_supported = ("docs.all",)
    Connection.objects.update(wanted_scopes=["docs.more"])
    connection = sign_in(moved(server, place, elsewhere), alice)
    assert connection.scopes == ["docs.all", "docs.more"]


def test_a_server_that_names_both_providers_stays_with_the_first(place: Site, elsewhere: Site, alice: Person) -> None:
    server = add_server(place, alice)
    sign_in(server, alice)
    place.mcp.issuers = [elsewhere.origin, place.origin]
    Connection.objects.update(status="connection_error")
    assert sign_in(server, alice).issuer == place.origin
    assert elsewhere.asked() == []


def test_a_new_provider_that_is_down_keeps_what_is_known(place: Site, elsewhere: Site, alice: Person) -> None:
    server = add_server(place, alice)
    sign_in(server, alice)
    elsewhere.provider.answers["metadata"] = lambda params: JSONResponse({}, 503)
    assert begin(moved(server, place, elsewhere), alice).startswith(place.origin)
    assert fresh(auth_of(server)).issuer == place.origin


def test_a_client_is_used_at_the_issuer_that_made_it_only(place: Site, elsewhere: Site, alice: Person) -> None:
    server = add_server(place, alice)
    sign_in(server, alice)
    auth = fresh(auth_of(server))
    first = client_for(auth, actor=alice.actor).client_id
    sign_in(moved(server, place, elsewhere), alice)
    auth = fresh(auth)
    assert client_for(auth, actor=alice.actor).client_id != first
    place.mcp.move_to(place.provider)
    Connection.objects.update(status="connection_error")
    assert sign_in(server, alice).client_id == first, "back again, the first client is still known there"
