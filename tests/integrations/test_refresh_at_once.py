"""Many at once on one grant: one request to the provider, one new token for all, and no step undoes another's."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from aster.accounts.models import AuditEvent
from aster.demo.authorization_server import AuthorizationServer
from aster.errors import ConnectionRequired, NotFound, UpstreamError
from integrations.models import Connection
from integrations.oauth.tokens import TokenSet
from integrations.services import disconnection, grants, refresh
from integrations.services.refresh import fresh_access_token
from tests.conftest import Person
from tests.integrations.grants import (
    Crew,
    Desk,
    Gate,
    change,
    crew,
    desk,
    is_live,
    let_lease_run_out,
    provider,
    reread,
)

__all__ = ["crew", "desk", "provider"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def connection(desk: Desk, alice: Person) -> Connection:
    return desk.connect(alice)


@pytest.fixture
def gate(provider: AuthorizationServer) -> Gate:
    gate = Gate()
    provider.before_token = gate
    return gate


def test_sixteen_callers_with_an_expired_token_cost_one_request(
    connection: Connection, provider: AuthorizationServer, crew: Crew
) -> None:
    provider.token_delay = 0.1
    tokens = {result() for result in [crew.start(fresh_access_token, connection) for _ in range(16)]}
    assert tokens == {reread(connection).access_token}
    assert len(provider.token_requests) == 1
    assert is_live(provider, reread(connection))


def test_sixteen_rejections_of_one_token_cost_one_request(
    connection: Connection, provider: AuthorizationServer, crew: Crew
) -> None:
    connection = change(connection, expires_at=timezone.now() + timedelta(hours=1))
    provider.token_delay = 0.1
    started = [crew.start(fresh_access_token, connection, rejected=connection.access_token) for _ in range(16)]
    assert {result() for result in started} == {reread(connection).access_token} != {connection.access_token}
    assert len(provider.token_requests) == 1


def test_a_task_that_read_the_row_before_another_refreshed_it_asks_nobody(
    connection: Connection, provider: AuthorizationServer
) -> None:
    fresh_access_token(connection)
    assert refresh.refresh(connection).generation == 2
    assert refresh.refresh_if_due(connection.pk) is None
    assert len(provider.token_requests) == 1


def test_who_read_the_row_before_another_failed_hears_of_it_and_asks_nobody(
    connection: Connection, provider: AuthorizationServer
) -> None:
    provider.fail_next_token(503, "busy")
    assert refresh.refresh_if_due(connection.pk) is not None
    with pytest.raises(UpstreamError, match="503"):
        refresh.refresh(connection)
    assert len(provider.token_requests) == 1


def test_while_one_asks_the_provider_nothing_in_the_database_is_locked(
    connection: Connection, alice: Person, crew: Crew, gate: Gate
) -> None:
    winner = crew.start(fresh_access_token, connection)
    gate.await_request()
    started = time.monotonic()
    change(connection, last_used_at=timezone.now())
    assert time.monotonic() - started < 1
    assert reread(connection).claim is not None
    gate.let_through()
    assert winner() == reread(connection).access_token


def test_whoever_waits_hears_the_winners_trouble_and_does_not_ask_again(
    connection: Connection, provider: AuthorizationServer, crew: Crew, gate: Gate
) -> None:
    provider.fail_next_token(503, "busy")
    winner = crew.start(fresh_access_token, connection)
    gate.await_request()
    losers = [crew.start(fresh_access_token, connection) for _ in range(3)]
    gate.let_through()
    for result in (winner, *losers):
        with pytest.raises(UpstreamError, match="503"):
            result()
    assert len(provider.token_requests) == 1
    assert reread(connection).failures == 1


def test_whoever_waits_hears_that_the_grant_is_over(
    connection: Connection, provider: AuthorizationServer, crew: Crew, gate: Gate
) -> None:
    provider.revoke_person("Ada Park")
    winner = crew.start(fresh_access_token, connection)
    gate.await_request()
    loser = crew.start(fresh_access_token, connection)
    gate.let_through()
    for result in (winner, loser):
        with pytest.raises(ConnectionRequired):
            result()
    assert len(provider.token_requests) == 1
    assert AuditEvent.objects.filter(action="connection_error").count() == 1


def test_whoever_waited_too_long_is_told_to_try_again(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "WAIT_SECONDS", 0.1)
    assert refresh.claim_connection(connection)
    with pytest.raises(UpstreamError, match="another process") as caught:
        fresh_access_token(connection)
    assert caught.value.retryable
    assert reread(connection).status == "connected"


def test_the_background_passes_by_what_another_process_holds(
    connection: Connection, provider: AuthorizationServer
) -> None:
    assert refresh.claim_connection(connection)
    assert not Connection.objects.due(timezone.now()).exists()
    assert refresh.refresh_if_due(connection.pk) is None
    assert provider.token_requests == []


def test_who_waits_for_a_dead_holder_takes_over_when_the_lease_has_run_out(
    connection: Connection, provider: AuthorizationServer, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "LEASE", timedelta(seconds=0.3))
    assert refresh.claim_connection(connection)
    started = [crew.start(fresh_access_token, connection) for _ in range(4)]
    assert {result() for result in started} == {reread(connection).access_token}
    assert len(provider.token_requests) == 1


def test_a_late_refusal_does_not_touch_the_grant_somebody_else_renewed(
    connection: Connection, provider: AuthorizationServer, crew: Crew, gate: Gate
) -> None:
    provider.detect_reuse = False
    slow = crew.start(fresh_access_token, connection)
    gate.await_request()
    provider.before_token = None
    token = fresh_access_token(let_lease_run_out(connection))
    gate.let_through()

    assert slow() == token, "the slow one is refused, and takes the newer token"
    assert [r.error for r in provider.token_requests] == ["invalid_grant", ""]
    after = reread(connection)
    assert (after.status, after.generation, after.failures, after.last_error) == ("connected", 2, 0, "")
    assert is_live(provider, after)


def test_a_refusal_to_a_holder_whose_claim_is_anothers_by_now_decides_nothing(connection: Connection) -> None:
    mine = refresh.claim_connection(connection)
    theirs = refresh.claim_connection(let_lease_run_out(connection))
    assert mine and theirs
    refresh._mark_error(connection, "no", claim=mine)
    refresh._postpone(connection, mine, UpstreamError("busy"))
    refresh.release_claim(connection, mine)
    after = reread(connection)
    assert (after.status, after.claim, after.failures) == ("connected", theirs, 0)


def test_a_late_answer_still_counts_if_nobody_else_got_one(
    connection: Connection, provider: AuthorizationServer
) -> None:
    """Two had the claim, one after the other; the second was refused because the first one's request came first."""
    assert refresh.claim_connection(connection)
    answer = grants.request_token(connection.auth_config, connection)
    provider.detect_reuse = False
    with pytest.raises(ConnectionRequired):
        fresh_access_token(let_lease_run_out(connection))
    assert reread(connection).status == "connection_error"

    refresh.store_refreshed(connection, answer)
    after = reread(connection)
    assert (after.status, after.generation, after.last_error) == ("connected", 2, "")
    assert is_live(provider, after)


