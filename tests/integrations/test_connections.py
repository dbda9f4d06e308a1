"""Connecting and disconnecting: a callback counts once, for who started it, and only a real grant is stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from aster.accounts.models import AuditEvent
from aster.accounts.services import remove_member
from aster.demo.authorization_server import AuthorizationServer
from aster.demo.records import Client
from aster.errors import AsterError, InvalidInput, NotAllowed, NotFound, UpstreamError
from integrations.models import AuthConfig, AuthType, ClientRegistration, Connection, PendingAuthorization
from integrations.oauth.authorization import AuthorizationRefused
from integrations.services import connections
from integrations.services.connections import begin_connection, complete_connection
from integrations.services.disconnection import disconnect
from integrations.services.refresh import fresh_access_token
from integrations.tasks import delete_expired
from tests.conftest import Person
from tests.integrations.grants import Crew, Desk, Gate, change, crew, desk, is_live, provider, reread
from tests.walks.conftest import callback_params, consent

__all__ = ["crew", "desk", "provider"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def auth(desk: Desk, provider: AuthorizationServer) -> AuthConfig:
    metadata = provider.metadata()
    return desk.auth_config(registration_url=metadata["registration_endpoint"], provider_metadata=metadata)


def begin(auth: AuthConfig, person: Person, **how: Any) -> str:
    url = begin_connection(auth, actor=person.actor, **how).authorization_url
    assert url
    return url


def allow(auth: AuthConfig, person: Person, name: str = "Ada Park", **how: Any) -> dict[str, str]:
    """Begin and consent; returns what the browser brings back."""
    return callback_params(consent(begin(auth, person, **how), name))


def connect(auth: AuthConfig, person: Person, name: str = "Ada Park") -> Connection:
    return complete_connection(allow(auth, person, name), actor=person.actor)


def refusal(params: dict[str, str], person: Person, **how: Any) -> AsterError:
    with pytest.raises(AsterError) as caught:
        complete_connection(params, actor=person.actor, **how)
    return caught.value


def test_a_sign_in_stores_a_working_grant_bound_to_where_it_came_from(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer
) -> None:
    connection = connect(auth, alice)
    stored = reread(connection)
    assert is_live(provider, stored)
    assert (stored.user, stored.generation, stored.status) == (alice.user, 1, "connected")
    assert (stored.issuer, stored.token_url, stored.resource) == (auth.issuer, auth.token_url, auth.resource)
    assert stored.refresh_at and stored.expires_at and stored.refresh_at < stored.expires_at
    assert AuditEvent.objects.filter(action="connected", actor=alice.user).count() == 1
    assert not PendingAuthorization.objects.exists()


@pytest.mark.parametrize("state", ["", "made-up", "' OR 1=1 --"])
def test_an_unknown_state_is_refused(auth: AuthConfig, alice: Person, state: str) -> None:
    params = allow(auth, alice)
    assert refusal({**params, "state": state}, alice).code == "state_unknown"
    assert complete_connection(params, actor=alice.actor).status == "connected"


def test_a_used_state_is_refused_and_the_grant_stays(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer
) -> None:
    params = allow(auth, alice)
    connection = complete_connection(params, actor=alice.actor)
    assert refusal(params, alice).code == "state_unknown"
    assert is_live(provider, reread(connection)), "the code was not sent a second time"


def test_a_state_older_than_ten_minutes_is_refused_and_its_code_not_sent(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer
) -> None:
    params = allow(auth, alice)
    PendingAuthorization.objects.update(expires_at=timezone.now())
    assert refusal(params, alice).code == "state_unknown"
    assert provider.token_requests == []


@pytest.mark.parametrize("thief", ["bob", "charlie"])
def test_somebody_elses_state_is_refused_and_not_consumed(
    auth: AuthConfig, alice: Person, thief: str, request: pytest.FixtureRequest, provider: AuthorizationServer
) -> None:
    params = allow(auth, alice)
    assert refusal(params, request.getfixturevalue(thief)).code == "state_foreign"
    assert provider.token_requests == []
    assert complete_connection(params, actor=alice.actor).user == alice.user


def test_another_browser_of_the_same_person_is_refused_and_consumes_nothing(auth: AuthConfig, alice: Person) -> None:
    params = allow(auth, alice, browser="laptop")
    for browser in ("phone", ""):
        assert refusal(params, alice, browser=browser).code == "state_foreign"
    assert complete_connection(params, actor=alice.actor, browser="laptop").status == "connected"


def test_the_providers_no_is_shown_and_stores_nothing(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer
) -> None:
    params = callback_params(consent(begin(auth, alice), decision="deny"))
    error = refusal(params, alice)
    assert isinstance(error, AuthorizationRefused)
    assert "declined" in error.message
    assert not Connection.objects.exists() and not PendingAuthorization.objects.exists()
    assert provider.token_requests == []


@pytest.mark.parametrize(
    ("iss", "code"), [("https://evil.example", "issuer_mismatch"), (None, "issuer_missing"), ("", "issuer_mismatch")]
)
def test_an_answer_from_another_issuer_is_refused_before_the_code_is_sent(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer, iss: str | None, code: str
) -> None:
    params = allow(auth, alice)
    changed = {name: value for name, value in {**params, "iss": iss}.items() if value is not None}
    assert refusal(changed, alice).code == code
    assert provider.token_requests == []
    assert not Connection.objects.exists()


GARBAGE = [
    (200, "<html>hello</html>", "text/html"),
    (200, {"token_type": "Bearer"}, "application/json"),
    (200, {"access_token": "x", "token_type": "mac"}, "application/json"),
    (200, {"access_token": ["x"]}, "application/json"),
    (400, {"error": "invalid_grant"}, "application/json"),
    (503, "busy", "text/plain"),
]


@pytest.mark.parametrize(("status", "body", "kind"), GARBAGE)
def test_garbage_from_the_token_endpoint_stores_nothing(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer, status: int, body: Any, kind: str
) -> None:
    params = allow(auth, alice)
    provider.fail_next_token(status, body, kind)
    assert isinstance(refusal(params, alice), UpstreamError)
    assert not Connection.objects.exists()
    assert not AuditEvent.objects.filter(action="connected").exists()


def test_garbage_at_a_second_sign_in_leaves_the_first_grant_alone(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer
) -> None:
    connection = connect(auth, alice)
    params = allow(auth, alice)
    provider.fail_next_token(200, "nonsense")
    refusal(params, alice)
    assert is_live(provider, reread(connection))
    assert reread(connection).generation == 1


def test_a_callback_that_arrives_twice_at_once_exchanges_the_code_once(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer, crew: Crew
) -> None:
    params = allow(auth, alice)
    provider.token_delay = 0.05
    outcomes = []
    for result in [crew.start(complete_connection, params, actor=alice.actor) for _ in range(6)]:
        try:
            outcomes.append(result().status)
        except InvalidInput as error:
            outcomes.append(error.code)
    assert sorted(outcomes) == ["connected"] + ["state_unknown"] * 5
    assert [request.grant_type for request in provider.token_requests] == ["authorization_code"]
    assert is_live(provider, Connection.objects.get())


def test_two_sign_ins_of_one_person_that_end_at_once_leave_one_row_with_a_live_grant(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer, crew: Crew
) -> None:
    both = [allow(auth, alice), allow(auth, alice)]
    gate = provider.before_token = Gate()
    results = [crew.start(complete_connection, params, actor=alice.actor) for params in both]
    for _ in both:
        gate.await_request()
    gate.let_through(2)
    assert {result().pk for result in results} == {Connection.objects.get().pk}
    stored = Connection.objects.get()
    assert stored.generation == 2
    assert is_live(provider, stored)


def test_people_have_grants_of_their_own_at_one_server(
    auth: AuthConfig, alice: Person, bob: Person, provider: AuthorizationServer
) -> None:
    hers, his = connect(auth, alice), connect(auth, bob, "Ben Okafor")
    assert [provider.lookup(c.access_token).person for c in (hers, his)] == ["Ada Park", "Ben Okafor"]  # type: ignore[union-attr]
    disconnect(hers, actor=alice.actor)
    assert is_live(provider, reread(his))
    with pytest.raises(NotAllowed):
        disconnect(his, actor=Person(alice.user, alice.organization, "member").actor)


def test_signing_in_again_heals_a_connection_error_in_the_same_row(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer
) -> None:
    broken = change(connect(auth, alice), status="connection_error", last_error="revoked", refresh_at=None, failures=3)
    healed = reread(connect(auth, alice))
    assert (healed.pk, healed.status, healed.last_error, healed.failures) == (broken.pk, "connected", "", 0)
    assert healed.generation == 2 and healed.refresh_at is not None
    assert fresh_access_token(healed) == healed.access_token


def test_signing_in_again_during_a_refresh_wins_over_the_refresh(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer, crew: Crew
) -> None:
    old = change(connect(auth, alice), expires_at=timezone.now())
    params = allow(auth, alice)
    gate = provider.before_token = Gate()
    refreshing = crew.start(fresh_access_token, old)
    gate.await_request()
    provider.before_token = None
    new = complete_connection(params, actor=alice.actor)
    gate.let_through()
    assert refreshing() == new.access_token
    after = reread(new)
    assert (after.access_token, after.generation, after.claim) == (new.access_token, 2, None)
    assert is_live(provider, after)


def test_beginning_twice_registers_one_client_and_either_journey_may_end(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer
) -> None:
    first, second = begin(auth, alice), begin(auth, alice)
    assert ClientRegistration.objects.filter(auth_config=auth).count() == 1
    complete_connection(callback_params(consent(second)), actor=alice.actor)
    complete_connection(callback_params(consent(first)), actor=alice.actor)
    assert is_live(provider, Connection.objects.get())


def test_a_redirect_uri_nobody_allowed_is_refused_and_leaves_nothing(auth: AuthConfig, alice: Person) -> None:
    with pytest.raises(InvalidInput, match="not allowed"):
        begin(auth, alice, redirect_uri="https://evil.example/callback")
    assert not PendingAuthorization.objects.exists()


def test_a_client_the_provider_forgot_is_registered_anew_at_the_next_try(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer
) -> None:
    params = allow(auth, alice)
    forgotten = ClientRegistration.objects.get().client_id
    provider.ledger.clients.pop(forgotten)
    assert getattr(refusal(params, alice), "error", "") == "invalid_client"
    assert connect(auth, alice).client_id != forgotten


def test_disconnecting_revokes_both_tokens_and_deletes_the_row(
    auth: AuthConfig, alice: Person, provider: AuthorizationServer
) -> None:
    connection = connect(auth, alice)
    assert disconnect(connection, actor=alice.actor).outcome == "revoked"
    assert [line.token_type_hint for line in provider.revocations] == ["refresh_token", "access_token"]
    assert not is_live(provider, connection) and not Connection.objects.exists()
    event = AuditEvent.objects.get(action="disconnected")
    assert event.changes["revocation"][1].startswith("revoked")
    with pytest.raises(NotFound):
        disconnect(connection, actor=alice.actor)


def test_a_provider_that_is_down_does_not_keep_the_tokens_here(auth: AuthConfig, alice: Person) -> None:
    connection = change(connect(auth, alice), revocation_url="http://127.0.0.1:1/revoke")
    outcome = disconnect(connection, actor=alice.actor)
    assert outcome.outcome == "failed" and outcome.words
    assert not Connection.objects.exists()


def test_somebody_elses_connection_can_only_be_ended_by_an_admin(
    auth: AuthConfig, alice: Person, bob: Person, charlie: Person
) -> None:
    connection = connect(auth, alice)
    with pytest.raises(NotAllowed):
        disconnect(connection, actor=bob.actor)
    with pytest.raises(NotFound):
        disconnect(connection, actor=charlie.actor)
    his = connect(auth, bob, "Ben Okafor")
    assert disconnect(his, actor=alice.actor).outcome == "revoked"
    assert Connection.objects.get() == connection


def test_who_leaves_the_organization_is_disconnected_and_revoked(
    auth: AuthConfig, alice: Person, bob: Person, provider: AuthorizationServer
) -> None:
    hers, his = connect(auth, alice), connect(auth, bob, "Ben Okafor")
    remove_member(bob.organization.memberships.get(user=bob.user), actor=alice.actor)
    delete_expired()
    assert Connection.objects.get() == hers
    assert not is_live(provider, his) and is_live(provider, hers)


def test_journeys_nobody_finished_are_deleted(auth: AuthConfig, alice: Person) -> None:
    begin(auth, alice)
    old = PendingAuthorization.objects.get()
    begin(auth, alice)
    PendingAuthorization.objects.filter(pk=old.pk).update(expires_at=timezone.now() - timedelta(hours=1))
    delete_expired()
    assert PendingAuthorization.objects.exclude(pk=old.pk).count() == PendingAuthorization.objects.count() == 1


def test_client_credentials_belong_to_the_organization_and_only_admins_connect_them(
    desk: Desk, alice: Person, bob: Person, provider: AuthorizationServer
) -> None:
    provider.add_client(Client.with_secret("robot", "s3cret", grant_types=("client_credentials",)))
    auth = desk.auth_config(auth_type=AuthType.CLIENT_CREDENTIALS, client_id="robot", client_secret="s3cret")
    with pytest.raises(NotAllowed):
        begin_connection(auth, actor=bob.actor)
    for _ in range(2):
        made = begin_connection(auth, actor=alice.actor).connection
        assert made is not None and made.user is None
    assert Connection.objects.get().generation == 2
    assert provider.lookup(Connection.objects.get().access_token)


def test_shared_credentials_need_no_sign_in(desk: Desk, alice: Person) -> None:
    with pytest.raises(InvalidInput) as caught:
        begin_connection(desk.auth_config(auth_type=AuthType.BEARER, token="t"), actor=alice.actor)
    assert caught.value.code == "no_sign_in_needed"


def test_pending_verifiers_and_grants_are_unreadable_in_the_database(auth: AuthConfig, alice: Person) -> None:
    from django.db import connection as database

    params = allow(auth, alice)
    verifier = PendingAuthorization.objects.get().verifier
    with database.cursor() as cursor:
        cursor.execute("SELECT * FROM integrations_pendingauthorization")
        raw = repr([bytes(v) if isinstance(v, memoryview) else v for v in cursor.fetchone() or ()])
    assert verifier not in raw and params["state"] not in raw
    stored = complete_connection(params, actor=alice.actor)
    with database.cursor() as cursor:
        cursor.execute("SELECT * FROM integrations_connection")
        raw = repr([bytes(v) if isinstance(v, memoryview) else v for v in cursor.fetchone() or ()])
    assert stored.access_token not in raw and stored.refresh_token not in raw


def test_the_lists_of_connections_hold_no_tokens(auth: AuthConfig, alice: Person, bob: Person) -> None:
    hers = connect(auth, alice)
    assert connections.find_connection(hers.pk, actor=alice.actor) == hers
    with pytest.raises(NotFound):
        connections.find_connection(hers.pk, actor=bob.actor)
    assert hers.access_token not in repr(hers) + str(hers)
