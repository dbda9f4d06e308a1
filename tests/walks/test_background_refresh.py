"""Walk 4: tokens are renewed before they run out; a refused renewal is flagged, trouble is waited out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from aster.demo.world import DemoWorld
from integrations.models import Connection, McpServer
from integrations.tasks import refresh_due_connections
from tests.conftest import Person
from tests.walks.conftest import callback_params, consent

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def connection(alice: Person, notes: McpServer) -> Connection:
    begun = alice.api().post(f"/api/v1/config/mcp-server/{notes.pk}/connect").json()
    alice.api().get("/api/v1/oauth/callback", callback_params(consent(begun["authorization_url"])))
    return Connection.objects.get()


def make_due(connection: Connection) -> None:
    Connection.objects.filter(pk=connection.pk).update(refresh_at=timezone.now() - timedelta(seconds=1))


def whoami(person: Person, server: McpServer) -> object:
    return person.api().post(f"/api/v1/config/mcp-server/{server.pk}/tools/call", {"name": "whoami"})


def test_a_due_connection_is_renewed_and_the_rotated_token_kept(
    connection: Connection, alice: Person, notes: McpServer
) -> None:
    for generation in (2, 3):
        before = Connection.objects.get()
        make_due(connection)
        refresh_due_connections()
        after = Connection.objects.get()
        assert after.generation == generation
        assert after.access_token != before.access_token
        assert after.refresh_token != before.refresh_token
        assert after.refresh_at is not None and after.refresh_at > timezone.now()
    assert whoami(alice, notes).status_code == 200  # type: ignore[attr-defined]


def test_a_revoked_grant_becomes_a_connection_error_everywhere(
    connection: Connection, alice: Person, notes: McpServer, world: DemoWorld
) -> None:
    world.authorization_server.revoke_person("Ada Park")
    make_due(connection)
    refresh_due_connections()

    status = alice.api().get(f"/api/v1/config/mcp-server/{notes.pk}/connection").json()
    assert status["status"] == "connection_error"
    assert status["error"]
    assert alice.api().get(f"/api/v1/config/mcp-server/{notes.pk}").json()["status"] == "connection_error"
    call = whoami(alice, notes)
    assert call.json()["code"] == "connection_required"  # type: ignore[attr-defined]
    assert call.json()["authorization_url"]  # type: ignore[attr-defined]
    assert "Connection error" in alice.browser().get("/hub/integrations/").content.decode()


def test_a_provider_in_trouble_costs_nothing_but_time(
    connection: Connection, alice: Person, notes: McpServer, world: DemoWorld
) -> None:
    world.authorization_server.fail_next_token(503, "<html>busy</html>", "text/html")
    make_due(connection)
    refresh_due_connections()
    kept = Connection.objects.get()
    assert (kept.status, kept.generation, kept.failures) == ("connected", 1, 1)
    assert kept.refresh_at is not None and kept.refresh_at > timezone.now()
    assert whoami(alice, notes).status_code == 200  # type: ignore[attr-defined]

    make_due(connection)
    refresh_due_connections()
    assert Connection.objects.get().failures == 0
    assert Connection.objects.get().generation == 2


def test_a_token_the_server_rejects_is_renewed_once_and_the_call_goes_on(
    connection: Connection, alice: Person, notes: McpServer, world: DemoWorld
) -> None:
    world.authorization_server.expire_access_tokens()
    assert whoami(alice, notes).status_code == 200  # type: ignore[attr-defined]
    assert Connection.objects.get().generation == 2
