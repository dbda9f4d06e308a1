"""The demo world over real loopback: its MCP servers in both eras, restarts, ports and stopping."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from mcp import Client as McpClient
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from mcp_types import CallToolResult

from aster.demo.world import DemoWorld
from tests.aster.demo_visitor import ADA, CALLBACK, PUBLIC, Visitor, answer_of

ERAS = pytest.mark.parametrize("era", ["2026-07-28", "legacy"])


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, follow_redirects=False) as client:
        yield client


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DemoWorld]:
    started = DemoWorld(port=0, state_path=tmp_path / "demo.json")
    started.start()
    started.authorization_server.add_client(PUBLIC)
    yield started
    started.stop()


@pytest.fixture
def visitor(world: DemoWorld, http: httpx2.Client) -> Visitor:
    http.cookies.clear()
    return Visitor(world.issuer, http, {"resource": world.notes_url})


async def call_tool(url: str, era: str, name: str, arguments: dict[str, Any], token: str = "") -> CallToolResult:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False) as http,
        McpClient(streamable_http_client(url, http_client=http), mode=era) as client,
    ):
        return await client.call_tool(name, arguments)


def call(url: str, era: str, name: str, token: str = "", **arguments: Any) -> dict[str, Any]:
    """Call a tool with the SDK's client and return its structured result."""
    result = asyncio.run(call_tool(url, era, name, arguments, token))
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


def post_tool_call(http: httpx2.Client, url: str, tool: str, token: str, **arguments: Any) -> httpx2.Response:
    """Call a tool as a 2025-11-25 client does, to see the bare HTTP answer."""
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    return http.post(url, json=body, headers=headers)


