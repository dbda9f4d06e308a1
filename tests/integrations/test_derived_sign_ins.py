"""Sign-ins derived from another one: token exchange (RFC 8693), and ID-JAG, where the company's provider vouches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from joserfc import jwt

from aster.accounts.models import AuditEvent
from aster.demo.records import Client as ProviderClient
from aster.demo.records import Grant
from aster.errors import Conflict
from integrations.models import AuthConfig, AuthType, Connection, McpServer
from integrations.services.connections import begin_connection, complete_connection
from integrations.services.disconnection import disconnect
from integrations.services.refresh import fresh_access_token, refresh_if_due
from integrations.services.servers import delete_auth_config, delete_server
from tests.conftest import Person, body
from tests.fakes.provider import ALGORITHMS, JWT_BEARER, TOKEN_EXCHANGE, TOKEN_TYPE, Site
from tests.integrations.hub import auth_of
from tests.integrations.sign_in import add_server, fresh, sign_in, why_not
from tests.walks.conftest import callback_params, consent

pytestmark = pytest.mark.django_db

SERVERS = "/api/v1/config/mcp-server"
CLIENT = {"client_id": "derived", "client_secret": "s3cret"}


@dataclass
class Company:
    """A company's provider with a portal people sign in to, and a server whose sign-in is derived from that one."""

    idp: Site
    there: Site
    portal: McpServer
    server: McpServer

    @property
    def auth(self) -> AuthConfig:
        return fresh(auth_of(self.server))

    def asked(self, grant_type: str, site: Site | None = None) -> list[dict[str, str]]:
        """The forms of such token requests."""
        return [form for form in (site or self.idp).provider.forms if form["grant_type"] == grant_type]


@pytest.fixture
def exchange(place: Site, elsewhere: Site, alice: Person) -> Company:
    """The second server trusts the same provider, which exchanges tokens."""
    elsewhere.mcp.issuers, elsewhere.mcp.accepts = [place.origin], [place.provider]
    place.provider.add_client(ProviderClient.with_secret(*CLIENT.values()))
    portal = add_server(place, alice, "Portal")
    fields = {"auth_type": AuthType.TOKEN_EXCHANGE, "subject_config": auth_of(portal), **CLIENT}
    return Company(place, elsewhere, portal, add_server(elsewhere, alice, "Files", **fields))


@pytest.fixture
def jag(place: Site, elsewhere: Site, alice: Person) -> Company:
    """The second server has an authorization server of its own, which trusts the company's provider."""
    place.mcp.scopes_supported = ("read", "openid")
    place.provider.names_elsewhere = {elsewhere.origin: CLIENT["client_id"]}
    elsewhere.provider.trusts = {place.origin: place.provider.key}
    elsewhere.provider.add_client(ProviderClient.with_secret(*CLIENT.values()))
    portal = add_server(place, alice, "Portal")
    fields = {"auth_type": AuthType.ID_JAG, "subject_config": auth_of(portal), **CLIENT}
    return Company(place, elsewhere, portal, add_server(elsewhere, alice, "Files", **fields))


def derive(company: Company, person: Person, **subject: str) -> Connection:
    """Connect the derived server; nobody has to consent."""
    made = begin_connection(company.auth, actor=person.actor, **subject).connection
    assert made is not None
    return made


def run_out(connection: Connection) -> Connection:
    """The access token has run out, and its renewal is due."""
    past = timezone.now() - timedelta(seconds=1)
    Connection.objects.filter(pk=connection.pk).update(expires_at=past, refresh_at=past)
    return reread(connection)


def reread(connection: Connection) -> Connection:
    return Connection.objects.select_related("auth_config__organization", "user").get(pk=connection.pk)


# --- Token exchange ---------------------------------------------------------------------------------------------------


def test_who_is_signed_in_at_the_source_is_connected_without_a_consent_page(exchange: Company, alice: Person) -> None:
    source = sign_in(exchange.portal, alice)
    connection = derive(exchange, alice)
    grant = exchange.idp.provider.lookup(connection.access_token)
    assert grant and (grant.person, grant.resource) == ("Ada Park", exchange.there.mcp.url)
    (asked,) = exchange.asked(TOKEN_EXCHANGE)
    assert (asked["subject_token"], asked["subject_token_type"]) == (source.access_token, f"{TOKEN_TYPE}access_token")
    assert connection.subject_token == "", "the source's own token is not kept a second time"
    assert AuditEvent.objects.filter(action="connected", object_id=str(connection.pk), actor=alice.user).exists()


def test_who_is_not_signed_in_at_the_source_consents_there_once_for_both(exchange: Company, alice: Person) -> None:
    url = begin_connection(exchange.auth, actor=alice.actor).authorization_url
    assert url and url.startswith(f"{exchange.idp.origin}/authorize")
    made = complete_connection(callback_params(consent(url)), actor=alice.actor)
    assert made.auth_config == exchange.auth
    assert {row.auth_config.name for row in Connection.objects.all()} == {"Portal sign-in", "Files sign-in"}


