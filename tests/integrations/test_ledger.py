"""The ledger of a connection: a line for every time its grant was asked for, whoever asked, however that ended."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from starlette.responses import JSONResponse

from aster.errors import AsterError
from integrations.models import Connection, McpServer, RefreshAttempt
from integrations.oauth.tokens import TokenSet
from integrations.services import refresh
from integrations.services.disconnection import disconnect
from integrations.services.refresh import fresh_access_token, refresh_if_due, store_refreshed
from integrations.tasks import delete_expired
from tests.aster.api_contract import api
from tests.conftest import Person
from tests.fakes.provider import BROKEN_TOKEN_ANSWERS, Site
from tests.integrations.sign_in import add_server, sign_in, why_not

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(place: Site, alice: Person) -> McpServer:
    return add_server(place, alice)


@pytest.fixture
def connection(server: McpServer, alice: Person) -> Connection:
    """A connection of alice whose access token has run out."""
    return run_out(sign_in(server, alice))


def run_out(connection: Connection, **more: Any) -> Connection:
    past = timezone.now() - timedelta(seconds=1)
    known = {"expires_at": past, "refresh_at": past, "failures": 0}
    Connection.objects.filter(pk=connection.pk).update(**{**known, **more})
    return Connection.objects.select_related("auth_config__organization", "user").get(pk=connection.pk)


def try_token(connection: Connection) -> None:
    """Ask for a token as a call does, whatever comes of it."""
    with suppress(AsterError):
        fresh_access_token(connection)


def lines(connection: Connection) -> list[tuple[str, str]]:
    """Outcome and reason of each line, oldest first."""
    return list(RefreshAttempt.objects.filter(connection=connection).order_by("pk").values_list("outcome", "reason"))


def last(connection: Connection) -> RefreshAttempt:
    return RefreshAttempt.objects.filter(connection=connection).latest("pk")


# --- Every outcome ----------------------------------------------------------------------------------------------------


def test_a_sign_in_begins_the_ledger(connection: Connection) -> None:
    assert lines(connection) == [("signed_in", "sign-in")]
    line = last(connection)
    assert (line.generation, line.detail) == (1, "")
    assert line.process.endswith(f":{os.getpid()}")


def test_a_renewal_says_who_wanted_it(place: Site, connection: Connection) -> None:
    token = fresh_access_token(connection)
    fresh_access_token(connection, rejected=token)
    refresh_if_due(run_out(connection).pk)
    assert lines(connection)[1:] == [("renewed", "call"), ("renewed", "rejected"), ("renewed", "background")]
    assert last(connection).generation == 4
    assert [form["grant_type"] for form in place.provider.forms[1:]] == ["refresh_token"] * 3


def test_a_token_that_still_lasts_writes_nothing(server: McpServer, alice: Person) -> None:
    connection = sign_in(server, alice)
    fresh_access_token(connection)
    assert lines(connection) == [("signed_in", "sign-in")]


@pytest.mark.parametrize("kind", sorted(set(BROKEN_TOKEN_ANSWERS) - {"drip", "hang-up", "error with 200"}))
def test_an_answer_without_tokens_postpones(place: Site, connection: Connection, kind: str) -> None:
    place.provider.break_token(kind)
    assert why_not(fresh_access_token, connection).retryable
    assert lines(connection)[1:] == [("postponed", "call")]
    assert last(connection).detail and last(connection).generation == 1
    assert fresh_access_token(run_out(connection)), "and the next one renews"
    assert last(connection).outcome == "renewed"


def test_an_answer_that_breaks_off_is_noted_as_unanswered(place: Site, connection: Connection) -> None:
    place.provider.break_token("hang-up")
    try_token(connection)
    assert lines(connection)[1:] == [("unanswered", "call")]


def test_an_answer_that_drips_is_given_up_and_noted_as_unanswered(
    place: Site, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "TOKEN_REQUEST_SECONDS", 0.3)
    place.provider.break_token("drip")
    try_token(connection)
    assert lines(connection)[1:] == [("unanswered", "call")]
    assert last(connection).duration_ms >= 250


def test_a_provider_that_cannot_be_dialled_has_not_been_asked(connection: Connection) -> None:
    try_token(run_out(connection, token_url="http://127.0.0.1:9/token"))
    assert lines(connection)[1:] == [("postponed", "call")]


def test_a_refused_grant_ends_the_ledger_with_the_providers_words(place: Site, connection: Connection) -> None:
    place.provider.revoke_person("Ada Park")
    try_token(connection)
    assert lines(connection)[1:] == [("refused", "call")]
    assert "revoked or already used" in last(connection).detail


def test_a_grant_that_a_lost_answer_spent_is_explained(place: Site, connection: Connection) -> None:
    """The one loss no client can rule out: the provider rotated, and the new token never arrived."""
    place.provider.loses_answers = 1
    try_token(connection)
    try_token(run_out(connection))
    assert [outcome for outcome, _ in lines(connection)] == ["signed_in", "unanswered", "refused"]
    connection.refresh_from_db()
    assert connection.status == "connection_error"
    assert connection.last_error.startswith("The answer to an earlier renewal never arrived")


def test_a_lost_answer_of_a_provider_that_does_not_rotate_costs_nothing(place: Site, connection: Connection) -> None:
    place.provider.rotate_refresh_tokens = False
    place.provider.loses_answers = 1
    try_token(connection)
    assert place.provider.lookup(fresh_access_token(run_out(connection)))
    assert [outcome for outcome, _ in lines(connection)] == ["signed_in", "unanswered", "renewed"]


def test_a_refusal_after_a_renewal_that_did_arrive_is_not_blamed_on_a_lost_answer(
    place: Site, connection: Connection
) -> None:
    place.provider.break_token("hang-up")
    try_token(connection)
    fresh_access_token(run_out(connection))
    place.provider.revoke_person("Ada Park")
    try_token(run_out(connection))
    assert "never arrived" not in last(connection).detail


def test_a_process_that_died_while_asking_is_named_by_the_one_that_takes_over(connection: Connection) -> None:
    dead = {"claim": uuid.uuid4(), "claimed_until": timezone.now() - timedelta(seconds=1), "claimed_by": "web-1:4711"}
    fresh_access_token(run_out(connection, **dead))
    assert [outcome for outcome, _ in lines(connection)] == ["signed_in", "abandoned", "renewed"]
    abandoned = RefreshAttempt.objects.get(outcome="abandoned")
    assert (abandoned.process, abandoned.generation) == ("web-1:4711", 1)
    assert last(connection).process != "web-1:4711"


def test_an_answer_that_came_after_a_newer_grant_is_dropped(
    connection: Connection, server: McpServer, alice: Person
) -> None:
    sign_in(server, alice)
    store_refreshed(connection, TokenSet(access_token="late"), "background")
    assert lines(connection)[1:] == [("signed_in", "sign-in"), ("dropped", "background")]
    connection.refresh_from_db()
    assert connection.access_token != "late"


# --- Who may read it --------------------------------------------------------------------------------------------------


def path(connection: Connection) -> str:
    return f"/api/v1/connections/{connection.pk}/refreshes"


def test_a_person_reads_their_own_ledger_newest_first(connection: Connection, alice: Person) -> None:
    fresh_access_token(connection)
    answer = api(alice).get(path(connection))
    assert answer.status_code == 200
    newest, oldest = answer.json()["results"]
    assert (newest["outcome"], newest["reason"], newest["generation"]) == ("renewed", "call", 2)
    assert oldest["outcome"] == "signed_in"
    assert set(newest) == {"at", "outcome", "reason", "process", "generation", "detail", "duration_ms"}


def test_an_admin_reads_the_ledgers_of_members_who_read_only_their_own(
    server: McpServer, alice: Person, bob: Person, charlie: Person
) -> None:
    hers, his = sign_in(server, alice), sign_in(server, bob, "Ben Okafor")
    statuses = {
        (name, owner): api(person).get(path(connection)).status_code
        for name, person in (("alice", alice), ("bob", bob), ("charlie", charlie))
        for owner, connection in (("alice", hers), ("bob", his))
    }
    assert [key for key, status in statuses.items() if status == 200] == [
        ("alice", "alice"), ("alice", "bob"), ("bob", "bob"),
    ]  # fmt: skip
    assert set(statuses.values()) == {200, 404}


def test_the_ledger_of_nothing_is_not_found(alice: Person) -> None:
    assert api(alice).get("/api/v1/connections/999999/refreshes").status_code == 404


def test_a_long_ledger_comes_in_pages(connection: Connection, alice: Person) -> None:
    known = {"connection": connection, "outcome": "renewed", "generation": 1}
    RefreshAttempt.objects.bulk_create([RefreshAttempt(**known) for _ in range(300)])
    answer = api(alice).get(path(connection), {"page_size": 10}).json()
    assert len(answer["results"]) == 10


# --- What is in it, and for how long ----------------------------------------------------------------------------------


def test_no_line_holds_a_secret(place: Site, connection: Connection, alice: Person) -> None:
    def echo(form: Any) -> JSONResponse:
        return JSONResponse({"error": "invalid_grant", "error_description": f"No such token: {form}"}, 400)

    secrets = {connection.access_token, connection.refresh_token}
    place.provider.answers["token"] = echo
    try_token(connection)
    assert last(connection).outcome == "refused"
    shown = f"{list(RefreshAttempt.objects.values())} {api(alice).get(path(connection)).content.decode()}"
    assert "No such token" in shown
    assert not any(secret in shown for secret in secrets)


def test_lines_are_kept_for_ninety_days(connection: Connection) -> None:
    now = timezone.now()
    known = {"connection": connection, "outcome": "renewed", "generation": 1}
    for days in (91, 89):
        RefreshAttempt.objects.create(**known, reason=f"{days} days", at=now - timedelta(days=days))
    delete_expired()
    assert [reason for _, reason in lines(connection)] == ["sign-in", "89 days"]


def test_the_ledger_goes_with_the_connection(connection: Connection, alice: Person) -> None:
    disconnect(connection, actor=alice.actor)
    assert not RefreshAttempt.objects.exists()
    assert api(alice).get(path(connection)).status_code == 404