def test_a_late_answer_never_replaces_a_newer_one(connection: Connection) -> None:
    newer = change(connection, generation=2, access_token="newer", refresh_token="newer too")
    refresh.store_refreshed(connection, TokenSet(access_token="late", refresh_token="late too"))
    after = reread(connection)
    assert (after.generation, after.access_token, after.refresh_token) == (2, newer.access_token, newer.refresh_token)


def test_disconnecting_waits_for_a_refresh_in_flight_and_revokes_what_it_brought(
    connection: Connection, alice: Person, provider: AuthorizationServer, crew: Crew, gate: Gate
) -> None:
    refreshing = crew.start(refresh.refresh_if_due, connection.pk)
    gate.await_request()
    leaving = crew.start(disconnection.disconnect, connection, actor=alice.actor)
    gate.let_through()
    assert refreshing() is None
    assert leaving().outcome == "revoked"
    assert not Connection.objects.exists()
    assert provider.ledger.refresh == {}
    assert provider.revocations[0].found, "the new refresh token, not the spent one"


def test_disconnecting_from_a_provider_that_hangs_does_not_wait_for_ever(
    connection: Connection,
    alice: Person,
    provider: AuthorizationServer,
    crew: Crew,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disconnection, "HOLD_SECONDS", 0.2)
    refreshing = crew.start(fresh_access_token, connection)
    gate.await_request()
    disconnection.disconnect(connection, actor=alice.actor)
    assert not Connection.objects.exists()
    gate.let_through()
    with pytest.raises(ConnectionRequired, match="removed"):
        refreshing()
    assert provider.ledger.refresh == {}


def test_a_grant_that_is_renewed_while_it_is_revoked_is_revoked_too(
    connection: Connection, alice: Person, provider: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disconnecting went on without the claim; the holder stored its answer between the revocation and the delete."""
    monkeypatch.setattr(disconnection, "HOLD_SECONDS", 0.0)
    assert refresh.claim_connection(connection)
    answer = grants.request_token(connection.auth_config, connection)
    lock = threading.Lock()
    stored: list[bool] = []

    def store(_form: object) -> None:
        with lock:
            if not stored:
                stored.append(True)
                refresh.store_refreshed(connection, answer)

    provider.answers["revoke"] = store
    assert disconnection.disconnect(connection, actor=alice.actor).outcome == "revoked"
    assert stored and not Connection.objects.exists()
    assert provider.ledger.peek_refresh_token(answer.refresh_token or "") is None


def test_two_clicks_on_disconnect_end_one_connection(
    connection: Connection, alice: Person, crew: Crew, provider: AuthorizationServer
) -> None:
    clicks = [crew.start(disconnection.disconnect, connection, actor=alice.actor) for _ in range(2)]
    outcomes: list[str] = []
    for click in clicks:
        try:
            outcomes.append(click().outcome)
        except NotFound:
            outcomes.append("gone")
    assert sorted(outcomes) == ["gone", "revoked"]
    assert AuditEvent.objects.filter(action="disconnected").count() == 1
