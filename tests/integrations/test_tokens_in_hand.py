"""A grant that was just read is used without reading it again, and never longer than it is good."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from aster.errors import ConnectionRequired
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, McpServer
from integrations.services.access import token_source
from integrations.services.targets import connections_for
from tests.conftest import Person

pytestmark = pytest.mark.django_db


def source_in_hand(person: Person, **fields: object) -> Callable[[str | None], str | None]:
    auth = AuthConfig.objects.create(organization=person.organization, name="ID", auth_type=AuthType.AUTHORIZATION_CODE)
    now = timezone.now()
    known = {"access_token": "read", "expires_at": now + timedelta(hours=1), "last_used_at": now, **fields}
    Connection.objects.create(auth_config=auth, user=person.user, **known)
    server = McpServer.objects.create(
        organization=person.organization, name="S", slug="s", url="http://127.0.0.1:9/mcp", auth_config=auth
    )
    source = token_source(server, person.actor, known=connections_for([server], person.user))
    assert source is not None
    return source


def test_what_was_just_read_is_not_read_again(alice: Person, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    source = source_in_hand(alice)
    with django_assert_num_queries(0):
        assert source(None) == "read"


def test_a_token_that_ran_out_is_not_sent_because_it_is_in_hand(alice: Person) -> None:
    source = source_in_hand(alice, expires_at=timezone.now() + timedelta(seconds=5))
    Connection.objects.update(access_token="renewed", expires_at=timezone.now() + timedelta(hours=1))
    assert source(None) == "renewed"


def test_a_token_that_was_refused_is_looked_for_anew(alice: Person) -> None:
    source = source_in_hand(alice)
    Connection.objects.update(access_token="renewed")
    assert source("read") == "renewed"
    Connection.objects.update(status=ConnectionStatus.ERROR)
    with pytest.raises(ConnectionRequired):
        source("renewed")
