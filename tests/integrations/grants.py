"""Grants of the demo's provider, put straight into the database: what the tests of refreshing start from."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from django.db import connections as database_connections
from django.utils import timezone

from aster.accounts.models import Organization
from aster.demo.authorization_server import AuthorizationServer
from aster.demo.records import Client, Grant
from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, AuthType, Connection
from tests.conftest import Person

T = TypeVar("T")
APP = "aster-app"


@pytest.fixture
def provider(world: DemoWorld) -> Iterator[AuthorizationServer]:
    """The demo's provider with nothing logged and every switch as a strict one has it: rotation, reuse detection."""
    server = world.authorization_server
    _calm_down(server)
    server.add_client(Client(APP, name="Aster"))
    yield server
    _calm_down(server)


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "It did not happen in time."
        time.sleep(0.02)


def wait_until_answered(server: AuthorizationServer) -> None:
    """The provider goes on with a request whose sender is gone; its log tells when it is through."""
    wait_for(lambda: all(request.status is not None for request in server.token_requests))


def _calm_down(server: AuthorizationServer) -> None:
    # A request nobody waits for any more would take the answer that the next test has prepared.
    wait_until_answered(server)
    server.rotate_refresh_tokens = server.detect_reuse = True
    server.before_token, server.token_delay = None, 0.0
    server.access_token_seconds = 120
    server.answers.clear()
    server._failures.clear()
    server.token_requests.clear()
    server.revocations.clear()
    server.ledger.revoke_families({grant.family for grant in server.ledger.refresh.values()})


@dataclass
class Desk:
    """Hands out connections that the provider knows."""

    provider: AuthorizationServer
    organization: Organization
    resource: str

    def auth_config(self, **fields: Any) -> AuthConfig:
        issuer = self.provider.issuer
        known: dict[str, Any] = {
            "name": f"Acme ID {secrets.token_hex(3)}",
            "auth_type": AuthType.AUTHORIZATION_CODE,
            "issuer": issuer,
            "authorization_url": f"{issuer}/authorize",
            "token_url": f"{issuer}/token",
            "revocation_url": f"{issuer}/revoke",
            "resource": self.resource,
            "discovered_at": timezone.now(),
        }
        return AuthConfig.objects.create(organization=self.organization, **{**known, **fields})

    def connect(self, person: Person | None, *, auth: AuthConfig | None = None, **fields: Any) -> Connection:
        """A connection whose access token has run out and whose refresh token is good, unless `fields` say other."""
        auth = auth or self.auth_config()
        client_id = fields.get("client_id", APP)
        grant = Grant("Ada Park", client_id, ("notes:read",), self.resource, secrets.token_hex(8))
        now = timezone.now()
        known: dict[str, Any] = {
            "access_token": self.provider.ledger.issue_access_token(grant, 3600),
            "refresh_token": self.provider.ledger.issue_refresh_token(grant),
            "expires_at": now - timedelta(seconds=1),
            "refresh_at": now - timedelta(seconds=1),
            "scopes": ["notes:read"],
            "client_id": client_id,
            "token_endpoint_auth_method": "none",
            "issuer": auth.issuer,
            "token_url": auth.token_url,
            "revocation_url": auth.revocation_url,
            "resource": self.resource,
        }
        user = person.user if person else None
        return Connection.objects.create(auth_config=auth, user=user, **{**known, **fields})


@pytest.fixture
def desk(provider: AuthorizationServer, world: DemoWorld, acme: Organization) -> Desk:
    return Desk(provider, acme, world.notes_url)


def change(connection: Connection, **values: Any) -> Connection:
    """Set columns of the row behind everybody's back, and read it again."""
    Connection.objects.filter(pk=connection.pk).update(**values)
    return reread(connection)


def reread(connection: Connection) -> Connection:
    return Connection.objects.select_related("auth_config__organization", "user").get(pk=connection.pk)


def let_lease_run_out(connection: Connection) -> Connection:
    return change(connection, claimed_until=timezone.now() - timedelta(seconds=1))


def is_live(provider: AuthorizationServer, connection: Connection) -> bool:
    """Whether the provider would still take both stored tokens."""
    known = provider.ledger.peek_refresh_token(connection.refresh_token)
    return known is not None and provider.lookup(connection.access_token) is not None


@dataclass
class Gate:
    """A `before_token` hook: token requests wait here until they are let through."""

    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    passes: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, form: Mapping[str, str]) -> None:
        self.arrived.release()
        assert self.passes.acquire(timeout=20)

    def await_request(self) -> None:
        assert self.arrived.acquire(timeout=20)

    def let_through(self, requests: int = 1) -> None:
        self.passes.release(requests)


class Crew:
    """Threads that act like processes: each has a database connection of its own, and closes it."""

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="crew")

    def start(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> Callable[[], T]:
        """Run `work` in a thread; returns how to wait for its result (or its exception)."""

        def run() -> T:
            try:
                return work(*args, **kwargs)
            finally:
                database_connections.close_all()

        future = self._pool.submit(run)
        return lambda: future.result(timeout=30)

    def stop(self) -> None:
        self._pool.shutdown(wait=True)


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew(16)
    yield crew
    crew.stop()
