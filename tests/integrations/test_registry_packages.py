"""Packages of an entry: the command that is shown and run, and what keeps one from being offered."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django.fixtures import Settings

from aster.errors import InvalidInput
from integrations.models import RegistryEntry
from integrations.registry_bodies import show_way
from integrations.services.registry import add_from_entry, draft_server
from integrations.services.registry_ways import ways_of
from integrations.services.targets import build_target
from tests.conftest import Person
from tests.fakes.registry import entry, npm
from tests.integrations.registry_stage import ANYWHERE, put

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "k3y-canary"


@pytest.fixture(autouse=True)
def _registries(settings: Settings) -> None:
    settings.ASTER_REGISTRIES = [ANYWHERE]


def package_entry(**changes: Any) -> RegistryEntry:
    return put(entry("com.example/it", packages=[npm(**changes)]))


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"packageArguments": [{"type": "named", "name": name, **more}]}


def variable(name: str, **more: Any) -> dict[str, Any]:
    return {"environmentVariables": [{"name": name, **more}]}


class TestPackages:
    def test_they_are_shown_with_their_command_and_refused_while_commands_are_off(self, alice: Person) -> None:
        named = {"type": "named", "name": "--mode", "default": "local"}
        arguments = [named, {"type": "positional", "valueHint": "dir"}]
        row = put(entry("com.example/it", packages=[npm(packageArguments=arguments)]))
        way = ways_of(row)[0]
        assert way.address == "npx -y @example/weather-mcp@1.2.3 --mode <mode> <dir>"
        with pytest.raises(InvalidInput, match="Local commands are off"):
            add_from_entry(row, "", {}, actor=alice.actor)

    def test_one_that_the_operator_allows_is_filled_in(self, alice: Person, settings: Settings) -> None:
        settings.ASTER_STDIO_COMMANDS = ["npx"]
        environment = [{"name": "API_KEY", "isRequired": True, "isSecret": True}, {"name": "UNITS", "default": "C"}]
        arguments = [{"type": "named", "name": "--dir", "isRequired": True}, {"type": "positional", "value": "run"}]
        row = put(entry("com.example/it", packages=[npm(environmentVariables=environment, packageArguments=arguments)]))
        draft = draft_server(row, "", {"API_KEY": KEY, "--dir": "/a b"}, actor=alice.actor)
        assert (draft.server.command, draft.auth) == ("npx", None)
        assert draft.server.args == ["-y", "@example/weather-mcp@1.2.3", "--dir", "/a b", "run"]
        assert draft.server.env == {"API_KEY": KEY, "UNITS": "C"}
        with pytest.raises(InvalidInput, match="--dir: This is needed"):
            draft_server(row, "", {"API_KEY": KEY}, actor=alice.actor)

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"registryType": "oci"}, "npm and PyPI only"),
            ({"transport": {"type": "streamable-http", "url": "http://localhost:1/"}}, "listens on an address"),
            ({"registryBaseUrl": "https://evil.test"}, "where Aster does not fetch packages"),
            ({"identifier": "--registry=https://evil.test"}, "not one that a package can have"),
            ({"identifier": "file:../x"}, "not one that a package can have"),
            ({"version": ""}, "names no version"),
            ({"version": "1.0 && rm"}, "names no version"),
            (
                {"runtimeArguments": [{"type": "positional", "value": "--script-shell=evil"}]},
                "arguments of the program",
            ),
            ({"packageArguments": [{"type": "curious"}]}, "arguments of the program"),
            (
                {"packageArguments": [{"type": "named", "name": "--key", "isSecret": True}]},
                "Everybody on the machine sees arguments",
            ),
        ],
    )
    def test_what_cannot_be_run_is_explained(
        self, alice: Person, settings: Settings, changes: dict[str, Any], problem: str
    ) -> None:
        settings.ASTER_STDIO_COMMANDS = ["npx", "uvx"]
        row = put(entry("com.example/it", packages=[npm(**changes)]))
        with pytest.raises(InvalidInput, match=problem):
            add_from_entry(row, "", {}, actor=alice.actor)

    def test_pypi_runs_with_uvx(self, settings: Settings) -> None:
        settings.ASTER_STDIO_COMMANDS = ["npx"]
        package = npm("weather-mcp", registryType="pypi", registryBaseUrl="https://pypi.org", version="0.5.0")
        way = ways_of(put(entry("com.example/it", packages=[package])))[0]
        assert way.address == "uvx weather-mcp==0.5.0"
        assert "has not allowed the command uvx" in way.problem


class TestWhatAnEntryMustNotSay:
    @pytest.fixture(autouse=True)
    def _machine(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.ASTER_STDIO_COMMANDS, settings.ASTER_ENV_VARS = ["npx", "uvx"], ["SHARED_KEY"]
        monkeypatch.setenv("SHARED_KEY", KEY)

    def refused(self, alice: Person, changes: dict[str, Any]) -> str:
        """The reason, which the way shows, and for which it is not added."""
        row = package_entry(**changes)
        way = ways_of(row)[0]
        with pytest.raises(InvalidInput) as refused:
            draft_server(row, "package-0", {}, actor=alice.actor)
        assert show_way(way)["problem"] == way.problem == refused.value.message
        return way.problem

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            (named("--x=${SHARED_KEY}", value="1"), "not written as a flag"),
            (named("${SHARED_KEY}", value="1"), "not written as a flag"),
            (named("--x=1 --y", default="1"), "not written as a flag"),
            (named("--\N{LATIN SMALL LETTER LONG S}hell", value="1"), "not written as a flag"),
            ({"identifier": "weather-${SHARED_KEY}"}, "not one that a package can have"),
            ({"identifier": "\N{LATIN SMALL LETTER LONG S}ecure"}, "not one that a package can have"),
            ({"version": "1.0.0-${SHARED_KEY}"}, "names no version"),
            (named("--x", value="${SHARED_KEY}"), "a variable of Aster's own machine"),
            (named("--x", value="{a}", variables={"a": {"value": "${SHARED_KEY}"}}), "a variable of Aster's own"),
            (variable("TOKEN", value="${SHARED_KEY}"), "a variable of Aster's own machine"),
            (
                {"packageArguments": [{"type": "positional", "value": "a", "valueHint": "${SHARED_KEY}"}]},
                "a variable of Aster's own machine",
            ),
        ],
    )
    def test_a_variable_of_asters_machine_in_any_part(
        self, alice: Person, changes: dict[str, Any], problem: str
    ) -> None:
        assert problem in self.refused(alice, changes)

    def test_a_variable_that_an_admin_enters_goes_nowhere_else(self, alice: Person) -> None:
        halves = {"a": {"default": "$"}, "b": {"default": "{SHARED_KEY}"}}
        arguments = named("--x", value="{a}{b}", variables=halves)
        row = package_entry(**arguments, **variable("TOKEN", isSecret=True))
        with pytest.raises(InvalidInput, match="into --x"):
            draft_server(row, "", {"TOKEN": "${SHARED_KEY}"}, actor=alice.actor)
        row.delete()
        own = package_entry(**named("--x", default="${SHARED_KEY}"), **variable("TOKEN", isSecret=True))
        target = build_target(draft_server(own, "", {"TOKEN": "${SHARED_KEY}"}, actor=alice.actor).server)
        assert (target.args, target.env) == (["-y", "@example/weather-mcp@1.2.3"], {"TOKEN": KEY})

    @pytest.mark.parametrize(
        "name",
        [
            "npm_config_registry", "NPM_CONFIG_USERCONFIG", "NODE_OPTIONS", "node_extra_ca_certs", "UV_INDEX_URL",
            "Pip_Index_Url", "PYTHONPATH", "PythonStartup", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "PATH", "Path",
            "HOME", "XDG_CONFIG_HOME", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "no_proxy", "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE", "GIT_SSH", "GIT_SSL_NO_VERIFY", "BASH_ENV", "TMPDIR", "SHELL",
        ],
    )  # fmt: skip
    def test_a_variable_that_decides_which_code_runs_is_the_operators(self, alice: Person, name: str) -> None:
        assert f"It sets {name}," in self.refused(alice, variable(name, value="https://evil.test"))
        RegistryEntry.objects.all().delete()
        assert f"It sets {name}," in self.refused(alice, variable(name, description="Only if you like"))

    @pytest.mark.parametrize("name", ["A=B", "npm config", "LD\N{LATIN SMALL LETTER LONG S}", "1ST"])
    def test_what_is_no_name_of_a_variable(self, alice: Person, name: str) -> None:
        assert "is no name that a variable" in self.refused(alice, variable(name, value="1"))

    def test_its_own_variables_and_flags_are_taken(self, alice: Person) -> None:
        names = ["NODE_ENV", "HOME_ASSISTANT_URL", "GIT_BASE_DIR", "PATH_PREFIX", "GITHUB_TOKEN", "api_key"]
        environment = [{"name": name, "value": "v"} for name in names]
        flags = [{"type": "named", "name": flag, "value": "1"} for flag in ("-v", "--max.size", "--no_color-2")]
        row = package_entry(environmentVariables=environment, packageArguments=flags)
        server = draft_server(row, "", {}, actor=alice.actor).server
        assert server.env == dict.fromkeys(names, "v")
        assert server.args[2:] == ["-v", "1", "--max.size", "1", "--no_color-2", "1"]

    def test_what_it_fixes_is_shown_however_it_is_written(self) -> None:
        environment = [
            {"name": "MODE", "value": "fast"},
            {"name": "BASE", "value": "https://{host}/", "variables": {"host": {"value": "a.test"}}},
            {"name": "HIDDEN", "value": "https://b.test", "variables": {"unused": {}}},
            {"name": "TOKEN", "value": "t {key}", "variables": {"key": {"isSecret": True}}},
            {"name": "UNITS", "default": "C"},
        ]
        way = show_way(ways_of(package_entry(environmentVariables=environment))[0])
        assert [(each["name"], each["value"]) for each in way["fixed"]] == [
            ("MODE", "fast"),
            ("BASE", "https://a.test/"),
            ("HIDDEN", "https://b.test"),
        ]
        assert [each["key"] for each in way["asks"]] == ["key", "UNITS"]
