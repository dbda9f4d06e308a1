"""Walk 1: an admin adds a server; it is tried first, and what the test saw is the same everywhere."""

from __future__ import annotations

import pytest

from agents.models import ToolCall
from aster.accounts.models import AuditEvent
from aster.demo.world import DemoWorld
from integrations.models import McpServer, Tool
from tests.conftest import Person
from tests.fakes.mcp_servers import broken_app, legacy_only_app, serve

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]


def test_a_server_that_answers_is_stored_with_its_tools_and_the_test_that_saw_them(
    alice: Person, world: DemoWorld
) -> None:
    answer = alice.api().post("/api/v1/config/mcp-server", {"name": "Weather", "url": world.weather_url})

    assert answer.status_code == 201
    body = answer.json()
    result = body["connection_test_result"]
    assert (result["status"], result["era"], result["protocol_version"]) == ("ok", "modern", "2026-07-28")
    assert result["tool_names"] == ["list_cities", "get_forecast", "compare_cities"]
    assert {tool["name"] for tool in result["tools"]} == set(Tool.objects.values_list("name", flat=True))
    stored = alice.api().get(f"/api/v1/config/mcp-server/{body['id']}").json()
    assert stored["last_test"] == {name: value for name, value in result.items() if name != "tools"}
    assert stored["status"] == "connected"
    page = alice.browser().get(f"/hub/servers/{body['slug']}/").content.decode()
    assert "get_forecast" in page
    assert "2026-07-28" in page


def test_a_legacy_server_is_recognised_and_remembered(alice: Person) -> None:
    with serve(legacy_only_app()) as base:
        answer = alice.api().post("/api/v1/config/mcp-server", {"name": "Old", "url": f"{base}/mcp"})
    assert answer.status_code == 201
    assert McpServer.objects.get().era == "legacy"


@pytest.mark.parametrize("kind", ["html", "500", "404"])
def test_a_server_that_fails_its_test_leaves_nothing_behind(alice: Person, kind: str) -> None:
    body = {"name": "Broken", "auth_config": {"name": "Key", "auth_type": "BEARER", "token": "t0k3n"}}
    with serve(broken_app(kind)) as base:
        answer = alice.api().post("/api/v1/config/mcp-server", {**body, "url": f"{base}/mcp"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "connection_test_failed"
    assert answer.json()["fields"]["url"]
    assert answer.json()["connection_test_result"]["status"] == "failed"
    assert not McpServer.objects.exists()
    assert not alice.organization.auth_configs.exists()
    assert not AuditEvent.objects.filter(object_type="mcpserver").exists()


def test_a_member_may_not_add_servers(bob: Person, world: DemoWorld) -> None:
    answer = bob.api().post("/api/v1/config/mcp-server", {"name": "Weather", "url": world.weather_url})
    assert answer.status_code == 403
    assert not McpServer.objects.exists()
    assert not ToolCall.objects.exists()
