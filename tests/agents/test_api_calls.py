"""The API of tool calls: through an agent and straight to a server, with the caller's own connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from agents.models import ToolCall
from aster.demo.world import DemoWorld
from integrations.models import Connection, PendingAuthorization
from tests.aster.api_contract import ContractClient, api
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, broken_app, modern_and_legacy_app, serve
from tests.walks.conftest import callback_params, consent

pytestmark = pytest.mark.django_db(transaction=True)
AGENTS, SERVERS = "/api/v1/config/agent", "/api/v1/config/mcp-server"


@pytest.fixture
def client(alice: Person) -> ContractClient:
    return api(alice)


@pytest.fixture
def fake(client: ContractClient) -> Iterator[FakeServer]:
    """A real server, stored as "fake" and given to the agent "bot"."""
    app = modern_and_legacy_app()
    with serve(app) as base:
        made = client.post(SERVERS, {"name": "Fake", "url": f"{base}/mcp", "timeout_seconds": 2, "retry_attempts": 0})
        assert made.status_code == 201
        client.post(AGENTS, {"name": "Bot", "mcp_server_config_ids": ["fake"]})
        yield app


def name_in_agent(client: ContractClient, tool: str | None) -> str:
    tools = client.get(f"{AGENTS}/bot/tools").json()["results"]
    return next(str(shown["name"]) for shown in tools if shown["tool_name"] == tool)


def call(client: ContractClient, tool: str, where: str = f"{SERVERS}/fake", **arguments: Any) -> Any:
    return client.post(f"{where}/tools/call", {"name": tool, "arguments": arguments})


def test_the_servers_result_comes_back_untouched(client: ContractClient, fake: FakeServer) -> None:
    for response in (
        call(client, "structured"),
        call(client, name_in_agent(client, "structured"), f"{AGENTS}/bot"),
    ):
        result = response.json()["result"]
        assert response.status_code == 200
        assert result["structuredContent"] == {"total": 7}
        assert result["_meta"]["com.example/kept"] == 1


def test_a_failing_tool_is_a_result(client: ContractClient, fake: FakeServer) -> None:
    response = call(client, "fail")
    assert (response.status_code, response.json()["result"]["isError"]) == (200, True)


def test_a_refused_call_is_an_upstream_error(client: ContractClient, fake: FakeServer) -> None:
    response = call(client, "refuse")
    assert (response.status_code, response.json()["step"]) == (502, "call")


def test_a_slow_tool_is_a_timeout(client: ContractClient, fake: FakeServer) -> None:
    client.patch(f"{SERVERS}/fake", {"timeout_seconds": 1})
    response = call(client, "slow", seconds=20)
    assert (response.status_code, response.json()["code"]) == (504, "timeout")
    assert response.json()["retryable"] is True


def test_a_server_that_fails_is_an_upstream_error(client: ContractClient, fake: FakeServer) -> None:
    fake.serve_instead(broken_app("error").app)
    response = call(client, name_in_agent(client, "echo"), f"{AGENTS}/bot", text="x")
    assert response.status_code == 502
    assert "secret-of-the-server" not in response.content.decode()


def test_an_unknown_tool_is_not_found(client: ContractClient, fake: FakeServer) -> None:
    for wanted in ("no_such", "x" * 200):
        response = call(client, wanted, f"{AGENTS}/bot", text="x")
        assert (response.status_code, response.json()["code"]) == (404, "unknown_tool")
    assert not [seen for seen in fake.requests if seen.tool]


def test_a_tool_that_is_switched_off_is_refused_and_recorded_with_its_server(
    client: ContractClient, fake: FakeServer
) -> None:
    name = name_in_agent(client, "echo")
    client.patch(f"{AGENTS}/bot", {"disabled_tools": {"fake": ["echo"]}})
    response = call(client, name, f"{AGENTS}/bot", text="x")
    assert (response.status_code, response.json()["code"]) == (409, "tool_disabled")
    assert "echo is switched off for Bot. An admin can switch it on" in response.json()["detail"]
    assert not [seen for seen in fake.requests if seen.tool]
    (row,) = client.get("/api/v1/tool_calls").json()["results"]
    assert (row["tool_name"], row["server"], row["outcome"]) == ("echo", "Fake", "refused")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ["echo"]}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "echo", "arguments": [1]}, "arguments"),
        ({"name": "echo", "arguments": None}, "arguments"),
        ({"name": "echo", "args": {}}, "args"),
    ],
)
def test_a_bad_body_is_refused(client: ContractClient, fake: FakeServer, body: dict[str, Any], field: str) -> None:
    for where in (f"{SERVERS}/fake", f"{AGENTS}/bot"):
        response = client.post(f"{where}/tools/call", body)
        assert (response.status_code, list(response.json()["fields"])) == (400, [field])
    assert not ToolCall.objects.exists()


def test_what_is_switched_off_is_not_called(client: ContractClient, fake: FakeServer) -> None:
    name = name_in_agent(client, "echo")
    client.patch(f"{AGENTS}/bot", {"is_enabled": False})
    refused = call(client, name, f"{AGENTS}/bot", text="x")
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_disabled")
    client.patch(f"{SERVERS}/fake", {"is_enabled": False})
    client.patch(f"{AGENTS}/bot", {"is_enabled": True})
    for refused in (call(client, "echo", text="x"), call(client, name, f"{AGENTS}/bot", text="x")):
        assert (refused.status_code, refused.json()["code"]) == (409, "server_disabled")
    assert set(ToolCall.objects.filter(error_code="server_disabled").values_list("server_label", flat=True)) == {"Fake"}


class TestStraightToAServer:
    def test_a_member_is_told_to_use_an_agent_and_nothing_is_sent(self, bob: Person, fake: FakeServer) -> None:
        fake.requests.clear()
        refused = call(api(bob), "echo", text="x")
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
        words = "Only an admin can call a server's tools directly. Use an agent that offers them."
        assert refused.json()["detail"] == words
        assert fake.requests == []
        row = ToolCall.objects.get()
        assert (row.user, row.server_label, row.outcome, row.error_code) == (bob.user, "Fake", "refused", "not_allowed")
        member = api(bob)
        assert call(member, name_in_agent(member, "echo"), f"{AGENTS}/bot", text="x").status_code == 200
        assert fake.calls() == ["echo"]

    @pytest.mark.parametrize("lacking", ["aster:manage", "aster:call"])
    def test_an_admins_key_must_hold_both_scopes(self, alice: Person, fake: FakeServer, lacking: str) -> None:
        fake.requests.clear()
        (held,) = {"aster:manage", "aster:call"} - {lacking}
        refused = call(api(alice, held), "echo", text="x")
        assert (refused.status_code, refused.json()["scope"]) == (403, lacking)
        assert fake.requests == []
        assert call(api(alice, held, lacking), "echo", text="x").status_code == 200
        assert fake.calls() == ["echo"]

    def test_an_admins_key_for_tools_alone_does_not_pass_by_the_agent(self, alice: Person, fake: FakeServer) -> None:
        fake.requests.clear()
        refused = call(api(alice, "files:read"), "echo", text="x")
        assert (refused.status_code, refused.json()["scope"], fake.requests) == (403, "aster:manage", [])


class TestWithoutAConnection:
    @pytest.fixture
    def notes(self, client: ContractClient, world: DemoWorld) -> dict[str, Any]:
        auth = {"auth_type": "AUTHORIZATION_CODE"}
        body = {"name": "Notes", "url": world.notes_url, "auth_config": auth}
        made: dict[str, Any] = client.post(SERVERS, body).json()
        client.post(AGENTS, {"name": "Bot", "mcp_server_config_ids": [made["id"]]})
        return made

    def test_the_way_to_one_is_shown_and_the_retry_works(self, client: ContractClient, notes: dict[str, Any]) -> None:
        stand_in = client.get(f"{AGENTS}/bot/tools").json()["results"][0]
        assert stand_in["tool_name"] is None
        for refused in (
            call(client, "whoami", f"{SERVERS}/notes"),
            call(client, stand_in["name"], f"{AGENTS}/bot"),
        ):
            body = refused.json()
            assert (refused.status_code, body["code"], body["status"]) == (409, "connection_required", "not_connected")
            assert body["server_id"] == notes["id"] and "/hub/servers/notes/connect/" in body["connect_url"]
        begun = client.post(f"{SERVERS}/notes/connect").json()
        assert body["authorization_url"].split("?")[0] == begun["authorization_url"].split("?")[0]
        location = consent(body["authorization_url"])
        assert client.get("/api/v1/oauth/callback", callback_params(location)).status_code == 200
        result = call(client, "whoami", f"{SERVERS}/notes").json()["result"]
        assert result["structuredContent"]["name"] == "Ada Park"
        assert call(client, name_in_agent(client, "whoami"), f"{AGENTS}/bot").status_code == 200

    @pytest.mark.parametrize("ended", [False, True])
    def test_the_link_is_that_of_the_server_that_was_called(
        self, client: ContractClient, alice: Person, notes: dict[str, Any], ended: bool
    ) -> None:
        body = {"name": "Archive", "url": notes["url"], "auth_config_id": notes["auth_config_id"]}
        archive = client.post(SERVERS, body).json()
        client.patch(f"{AGENTS}/bot", {"mcp_server_config_ids": [notes["id"], archive["id"]]})
        if ended:
            Connection.objects.create(
                auth_config_id=notes["auth_config_id"], user=alice.user, status="connection_error"
            )
        refused = call(client, f"archive_{archive['id']}__connect_account", f"{AGENTS}/bot").json()
        assert (refused["code"], refused["server_id"]) == ("connection_required", archive["id"])
        assert "/hub/servers/archive/connect/?organization=acme" in refused["connect_url"]
        assert refused["status"] == ("connection_error" if ended else "not_connected")

    def test_a_key_that_may_only_call_hears_the_same_without_a_consent_page(
        self, alice: Person, notes: dict[str, Any]
    ) -> None:
        key = api(alice, "aster:call")
        refused = call(key, name_in_agent(key, None), f"{AGENTS}/bot")
        assert (refused.status_code, refused.json()["authorization_url"]) == (409, None)
        assert refused.json()["connect_url"]
        assert not PendingAuthorization.objects.exists()

    def test_one_persons_connection_serves_nobody_else(
        self, client: ContractClient, bob: Person, notes: dict[str, Any]
    ) -> None:
        begun = client.post(f"{SERVERS}/notes/connect").json()
        client.get("/api/v1/oauth/callback", callback_params(consent(begun["authorization_url"])))
        name = name_in_agent(client, "whoami")
        assert call(client, name, f"{AGENTS}/bot").status_code == 200
        assert call(api(bob), name, f"{AGENTS}/bot").status_code == 409


class TestRecords:
    def test_every_call_is_recorded_without_its_arguments(self, client: ContractClient, fake: FakeServer) -> None:
        call(client, "echo", text="canary-argument")
        call(client, "refuse")
        response = client.get("/api/v1/tool_calls")
        rows = response.json()["results"]
        assert [(row["tool_name"], row["outcome"]) for row in rows] == [("refuse", "failed"), ("echo", "ok")]
        assert {row["user"] for row in rows} == {"alice@acme.test"} and {row["via"] for row in rows} == {"api"}
        assert "canary-argument" not in response.content.decode()
        assert [row["outcome"] for row in client.get("/api/v1/tool_calls?outcome=ok").json()["results"]] == ["ok"]
        assert client.get("/api/v1/tool_calls?tool_name=none").json()["results"] == []

    def test_members_see_their_own(
        self, client: ContractClient, bob: Person, fake: FakeServer,
        django_assert_max_num_queries: DjangoAssertNumQueries,
    ) -> None:  # fmt: skip
        call(client, "echo", text="x")
        member = api(bob)
        call(member, name_in_agent(member, "echo"), f"{AGENTS}/bot", text="x")
        assert [row["user"] for row in member.get("/api/v1/tool_calls").json()["results"]] == ["bob@acme.test"]
        with django_assert_max_num_queries(3):
            assert len(client.get("/api/v1/tool_calls").json()["results"]) == 2
