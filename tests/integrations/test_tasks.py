"""Background work end to end: what is due gets done by whoever runs, and messages carry nothing but ids."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.utils import timezone
from kombu import Connection as Broker
from starlette.responses import Response

from aster import embedded
from aster.accounts.services import remove_member
from aster.celery import app as celery_app
from aster.celery import enqueue
from aster.demo.authorization_server import AuthorizationServer
from aster.demo.world import DemoWorld
from aster.embedded import background_work
from integrations.models import Connection, McpServer
from integrations.services.connections import begin_connection, complete_connection
from integrations.tasks import refresh_due_connections, sync_due_servers, sync_server
from tests.conftest import Person
from tests.databases import environment_of_children, redis_url
from tests.integrations.grants import Crew, Desk, change, crew, desk, is_live, provider, reread, wait_for
from tests.walks.conftest import callback_params, consent

__all__ = ["crew", "desk", "provider", "redis_url"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def weather(world: DemoWorld, alice: Person) -> McpServer:
    """An open server whose catalogue is due."""
    return McpServer.objects.create(
        organization=alice.organization,
        name="Weather",
        slug="weather",
        url=world.weather_url,
        sync_due_at=timezone.now(),
    )


@pytest.fixture
def quick_beat() -> Iterator[None]:
    """The scheduler's own entries, but at a pace for tests."""
    kept = celery_app.conf.beat_schedule
    celery_app.conf.beat_schedule = {name: {**entry, "schedule": 0.2} for name, entry in kept.items()}
    yield
    celery_app.conf.beat_schedule = kept


def test_due_grants_are_found_by_their_index(desk: Desk, alice: Person) -> None:
    desk.connect(alice)
    if database.vendor == "sqlite":  # on PostgreSQL: test_refresh_postgresql.py
        due = Connection.objects.due(timezone.now()).order_by("refresh_at")
        assert "USING INDEX connection_due" in due.explain()


def test_only_due_grants_are_renewed(desk: Desk, alice: Person, provider: AuthorizationServer) -> None:
    due, later, broken = (desk.connect(alice) for _ in range(3))
    change(later, refresh_at=timezone.now() + timedelta(minutes=1))
    change(broken, status="connection_error")
    refresh_due_connections()
    assert [reread(row).generation for row in (due, later, broken)] == [2, 1, 1]
    refresh_due_connections()
    assert len(provider.token_requests) == 1


def test_a_run_by_several_schedulers_at_once_renews_each_grant_once(
    desk: Desk, alice: Person, provider: AuthorizationServer, crew: Crew
) -> None:
    grants = [desk.connect(alice) for _ in range(6)]
    for done in [crew.start(refresh_due_connections) for _ in range(4)]:
        done()
    assert [reread(grant).generation for grant in grants] == [2] * 6
    assert len(provider.token_requests) == 6


