"""What the tests of the doctor share: a provider to break, a server behind it, and people who are signed in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from integrations.models import AuthConfig, AuthType, Connection, McpServer, Transport
from integrations.services.doctor import Diagnosis, Step, diagnose
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.broken_providers import BrokenProvider, run_provider
from tests.integrations.hub import auth_of


@pytest.fixture
def provider() -> Iterator[BrokenProvider]:
    with run_provider() as running:
        yield running


@pytest.fixture
def notes(provider: BrokenProvider, alice: Person) -> McpServer:
    """A server whose people sign in at `provider`, added while everything worked."""
    return add_server(alice, provider.mcp_url, AuthConfig(name="Acme ID", auth_type=AuthType.AUTHORIZATION_CODE))


def add_server(person: Person, url: str, auth: AuthConfig | None = None, **fields: Any) -> McpServer:
    known: dict[str, Any] = {"name": "Notes", "transport": Transport.STREAMABLE_HTTP, **fields}
    return save_server(McpServer(url=url, **known), auth=auth, actor=person.actor, test=False).server


def sign_in(person: Person, server: McpServer, provider: BrokenProvider, **fields: Any) -> Connection:
    """A connection with a good pair of tokens; `fields` say what is wrong with it."""
    auth = auth_of(server)
    access, refresh = provider.grant()
    known: dict[str, Any] = {
        **{"access_token": access, "refresh_token": refresh, "expires_at": timezone.now() + timedelta(hours=1)},
        **{"issuer": auth.issuer, "client_id": auth.client_id or "registered", "token_url": auth.token_url},
        **{"resource": auth.resource, "scopes": ["tools"], "token_endpoint_auth_method": "none"},
    }
    return Connection.objects.create(auth_config=auth, user=person.user, **{**known, **fields})


def ran_out() -> dict[str, Any]:
    return {"expires_at": timezone.now() - timedelta(seconds=1)}


def again(server: McpServer) -> McpServer:
    return McpServer.objects.select_related("auth_config", "organization").get(pk=server.pk)


def look(server: McpServer, person: Person, seconds: float = 30) -> Diagnosis:
    return diagnose(again(server), actor=person.actor, seconds=seconds)


def step(diagnosis: Diagnosis, name: str) -> Step:
    return next(each for each in diagnosis.steps if each.name == name)


def statuses(diagnosis: Diagnosis) -> dict[str, str]:
    return {each.name: each.status for each in diagnosis.steps}


def fixes(found: Step) -> list[str]:
    return [fix.id for fix in found.fixes]


def words(found: Step) -> str:
    """Everything that one step says."""
    evidence = " ".join(f"{each.url} {each.status} {each.words}" for each in found.evidence)
    return f"{found.found} {found.advice} {evidence}"
