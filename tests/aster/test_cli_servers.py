"""`mcp list`, `test`, `remove`, `discover-tools` and `validate`."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError
from pytest_django.fixtures import Settings

from agents.models import Agent
from agents.services.agents import save_agent
from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, AuthType, McpServer, Transport
from integrations.services import servers
from integrations.services.servers import save_server, set_enabled
from tests.aster.command_line import run, run_json
from tests.conftest import Person

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def weather(world: DemoWorld, alice: Person) -> McpServer:
    return save_server(McpServer(name="Weather", url=world.weather_url), actor=alice.actor).server


@pytest.fixture
def dead(alice: Person) -> McpServer:
    server = McpServer(name="Dead", url="http://127.0.0.1:9/mcp")
    return save_server(server, actor=alice.actor, test=False).server


def test_servers_are_listed(weather: McpServer, dead: McpServer, charlie: Person) -> None:
    save_server(McpServer(name="Theirs", url="http://127.0.0.1:9/mcp"), actor=charlie.actor, test=False)
    said, _ = run("list")
    assert "weather" in said and "dead" in said and "theirs" not in said
    listed, _ = run_json("list")
    assert [(each["slug"], each["tool_count"]) for each in listed] == [("dead", 0), ("weather", 3)]


def test_no_servers_yet(alice: Person) -> None:
    assert "no MCP servers yet" in run("list")[0]


def test_one_is_tested(weather: McpServer, dead: McpServer) -> None:
    said, code = run("test", "weather")
    assert code == 0 and "3 tools found." in said
    said, code = run("test", "dead")
    assert code == 1 and "FAILED" in said and "Nobody answers" in said


def test_all_are_tested_and_one_that_fails_counts(weather: McpServer, dead: McpServer, alice: Person) -> None:
    results, code = run_json("test", "--all")
    assert code == 1 and [(each["slug"], each["status"]) for each in results] == [("dead", "failed"), ("weather", "ok")]
    set_enabled(dead, False, actor=alice.actor)
    assert run("test", "--all")[1] == 0
    for words in (["test"], ["test", "weather", "--all"]):
        with pytest.raises(CommandError, match="Name a server, or say --all"):
            run(*words)


def test_removing_says_what_is_lost_and_wants_a_yes(alice: Person, weather: McpServer) -> None:
    save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[weather.pk])
    with pytest.raises(CommandError, match="Add --yes"):
        run("remove", "weather")
    assert McpServer.objects.exists()
    said, _ = run("remove", "weather", "--yes")
    assert "Helper can no longer use it." in said and "Weather was removed." in said
    assert not McpServer.objects.exists()
    with pytest.raises(CommandError, match="no such MCP server"):
        run("remove", "weather", "--yes")


def test_members_change_nothing(weather: McpServer, bob: Person) -> None:
    for words in (["remove", "weather", "--yes"], ["discover-tools", "weather", "--apply"], ["validate"]):
        with pytest.raises(CommandError, match="Only an admin"):
            run(*words, who="bob@acme.test")
    assert McpServer.objects.get().tool_scopes == {}


def test_scopes_are_proposed_and_stored_only_when_asked_to(weather: McpServer) -> None:
    McpServer.objects.update(tool_scopes={"forecast": ["sky:mine"]})
    names = sorted(weather.tools.values_list("name", flat=True))
    said, _ = run("discover-tools", "weather")
    assert all(name in said for name in names) and "Nothing was stored" in said
    assert McpServer.objects.get().tool_scopes == {"forecast": ["sky:mine"]}
    told, _ = run_json("discover-tools", "weather", "--apply")
    stored = McpServer.objects.get().tool_scopes
    assert set(stored) == {*names, "forecast"} and stored["forecast"] == ["sky:mine"]
    assert told["applied"] == sorted(set(names) - {"forecast"})


def test_tools_of_a_dead_server_are_not_proposed(dead: McpServer) -> None:
    with pytest.raises(CommandError, match="Nobody answers"):
        run("discover-tools", "dead")


class TestValidate:
    def test_all_is_well(self, weather: McpServer, alice: Person) -> None:
        save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[weather.pk])
        assert run("validate") == ("No problems found.\n", 0)

    def test_every_mistake_is_told_without_asking_anybody(
        self, weather: McpServer, dead: McpServer, alice: Person, settings: Settings
    ) -> None:
        agent = save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[weather.pk, dead.pk])
        servers.test_server(dead, actor=alice.actor)
        keyless = AuthConfig.objects.create(organization=alice.organization, name="K", auth_type=AuthType.BEARER)
        variable = AuthConfig.objects.create(
            organization=alice.organization, name="V", auth_type=AuthType.BEARER, token="${MISSING_KEY}"
        )

        def make(**fields: Any) -> McpServer:
            return McpServer.objects.create(organization=alice.organization, **fields)

        make(name="No key", slug="no-key", url="http://127.0.0.1:9/mcp", auth_config=keyless)
        make(name="No variable", slug="no-variable", url="http://127.0.0.1:9/mcp", auth_config=variable)
        make(name="Local", slug="local", transport=Transport.STDIO, command="npx")
        make(
            name="Wants", slug="wants", url="http://127.0.0.1:9/mcp", test_status="failed",
            last_test={"step": "auth", "status": "failed"},
        )  # fmt: skip
        McpServer.objects.filter(slug="weather").update(tool_scopes={"gone": ["a:b"]})
        Agent.objects.update(strict_scopes=True, tool_scopes={"weather__nothing": ["a:b"]})
        found, code = run_json("validate")
        assert code == 1
        assert [(each["slug"], each["code"]) for each in found] == [
            ("local", "command_not_allowed"),
            ("no-key", "missing_auth"),
            ("no-variable", "missing_variable"),
            ("wants", "missing_auth"),
            ("weather", "unknown_tools"),
            (agent.slug, "server_unreachable"),
            (agent.slug, "unmapped_tools"),
        ]

    def test_scopes_of_unknown_tools_and_switched_off_servers(self, weather: McpServer, alice: Person) -> None:
        save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[weather.pk])
        Agent.objects.update(tool_scopes={"weather__nothing": ["a:b"]})
        set_enabled(weather, False, actor=alice.actor)
        said, code = run("validate")
        assert code == 1 and "weather__nothing" in said and "weather is switched off" in said