def test_one_grant_that_fails_does_not_stop_the_others(
    desk: Desk, alice: Person, provider: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    grants = [desk.connect(alice) for _ in range(4)]
    _refused, busy, absurd, fine = grants
    provider.ledger.refresh.pop(next(iter(provider.ledger.refresh)))  # the first one issued
    change(busy, token_url="http://127.0.0.1:1/token")
    # A row that breaks our own code, as a bug would: its auth config cannot be used for any request.
    type(absurd.auth_config).objects.filter(pk=absurd.auth_config.pk).update(extra_token_params=["not", "a", "mapping"])
    refresh_due_connections()
    assert [reread(row).status for row in grants] == ["connection_error", "connected", "connected", "connected"]
    assert [reread(row).generation for row in grants] == [1, 1, 1, 2]
    assert reread(absurd).claim is None
    assert "failed" in caplog.text and fine.refresh_token not in caplog.text


def test_a_server_is_tested_by_one_run_and_its_tools_are_kept(weather: McpServer, crew: Crew) -> None:
    for done in [crew.start(sync_due_servers) for _ in range(3)]:
        done()
    weather.refresh_from_db()
    assert weather.test_status == "ok" and weather.tools.count() > 0
    assert weather.sync_due_at and weather.sync_due_at > timezone.now()


def test_one_server_that_fails_does_not_stop_the_others(weather: McpServer) -> None:
    McpServer.objects.create(
        organization=weather.organization,
        name="Dead",
        slug="dead",
        url="http://127.0.0.1:1/mcp",
        sync_due_at=timezone.now() - timedelta(hours=1),
    )
    sync_due_servers()
    assert dict(McpServer.objects.values_list("slug", "test_status")) == {"dead": "failed", "weather": "ok"}


def test_nobody_who_left_lends_a_grant_to_the_catalogue(
    desk: Desk, alice: Person, bob: Person, world: DemoWorld
) -> None:
    his = desk.connect(bob, expires_at=timezone.now() + timedelta(hours=1))
    server = McpServer.objects.create(
        organization=bob.organization, name="Notes", slug="notes", url=world.notes_url, auth_config=his.auth_config,
        sync_due_at=timezone.now(),
    )  # fmt: skip
    remove_member(bob.organization.memberships.get(user=bob.user), actor=alice.actor)
    sync_server(server.pk)
    server.refresh_from_db()
    assert server.tools.count() == 0 and reread(his).last_used_at is None


def messages_in_memory() -> list[Any]:
    """Take everything out of the in-memory queue."""
    found = []
    channel: Any
    with celery_app.connection_for_read() as broker, broker.channel() as channel:
        while (message := channel.basic_get("celery", no_ack=True)) is not None:
            found.append(json.loads(json.dumps([message.headers, message.payload], default=str)))
    return found


def test_messages_carry_ids_and_nothing_secret(
    desk: Desk, alice: Person, provider: AuthorizationServer, world: DemoWorld
) -> None:
    messages_in_memory()
    metadata = provider.metadata()
    auth = desk.auth_config(registration_url=metadata["registration_endpoint"], provider_metadata=metadata)
    server = McpServer.objects.create(
        organization=alice.organization, name="Notes", slug="notes", url=world.notes_url, auth_config=auth
    )
    url = begin_connection(auth, actor=alice.actor).authorization_url or ""
    params = callback_params(consent(url))
    connection = complete_connection(params, actor=alice.actor)
    enqueue("integrations.tasks.refresh_due_connections")
    sent = messages_in_memory()
    assert [(headers["task"], payload[0]) for headers, payload in sent] == [
        ("integrations.tasks.sync_server", [server.pk]),
        ("integrations.tasks.refresh_due_connections", []),
    ]
    for secret in (connection.access_token, connection.refresh_token, params["code"], params["state"]):
        assert secret not in json.dumps(sent)


def test_the_embedded_worker_does_what_is_due_and_stops_quickly(
    desk: Desk, alice: Person, weather: McpServer, provider: AuthorizationServer, quick_beat: None
) -> None:
    connection = desk.connect(alice)
    started = time.monotonic()
    with background_work(True):
        assert time.monotonic() - started < embedded.STOP_SECONDS
        wait_for(lambda: reread(connection).generation == 2)
        wait_for(lambda: McpServer.objects.get(pk=weather.pk).test_status == "ok")
        stopping = time.monotonic()
    assert time.monotonic() - stopping <= embedded.STOP_SECONDS + 0.5
    assert is_live(provider, reread(connection))


def test_stopping_during_a_refresh_neither_waits_for_ever_nor_loses_the_grant(
    desk: Desk, alice: Person, provider: AuthorizationServer, quick_beat: None
) -> None:
    connection = desk.connect(alice)
    provider.token_delay = 0.7
    with background_work(True):
        wait_for(lambda: bool(provider.token_requests))
    wait_for(lambda: reread(connection).generation == 2)
    assert is_live(provider, reread(connection))
    assert len(provider.token_requests) == 1


@pytest.mark.redis
def test_a_worker_process_takes_work_from_redis(
    desk: Desk, alice: Person, redis_url: str, weather: McpServer, provider: AuthorizationServer
) -> None:
    connection = desk.connect(alice)
    environment = environment_of_children(REDIS_URL=redis_url, LOG_LEVEL="WARNING")
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "aster", "worker", "--pool=threads", "--without-gossip"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with Broker(redis_url) as broker:
            celery_app.send_task("integrations.tasks.refresh_due_connections", connection=broker)
            celery_app.send_task("integrations.tasks.sync_server", args=[weather.pk], connection=broker)
        wait_for(lambda: reread(connection).generation == 2, 30)
        wait_for(lambda: McpServer.objects.get(pk=weather.pk).test_status == "ok", 30)
    finally:
        worker.terminate()
        worker.wait(timeout=20)
    assert is_live(provider, reread(connection))


def test_a_queue_that_cannot_be_reached_fails_nobody() -> None:
    script = (
        "import django; django.setup(); from aster.celery import enqueue; enqueue('integrations.tasks.sync_server')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment_of_children(REDIS_URL="redis://127.0.0.1:1/0"),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0
    assert "The queue did not take integrations.tasks.sync_server" in done.stderr


def test_the_provider_is_really_asked(provider: AuthorizationServer, desk: Desk, alice: Person) -> None:
    """A guard for the counts above: what they count is what the provider saw."""
    provider.answers["token"] = lambda form: Response("busy", 503)
    desk.connect(alice)
    refresh_due_connections()
    assert [request.status for request in provider.token_requests] == [503]
