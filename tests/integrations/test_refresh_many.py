"""The background refresh of many grants at once: nothing is asked twice, and no provider holds up the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from django.db import connection as database
from django.utils import timezone
from pytest_django.fixtures import Settings
from starlette.responses import JSONResponse, Response

from aster.demo.authorization_server import AuthorizationServer
from aster.demo.records import Client
from integrations.models import AuthType, Connection
from integrations.oauth.tokens import TokenSet
from integrations.services import batches, grants, refresh, refresh_many
from integrations.services.refresh_many import refresh_due
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

LONG_AGO = timezone.now() - timedelta(hours=1)


@pytest.fixture
def beside(provider: AuthorizationServer) -> str:
    """The token endpoint of the same provider under another host: to Aster that is another provider."""
    return f"{provider.issuer}/token".replace("127.0.0.1", "localhost")


def outcomes(connection: Connection) -> list[str]:
    return list(connection.attempts.order_by("pk").values_list("outcome", flat=True))


def test_every_due_grant_is_renewed_once_and_its_ledger_says_so(
    desk: Desk, alice: Person, provider: AuthorizationServer
) -> None:
    rows = [desk.connect(alice) for _ in range(30)]
    refresh_due()
    after = [reread(row) for row in rows]
    assert all(row.generation == 2 and row.claim is None and is_live(provider, row) for row in after)
    assert all(row.refresh_at and row.refresh_at > timezone.now() and row.scopes == ["notes:read"] for row in after)
    assert len(provider.token_requests) == 30
    line = after[0].attempts.get()
    assert (line.outcome, line.reason, line.generation) == ("renewed", "background", 2)


def test_many_wait_for_their_provider_at_once(
    desk: Desk, alice: Person, provider: AuthorizationServer, crew: Crew
) -> None:
    provider.before_token = gate = Gate()
    for _ in range(refresh_many.FIRST_LANES):
        desk.connect(alice)
    done = crew.start(refresh_due)
    for _ in range(refresh_many.FIRST_LANES):
        gate.await_request()
    gate.let_through(refresh_many.FIRST_LANES)
    done()
    assert not Connection.objects.exclude(generation=2).exists()


def test_a_provider_that_does_not_rotate_and_a_client_without_a_person_are_served_alike(
    desk: Desk, alice: Person, provider: AuthorizationServer
) -> None:
    provider.rotate_refresh_tokens = False
    provider.add_client(Client.with_secret("robot", "s3cret", grant_types=("client_credentials",)))
    auth = desk.auth_config(auth_type=AuthType.CLIENT_CREDENTIALS, client_id="robot", client_secret="s3cret")
    person, robot = desk.connect(alice), desk.connect(None, auth=auth, client_id="robot", refresh_token="")
    refresh_due()
    assert reread(person).refresh_token == person.refresh_token
    assert [reread(row).generation for row in (person, robot)] == [2, 2]
    assert provider.lookup(reread(robot).access_token)


def test_a_refused_grant_is_flagged_and_trouble_is_waited_out(
    desk: Desk, alice: Person, provider: AuthorizationServer, beside: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused, busy, unreachable, fine = (desk.connect(alice) for _ in range(4))
    change(refused, refresh_token="unknown")
    change(busy, token_url=beside)
    change(unreachable, token_url="http://127.0.0.1:1/token")
    spare = {busy.refresh_token: Response("busy", 503, headers={"retry-after": "90"})}
    provider.answers["token"] = lambda form: spare.get(form.get("refresh_token", ""))
    refresh_due()
    after = [reread(row) for row in (refused, busy, unreachable, fine)]
    assert [row.status for row in after] == ["connection_error", "connected", "connected", "connected"]
    assert [row.generation for row in after] == [1, 1, 1, 2]
    assert [row.failures for row in after] == [0, 1, 1, 0]
    assert [outcomes(row) for row in after] == [["refused"], ["postponed"], ["postponed"], ["renewed"]]
    assert after[1].refresh_at and after[1].refresh_at > timezone.now() + timedelta(seconds=80)
    assert fine.refresh_token not in caplog.text


def test_a_missing_encryption_key_postpones_and_breaks_nothing(
    desk: Desk, alice: Person, provider: AuthorizationServer, settings: Settings
) -> None:
    keys = settings.ASTER_ENCRYPTION_KEYS
    row = desk.connect(alice)
    settings.ASTER_ENCRYPTION_KEYS = ["another-key-that-opens-nothing-of-this"]
    refresh_due()
    settings.ASTER_ENCRYPTION_KEYS = keys
    assert (reread(row).status, reread(row).failures) == ("connected", 1)
    assert provider.token_requests == []


def test_a_grant_our_own_code_fails_at_is_tried_once_a_run_and_stops_nobody(
    desk: Desk, alice: Person, caplog: pytest.LogCaptureFixture
) -> None:
    absurd, fine = desk.connect(alice), desk.connect(alice)
    type(absurd.auth_config).objects.filter(pk=absurd.auth_config.pk).update(extra_token_params=["not", "a", "mapping"])
    refresh_due()
    assert [(reread(row).generation, reread(row).claim) for row in (absurd, fine)] == [(1, None), (2, None)]
    assert caplog.text.count(f"The refresh of connection {absurd.pk} failed.") == 1


def test_an_id_token_is_kept_and_an_answer_without_one_keeps_the_old(
    desk: Desk, alice: Person, provider: AuthorizationServer
) -> None:
    with_one, without = desk.connect(alice, id_token="old"), desk.connect(alice, id_token="old")
    answer = {"access_token": "a", "refresh_token": "r", "id_token": "new", "expires_in": 60}
    provider.answers["token"] = lambda form: (
        JSONResponse(answer) if form["refresh_token"] == with_one.refresh_token else None
    )
    refresh_due()
    assert (reread(with_one).id_token, reread(without).id_token) == ("new", "old")


def test_a_provider_that_hangs_neither_holds_up_the_others_nor_keeps_what_was_claimed_for_it(
    desk: Desk, alice: Person, provider: AuthorizationServer, beside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "TOKEN_REQUEST_SECONDS", 0.4)
    monkeypatch.setattr(refresh_many, "PATIENCE_SECONDS", 0.3)
    hanging = [desk.connect(alice, token_url=beside, refresh_at=LONG_AGO) for _ in range(40)]
    fine = [desk.connect(alice) for _ in range(5)]
    stuck = {row.refresh_token for row in hanging}
    answered_first: list[str] = []

    def hang(form: Mapping[str, str]) -> None:
        if form["refresh_token"] in stuck:
            time.sleep(0.6)
        answered_first.append("stuck" if form["refresh_token"] in stuck else "fine")

    provider.before_token = hang
    refresh_due()
    assert answered_first[:5] == ["fine"] * 5
    assert [reread(row).generation for row in fine] == [2] * 5
    after = [reread(row) for row in hanging]
    assert sum(row.failures for row in after) == refresh_many.FIRST_LANES
    assert all(row.claim is None and row.generation == 1 for row in after)


def test_a_worker_that_is_told_to_stop_finishes_what_it_asked_for_and_gives_the_rest_back(
    desk: Desk, alice: Person, provider: AuthorizationServer, crew: Crew
) -> None:
    provider.before_token = gate = Gate()
    rows = [desk.connect(alice) for _ in range(refresh_many.FIRST_LANES + 5)]
    stop = threading.Event()
    done = crew.start(refresh_due, stopping=stop.is_set)
    for _ in range(refresh_many.FIRST_LANES):
        gate.await_request()
    stop.set()
    gate.let_through(refresh_many.FIRST_LANES)
    done()
    after = [reread(row) for row in rows]
    assert sorted(row.generation for row in after) == [1] * 5 + [2] * refresh_many.FIRST_LANES
    assert all(row.claim is None and is_live(provider, row) for row in after)


@pytest.mark.skipif(database.vendor != "sqlite", reason="the fault is a trigger of SQLite's")
def test_a_database_that_fails_beside_it_does_not_cost_what_was_asked_for(
    desk: Desk, alice: Person, provider: AuthorizationServer, crew: Crew
) -> None:
    provider.before_token = gate = Gate()
    rows = [desk.connect(alice) for _ in range(refresh_many.FIRST_LANES + 5)]
    stop = threading.Event()
    done = crew.start(refresh_due, stopping=stop.is_set)
    for _ in range(refresh_many.FIRST_LANES):
        gate.await_request()
    with database.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER nothing_is_given_back BEFORE UPDATE OF claim ON integrations_connection"
            " WHEN NEW.claim IS NULL AND NEW.generation = OLD.generation BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    try:
        stop.set()
        gate.let_through(refresh_many.FIRST_LANES)
        with pytest.raises(DatabaseError):
            done()
    finally:
        with database.cursor() as cursor:
            cursor.execute("DROP TRIGGER nothing_is_given_back")
    after = [reread(row) for row in rows]
    assert sorted(row.generation for row in after) == [1] * 5 + [2] * refresh_many.FIRST_LANES
    assert all(is_live(provider, row) for row in after)


def test_a_second_run_in_one_process_leaves_the_work_to_the_first(
    desk: Desk, alice: Person, provider: AuthorizationServer, crew: Crew
) -> None:
    provider.before_token = gate = Gate()
    desk.connect(alice)
    done = crew.start(refresh_due)
    gate.await_request()
    later = desk.connect(alice)
    refresh_due()
    assert reread(later).claim is None or reread(later).generation == 1
    gate.let_through(2)
    done()


def test_what_another_process_holds_is_passed_by_and_a_dead_holder_is_named(
    desk: Desk, alice: Person, provider: AuthorizationServer
) -> None:
    held, dead = desk.connect(alice), desk.connect(alice)
    assert refresh.claim_connection(held) and refresh.claim_connection(dead)
    let_lease_run_out(change(dead, claimed_by="gone:1"))
    refresh_due()
    assert [reread(row).generation for row in (held, dead)] == [1, 2]
    assert outcomes(dead) == ["abandoned", "renewed"]
    assert dead.attempts.get(outcome="abandoned").process == "gone:1"


def test_one_answer_that_comes_late_does_not_keep_the_rest_of_its_batch_from_being_stored(
    desk: Desk, alice: Person, provider: AuthorizationServer
) -> None:
    """While the provider answered, one person signed in again and one disconnected."""
    fine, newer, gone = (desk.connect(alice) for _ in range(3))
    rows = batches.claim_due(10)
    answers = [
        batches.Renewed(row, grants.request_token(row.auth_config, row), 0.1)
        for row in sorted(rows, key=lambda row: row.pk)
    ]
    change(newer, generation=2, access_token="newer")
    Connection.objects.filter(pk=gone.pk).delete()
    batches.store_renewed(answers)
    assert (reread(fine).generation, outcomes(fine)) == (2, ["renewed"])
    assert (reread(newer).access_token, outcomes(newer)) == ("newer", ["dropped"])
    assert provider.ledger.peek_refresh_token(answers[2].answer.refresh_token or "") is None, "revoked, not orphaned"


def test_an_answer_that_cannot_be_stored_does_not_cost_the_others_theirs(
    desk: Desk, alice: Person, caplog: pytest.LogCaptureFixture
) -> None:
    fine, broken = desk.connect(alice), desk.connect(alice)
    rows = {row.pk: row for row in batches.claim_due(10)}
    unusable: Any = "soon"
    batches.store_renewed(
        [
            batches.Renewed(rows[broken.pk], TokenSet("b", expires_at=unusable), 0.1),
            batches.Renewed(rows[fine.pk], TokenSet("a", refresh_token="r"), 0.1),
        ]
    )
    assert (reread(fine).access_token, reread(fine).generation) == ("a", 2)
    assert reread(broken).generation == 1
    assert "could not be stored" in caplog.text


def test_claims_are_bounded_urgent_first_and_leave_out_who_has_enough(desk: Desk, alice: Person, beside: str) -> None:
    soon, urgent, other = (desk.connect(alice) for _ in range(3))
    change(urgent, refresh_at=LONG_AGO)
    change(other, token_url=beside, refresh_at=LONG_AGO - timedelta(hours=1))
    assert [row.pk for row in batches.claim_due(1, not_at=[beside])] == [urgent.pk]
    assert {row.pk for row in batches.claim_due(9)} == {soon.pk, other.pk}
    assert batches.claim_due(9) == []


def test_claimed_rows_are_given_back_only_by_their_claim(desk: Desk, alice: Person) -> None:
    desk.connect(alice)
    (row,) = batches.claim_due(1)
    (theirs,) = [let_lease_run_out(row)] and batches.claim_due(1)
    batches.release([row])
    assert reread(row).claim == theirs.claim
    batches.release([theirs])
    assert reread(row).claim is None
