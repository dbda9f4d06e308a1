"""Callbacks that were swapped, replayed or forged (RFC 9700 §4.4, RFC 9207): no code reaches a foreign provider."""

from __future__ import annotations

import pytest
from django.test import Client

from aster.demo.records import Client as ProviderClient
from integrations.models import AuthConfig, Connection, McpServer, PendingAuthorization, callback_url
from integrations.services.connections import complete_connection
from tests.conftest import Person
from tests.fakes.provider import Site
from tests.integrations.hub import text_of
from tests.integrations.sign_in import add_server, allow, begin, why_not
from tests.walks.conftest import callback_params, consent

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(place: Site, alice: Person) -> McpServer:
    return add_server(place, alice, "Docs")


@pytest.fixture
def other(elsewhere: Site, alice: Person) -> McpServer:
    return add_server(elsewhere, alice, "Files")


def says_nothing_of_issuers(*places: Site) -> None:
    for place in places:
        place.provider.advertise_iss = False


# --- Between two people -----------------------------------------------------------------------------------------------


def test_a_code_of_somebody_else_under_ones_own_state_connects_nothing(
    place: Site, server: McpServer, alice: Person, bob: Person
) -> None:
    """Bob slips his code into alice's callback, so that she would work in his account."""
    hers, his = allow(server, alice), allow(server, bob, "Ben Okafor")
    problem = why_not(complete_connection, {**hers, "code": his["code"]}, actor=alice.actor)
    assert "code_verifier" in problem.message
    assert not Connection.objects.exists()


def test_a_whole_callback_of_somebody_else_is_refused_and_stays_theirs(
    place: Site, server: McpServer, alice: Person, bob: Person
) -> None:
    his = allow(server, bob, "Ben Okafor")
    assert why_not(complete_connection, his, actor=alice.actor).code == "state_foreign"
    assert place.provider.forms == [], "his code was not sent"
    assert complete_connection(his, actor=bob.actor).user == bob.user


def test_swapped_callbacks_end_both_journeys_without_a_grant_for_the_wrong_person(
    place: Site, server: McpServer, alice: Person, bob: Person
) -> None:
    hers, his = allow(server, alice), allow(server, bob, "Ben Okafor")
    for person, state, code in ((alice, hers["state"], his["code"]), (bob, his["state"], hers["code"])):
        why_not(complete_connection, {**hers, "state": state, "code": code}, actor=person.actor)
    assert not Connection.objects.exists() and not PendingAuthorization.objects.exists()


def test_another_browser_finishes_nothing_even_with_the_persons_session(
    place: Site, server: McpServer, bob: Person
) -> None:
    laptop, phone = bob.browser(), bob.browser()
    page = laptop.post(f"/hub/servers/{server.slug}/connect/")
    params = callback_params(consent(page.context["url"], "Ben Okafor"))
    answer = phone.get("/api/mcp/oauth/callback", params)
    assert "another browser" in text_of(answer)
    assert place.provider.forms == []
    assert params["code"] not in answer.content.decode()
    assert laptop.get("/api/mcp/oauth/callback", params).status_code == 302
    assert Connection.objects.get().user == bob.user


def test_a_callback_without_a_session_asks_to_sign_in_and_spends_nothing(
    place: Site, server: McpServer, alice: Person, client: Client
) -> None:
    params = allow(server, alice)
    assert client.get("/api/mcp/oauth/callback", params).status_code == 302
    assert place.provider.forms == []
    assert complete_connection(params, actor=alice.actor).status == "connected"


# --- Between two servers ----------------------------------------------------------------------------------------------


def test_two_journeys_of_one_person_end_in_any_order(
    place: Site, elsewhere: Site, server: McpServer, other: McpServer, alice: Person
) -> None:
    first, second = allow(server, alice), allow(other, alice)
    complete_connection(second, actor=alice.actor)
    complete_connection(first, actor=alice.actor)
    for connection in Connection.objects.select_related("auth_config"):
        provider = place.provider if connection.auth_config == server.auth_config else elsewhere.provider
        assert provider.is_live(connection.access_token, connection.refresh_token)


def test_a_code_of_one_provider_is_not_sent_to_another(
    place: Site, elsewhere: Site, server: McpServer, other: McpServer, alice: Person
) -> None:
    mine, theirs = allow(server, alice), allow(other, alice)
    swapped = {**theirs, "state": mine["state"]}
    assert why_not(complete_connection, swapped, actor=alice.actor).code == "issuer_mismatch"
    assert place.provider.forms == elsewhere.provider.forms == []
    assert complete_connection(theirs, actor=alice.actor).issuer == elsewhere.origin


