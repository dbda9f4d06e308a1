"""Walk: an MCP client sets Aster up from nothing, uses what it has set up through the gateway, and clears it away."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from agents.models import Agent
from aster.accounts.models import AuditEvent
from aster.demo.world import DemoWorld
from integrations.models import McpServer
from tests.agents.admin_mcp import ERAS, client_of
from tests.conftest import Person
from tests.walks.conftest import at_gateway, callback_params, consent

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]


def use(url: str, key: str, mode: str, name: str, **arguments: Any) -> Any:
    async def called(client: Client) -> Any:
        return await client.call_tool(name, arguments)

    return at_gateway(url, key, called, mode)


@pytest.mark.parametrize("mode", ERAS)
def test_aster_is_set_up_used_and_cleared_away_by_an_mcp_client(
    aster: str, alice: Person, bob: Person, world: DemoWorld, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")
    admin = client_of(alice, aster, mode=mode)
    found = admin.ok("discover_server", url=world.notes_url)
    auth = {"auth_type": found["recommended_auth_mode"]}
    notes = admin.ok("add_server", name="Notes", url=world.notes_url, auth_config=auth)
    assert notes["status"] == "not_connected"
    assert admin.ok("test_server", server="notes")["status"] == "sign_in"
    assert "/hub/servers/notes/connect/" in admin.ok("connect_server", server="notes")["connect_url"]

    helper = admin.ok("add_agent", name="Helper")
    admin.ok("assign_server", agent="helper", server="notes")
    refused = admin.ok("explain_access", agent="helper", tool="notes:whoami", email="bob@acme.test")
    assert not refused["allowed"]
    begun = bob.api().post("/api/v1/config/mcp-server/notes/connect").json()
    bob.api().get("/api/v1/oauth/callback", callback_params(consent(begun["authorization_url"], "Ben Okafor")))
    assert client_of(bob, aster, mode=mode).ok("test_server", server="notes")["status"] == "ok"
    told = admin.ok("explain_access", agent="helper", tool="notes:whoami", email="bob@acme.test")
    assert told["allowed"], told["verdict"]

    name = admin.ok("list_agent_tools", agent="helper", search="whoami")["results"][0]["name"]
    assert use(helper["gateway_url"], bob.key(), mode, name).structured_content["name"] == "Ben Okafor"
    admin.ok("switch_tools", agent="helper", server="notes", off=["whoami"])
    with pytest.raises(MCPError, match="whoami is switched off for Helper"):
        use(helper["gateway_url"], bob.key(), mode, name)
    called = admin.ok("list_tool_calls", agent="helper")["results"]
    assert [(row["user"], row["outcome"]) for row in called] == [
        ("bob@acme.test", "refused"),
        ("bob@acme.test", "ok"),
    ]

    admin.ok("remove_agent", agent="helper", confirm="helper")
    admin.ok("remove_server", server="notes", confirm="notes")
    assert not Agent.objects.exists() and not McpServer.objects.exists()
    told = admin.ok("list_audit_events", via="gateway", limit=100)["results"]
    assert [event["action"] for event in told if event["object_type"] in ("agent", "mcpserver")] == [
        *("deleted", "deleted", "switched_tools", "assigned", "created", "created")
    ]
    assert set(AuditEvent.objects.filter(action="deleted").values_list("actor__email", flat=True)) == {alice.user.email}
