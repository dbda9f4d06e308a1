"""A walk: the official client meets the gateway for the first time, its person signs in, and it calls a tool."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import httpx2
import pytest
from django.test import Client as Browser
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from agents.authorization_server.connected_apps import revoke
from agents.models import Agent, ConnectedApp
from agents.services.agents import save_agent
from integrations.models import McpServer
from tests.agents.signing_in import left_for
from tests.conftest import PASSWORD, Person
from tests.walks.conftest import first_of

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]
BACK = "http://127.0.0.1:53682/callback"


@pytest.fixture
def agent(alice: Person, weather: McpServer) -> Agent:
    return save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[weather.pk])


@pytest.fixture(autouse=True)
def _no_queries_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE", raising=False)
    yield


class Kept:
    """What a client keeps between two starts."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class AtTheBrowser:
    """A person who is not signed in yet: opens the link, signs in, reads the page and allows."""

    def __init__(self, person: Person) -> None:
        self.person, self.browser, self.opened = person, Browser(), 0
        self.answer: dict[str, str] = {}

    async def open(self, address: str) -> None:
        await anyio.to_thread.run_sync(self._sign_in_and_allow, address)

    def _sign_in_and_allow(self, address: str) -> None:
        self.opened += 1
        parts = urlsplit(address)
        path = f"{parts.path}?{parts.query}"
        page = self.browser.get(path)
        if page.status_code == 302:
            form = {"username": self.person.user.email, "password": PASSWORD, "next": path}
            page = self.browser.post("/hub/login/", form, follow=True)
        assert "Let Inspector in?" in page.content.decode(), page.content.decode()
        self.answer = dict(parse_qsl(urlsplit(left_for(self.browser.post(path, {"decision": "allow"}))).query))

    async def come_back(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**{name: self.answer.get(name) for name in ("code", "state", "iss")})


def run(agent: Agent, kept: Kept, person: AtTheBrowser, do: Any, mode: str = "auto") -> Any:
    metadata = OAuthClientMetadata(client_name="Inspector", redirect_uris=[BACK], token_endpoint_auth_method="none")

    async def inside() -> Any:
        auth = OAuthClientProvider(agent.gateway_url, metadata, kept, person.open, person.come_back)
        async with (
            httpx2.AsyncClient(auth=auth, timeout=20) as http,
            Client(streamable_http_client(agent.gateway_url, http_client=http), mode=mode) as client,
        ):
            return await do(client)

    try:
        return anyio.run(inside)
    except BaseExceptionGroup as group:
        raise first_of(group) from None


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_official_client_signs_in_lists_and_calls(
    aster: str, agent: Agent, bob: Person, weather: McpServer, mode: str
) -> None:
    kept, person = Kept(), AtTheBrowser(bob)
    tool = f"acme_weather_{weather.pk}__list_cities"

    async def call(client: Client) -> Any:
        assert tool in [each.name for each in (await client.list_tools()).tools]
        return await client.call_tool(tool, {})

    assert not run(agent, kept, person, call, mode).is_error
    assert kept.tokens and kept.tokens.scope == "aster:call" and person.answer["iss"] == aster
    app = ConnectedApp.objects.get()
    assert (str(app), app.membership.user, app.agent, app.resource) == ("Inspector", bob.user, agent, agent.gateway_url)


def test_a_later_start_asks_nobody_and_after_a_revocation_it_asks_again(aster: str, agent: Agent, bob: Person) -> None:
    kept, person = Kept(), AtTheBrowser(bob)
    assert run(agent, kept, person, names)
    assert run(agent, kept, person, names) and person.opened == 1
    revoke(ConnectedApp.objects.get(), actor=bob.actor)
    assert run(agent, kept, person, names) and person.opened == 2
