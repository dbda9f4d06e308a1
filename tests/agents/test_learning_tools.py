"""Tools of servers that somebody was just the first to connect to."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent
from agents.services.agents import save_agent
from agents.services.calls import agent_tools, learn_tools
from integrations.models import AuthConfig, AuthType, Connection, McpServer
from tests.conftest import Person
from tests.fakes.mcp_servers import modern_and_legacy_app, serve

pytestmark = pytest.mark.django_db(transaction=True)


def agent_over(person: Person, *urls: str) -> Agent:
    """An agent over servers that nobody has listed, all of which `person` is connected to."""
    auth = AuthConfig.objects.create(organization=person.organization, name="ID", auth_type=AuthType.AUTHORIZATION_CODE)
    Connection.objects.create(
        auth_config=auth, user=person.user, access_token="t", expires_at=timezone.now() + timedelta(hours=1)
    )
    servers = [
        McpServer.objects.create(
            organization=person.organization, name=f"S{n}", slug=f"s{n}", url=url, auth_config=auth
        )
        for n, url in enumerate(urls)
    ]
    return save_agent(Agent(name="Bot"), actor=person.actor, server_ids=[server.pk for server in servers])


def test_servers_nobody_has_listed_are_listed_at_once(alice: Person) -> None:
    everybody = threading.Barrier(3)

    def patient() -> Any:
        """A server that answers its first request when the others have theirs."""
        fake, met = modern_and_legacy_app(), False

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal met
            if scope["type"] == "http" and not met:
                met = True
                await asyncio.to_thread(everybody.wait, 5)
            await fake(scope, receive, send)

        return app

    with ExitStack() as stack:
        urls = [f"{stack.enter_context(serve(patient()))}/mcp" for _ in range(3)]
        agent = agent_over(alice, *urls)
        learn_tools(agent, actor=alice.actor)
    assert not everybody.broken
    assert {tool.server.name for tool in agent_tools(agent)} == {"S0", "S1", "S2"}


def test_a_dead_server_keeps_no_other_from_being_listed(alice: Person) -> None:
    with serve(modern_and_legacy_app()) as url:
        agent = agent_over(alice, "http://127.0.0.1:9/mcp", f"{url}/mcp")
        learn_tools(agent, actor=alice.actor)
    listed = [tool.server.name for tool in agent_tools(agent) if tool.tool]
    assert set(listed) == {"S1"}
