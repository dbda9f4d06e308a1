"""What the walks share: a consenting person, and MCP clients at the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, AuthType, McpServer
from integrations.services.servers import save_server
from tests.conftest import Person


def consent(authorization_url: str, person: str = "Ada Park", decision: str = "allow") -> httpx2.URL:
    """Be the person at the provider's consent page; returns where the provider sends the browser next."""
    address, query = authorization_url.split("?", 1)
    with httpx2.Client() as browser:
        assert browser.get(authorization_url).status_code == 200
        form = {**dict(parse_qsl(query)), "person": person, "decision": decision}
        answer = browser.post(address, data=form)
    assert answer.status_code == 303, answer.text
    return httpx2.URL(answer.headers["location"])


def callback_params(location: httpx2.URL) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(str(location)).query))


@pytest.fixture
def notes(world: DemoWorld, alice: Person) -> McpServer:
    """The demo's notes server, where each person signs in, added by alice."""
    auth = AuthConfig(name="Acme ID", auth_type=AuthType.AUTHORIZATION_CODE, organization=alice.organization)
    return save_server(McpServer(name="Acme Notes", url=world.notes_url), auth=auth, actor=alice.actor).server


@pytest.fixture
def weather(world: DemoWorld, alice: Person) -> McpServer:
    """The demo's open server, added by alice."""
    return save_server(McpServer(name="Acme Weather", url=world.weather_url), actor=alice.actor).server


AtGateway = Callable[[Client], Any]


def at_gateway(url: str, key: str, do: AtGateway, mode: str = "auto") -> Any:
    """Run an async function with a real MCP client connected to an agent's URL."""

    async def run() -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=20) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            return await do(client)

    try:
        return anyio.run(run)
    except BaseExceptionGroup as group:
        raise first_of(group) from None


def first_of(error: BaseException) -> BaseException:
    """The SDK's client wraps whatever leaves it in exception groups."""
    return first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
