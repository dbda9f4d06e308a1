"""Walk 5: a script does all of it: organization, key, server by slug, agent, call."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import call_command
from rest_framework.test import APIClient

from aster.accounts.models import AuditEvent
from aster.demo.world import DemoWorld
from integrations.models import McpServer

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]


def run(*command: str) -> dict[str, object]:
    out = StringIO()
    call_command(*command, "--json", stdout=out)
    result: dict[str, object] = json.loads(out.getvalue())
    return result


def test_from_nothing_to_a_tool_call_without_a_browser(world: DemoWorld) -> None:
    made = run("create_org", "Initech", "--admin", "peter@initech.test", "--api-key")
    assert made["password"]
    api = APIClient()
    api.default_format = "json"
    api.credentials(HTTP_X_API_KEY=made["api_key"])

    first = api.put("/api/v1/config/mcp-server/weather", {"name": "Weather", "url": world.weather_url})
    assert first.status_code == 201
    again = api.put("/api/v1/config/mcp-server/weather", {"name": "Weather", "url": world.weather_url})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert McpServer.objects.count() == 1

    agent = api.post("/api/v1/config/agent", {"name": "Bot", "mcp_server_config_ids": [first.json()["id"]]}).json()
    tools = api.get(f"/api/v1/config/agent/{agent['id']}/tools").json()["results"]
    name = next(tool["name"] for tool in tools if tool["tool_name"] == "get_forecast")
    call = api.post(f"/api/v1/config/agent/{agent['id']}/tools/call", {"name": name, "arguments": {"city": "Oslo"}})
    assert call.status_code == 200
    assert not call.json()["result"]["isError"]
    assert agent["gateway_url"].endswith("/mcp/initech/bot")


def test_an_unchanged_put_writes_no_audit_row(world: DemoWorld) -> None:
    made = run("create_org", "Initech", "--admin", "peter@initech.test", "--api-key")
    api = APIClient()
    api.default_format = "json"
    api.credentials(HTTP_X_API_KEY=made["api_key"])
    for _ in range(2):
        api.put("/api/v1/config/mcp-server/weather", {"name": "Weather", "url": world.weather_url})
    actions = list(AuditEvent.objects.filter(object_type="mcpserver").values_list("action", flat=True))
    assert actions == ["created"]


def test_a_second_key_carries_only_its_scopes() -> None:
    run("create_org", "Initech", "--admin", "peter@initech.test", "--password", "a-long-password")
    key = run("create_api_key", "peter@initech.test", "--organization", "Initech", "--scopes", "aster:read")
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {key['api_key']}")
    assert api.get("/api/v1/config/mcp-server").status_code == 200
    refused = api.post("/api/v1/config/mcp-server", {"name": "x"}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")
