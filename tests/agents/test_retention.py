"""How long tool calls and changes are kept: whose rule counts, what is deleted, and what tells of it."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import Settings

from agents.models import ToolCall
from agents.tasks import delete_old
from agents.views.calls import COLUMNS
from aster.accounts import retention
from aster.accounts.models import AuditEvent
from aster.accounts.services import update_organization
from aster.exports import export_rows
from tests.aster.api_contract import api
from tests.conftest import Person

pytestmark = pytest.mark.django_db(transaction=True)


def called(person: Person, *, days_ago: int, count: int = 1, tool: str = "echo") -> None:
    fields: dict[str, Any] = {"organization": person.organization, "user": person.user, "via": "api", "outcome": "ok"}
    at = timezone.now() - timedelta(days=days_ago)
    ToolCall.objects.bulk_create([ToolCall(**fields, tool_name=tool, at=at) for _ in range(count)])


def deletions(action: str = "deleted_old_calls") -> list[dict[str, Any]]:
    return [event.changes for event in AuditEvent.objects.filter(action=action).order_by("pk")]


def keep(person: Person, days: int | None) -> None:
    person.organization.keep_calls_days = days
    update_organization(person.organization, actor=person.actor)


def test_calls_go_after_a_year_and_the_activity_tells_of_it(alice: Person) -> None:
    called(alice, days_ago=367, count=3)
    called(alice, days_ago=364)
    delete_old()
    assert ToolCall.objects.count() == 1
    event = AuditEvent.objects.get()
    assert (event.actor, event.via, event.object_type, event.object_label) == (None, "task", "organization", "Acme")
    cut = (timezone.now().astimezone(UTC) - timedelta(days=365)).date().isoformat()
    rule = "365 days, by ASTER_KEEP_CALLS_DAYS"
    assert event.changes == {"deleted": [None, 3], "older than": [None, cut], "rule": [None, rule]}
    page = alice.browser().get("/hub/activity/").text
    assert "Aster</strong> deleted old tool calls of the organization <strong>Acme</strong>" in page and rule in page
    delete_old()
    assert AuditEvent.objects.count() == 1, "nothing more to tell"


def test_a_day_is_kept_whole(alice: Person) -> None:
    keep(alice, 10)
    midnight = datetime.combine((timezone.now() - timedelta(days=10)).astimezone(UTC).date(), datetime.min.time(), UTC)
    called(alice, days_ago=0, count=2)
    first, last = ToolCall.objects.values_list("pk", flat=True)
    ToolCall.objects.filter(pk=first).update(at=midnight)
    ToolCall.objects.filter(pk=last).update(at=midnight - timedelta(microseconds=1))
    delete_old()
    assert ToolCall.objects.get().pk == first


def test_an_organization_may_keep_its_calls_longer_or_shorter(alice: Person, charlie: Person) -> None:
    for person in (alice, charlie):
        called(person, days_ago=40)
    called(charlie, days_ago=400)
    keep(alice, 30)
    keep(charlie, 500)
    delete_old()
    assert set(ToolCall.objects.values_list("organization__slug", flat=True)) == {"globex"}
    assert ToolCall.objects.count() == 2
    assert [told["rule"][1] for told in deletions()] == ["30 days, by the settings of Acme"]
    keep(charlie, None)
    delete_old()
    assert [told["deleted"][1] for told in deletions()] == [1, 1]
    assert ToolCall.objects.count() == 1


def test_for_ever_is_for_ever(alice: Person, settings: Settings) -> None:
    settings.ASTER_KEEP_CALLS_DAYS = 0
    called(alice, days_ago=5000)
    AuditEvent.objects.create(**an_event(alice), at=timezone.now() - timedelta(days=5000))
    delete_old()
    assert (ToolCall.objects.count(), AuditEvent.objects.count()) == (1, 1)


def an_event(person: Person) -> dict[str, Any]:
    return {"organization": person.organization, "actor_label": "x", "via": "api", "action": "updated"}


def test_old_changes_go_only_where_the_installation_says_so(alice: Person, settings: Settings) -> None:
    settings.ASTER_KEEP_AUDIT_DAYS = 100
    for days in (50, 102):
        AuditEvent.objects.create(**an_event(alice), at=timezone.now() - timedelta(days=days))
    delete_old()
    assert AuditEvent.objects.filter(action="updated").count() == 1
    (told,) = deletions("deleted_old_changes")
    assert (told["deleted"], told["rule"]) == ([None, 1], [None, "100 days, by ASTER_KEEP_AUDIT_DAYS"])


def delete_a_little() -> None:
    """What delete_old() does, in pieces small enough to watch."""
    rows, rule = ToolCall.objects.all(), retention.calls_rule
    retention.delete_old(rows, rule, action="deleted_old_calls", batch=10, batches=3)


def test_a_run_is_bounded_gives_everybody_a_turn_and_the_next_one_goes_on(alice: Person, charlie: Person) -> None:
    called(alice, days_ago=400, count=45)
    called(charlie, days_ago=400, count=5)
    with CaptureQueriesContext(database) as asked:
        delete_a_little()
    deleting = [query for query in asked.captured_queries if query["sql"].startswith('DELETE FROM "agents_toolcall"')]
    assert len(deleting) == 3
    assert dict.fromkeys(ToolCall.objects.values_list("organization__slug", flat=True)) == {"acme": None}
    assert ToolCall.objects.count() == 25
    assert sorted(told["deleted"][1] for told in deletions()) == [5, 20]
    delete_a_little()
    assert not ToolCall.objects.exists()
    assert sorted(told["deleted"][1] for told in deletions()) == [5, 20, 25]


def test_one_statement_deletes_at_most_a_thousand(alice: Person) -> None:
    called(alice, days_ago=400, count=1001)
    with CaptureQueriesContext(database) as asked:
        delete_old()
    assert sum(query["sql"].startswith('DELETE FROM "agents_toolcall"') for query in asked.captured_queries) == 2
    assert not ToolCall.objects.exists()
    assert [told["deleted"][1] for told in deletions()] == [1001]


def test_two_workers_at_once_delete_and_count_each_row_once(alice: Person) -> None:
    called(alice, days_ago=400, count=3500)
    together = Barrier(2)

    def work() -> None:
        try:
            together.wait(10)
            delete_old()
        finally:
            database.close()

    workers = [Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert not ToolCall.objects.exists()
    assert sum(told["deleted"][1] for told in deletions()) == 3500


def test_an_export_that_is_read_meanwhile_goes_on_without_what_was_deleted(alice: Person, rf: Any) -> None:
    called(alice, days_ago=400, count=700, tool="old")
    called(alice, days_ago=1, count=600, tool="new")
    rows = ToolCall.objects.select_related("agent")
    content = iter(export_rows(rf.get("/", {"format": "csv"}), rows, COLUMNS, name="tool-calls"))
    head, first = next(content), next(content)
    delete_old()
    text = b"".join([head, first, *content]).decode("utf-8-sig")
    assert [row["tool"] for row in csv.DictReader(io.StringIO(text))] == ["new"] * 600


# --- Where it is said and set -----------------------------------------------------------------------------------------


def test_the_pages_say_for_how_long(alice: Person, bob: Person, settings: Settings) -> None:
    for person in (alice, bob):
        for path in ("activity/calls/", "activity/usage/"):
            assert "Calls are kept for 365 days." in person.browser().get(f"/hub/{path}").text
        assert "Changes are kept for ever." in person.browser().get("/hub/activity/").text
    keep(alice, 1)
    settings.ASTER_KEEP_AUDIT_DAYS = 700
    assert "Calls are kept for 1 day." in alice.browser().get("/hub/activity/calls/").text
    assert "Changes are kept for 700 days." in alice.browser().get("/hub/activity/").text


def test_the_settings_page_sets_and_empties_it(alice: Person) -> None:
    browser, form = alice.browser(), {"name": "Acme", "scope_hierarchy": json.dumps({"admin": ["*"]})}
    assert "as long as this installation keeps them, 365 days" in browser.get("/hub/organization/").text
    for entered, stored in (("90", 90), ("", None)):
        assert browser.post("/hub/organization/", {**form, "keep_calls_days": entered}).status_code == 302
        alice.organization.refresh_from_db()
        assert alice.organization.keep_calls_days == stored
    assert AuditEvent.objects.filter(action="updated").first().changes == {"keep_calls_days": [90, None]}  # type: ignore[union-attr]
    for wrong in ("0", "3651", "x"):
        assert browser.post("/hub/organization/", {**form, "keep_calls_days": wrong}).status_code == 400


def test_the_api_shows_and_sets_it_for_admins(alice: Person, bob: Person) -> None:
    client, where = api(alice), "/api/v1/organization"
    assert client.get(where).json()["keep_calls_days"] is None
    assert client.patch(where, {"keep_calls_days": 90}).json()["keep_calls_days"] == 90
    assert api(bob).get(where).json()["keep_calls_days"] == 90
    assert api(bob).patch(where, {"keep_calls_days": 1}).status_code == 403
    for wrong in (0, 3651, "soon"):
        refused = client.patch(where, {"keep_calls_days": wrong})
        assert (refused.status_code, list(refused.json()["fields"])) == (400, ["keep_calls_days"])
    assert client.patch(where, {"keep_calls_days": None}).json()["keep_calls_days"] is None
