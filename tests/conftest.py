"""The cast and the stage: alice is an admin of Acme, bob a member, charlie belongs to another organization."""

from __future__ import annotations

import os
import tempfile

# Before Django reads its settings: a data directory of our own, loopback allowed, no worker inside the test process.
_data = tempfile.mkdtemp(prefix="aster-tests-")
os.environ.setdefault("ASTER_DATA_DIR", _data)
os.environ.setdefault("DEBUG", "1")
os.environ.setdefault("ASTER_EMBEDDED_WORKER", "0")
# Playwright's sync API leaves an event loop running in the test's thread.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

from collections.abc import Iterator  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
from django.test import Client  # noqa: E402
from pytest_django.fixtures import Settings  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from aster.accounts.access import Actor  # noqa: E402
from aster.accounts.models import Membership, Organization, Role, User  # noqa: E402
from aster.accounts.services import create_api_key  # noqa: E402
from aster.celery import app as celery_app  # noqa: E402
from aster.demo.world import DemoWorld  # noqa: E402

PASSWORD = "correct-horse-battery"


@pytest.fixture(autouse=True)
def _calm(settings: Settings) -> None:
    """Fast password hashing, and a queue that runs nothing: tests call due work themselves."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    celery_app.conf.task_always_eager = False


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
    running = DemoWorld(port=0)
    running.start()
    yield running
    running.stop()


def body(response: Any) -> Any:
    """A response's JSON, for asserts that read well."""
    return response.json()
