"""Reading registries: whole and in parts, tombstones, and registries that fail, lie or never end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from aster.errors import Conflict, NotAllowed
from integrations import tasks
from integrations.models import RegistryEntry, RegistrySync
from integrations.services import registry_sync
from integrations.services.registry_sync import sync_registry
from tests.conftest import Person
from tests.fakes.mcp_servers import serve
from tests.fakes.registry import ODD, FakeRegistry, entry, npm, remote, weather

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry(*(entry(f"com.example/server-{number}") for number in range(5)), page_size=2)


@pytest.fixture
def registry(fake: FakeRegistry, settings: Settings) -> Iterator[str]:
    with serve(fake) as base:
        settings.ASTER_REGISTRIES = [base]
        yield base


def names(*, status: str = "active") -> list[str]:
    return list(RegistryEntry.objects.filter(status=status).values_list("name", flat=True))


def an_hour_later(registry: str) -> None:
    RegistrySync.objects.filter(registry=registry).update(due_at=timezone.now() - timedelta(seconds=1))


def a_day_later(registry: str) -> None:
    RegistrySync.objects.filter(registry=registry).update(full_at=timezone.now() - timedelta(hours=25))


def test_the_whole_list_is_read_page_by_page(fake: FakeRegistry, registry: str) -> None:
    fake.entries.append(entry("com.example/both", remotes=[remote("https://a.test")], packages=[npm()], title="Both"))
    told: list[int] = []
    state = sync_registry(registry, tell=told.append)
    assert len(names()) == 6 and told == [2, 2, 2]
    assert [query.get("cursor") for query in fake.asked] == [None, "after:2", "after:4"]
    assert all((query["version"], query["limit"]) == ("latest", "100") for query in fake.asked)
    both = RegistryEntry.objects.get(name="com.example/both")
    assert (both.ways, both.title, both.version) == (["streamable-http", "npm"], "Both", "1.0.0")
    assert (state.problem, state.claimed_until) == ("", None)
    assert state.due_at > timezone.now() + timedelta(minutes=55)


def test_later_only_what_changed_is_asked_for_and_deleted_ones_become_tombstones(
    fake: FakeRegistry, registry: str
) -> None:
    sync_registry(registry)
    fake.asked.clear()
    later = "2026-11-02T10:00:00Z"
    fake.entries[0] = entry("com.example/server-0", at=later, version="2.0.0")
    fake.entries[1] = entry("com.example/server-1", at=later, status="deleted", status_message="Sold")
    fake.entries[2] = entry("com.example/server-2", at=later, status="deprecated", status_message="Use server-3")
    sync_registry(registry)
    assert fake.asked[0]["updated_since"] == "2026-11-01T09:59:00.000Z"
    assert RegistryEntry.objects.get(name="com.example/server-0").version == "2.0.0"
    gone = RegistryEntry.objects.get(name="com.example/server-1")
    assert (gone.status, gone.status_message) == ("deleted", "Sold")
    assert names(status="deprecated") == ["com.example/server-2"]
    assert RegistryEntry.objects.count() == 5


def test_what_a_whole_list_does_not_have_any_more_is_gone(fake: FakeRegistry, registry: str) -> None:
    sync_registry(registry)
    del fake.entries[3]
    sync_registry(registry)
    assert len(names()) == 5
    a_day_later(registry)
    sync_registry(registry)
    assert names(status="deleted") == ["com.example/server-3"]


def test_a_registry_without_times_is_read_whole_each_time(fake: FakeRegistry, registry: str) -> None:
    fake.entries = [{"server": each["server"]} for each in fake.entries]
    for _ in range(2):
        sync_registry(registry)
    assert not any("updated_since" in query for query in fake.asked)
    assert len(names()) == 5


def test_a_clock_that_is_ahead_hides_no_later_change(fake: FakeRegistry, registry: str) -> None:
    fake.entries = [entry("com.example/early", at="2099-01-01T00:00:00Z")]
    state = sync_registry(registry)
    assert state.watermark and state.watermark < timezone.now()


def test_a_dead_registry_leaves_the_table_as_it_was_and_says_why(fake: FakeRegistry, registry: str) -> None:
    sync_registry(registry)
    worked = RegistrySync.objects.get().succeeded_at
    fake.says = lambda query: (503, b"down")
    state = sync_registry(registry)
    assert "answered with HTTP status 503" in state.problem
    assert len(names()) == 5 and state.succeeded_at == worked
    assert timezone.now() < state.due_at < timezone.now() + timedelta(minutes=11)
    fake.says = lambda query: None
    assert sync_registry(registry).problem == ""


def test_nobody_there(settings: Settings) -> None:
    settings.ASTER_REGISTRIES = ["http://127.0.0.1:9"]
    assert "Nobody answers at 127.0.0.1:9" in sync_registry("http://127.0.0.1:9").problem


def test_a_private_address_is_not_dialled_unless_it_is_listed(settings: Settings) -> None:
    settings.ASTER_REGISTRIES = ["https://10.0.0.1"]
    assert "10.0.0.1" in sync_registry("https://10.0.0.1").problem


def test_a_pass_that_was_cut_short_goes_on_where_it_was(fake: FakeRegistry, registry: str) -> None:
    fake.says = lambda query: (500, b"") if "cursor" in query else None
    sync_registry(registry)
    assert len(names()) == 2
    fake.says = lambda query: None
    fake.asked.clear()
    state = sync_registry(registry)
    assert [query["cursor"] for query in fake.asked] == ["after:2", "after:4"]
    assert len(names()) == 5 and state.full_at


def test_a_pass_that_was_cut_short_buries_nothing(fake: FakeRegistry, registry: str) -> None:
    sync_registry(registry)
    a_day_later(registry)
    fake.says = lambda query: (500, b"") if "cursor" in query else None
    sync_registry(registry)
    assert len(names()) == 5


def test_a_cursor_that_is_not_taken_any_more_starts_the_list_again(fake: FakeRegistry, registry: str) -> None:
    fake.says = lambda query: (500, b"") if "cursor" in query else None
    sync_registry(registry)
    RegistrySync.objects.update(cursor="of-yesterday")
    fake.says = lambda query: None
    state = sync_registry(registry)
    assert (state.problem, len(names())) == ("", 5)


def test_a_run_that_takes_too_long_is_continued_by_the_next(
    fake: FakeRegistry, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_sync, "RUN_SECONDS", 0.0)
    for expected in (2, 4, 5):
        state = sync_registry(registry)
        assert len(names()) == expected
        assert registry_sync.due_registries() == ([registry] if expected < 5 else [])
    assert state.full_at


def test_a_list_that_goes_round_in_circles_ends(fake: FakeRegistry, registry: str) -> None:
    page = {"servers": [entry("com.example/again")], "metadata": {"nextCursor": "after:same"}}
    fake.says = lambda query: (200, json.dumps(page).encode())
    state = sync_registry(registry)
    assert "the same page again and again" in state.problem
    assert len(fake.asked) == 2 and names() == ["com.example/again"]


def test_a_list_without_end_ends(fake: FakeRegistry, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_sync, "MOST_PAGES", 5)
    body = iter(range(1000))
    fake.says = lambda query: (
        200,
        json.dumps({"servers": [], "metadata": {"nextCursor": f"after:{next(body)}"}}).encode(),
    )
    assert "does not end within 5 pages" in sync_registry(registry).problem
    assert len(fake.asked) == 5


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html>", "no list of servers"),
        (b"[]", "no list of servers"),
        (b'{"servers": {}}', "no list of servers"),
        (b"[" * 100_000, "no list of servers"),
        (b'{"servers": [], "metadata": {"nextCursor": 5}}', "a cursor that cannot be used"),
        (b'{"servers": ["' + b"x" * 5_000_000 + b'"]}', "larger than 4 MiB"),
    ],
)
def test_nonsense_is_told_and_changes_nothing(fake: FakeRegistry, registry: str, body: bytes, problem: str) -> None:
    sync_registry(registry)
    fake.says = lambda query: (200, body)
    assert problem in sync_registry(registry).problem
    assert len(names()) == 5


def test_a_list_that_is_suddenly_empty_is_not_believed(fake: FakeRegistry, registry: str) -> None:
    sync_registry(registry)
    a_day_later(registry)
    fake.entries.clear()
    assert "lists nothing any more" in sync_registry(registry).problem
    assert len(names()) == 5


def test_odd_entries_cost_themselves_only(fake: FakeRegistry, registry: str) -> None:
    fake.entries = [*ODD, weather()]
    fake.page_size = 100
    state = sync_registry(registry)
    assert names() == ["com.example/weather"]
    assert state.odd_entries == len(ODD)


def test_what_is_odd_inside_an_entry_is_left_out(fake: FakeRegistry, registry: str) -> None:
    odd: dict[str, Any] = {
        "title": "\u202eevil\u0007 title " + "x" * 500, "websiteUrl": "javascript:alert(1)",
        "repository": {"url": "https://code.test/x"}, "remotes": ["x", {"type": "carrier-pigeon", "url": "x"}],
        "packages": {"npm": 1},
    }  # fmt: skip
    fake.entries = [entry("com.example/odd", at="not a time", **odd)]
    sync_registry(registry)
    row = RegistryEntry.objects.get()
    assert row.title.startswith("evil title xxx") and len(row.title) <= 100
    assert (row.website, row.repository, row.ways, row.updated_at) == ("", "https://code.test/x", [], None)


def test_older_versions_do_not_replace_the_newest(fake: FakeRegistry, registry: str) -> None:
    older = entry("com.example/weather", version="0.9.0")
    older["_meta"]["io.modelcontextprotocol.registry/official"]["isLatest"] = False
    fake.entries = [weather(), older]
    sync_registry(registry)
    assert RegistryEntry.objects.get().version == "1.0.0"


def test_two_registries_may_list_the_same_name(
    fake: FakeRegistry, registry: str, alice: Person, settings: Settings
) -> None:
    with serve(FakeRegistry(entry("com.example/server-0", version="9.0.0"))) as other:
        settings.ASTER_REGISTRIES = [registry, other]
        registry_sync.request_sync(actor=alice.actor)
        tasks.sync_registries()
        versions = RegistryEntry.objects.filter(name="com.example/server-0").values_list("registry", "version")
        assert dict(versions) == {registry: "1.0.0", other: "9.0.0"}


def test_a_dead_registry_does_not_keep_another_from_being_read(
    registry: str, alice: Person, settings: Settings
) -> None:
    settings.ASTER_REGISTRIES = ["http://127.0.0.1:9", registry]
    registry_sync.request_sync(actor=alice.actor)
    tasks.sync_registries()
    assert len(names()) == 5


def test_nothing_is_asked_before_an_admin_has_asked_for_it(
    fake: FakeRegistry, registry: str, alice: Person, settings: Settings
) -> None:
    tasks.sync_registries()
    assert not fake.asked
    assert "Aster asks no registry until you say so" in alice.browser().get("/hub/registry/").content.decode()


def test_nothing_is_asked_before_its_time_or_without_a_registry(
    fake: FakeRegistry, registry: str, alice: Person, settings: Settings
) -> None:
    registry_sync.request_sync(actor=alice.actor)
    tasks.sync_registries()
    asked = len(fake.asked)
    assert asked
    tasks.sync_registries()
    assert len(fake.asked) == asked
    an_hour_later(registry)
    settings.ASTER_REGISTRIES = []
    tasks.sync_registries()
    assert len(fake.asked) == asked


def test_only_one_reads_a_registry_at_a_time(fake: FakeRegistry, registry: str) -> None:
    sync_registry(registry)
    RegistrySync.objects.update(claimed_until=timezone.now() + timedelta(minutes=1))
    with pytest.raises(Conflict, match="being read at this moment"):
        sync_registry(registry)
    # Whoever held it died.
    RegistrySync.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    assert sync_registry(registry).claimed_until is None


def test_whoever_lost_the_claim_stores_nothing_more(fake: FakeRegistry, registry: str) -> None:
    def taken_over(entries: int) -> None:
        RegistrySync.objects.update(claimed_until=timezone.now() + timedelta(minutes=9))

    state = sync_registry(registry, tell=taken_over)
    assert len(names()) == 2
    assert state.claimed_until and state.claimed_until > timezone.now() + timedelta(minutes=8)


def test_an_admin_asks_for_it_once_a_minute(alice: Person, bob: Person, registry: str) -> None:
    registry_sync.request_sync(actor=alice.actor)
    assert registry_sync.due_registries() == [registry]
    with pytest.raises(Conflict, match="a moment ago"):
        registry_sync.request_sync(actor=alice.actor)
    with pytest.raises(NotAllowed):
        registry_sync.request_sync(actor=bob.actor)