def test_declining_at_the_source_connects_neither(exchange: Company, alice: Person) -> None:
    url = begin_connection(exchange.auth, actor=alice.actor).authorization_url
    assert url
    why_not(complete_connection, callback_params(consent(url, decision="deny")), actor=alice.actor)
    assert not Connection.objects.exists()


def test_an_exchange_that_fails_keeps_the_sign_in_it_came_from(exchange: Company, alice: Person) -> None:
    url = begin_connection(exchange.auth, actor=alice.actor).authorization_url
    assert url
    params = callback_params(consent(url))
    exchange.idp.provider.ledger.clients.pop("derived")
    assert "not registered" in why_not(complete_connection, params, actor=alice.actor).message
    assert Connection.objects.get().auth_config.name == "Portal sign-in"


def test_people_get_tokens_of_their_own(exchange: Company, alice: Person, bob: Person) -> None:
    sign_in(exchange.portal, alice), sign_in(exchange.portal, bob, "Ben Okafor")
    people = []
    for person in (alice, bob):
        grant = exchange.idp.provider.lookup(derive(exchange, person).access_token)
        people.append(grant.person if grant else "")
    assert people == ["Ada Park", "Ben Okafor"]


def test_a_derived_token_is_renewed_with_a_fresh_one_of_the_source(exchange: Company, alice: Person) -> None:
    source, connection = sign_in(exchange.portal, alice), derive(exchange, alice)
    run_out(source), run_out(connection)
    assert refresh_if_due(connection.pk) is None
    renewed = reread(connection)
    assert renewed.generation == 2 and exchange.idp.provider.lookup(renewed.access_token)
    assert exchange.asked(TOKEN_EXCHANGE)[-1]["subject_token"] == reread(source).access_token != source.access_token


def test_a_derived_connection_says_so_when_the_source_has_ended(exchange: Company, alice: Person) -> None:
    source, connection = sign_in(exchange.portal, alice), derive(exchange, alice)
    run_out(source), run_out(connection)
    exchange.idp.provider.revoke_person("Ada Park")
    assert why_not(fresh_access_token, connection).code == "connection_required"
    ended = reread(connection)
    assert ended.status == reread(source).status == "connection_error"
    assert "Portal sign-in" in ended.last_error, "it names whose sign-in has to be renewed"
    assert derive_again(exchange, alice).status == "connected"


def derive_again(company: Company, person: Person) -> Connection:
    """Connect once more: the source wants a consent first."""
    url = begin_connection(company.auth, actor=person.actor).authorization_url
    assert url
    return complete_connection(callback_params(consent(url)), actor=person.actor)


def test_a_derived_connection_says_so_when_the_source_was_disconnected(exchange: Company, alice: Person) -> None:
    source, connection = sign_in(exchange.portal, alice), derive(exchange, alice)
    disconnect(source, actor=alice.actor)
    run_out(connection)
    assert why_not(fresh_access_token, connection).code == "connection_required"
    assert reread(connection).last_error == "Connect your account at Portal sign-in first."


def test_a_source_in_trouble_costs_a_derived_connection_nothing_but_time(exchange: Company, alice: Person) -> None:
    source, connection = sign_in(exchange.portal, alice), derive(exchange, alice)
    run_out(source), run_out(connection)
    exchange.idp.provider.break_token("500")
    assert why_not(fresh_access_token, connection).retryable
    assert reread(connection).status == reread(source).status == "connected"


def test_disconnecting_a_derived_connection_leaves_its_source_alone(exchange: Company, alice: Person) -> None:
    source, connection = sign_in(exchange.portal, alice), derive(exchange, alice)
    assert disconnect(connection, actor=alice.actor).outcome == "revoked"
    assert exchange.idp.provider.is_live(source.access_token, source.refresh_token)
    assert Connection.objects.get() == source


@pytest.mark.django_db(transaction=True)
def test_a_tool_is_called_with_the_derived_token(exchange: Company, alice: Person) -> None:
    sign_in(exchange.portal, alice)
    connection = derive(exchange, alice)
    answer = alice.api().post(f"{SERVERS}/files/tools/call", {"name": "whoami"})
    headers = json.loads(body(answer)["result"]["content"][0]["text"])
    assert headers["authorization"] == f"Bearer {connection.access_token}"


# --- A token that a script hands in -----------------------------------------------------------------------------------


def hand_in(person: Person, **subject: str) -> Any:
    return person.api().post(f"{SERVERS}/files/connect", subject)