class TestNotes:
    def test_without_a_token_it_points_to_its_metadata(self, world: DemoWorld, visitor: Visitor) -> None:
        response = post_tool_call(visitor.http, world.notes_url, "whoami", "")
        assert response.status_code == 401
        address = f"{world.issuer}/.well-known/oauth-protected-resource/notes/mcp"
        expected = f'Bearer resource_metadata="{address}", scope="notes:read notes:write"'
        assert response.headers["www-authenticate"] == expected
        document = visitor.http.get(address).json()
        assert (document["resource"], document["authorization_servers"]) == (world.notes_url, [world.issuer])

    @ERAS
    def test_a_person_reads_writes_and_deletes_their_own_notes(
        self, world: DemoWorld, visitor: Visitor, era: str
    ) -> None:
        token = visitor.sign_in()["access_token"]
        assert call(world.notes_url, era, "whoami", token)["name"] == ADA
        made = call(world.notes_url, era, "create_note", token, title="Zebra", body="striped", tags=["animal"])
        found = call(world.notes_url, era, "search_notes", token, query="zebra ANIMAL", limit=1)
        assert [note["id"] for note in found["notes"]] == [made["id"]]
        call(world.notes_url, era, "delete_note", token, id=made["id"])
        assert call(world.notes_url, era, "search_notes", token, query="zebra")["total"] == 0
        gone = asyncio.run(call_tool(world.notes_url, era, "delete_note", {"id": made["id"]}, token))
        assert gone.is_error

    def test_everybody_has_their_own_shelf(self, world: DemoWorld, visitor: Visitor) -> None:
        ada = visitor.sign_in()["access_token"]
        ben = visitor.exchange(answer_of(visitor.decide(person="Ben Okafor"))["code"]).json()["access_token"]
        call(world.notes_url, "2026-07-28", "create_note", ada, title="Secret of Ada", body="")
        assert call(world.notes_url, "2026-07-28", "search_notes", ben, query="secret of ada")["total"] == 0

    def test_a_token_for_another_resource_is_refused(self, world: DemoWorld, visitor: Visitor) -> None:
        world.authorization_server.require_resource = None
        for resource in ("", world.weather_url, f"{world.notes_url}/"):
            elsewhere = Visitor(world.issuer, visitor.http, {"resource": resource} if resource else {})
            token = elsewhere.sign_in()["access_token"]
            response = post_tool_call(visitor.http, world.notes_url, "whoami", token)
            assert response.status_code == 401
            assert 'error="invalid_token"' in response.headers["www-authenticate"]

    def test_writing_without_the_scope_is_refused_and_reading_is_not(self, world: DemoWorld, visitor: Visitor) -> None:
        token = visitor.sign_in(scope="notes:read")["access_token"]
        for tool in ("create_note", "delete_note"):
            response = post_tool_call(visitor.http, world.notes_url, tool, token)
            assert response.status_code == 403
            challenge = response.headers["www-authenticate"]
            assert 'error="insufficient_scope"' in challenge
            assert 'scope="notes:read notes:write"' in challenge
        assert call(world.notes_url, "2026-07-28", "list_notes", token, order="title", pinned_only=True)["total"] == 2

    def test_a_revoked_person_is_locked_out_at_once(self, world: DemoWorld, visitor: Visitor) -> None:
        token = visitor.sign_in()["access_token"]
        assert post_tool_call(visitor.http, world.notes_url, "whoami", token).status_code == 200
        world.authorization_server.revoke_person(ADA)
        assert post_tool_call(visitor.http, world.notes_url, "whoami", token).status_code == 401

    def test_the_sdk_client_signs_in_by_itself(self, world: DemoWorld, visitor: Visitor) -> None:
        class Memory:
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

        answer: dict[str, str] = {}

        async def visit(url: str) -> None:
            form = {**dict(parse_qsl(urlsplit(url).query)), "decision": "allow", "person": "Chloe Laurent"}
            answer.update(answer_of(visitor.http.post(url.split("?")[0], data=form)))

        async def come_back() -> AuthorizationCodeResult:
            return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer["iss"])

        metadata = OAuthClientMetadata.model_validate(
            {"client_name": "SDK", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
        )
        auth = OAuthClientProvider(
            world.notes_url, metadata, Memory(), redirect_handler=visit, callback_handler=come_back
        )

        async def run() -> CallToolResult:
            async with (
                httpx2.AsyncClient(auth=auth, trust_env=False) as http,
                McpClient(streamable_http_client(world.notes_url, http_client=http)) as client,
            ):
                return await client.call_tool("whoami", {})

        told = asyncio.run(run()).structured_content
        assert isinstance(told, dict)
        assert told["name"] == "Chloe Laurent"


class TestWeather:
    @ERAS
    def test_a_forecast_is_readable_structured_and_repeatable(self, world: DemoWorld, era: str) -> None:
        arguments = {"city": "oslo", "days": 2, "unit": "fahrenheit", "include_wind": True}
        first, second = (asyncio.run(call_tool(world.weather_url, era, "get_forecast", arguments)) for _ in range(2))
        assert first.structured_content == second.structured_content
        assert isinstance(first.structured_content, dict)
        assert [len(first.structured_content["days"]), first.structured_content["unit"]] == [2, "fahrenheit"]
        assert "Forecast for Oslo" in str(first.content)
        unknown = asyncio.run(call_tool(world.weather_url, era, "get_forecast", {"city": "Atlantis"}))
        assert unknown.is_error

    def test_comparing_reports_progress(self, world: DemoWorld) -> None:
        seen: list[tuple[float, float | None]] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            seen.append((progress, total))

        async def run() -> CallToolResult:
            async with McpClient(streamable_http_client(world.weather_url), mode="2026-07-28") as client:
                cities = {"cities": ["Oslo", "Cairo"], "measure": "high"}
                return await client.call_tool("compare_cities", cities, progress_callback=note)

        told = asyncio.run(run()).structured_content
        assert isinstance(told, dict)
        assert [row["rank"] for row in told["ranking"]] == [1, 2]
        assert seen == [(1, 2), (2, 2)]

    def test_schemas_give_a_form_builder_something_to_do(self, world: DemoWorld) -> None:
        async def run() -> dict[str, Any]:
            async with McpClient(streamable_http_client(world.weather_url)) as client:
                return {tool.name: tool for tool in (await client.list_tools()).tools}

        tools = asyncio.run(run())
        fields = tools["get_forecast"].input_schema["properties"]
        assert (fields["days"]["minimum"], fields["days"]["maximum"], fields["days"]["default"]) == (1, 7, 3)
        assert fields["unit"]["enum"] == ["celsius", "fahrenheit"]
        assert fields["include_wind"]["type"] == "boolean"
        assert tools["compare_cities"].input_schema["properties"]["cities"]["minItems"] == 2
        assert all(tool.title and tool.description and tool.annotations for tool in tools.values())
        assert all(tool.output_schema["type"] == "object" for tool in tools.values())


class TestWorld:
    def test_a_connection_survives_a_restart_and_the_file_holds_no_token(
        self, world: DemoWorld, visitor: Visitor, tmp_path: Path
    ) -> None:
        registration = {"redirect_uris": [CALLBACK], "client_name": "Kept", "token_endpoint_auth_method": "none"}
        kept = visitor.http.post(f"{world.issuer}/register", json=registration).json()["client_id"]
        tokens = visitor.sign_in()
        stored = (tmp_path / "demo.json").read_text()
        assert tokens["refresh_token"] not in stored
        assert tokens["access_token"] not in stored
        assert (tmp_path / "demo.json").stat().st_mode & 0o077 == 0
        world.stop()
        again = DemoWorld(port=world.port, state_path=tmp_path / "demo.json")
        again.start()
        try:
            assert call(again.notes_url, "2026-07-28", "whoami", tokens["access_token"])["name"] == ADA
            assert visitor.refresh(tokens["refresh_token"]).status_code == 200
            assert "Kept" in visitor.open_page(client_id=kept).text
        finally:
            again.stop()

    def test_an_unreadable_state_file_does_not_stop_it(self, tmp_path: Path, http: httpx2.Client) -> None:
        (tmp_path / "demo.json").write_text('{"clients": [{"client_id": 3, "odd": 1}]}')
        world = DemoWorld(port=0, state_path=tmp_path / "demo.json")
        world.start()
        try:
            assert http.get(world.issuer).status_code == 200
        finally:
            world.stop()

    def test_a_taken_port_is_named(self, world: DemoWorld) -> None:
        with pytest.raises(OSError, match=f"127.0.0.1:{world.port} is in use"):
            DemoWorld(port=world.port).start()

    def test_it_stops_quickly_with_a_stream_open_and_starts_again(self, world: DemoWorld, http: httpx2.Client) -> None:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        body["params"] = {"name": "compare_cities", "arguments": {"cities": ["Oslo"] * 5}}
        with http.stream(
            "POST", world.weather_url, json=body, headers={"Accept": "application/json, text/event-stream"}
        ):
            begun = time.monotonic()
            world.stop()
            assert time.monotonic() - begun < 2.5
        world.start()
        assert "A small world" in http.get(world.issuer).text

    def test_a_rebound_host_name_is_refused(self, world: DemoWorld, http: httpx2.Client) -> None:
        for url in (f"{world.issuer}/authorize", world.weather_url):
            assert http.get(url, headers={"Host": "evil.example"}).status_code == 400

    def test_it_is_never_served_to_the_network(self) -> None:
        with pytest.raises(ValueError, match="no passwords"):
            DemoWorld(port=0, host="0.0.0.0")

    def test_importing_and_naming_it_loads_no_server(self) -> None:
        check = (
            "import sys; from aster.demo.world import DemoWorld; DemoWorld(port=9);"
            "sys.exit(bool({'mcp', 'starlette', 'uvicorn'} & set(sys.modules)))"
        )
        assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