def test_where_no_provider_names_itself_a_swapped_code_still_connects_nothing(
    place: Site, elsewhere: Site, alice: Person
) -> None:
    """Without `iss` nobody can tell; the verifier of the other journey stays here, so the code is worth nothing."""
    says_nothing_of_issuers(place, elsewhere)
    server, other = add_server(place, alice, "Docs"), add_server(elsewhere, alice, "Files")
    mine, theirs = allow(server, alice), allow(other, alice)
    why_not(complete_connection, {**theirs, "state": mine["state"]}, actor=alice.actor)
    assert not Connection.objects.exists()
    assert elsewhere.provider.forms == []
    (leaked,) = place.provider.forms
    assert complete_connection(theirs, actor=alice.actor).status == "connected"
    assert leaked["code_verifier"] != elsewhere.provider.forms[0]["code_verifier"]


def test_a_provider_that_borrows_anothers_consent_page_never_gets_the_code(
    place: Site, elsewhere: Site, alice: Person
) -> None:
    """The classic mix-up: its metadata sends people to the honest provider, and the code to itself."""
    honest, evil = place, elsewhere
    honest.provider.add_client(ProviderClient("borrowed", redirect_uris=(callback_url(),)))
    evil.provider.metadata_changes = {"authorization_endpoint": f"{honest.origin}/authorize"}
    evil.provider.dynamic_registration = False
    evil.provider.advertise_iss = False  # so that nothing is promised
    server = add_server(evil, alice, "Evil", client_id="borrowed", resource=honest.mcp.url)
    url = begin(server, alice)
    assert url.startswith(honest.origin)
    problem = why_not(complete_connection, callback_params(consent(url)), actor=alice.actor)
    assert problem.code == "issuer_mismatch"
    assert evil.provider.forms == honest.provider.forms == []
    assert not Connection.objects.exists()


# --- Lies and replays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("advertised", [True, False])
@pytest.mark.parametrize("iss", ["https://evil.example", "HTTP://127.0.0.1"])
def test_a_wrong_iss_is_refused_whether_or_not_the_provider_promised_one(
    place: Site, alice: Person, iss: str, advertised: bool
) -> None:
    place.provider.advertise_iss = advertised
    server = add_server(place, alice)
    place.provider.sends_iss = iss
    assert why_not(complete_connection, allow(server, alice), actor=alice.actor).code == "issuer_mismatch"
    assert place.provider.forms == []


def test_an_issuer_with_a_slash_more_is_another_one(place: Site, server: McpServer, alice: Person) -> None:
    place.provider.sends_iss = f"{place.origin}/"
    assert why_not(complete_connection, allow(server, alice), actor=alice.actor).code == "issuer_mismatch"


def test_a_promised_iss_that_is_missing_is_refused_and_an_unpromised_one_is_not_missed(
    place: Site, server: McpServer, alice: Person
) -> None:
    place.provider.sends_iss = None
    assert why_not(complete_connection, allow(server, alice), actor=alice.actor).code == "issuer_missing"
    says_nothing_of_issuers(place)
    AuthConfig.objects.update(discovered_at="2020-01-01T00:00:00Z")  # the promise is looked up again after an hour
    assert complete_connection(allow(server, alice), actor=alice.actor).status == "connected"


def test_the_words_of_an_error_from_a_wrong_issuer_are_not_shown(place: Site, server: McpServer, alice: Person) -> None:
    place.provider.sends_iss = "https://evil.example"
    location = consent(begin(server, alice), decision="deny")
    forged = {**callback_params(location), "error_description": "Call 555-EVIL to go on"}
    problem = why_not(complete_connection, forged, actor=alice.actor)
    assert problem.code == "issuer_mismatch"
    assert "555" not in str(vars(problem))


def test_a_refused_callback_spends_its_state(place: Site, server: McpServer, alice: Person) -> None:
    """Nobody gets a second guess at the issuer or the code of one journey."""
    params = allow(server, alice)
    why_not(complete_connection, {**params, "iss": "https://evil.example"}, actor=alice.actor)
    assert why_not(complete_connection, params, actor=alice.actor).code == "state_unknown"
    assert place.provider.forms == []


def test_a_replayed_callback_changes_nothing(place: Site, server: McpServer, alice: Person) -> None:
    params = allow(server, alice)
    connection = complete_connection(params, actor=alice.actor)
    assert why_not(complete_connection, params, actor=alice.actor).code == "state_unknown"
    assert len(place.provider.forms) == 1
    assert place.provider.is_live(connection.access_token, connection.refresh_token)


def test_the_answer_is_checked_against_the_issuer_at_the_start_of_the_journey(
    place: Site, elsewhere: Site, server: McpServer, alice: Person
) -> None:
    """The server moves while alice is at the consent page: her code still goes where she was sent."""
    params = allow(server, alice)
    place.mcp.move_to(elsewhere.provider)
    AuthConfig.objects.update(issuer=elsewhere.origin, token_url=f"{elsewhere.origin}/token")
    connection = complete_connection(params, actor=alice.actor)
    assert connection.issuer == place.origin
    assert elsewhere.provider.forms == []