def people_token(company: Company, name: str = "Ada Park") -> str:
    """An access token of the company's provider that Aster never saw."""
    grant = Grant(name, "some-app", ("read",), "", f"outside-{name}")
    return company.idp.provider.ledger.issue_access_token(grant, 600)


def test_a_script_exchanges_a_token_it_has(exchange: Company, alice: Person) -> None:
    token = people_token(exchange, "Chloe Laurent")
    answer = hand_in(alice, subject_token=token)
    assert (answer.status_code, body(answer)["status"]) == (200, "connected")
    assert token not in answer.content.decode()
    grant = exchange.idp.provider.lookup(Connection.objects.get().access_token)
    assert grant and grant.person == "Chloe Laurent"
    assert exchange.asked(TOKEN_EXCHANGE)[0]["subject_token_type"] == f"{TOKEN_TYPE}access_token"


def test_a_token_that_was_handed_in_renews_until_the_provider_refuses_it(exchange: Company, alice: Person) -> None:
    token = people_token(exchange)
    hand_in(alice, subject_token=token)
    connection = run_out(Connection.objects.get())
    assert exchange.idp.provider.lookup(fresh_access_token(connection))
    run_out(connection)
    exchange.idp.provider.expire_access_tokens()
    assert why_not(fresh_access_token, connection).code == "connection_required"
    assert "subject token is not a live" in reread(connection).last_error
    assert token not in reread(connection).last_error


def test_a_token_the_provider_does_not_know_connects_nobody(exchange: Company, alice: Person) -> None:
    answer = hand_in(alice, subject_token="made-up-token-value")
    assert answer.status_code == 502
    assert "made-up-token-value" not in answer.content.decode()
    assert not Connection.objects.exists()


def test_a_later_sign_in_at_the_source_replaces_what_was_handed_in(exchange: Company, alice: Person) -> None:
    hand_in(alice, subject_token=people_token(exchange, "Chloe Laurent"))
    sign_in(exchange.portal, alice)
    connection = derive(exchange, alice)
    assert (connection.subject_token, connection.subject_token_type) == ("", "")
    grant = exchange.idp.provider.lookup(connection.access_token)
    assert grant and grant.person == "Ada Park"


# --- ID-JAG -----------------------------------------------------------------------------------------------------------


def test_the_companys_sign_in_vouches_for_a_person_at_another_provider(jag: Company, alice: Person) -> None:
    source = sign_in(jag.portal, alice)
    connection = derive(jag, alice)
    grant = jag.there.provider.lookup(connection.access_token)
    assert grant and (grant.person, grant.resource) == ("Ada Park", jag.there.mcp.url)
    (asked,) = jag.asked(TOKEN_EXCHANGE)
    assert (asked["audience"], asked["resource"]) == (jag.there.origin, jag.there.mcp.url)
    assert asked["requested_token_type"] == f"{TOKEN_TYPE}id-jag"
    assert (asked["subject_token"], asked["subject_token_type"]) == (source.id_token, f"{TOKEN_TYPE}id_token")
    (shown,) = jag.asked(JWT_BEARER, jag.there)
    assertion = jwt.decode(shown["assertion"], jag.idp.provider.key, ALGORITHMS)
    assert (assertion.header["typ"], assertion.claims["client_id"]) == ("oauth-id-jag+jwt", "derived")
    assert "/authorize" not in jag.there.asked(), "nobody is sent to the second provider"


def test_no_providers_secret_is_shown_to_the_other(jag: Company, alice: Person) -> None:
    source = sign_in(jag.portal, alice)
    derive(jag, alice)
    there, here = str(jag.there.provider.forms), str(jag.idp.provider.forms)
    for secret in (source.access_token, source.refresh_token, source.id_token):
        assert secret not in there
    assert CLIENT["client_secret"] not in here


def test_every_renewal_is_vouched_for_anew(jag: Company, alice: Person) -> None:
    sign_in(jag.portal, alice)
    connection = run_out(derive(jag, alice))
    assert jag.there.provider.lookup(fresh_access_token(connection))
    assertions = [form["assertion"] for form in jag.asked(JWT_BEARER, jag.there)]
    assert len(set(assertions)) == 2


def test_a_script_hands_in_an_id_token(jag: Company, alice: Person) -> None:
    sign_in(jag.portal, alice)
    source = Connection.objects.get()
    source_client, id_token = source.client_id, source.id_token
    disconnect(source, actor=alice.actor)
    assert source_client
    answer = hand_in(alice, subject_token=id_token, subject_token_type=f"{TOKEN_TYPE}id_token")
    assert (answer.status_code, body(answer)["status"]) == (200, "connected")
    assert id_token not in answer.content.decode()
    connection = run_out(Connection.objects.get())
    assert connection.subject_token == id_token
    assert jag.there.provider.lookup(fresh_access_token(connection))


