"""The cast and the stage: alice is an admin of Acme, bob a member, charlie belongs to another organization."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pytest_django import DjangoDbBlocker
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from aster.accounts.access import Actor
from aster.accounts.models import Membership, Organization, Role, User
from aster.accounts.services import create_api_key
from aster.celery import app as celery_app
from aster.demo.serving import ServerThread
from aster.demo.world import DemoWorld
from tests.environment import listener
from tests.offline import dialled

PASSWORD = "correct-horse-battery"


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """On PostgreSQL threads may still hold connections at the end, and a database in use is not dropped."""
    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture(autouse=True)
def _calm(settings: Settings) -> None:
    """Fast password hashing, and a queue that runs nothing: tests call due work themselves."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    celery_app.conf.task_always_eager = False


@pytest.fixture(autouse=True)
def _at_home() -> Iterator[None]:
    """What would have left this machine was stopped; the test that tried fails."""
    yield
    tried, dialled[:] = list(dialled), []
    assert not tried, f"dialled {tried}: tests stay on loopback"


@dataclass
class Person:
    """Somebody in the cast: who they are to services, in the API and in the browser."""

    user: User
    organization: Organization
    role: str

    @property
    def actor(self) -> Actor:
        return Actor(self.organization, self.user, self.role)

    def api(self, *scopes: str) -> APIClient:
        """An API client with a key of this person."""
        key = create_api_key(self.user, name="test", scopes=scopes or ("*",), actor=self.actor)[1]
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        client.default_format = "json"
        return client

    def browser(self) -> Client:
        """A Django test client that is signed in."""
        client = Client()
        client.force_login(self.user)
        return client

    def key(self, *scopes: str) -> str:
        return create_api_key(self.user, name="test", scopes=scopes or ("*",), actor=self.actor)[1]


def _person(email: str, name: str, organization: Organization, role: str) -> Person:
    user = User.objects.create_user(email, PASSWORD, name=name)
    Membership.objects.create(organization=organization, user=user, role=role)
    return Person(user, organization, role)


@pytest.fixture
def acme(db: None) -> Organization:
    return Organization.objects.create(name="Acme", slug="acme")


@pytest.fixture
def alice(acme: Organization) -> Person:
    return _person("alice@acme.test", "Alice", acme, Role.ADMIN)


@pytest.fixture
def bob(acme: Organization) -> Person:
    return _person("bob@acme.test", "Bob", acme, Role.MEMBER)


@pytest.fixture
def charlie(db: None) -> Person:
    other = Organization.objects.create(name="Globex", slug="globex")
    return _person("charlie@globex.test", "Charlie", other, Role.ADMIN)


@pytest.fixture(scope="session")
def world() -> Iterator[DemoWorld]:
    """A real authorization server with rotation and reuse detection, and two MCP servers, on loopback."""
    running = DemoWorld(port=0, word_seconds=0.005)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def aster(transactional_db: None) -> Iterator[str]:
    """The real thing: Aster behind uvicorn, gateway included, at its public URL (which is what this yields)."""
    from aster.asgi import application

    thread = ServerThread(application, listener.dup())
    thread.start()
    yield os.environ["ASTER_PUBLIC_URL"]
    thread.stop()


def body(response: Any) -> Any:
    """A response's JSON, for asserts that read well."""
    return response.json()
