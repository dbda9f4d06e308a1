"""The same on PostgreSQL: the tests of this folder once more, and what only a database server can do to a refresh."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection as database
from django.utils import timezone

from aster.accounts import services as accounts
from aster.accounts.models import AuditEvent, Membership, Role
from aster.demo.authorization_server import AuthorizationServer
from aster.demo.world import DemoWorld
from aster.errors import AsterError, Conflict
from integrations.models import AuthConfig, AuthType, Connection, McpServer
from integrations.services.refresh import fresh_access_token
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.databases import MakeDatabase, environment_of_children, postgresql
from tests.integrations.grants import Crew, Desk, Gate, crew, desk, is_live, provider, reread

__all__ = ["crew", "desk", "postgresql", "provider"]

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

HERE = Path(__file__).parent
ON_POSTGRESQL = os.environ.get("DATABASE_URL", "").startswith("postgres")
only_on_postgresql = pytest.mark.skipif(not ON_POSTGRESQL, reason="runs within the run on PostgreSQL")


@pytest.mark.skipif(ON_POSTGRESQL, reason="this is the run on PostgreSQL")
@pytest.mark.timeout(240)
def test_refreshing_and_connecting_work_on_postgresql(postgresql: MakeDatabase) -> None:
    files = sorted(str(path) for name in ("refresh", "connections") for path in HERE.glob(f"test_{name}*.py"))
    assert len(files) >= 5
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env=environment_of_children(DATABASE_URL=postgresql("aster")),
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.fixture
def own_pool() -> Iterator[None]:
    """Dropped connections stay in the pool until somebody takes one: not from other tests, and not for them."""
    wrapper: Any = database
    wrapper.close()
    wrapper.close_pool()
    yield
    wrapper.close()
    wrapper.close_pool()


@only_on_postgresql
def test_a_database_that_drops_the_connection_during_the_request_does_not_cost_the_grant(
    desk: Desk, alice: Person, provider: AuthorizationServer, own_pool: None
) -> None:
    connection = desk.connect(alice)
    parameters = {name: database.get_connection_params()[name] for name in ("dbname", "user", "host")}

    def drop_all(_form: Mapping[str, str]) -> None:
        with psycopg.connect(**parameters) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    provider.before_token = drop_all
    token = fresh_access_token(connection)
    after = reread(connection)
    assert (after.access_token, after.generation, after.claim) == (token, 2, None)
    assert is_live(provider, after)


@only_on_postgresql
def test_while_one_asks_the_provider_no_transaction_is_open(desk: Desk, alice: Person, crew: Crew) -> None:
    connection, gate = desk.connect(alice), Gate()
    desk.provider.before_token = gate
    asking = crew.start(fresh_access_token, connection)
    gate.await_request()
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND (xact_start IS NOT NULL OR state = 'idle in transaction')"
        )
        assert cursor.fetchone() == (0,)
    gate.let_through()
    assert asking()


@only_on_postgresql
def test_callers_that_wait_for_providers_leave_the_pool_of_connections_to_others(desk: Desk, alice: Person) -> None:
    pool = database.settings_dict["OPTIONS"]["pool"]
    crew, gate = Crew(pool["max_size"] + 5), Gate()
    desk.provider.before_token = gate
    shared = desk.connect(alice)
    asking = [crew.start(fresh_access_token, desk.connect(alice)) for _ in range(pool["max_size"])]
    waiting = [crew.start(fresh_access_token, shared) for _ in range(4)]
    for _ in range(pool["max_size"] + 1):
        gate.await_request()
    assert crew.start(Connection.objects.count)() == pool["max_size"] + 1
    gate.let_through(pool["max_size"] + 1)
    assert all(result() for result in (*asking, *waiting))
    crew.stop()


@only_on_postgresql
def test_due_grants_are_found_by_their_index(desk: Desk, alice: Person) -> None:
    desk.connect(alice)
    due = Connection.objects.due(timezone.now()).order_by("refresh_at")
    with database.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        try:
            assert "connection_due" in due.explain()
        finally:
            cursor.execute("RESET enable_seqscan")


@only_on_postgresql
def test_people_keys_servers_and_their_history_work(world: DemoWorld) -> None:
    acme, ada = accounts.create_organization("Acme", admin_email="ada@acme.test", password="correct-horse-battery")
    admin = Person(ada, acme, Role.ADMIN).actor
    ben = accounts.add_member("ben@acme.test", Role.MEMBER, name="Ben", actor=admin).membership
    with pytest.raises(Conflict):
        accounts.add_member("BEN@acme.test", Role.MEMBER, actor=admin)
    with pytest.raises(Conflict):
        accounts.change_role(Membership.objects.get(user=ada), Role.MEMBER, actor=admin)
    accounts.change_role(ben, Role.ADMIN, actor=admin)
    bens = Person(ben.user, acme, Role.ADMIN).actor
    key, text = accounts.create_api_key(ben.user, name="script", actor=bens)
    assert accounts.authenticate_key(text) is not None

    secret = AuthConfig(name="Key", auth_type=AuthType.BEARER, token="tok-canary")
    server = save_server(McpServer(name="Weather", url=world.weather_url), auth=secret, actor=admin).server
    server.description = "Forecasts"
    save_server(server, actor=admin)
    twin = McpServer(name="Other", slug="weather", url=world.weather_url)
    with pytest.raises(AsterError) as caught:
        save_server(twin, actor=admin)
    assert "slug" in caught.value.fields

    accounts.revoke_api_key(key, actor=admin)
    accounts.remove_member(ben, actor=admin)
    assert accounts.authenticate_key(text) is None
    actions = set(AuditEvent.objects.values_list("object_type", "action"))
    assert {("membership", "deleted"), ("apikey", "revoked"), ("mcpserver", "updated")} <= actions
    assert "tok-canary" not in str(list(AuditEvent.objects.values_list("changes", flat=True)))