def test_a_source_without_id_tokens_is_named_with_what_an_admin_can_do(jag: Company, alice: Person) -> None:
    jag.idp.provider.granted = ("read",)
    sign_in(jag.portal, alice)
    problem = why_not(begin_connection, jag.auth, actor=alice.actor)
    assert problem.code == "id_token_missing"
    assert "openid" in problem.hint  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda company: company.idp.provider.names_elsewhere.clear(), "People here may not use"),
        (lambda company: company.there.provider.trusts.clear(), "Nobody here trusts"),
        (
            lambda company: company.idp.provider.names_elsewhere.update({company.there.origin: "other"}),
            "another client",
        ),
    ],
)
def test_either_providers_refusal_is_shown_and_stores_nothing(
    jag: Company, alice: Person, break_it: Any, words: str
) -> None:
    sign_in(jag.portal, alice)
    break_it(jag)
    assert words in why_not(begin_connection, jag.auth, actor=alice.actor).message
    assert Connection.objects.count() == 1


def test_an_assertion_that_is_an_ordinary_token_is_not_passed_on(jag: Company, alice: Person) -> None:
    """An IdP that answers the exchange with something else than an assertion would have Aster leak a live token."""
    sign_in(jag.portal, alice)
    jag.idp.provider.fail_next_token(
        200, {"access_token": "live-token", "token_type": "Bearer", "issued_token_type": f"{TOKEN_TYPE}access_token"}
    )
    why_not(begin_connection, jag.auth, actor=alice.actor)
    assert jag.there.provider.forms == []


def test_an_id_token_that_ran_out_before_the_access_token_is_renewed_first(jag: Company, alice: Person) -> None:
    source, connection = sign_in(jag.portal, alice), derive(jag, alice)
    ran_out = jag.idp.provider.sign(seconds=-60, sub="Ada Park", aud=source.client_id)
    Connection.objects.filter(pk=source.pk).update(id_token=ran_out)
    assert jag.there.provider.lookup(fresh_access_token(run_out(connection)))


def test_a_sign_in_that_others_are_derived_from_is_not_deleted(jag: Company, alice: Person) -> None:
    delete_server(jag.portal, actor=alice.actor)
    source = AuthConfig.objects.get(pk=jag.auth.subject_config_id)
    Connection.objects.filter(auth_config=source).delete()
    with pytest.raises(Conflict, match=f"Still used by {jag.auth.name}"):
        delete_auth_config(source, actor=alice.actor)


# --- What may be a source ---------------------------------------------------------------------------------------------


def test_the_source_must_be_a_sign_in_of_the_same_organization(
    exchange: Company, alice: Person, charlie: Person
) -> None:
    theirs = AuthConfig.objects.create(
        organization=charlie.organization, name="Theirs", auth_type=AuthType.AUTHORIZATION_CODE
    )
    shared = AuthConfig.objects.create(
        organization=alice.organization, name="Key", auth_type=AuthType.BEARER, token="t"
    )
    api, sent = alice.api(), {"auth_type": "TOKEN_EXCHANGE", "token_url": f"{exchange.idp.origin}/token", **CLIENT}
    for source in (theirs.pk, shared.pk, exchange.auth.pk, 999_999):
        answer = api.post("/api/v1/auth_configs", {**sent, "name": "Derived", "subject_config_id": source})
        assert (answer.status_code, list(body(answer)["fields"])) == (400, ["subject_config_id"]), source
        answer = api.patch(f"/api/v1/auth_configs/{exchange.auth.pk}", {"subject_config_id": source})
        assert (answer.status_code, list(body(answer)["fields"])) == (400, ["subject_config_id"]), source
    assert "Theirs" not in answer.content.decode()
    assert exchange.auth.subject_config == auth_of(exchange.portal)


def test_a_derived_sign_in_needs_a_source_and_a_client(exchange: Company, alice: Person) -> None:
    answer = alice.api().post("/api/v1/auth_configs", {"name": "Derived", "auth_type": "ID_JAG"})
    assert (answer.status_code, sorted(body(answer)["fields"])) == (400, ["client_id", "subject_config_id"])


def test_a_sign_in_that_others_are_derived_from_cannot_be_deleted(exchange: Company, alice: Person) -> None:
    source = auth_of(exchange.portal)
    McpServer.objects.filter(pk=exchange.portal.pk).update(auth_config=None)
    problem = why_not(delete_auth_config, fresh(source), actor=alice.actor)
    assert problem.code == "in_use"


def test_a_handed_in_token_means_nothing_to_an_ordinary_sign_in(exchange: Company, alice: Person) -> None:
    answer = alice.api().post(f"{SERVERS}/portal/connect", {"subject_token": "some-token-of-mine"})
    assert answer.status_code == 400 and list(body(answer)["fields"]) == ["subject_token"]
    assert "some-token-of-mine" not in answer.content.decode()
