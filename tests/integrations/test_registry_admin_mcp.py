"""The registry through the admin MCP server."""

from __future__ import annotations

import pytest
from mcp.shared.exceptions import MCPError
from pytest_django.fixtures import Settings

from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, McpServer
from tests.agents.admin_mcp import AdminClient, admin, member
from tests.fakes.registry import entry, keyed, npm, weather
from tests.integrations.registry_stage import ANYWHERE, put

__all__ = ["admin", "member"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _registries(settings: Settings) -> None:
    settings.ASTER_REGISTRIES = [ANYWHERE]


def test_a_model_looks_up_and_adds_an_open_server(admin: AdminClient, world: DemoWorld) -> None:
    row = put(weather(world.weather_url))
    found = admin.ok("search_registry", search="weather")["results"]
    assert [(each["id"], each["server"]) for each in found] == [(row.pk, None)]
    assert admin.ok("get_registry_entry", entry=row.pk)["ways"][0]["problem"] is None
    added = admin.ok("add_from_registry", entry=row.pk, name="Sky")
    assert (added["slug"], added["needs_person"], added["message"]) == ("sky", False, "3 tools found.")
    assert admin.ok("search_registry", search="weather")["results"][0]["server"] == "sky"


def test_one_that_wants_oauth_says_what_is_next(admin: AdminClient, world: DemoWorld) -> None:
    added = admin.ok("add_from_registry", entry=put(weather(world.notes_url)).pk)
    assert added["needs_person"] and added["auth_type"] == "AUTHORIZATION_CODE"


def test_what_is_missing_or_dead_is_told_and_nothing_stored(admin: AdminClient) -> None:
    row = put(keyed("http://127.0.0.1:9/mcp"))
    assert "api_key: This is needed" in admin.refused("add_from_registry", entry=row.pk)
    assert "Nobody answers" in admin.refused("add_from_registry", entry=row.pk, values={"api_key": "k3y-canary"})
    assert "no such entry" in admin.refused("get_registry_entry", entry=999)
    assert not McpServer.objects.exists() and not AuthConfig.objects.exists()


def test_packages_are_for_people(admin: AdminClient, settings: Settings) -> None:
    settings.ASTER_STDIO_COMMANDS = ["npx"]
    row = put(entry("com.example/it", packages=[npm()]))
    assert "only packages" in admin.refused("add_from_registry", entry=row.pk)
    assert "Unknown field" in admin.refused("add_from_registry", entry=row.pk, package=0)


@pytest.mark.parametrize("tool", ["search_registry", "get_registry_entry", "add_from_registry"])
def test_members_are_refused(member: AdminClient, tool: str) -> None:
    with pytest.raises(MCPError, match="Only an admin"):
        member.call(tool, entry=1)
