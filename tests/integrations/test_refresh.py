"""What one attempt to refresh does to a grant, whatever the provider answers: it is never lost by our doing."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings
from starlette.responses import JSONResponse, Response

from aster.accounts.models import AuditEvent
from aster.demo.authorization_server import AuthorizationServer
from aster.demo.records import Client
from aster.errors import ConnectionRequired, UpstreamError
from integrations.models import AuthType, ClientRegistration, Connection
from integrations.services import grants, refresh
from integrations.services.refresh import fresh_access_token
from tests.conftest import Person
from tests.integrations.grants import Desk, change, desk, is_live, provider, reread

__all__ = ["desk", "provider"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def connection(desk: Desk, alice: Person) -> Connection:
    return desk.connect(alice)


def test_an_expired_token_is_renewed_and_both_new_tokens_are_kept(
    connection: Connection, provider: AuthorizationServer
) -> None:
    token = fresh_access_token(connection)
    after = reread(connection)
    assert token == after.access_token != connection.access_token
    assert after.refresh_token != connection.refresh_token
    assert (after.generation, after.claim, after.claimed_until, after.failures) == (2, None, None, 0)
    assert is_live(provider, after)
    assert [(r.grant_type, r.resource) for r in provider.token_requests] == [("refresh_token", connection.resource)]


def test_a_token_that_still_lasts_is_used_without_asking_anybody(
    connection: Connection, provider: AuthorizationServer
) -> None:
    change(connection, expires_at=timezone.now() + timedelta(minutes=5))
    assert fresh_access_token(connection) == connection.access_token
    assert provider.token_requests == []


def test_a_token_without_a_known_end_is_used_until_it_is_rejected(
    connection: Connection, provider: AuthorizationServer
) -> None:
    connection = change(connection, expires_at=None, refresh_at=None)
    assert fresh_access_token(connection) == connection.access_token
    assert not Connection.objects.due(timezone.now()).exists()
    assert fresh_access_token(connection, rejected=connection.access_token) != connection.access_token
    assert len(provider.token_requests) == 1


def test_an_answer_without_expires_in_forgets_the_old_end(
    connection: Connection, provider: AuthorizationServer
) -> None:
    provider.answers["token"] = lambda form: JSONResponse({"access_token": "new", "token_type": "Bearer"})
    assert fresh_access_token(connection) == "new"
    after = reread(connection)
    assert (after.expires_at, after.refresh_at, after.refresh_token) == (None, None, connection.refresh_token)


def test_a_provider_that_does_not_rotate_keeps_its_refresh_token(
    connection: Connection, provider: AuthorizationServer
) -> None:
    provider.rotate_refresh_tokens = False
    fresh_access_token(connection)
    after = reread(connection)
    assert after.refresh_token == connection.refresh_token
    assert after.access_token != connection.access_token
    assert is_live(provider, after)


TROUBLE = [
    (429, {"error": "slow_down"}, "application/json"),
    (500, "oops", "text/plain"),
    (503, "<html>busy</html>", "text/html"),
    (503, {"error": "invalid_grant"}, "application/json"),
    (400, {"error": "temporarily_unavailable"}, "application/json"),
    (200, "not json at all", "application/json"),
    (200, {"token_type": "Bearer"}, "application/json"),
    (200, {"access_token": "x\ny", "token_type": "Bearer"}, "application/json"),
    (302, "", "text/html"),
    (404, "no such page", "text/html"),
]


@pytest.mark.parametrize(("status", "body", "kind"), TROUBLE)
def test_trouble_at_the_provider_keeps_the_grant_and_waits(
    connection: Connection, provider: AuthorizationServer, status: int, body: Any, kind: str
) -> None:
    provider.fail_next_token(status, body, kind)
    with pytest.raises(UpstreamError) as caught:
        fresh_access_token(connection)
    assert caught.value.retryable
    kept = reread(connection)
    assert (kept.status, kept.generation, kept.failures, kept.claim) == ("connected", 1, 1, None)
    assert kept.refresh_token == connection.refresh_token
    assert kept.last_error and kept.last_error in caught.value.message
    assert kept.refresh_at is not None and kept.refresh_at > timezone.now()

    change(connection, refresh_at=timezone.now())
    assert fresh_access_token(connection) == reread(connection).access_token
    assert (reread(connection).failures, reread(connection).last_error) == (0, "")


def test_a_provider_that_cannot_be_reached_keeps_the_grant(connection: Connection) -> None:
    change(connection, token_url="http://127.0.0.1:1/token")
    with pytest.raises(UpstreamError):
        fresh_access_token(connection)
    assert (reread(connection).status, reread(connection).failures) == ("connected", 1)


def test_an_answer_that_never_comes_is_given_up_and_keeps_the_grant(
    connection: Connection, provider: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "TOKEN_REQUEST_SECONDS", 0.2)
    provider.token_delay = 1
    with pytest.raises(UpstreamError, match="did not answer"):
        fresh_access_token(connection)
    assert (reread(connection).status, reread(connection).generation) == ("connected", 1)


def test_callers_do_not_hammer_a_provider_that_just_failed(
    connection: Connection, provider: AuthorizationServer
) -> None:
    provider.fail_next_token(503, "busy", times=5)
    for _ in range(4):
        with pytest.raises(UpstreamError, match="503"):
            fresh_access_token(connection)
    assert len(provider.token_requests) == 1


def test_a_long_back_off_does_not_keep_people_waiting(connection: Connection, provider: AuthorizationServer) -> None:
    now = timezone.now()
    late = now + timedelta(hours=1)
    change(connection, failures=9, refresh_at=late, last_error="busy", last_error_at=now - timedelta(seconds=50))
    with pytest.raises(UpstreamError, match="busy"):
        fresh_access_token(connection)
    change(connection, last_error_at=now - timedelta(seconds=61))
    assert fresh_access_token(connection) == reread(connection).access_token


def test_retries_come_when_the_provider_said_and_otherwise_ever_later(
    connection: Connection, provider: AuthorizationServer
) -> None:
    def wait_after(failures: int, answer: Response) -> float:
        change(connection, failures=failures, refresh_at=timezone.now())
        provider.answers["token"] = lambda form: answer
        before = timezone.now()
        assert refresh.refresh_if_due(connection.pk) is not None
        until = reread(connection).refresh_at
        assert until is not None
        return (until - before).total_seconds()

    busy = Response("busy", 503)
    assert 5 <= wait_after(0, busy) < 7
    assert 30 <= wait_after(2, busy) < 37
    assert 600 <= wait_after(50, busy) < 721
    assert 40 <= wait_after(0, Response("busy", 429, {"Retry-After": "40"})) < 49
    assert 3600 <= wait_after(0, Response("busy", 429, {"Retry-After": "86400"})) < 4321
    waits = {round(wait_after(2, busy), 3) for _ in range(5)}
    assert len(waits) > 1


def test_a_refused_grant_becomes_a_connection_error_with_the_providers_words(
    connection: Connection, provider: AuthorizationServer
) -> None:
    provider.revoke_person("Ada Park")
    with pytest.raises(ConnectionRequired, match="needs to be reconnected"):
        fresh_access_token(connection)
    after = reread(connection)
    assert (after.status, after.refresh_at, after.claim) == ("connection_error", None, None)
    assert "invalid_grant" in after.last_error and "revoked" in after.last_error
    assert after.refresh_token == connection.refresh_token, "marked, not deleted"
    event = AuditEvent.objects.get(action="connection_error")
    assert (event.actor_label, event.changes["status"]) == ("Aster", ["connected", "connection_error"])

    with pytest.raises(ConnectionRequired):
        fresh_access_token(connection)
    assert len(provider.token_requests) == 1, "asking again cannot help"


def test_without_a_refresh_token_the_end_of_the_access_token_asks_for_a_new_sign_in(
    connection: Connection, provider: AuthorizationServer
) -> None:
    change(connection, refresh_token="")
    with pytest.raises(ConnectionRequired):
        fresh_access_token(connection)
    assert "no refresh token" in reread(connection).last_error
    assert provider.token_requests == []


def test_an_old_token_is_good_enough_while_the_provider_is_in_trouble(
    connection: Connection, provider: AuthorizationServer
) -> None:
    connection = change(connection, expires_at=timezone.now() + timedelta(minutes=1))
    provider.fail_next_token(503, "busy")
    assert refresh.refresh_if_due(connection.pk) is not None
    assert fresh_access_token(connection) == connection.access_token


def test_a_rejected_token_is_not_used_again_while_the_provider_is_in_trouble(
    connection: Connection, provider: AuthorizationServer
) -> None:
    connection = change(connection, expires_at=timezone.now() + timedelta(minutes=1))
    provider.fail_next_token(503, "busy")
    with pytest.raises(UpstreamError):
        fresh_access_token(connection, rejected=connection.access_token)
    assert reread(connection).status == "connected", "the person can do nothing about it"


def test_a_rejection_of_an_older_token_costs_no_request(connection: Connection, provider: AuthorizationServer) -> None:
    change(connection, expires_at=timezone.now() + timedelta(minutes=1))
    assert fresh_access_token(connection, rejected="the one before") == connection.access_token
    assert provider.token_requests == []


def test_a_provider_that_answers_with_the_rejected_token_again_is_a_connection_error(
    connection: Connection, provider: AuthorizationServer
) -> None:
    same = {"access_token": connection.access_token, "token_type": "Bearer", "expires_in": 60}
    provider.answers["token"] = lambda form: JSONResponse(same)
    with pytest.raises(ConnectionRequired):
        fresh_access_token(connection, rejected=connection.access_token)
    after = reread(connection)
    assert (after.status, after.last_error) == (
        "connection_error",
        "The server does not accept your sign-in: the provider answers with the same token again.",
    )


def test_a_token_that_stays_rejected_is_flagged_unless_the_person_signed_in_again(connection: Connection) -> None:
    again = connection.connected_at + timedelta(seconds=1)
    change(connection, generation=5, connected_at=again)
    refresh.mark_rejected(connection, "HTTP 401")
    assert reread(connection).status == "connected"

    refresh.mark_rejected(reread(connection), "HTTP 401")
    assert reread(connection).status == "connection_error"
    assert "HTTP 401" in reread(connection).last_error


def test_a_removed_connection_is_said_to_be_removed(connection: Connection) -> None:
    Connection.objects.all().delete()
    with pytest.raises(ConnectionRequired, match="was removed"):
        fresh_access_token(connection)
    with pytest.raises(ConnectionRequired, match="was removed"):
        refresh.refresh(connection)
    assert refresh.refresh_if_due(connection.pk) is None


def test_a_connection_removed_while_the_provider_answers_leaves_no_grant_behind(
    connection: Connection, provider: AuthorizationServer
) -> None:
    assert refresh.claim_connection(connection)
    answer = grants.request_token(connection.auth_config, connection)
    Connection.objects.all().delete()
    refresh.store_refreshed(connection, answer)
    assert provider.lookup(answer.access_token) is None
    assert provider.ledger.peek_refresh_token(answer.refresh_token or "") is None


def test_a_late_answer_is_dropped_when_the_person_signed_in_again_meanwhile(
    connection: Connection, desk: Desk, alice: Person, provider: AuthorizationServer
) -> None:
    assert refresh.claim_connection(connection)
    answer = grants.request_token(connection.auth_config, connection)
    Connection.objects.all().delete()
    newer = desk.connect(alice, auth=connection.auth_config)
    refresh.store_refreshed(connection, answer)
    assert is_live(provider, reread(newer))
    assert reread(newer).refresh_token == newer.refresh_token
    assert provider.revocations == [], "revoking could end the newer grant too"


def test_client_credentials_are_asked_for_again(desk: Desk, provider: AuthorizationServer, alice: Person) -> None:
    robot = Client.with_secret("robot", "s3cret", grant_types=("client_credentials",))
    provider.add_client(robot)
    auth = desk.auth_config(auth_type=AuthType.CLIENT_CREDENTIALS, client_id="robot", client_secret="s3cret")
    connection = desk.connect(None, auth=auth, refresh_token="", client_id="robot", client_secret="s3cret")
    token = fresh_access_token(change(connection, token_endpoint_auth_method="client_secret_basic"))
    assert provider.lookup(token)
    assert [r.grant_type for r in provider.token_requests] == ["client_credentials"]
    assert reread(connection).refresh_at is not None


def test_a_new_client_secret_heals_old_grants(desk: Desk, provider: AuthorizationServer, alice: Person) -> None:
    provider.add_client(Client.with_secret("crm", "new"))
    auth = desk.auth_config(client_id="crm", client_secret="old")
    connection = desk.connect(alice, auth=auth, client_id="crm", client_secret="old")
    change(connection, token_endpoint_auth_method="client_secret_basic")
    with pytest.raises(UpstreamError, match="invalid_client"):
        fresh_access_token(connection)
    assert reread(connection).status == "connected", "it is the client that is refused, not the grant"

    auth.client_secret = "new"
    auth.save()
    change(connection, refresh_at=timezone.now())
    assert provider.lookup(fresh_access_token(connection))


def test_a_secret_is_not_sent_to_another_token_endpoint_than_it_was_pasted_for(desk: Desk, alice: Person) -> None:
    auth = desk.auth_config(client_id="crm", client_secret="new", token_url="https://elsewhere.example/token")
    connection = desk.connect(alice, auth=auth, client_id="crm", client_secret="old")
    change(connection, token_url=desk.provider.issuer + "/token")
    endpoint = grants.endpoint_of(auth, reread(connection))
    assert (endpoint.url, endpoint.client_secret) == (desk.provider.issuer + "/token", "old")


def test_a_registered_client_the_provider_forgot_is_registered_anew_at_the_next_sign_in(
    desk: Desk, alice: Person
) -> None:
    connection = desk.connect(alice, client_id="forgotten")
    ClientRegistration.objects.create(
        auth_config=connection.auth_config, issuer=desk.provider.issuer, client_id="forgotten"
    )
    with pytest.raises(ConnectionRequired):
        fresh_access_token(connection)
    assert reread(connection).status == "connection_error"
    assert not ClientRegistration.objects.exists()


def test_a_missing_encryption_key_breaks_no_connection_for_good(
    connection: Connection, settings: Settings, provider: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    keys = settings.ASTER_ENCRYPTION_KEYS
    settings.ASTER_ENCRYPTION_KEYS = ["another key altogether, 32 characters"]
    with pytest.raises(UpstreamError, match="ASTER_ENCRYPTION_KEYS"):
        fresh_access_token(connection)
    settings.ASTER_ENCRYPTION_KEYS = keys
    assert reread(connection).status == "connected"
    change(connection, refresh_at=timezone.now())
    assert provider.lookup(fresh_access_token(connection))


def test_nothing_logged_or_raised_holds_a_token(
    connection: Connection, provider: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"error": "invalid_grant", "error_description": f"bad token {connection.refresh_token}"}
    provider.fail_next_token(400, echo)
    with pytest.raises(ConnectionRequired) as caught:
        fresh_access_token(connection)
    event = AuditEvent.objects.get(action="connection_error")
    said = f"{caught.value!r} {caplog.text} {reread(connection).last_error} {event.changes}"
    assert connection.refresh_token not in said
    assert connection.access_token not in said


@pytest.mark.parametrize("seconds", [2, 10, 60, 3600, 86400])
def test_the_background_refresh_comes_before_the_end_and_leaves_half_of_a_short_life(seconds: int) -> None:
    now = timezone.now()
    for _ in range(20):
        due = refresh.next_refresh(now, now + timedelta(seconds=seconds), can_refresh=True)
        assert due is not None
        lead = seconds - (due - now).total_seconds()
        assert 0 < lead <= max(375, seconds * 0.63)
        assert (due - now).total_seconds() >= min(1, seconds)
