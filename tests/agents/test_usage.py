"""What calls amount to: counts over time, per server and tool, and who may see whose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from agents.models import ToolCall
from agents.services.usage import usage_of
from agents.views.usage import draw
from tests.conftest import Person

START = datetime(2026, 11, 1, tzinfo=UTC)


def called(person: Person, at: datetime, outcome: str = "ok", ms: int = 20, **facts: Any) -> None:
    facts = {"server_label": "Notes", "tool_name": "search", "via": "api", **facts}
    ToolCall.objects.create(
        organization=person.organization, user=person.user, user_label=person.user.email, at=at, outcome=outcome,
        duration_ms=ms, **facts,
    )  # fmt: skip


def test_calls_are_counted_per_day_with_empty_days_between(alice: Person) -> None:
    called(alice, START + timedelta(hours=1))
    called(alice, START + timedelta(hours=23), "failed")
    called(alice, START + timedelta(days=4), "refused")
    called(alice, START + timedelta(days=4), "connection_required")
    called(alice, START + timedelta(days=5), "tool_error")
    called(alice, START - timedelta(seconds=1))
    usage = usage_of(ToolCall.objects.all(), START, START + timedelta(days=7))
    counts = [(slot.ok, slot.failed, slot.held_up) for slot in usage.slots]
    assert counts == [(1, 1, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 2), (0, 1, 0), (0, 0, 0)]
    assert not usage.by_hour


def test_short_times_are_counted_per_hour(alice: Person) -> None:
    called(alice, START + timedelta(hours=25, minutes=30))
    usage = usage_of(ToolCall.objects.all(), START, START + timedelta(days=2))
    assert usage.by_hour
    assert [number for number, slot in enumerate(usage.slots) if slot.total] == [25]
    assert len(usage.slots) == 48


def test_servers_and_tools_come_by_how_much_they_are_used_with_their_durations(alice: Person) -> None:
    for number in range(19):
        called(alice, START, ms=40 if number < 15 else 90)
    called(alice, START, ms=4000)
    called(alice, START, "failed", ms=60_000)
    called(alice, START, tool_name="add")
    called(alice, START, "failed", server_label="Weather", tool_name="forecast")
    usage = usage_of(ToolCall.objects.all(), START, START + timedelta(days=1))
    notes, weather = usage.servers
    assert (notes.server, notes.total, notes.failed, round(notes.failed_percent)) == ("Notes", 22, 1, 5)
    assert (weather.total, weather.failed, weather.half_ms, weather.most_ms) == (1, 1, None, None)
    search = usage.tools[0]
    assert (search.server, search.tool, search.total) == ("Notes", "search", 21)
    assert (search.half_ms, search.most_ms) == (50, 100), "failures and the one slow call do not count for these"


def test_three_queries_whatever_there_is(alice: Person, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for number in range(30):
        called(alice, START, tool_name=f"tool_{number}", server_label=f"Server {number}")
    with django_assert_num_queries(3):
        usage = usage_of(ToolCall.objects.all(), START, START + timedelta(days=30))
    assert len(usage.servers) == len(usage.tools) == 15


def test_the_highest_day_is_as_high_as_the_chart(alice: Person) -> None:
    for _ in range(4):
        called(alice, START)
    called(alice, START + timedelta(days=1), "failed")
    usage = usage_of(ToolCall.objects.all(), START, START + timedelta(days=10))
    first, second, *rest = draw(usage.slots)
    assert (first.ok, second.failed) == ((0, 160), (120, 40))
    assert all(bar.ok[1] == bar.failed[1] == bar.held_up[1] == 0 for bar in rest)


def test_the_page_shows_admins_all_and_members_their_own(alice: Person, bob: Person, charlie: Person) -> None:
    called(alice, timezone.now(), tool_name="of_alice")
    called(bob, timezone.now(), tool_name="of_bob")
    called(charlie, timezone.now(), tool_name="of_charlie")
    page = alice.browser().get("/hub/activity/usage/").text
    assert "2 calls" in page
    assert "of_charlie" not in page
    page = bob.browser().get("/hub/activity/usage/").text
    assert "1 call<" in page
    assert "of_alice" not in page
    assert "No calls in the last 30 days" in charlie_without_calls(charlie)


def charlie_without_calls(charlie: Person) -> str:
    ToolCall.objects.filter(organization=charlie.organization).delete()
    return charlie.browser().get("/hub/activity/usage/").text


def test_the_filters_are_those_of_the_list(alice: Person) -> None:
    called(alice, timezone.now(), "failed")
    called(alice, timezone.now(), server_label="Weather")
    browser = alice.browser()
    assert "1 call<" in browser.get("/hub/activity/usage/?outcome=failed").text
    assert "No calls in this time" in browser.get("/hub/activity/usage/?until=2020-01-01").text
