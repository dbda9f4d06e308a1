"""A client of the admin MCP server, as the tests of it use one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, AuthType, McpServer
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.walks.conftest import at_gateway, first_of

ERAS = ["auto", "legacy"]
# Nobody listens there.
DEAD = "http://127.0.0.1:9/mcp"


@dataclass
class AdminClient:
    """Calls admin tools with one key, in one era. Every answer is held against the tool's output schema by the SDK."""

    url: str
    key: str = field(repr=False)
    mode: str = "auto"

    def names(self) -> list[str]:
        return [tool.name for tool in self.tools()]

    def tools(self) -> list[types.Tool]:
        async def listed(client: Client) -> Any:
            return (await client.list_tools()).tools

        found: list[types.Tool] = at_gateway(self.url, self.key, listed, self.mode)
        return found

    def call(self, name: str, /, **arguments: Any) -> types.CallToolResult:
        async def called(client: Client) -> Any:
            await client.list_tools()
            return await client.call_tool(name, arguments)

        result: types.CallToolResult = at_gateway(self.url, self.key, called, self.mode)
        return result

    def ok(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """The data of a call that worked."""
        result = self.call(name, **arguments)
        assert not result.is_error, words(result)
        assert result.structured_content is not None
        return result.structured_content

    def refused(self, name: str, /, **arguments: Any) -> str:
        """What a model reads when a call did not work."""
        result = self.call(name, **arguments)
        assert result.is_error, words(result)
        return words(result)

    def call_asking(self, name: str, person: Callable[[Any], str], /, **arguments: Any) -> types.CallToolResult:
        """As a client that shows forms to `person`, who says accept, decline or cancel."""

        async def asks(ctx: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
            return types.ElicitResult(action=await anyio.to_thread.run_sync(person, params))  # type: ignore[arg-type]

        async def run() -> Any:
            headers = {"Authorization": f"Bearer {self.key}"}
            async with (
                httpx2.AsyncClient(headers=headers, timeout=40) as http,
                Client(
                    streamable_http_client(self.url, http_client=http), mode=self.mode, elicitation_callback=asks
                ) as client,
            ):
                return await client.call_tool(name, arguments)

        try:
            result: types.CallToolResult = anyio.run(run)
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        return result

    def ask_raw(self, name: str, arguments: dict[str, Any], state: str | None = "") -> Any:
        """What a client that shows forms gets; with `state` as a yes to a question, whichever it was."""

        async def asks(ctx: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
            return types.ElicitResult(action="decline")

        async def run() -> Any:
            headers = {"Authorization": f"Bearer {self.key}"}
            answers = {} if state == "" else {"confirm": types.ElicitResult(action="accept")}
            async with (
                httpx2.AsyncClient(headers=headers, timeout=40) as http,
                Client(streamable_http_client(self.url, http_client=http), elicitation_callback=asks) as client,
            ):
                return await client.session.call_tool(
                    name, arguments, allow_input_required=True, input_responses=answers, request_state=state or None
                )

        return anyio.run(run)


def words(result: types.CallToolResult) -> str:
    return "\n".join(each.text for each in result.content if isinstance(each, types.TextContent))


def client_of(person: Person, aster: str, *scopes: str, mode: str = "auto") -> AdminClient:
    return AdminClient(f"{aster}/mcp/{person.organization.slug}/admin", person.key(*scopes), mode)


@pytest.fixture(autouse=True)
def off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query on the event loop fails, as it would outside the tests."""
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE", raising=False)


@pytest.fixture
def admin(aster: str, alice: Person) -> AdminClient:
    return client_of(alice, aster)


@pytest.fixture
def member(aster: str, bob: Person) -> AdminClient:
    return client_of(bob, aster)


@pytest.fixture
def weather(world: DemoWorld, alice: Person) -> McpServer:
    """The demo's open server, added by alice."""
    return save_server(McpServer(name="Weather", url=world.weather_url), actor=alice.actor).server


@pytest.fixture
def notes(world: DemoWorld, alice: Person) -> McpServer:
    """The demo's notes server, where each person signs in."""
    auth = AuthConfig(name="Acme ID", auth_type=AuthType.AUTHORIZATION_CODE, organization=alice.organization)
    return save_server(McpServer(name="Notes", url=world.notes_url), auth=auth, actor=alice.actor).server
