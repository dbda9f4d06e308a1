"""`mcp search`, `add` and `sync-registry`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError
from pytest_django.fixtures import Settings

from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, McpServer, RegistryEntry
from tests.aster.command_line import run, run_json
from tests.conftest import Person
from tests.fakes.mcp_servers import guarded, modern_and_legacy_app, serve
from tests.fakes.registry import ODD, FakeRegistry, entry, keyed, weather
from tests.integrations.registry_stage import ANYWHERE, put

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "k3y-canary"


@pytest.fixture(autouse=True)
def _registries(settings: Settings, alice: Person) -> None:
    settings.ASTER_REGISTRIES = [ANYWHERE]


@pytest.fixture
def guarded_url() -> Iterator[str]:
    with serve(guarded(modern_and_legacy_app(), KEY)) as base:
        yield f"{base}/mcp"


def test_entries_are_looked_up() -> None:
    row = put(weather(status="deprecated"))
    said, _ = run("search", "example", "weather")
    assert f"{row.pk}" in said and "com.example/weather (deprecated)" in said
    assert run_json("search", "weather")[0][0]["name"] == "com.example/weather"
    assert "Nothing found" in run("search", "zebra")[0]


def test_an_open_server_is_added_by_name_with_scopes(world: DemoWorld) -> None:
    put(weather(world.weather_url))
    told, code = run_json(
        "add", "com.example/weather", "--name", "Sky", "--scopes", "get_forecast:sky:read;no_tool:a:b,c:d",
        "--discover-scopes",
    )  # fmt: skip
    assert code == 0 and told["slug"] == "sky"
    server = McpServer.objects.get()
    assert server.tool_scopes == {"get_forecast": ["sky:read"], "no_tool": ["a:b", "c:d"]}
    assert "no_tool" in told["unknown_tools"] and len(told["proposed_scopes"]) == 3


def test_a_secret_comes_from_the_environment_or_a_file(
    guarded_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = put(keyed(guarded_url))
    monkeypatch.setenv("WEATHER_KEY", KEY)
    said, _ = run("add", str(row.pk), "--set", "api_key=env:WEATHER_KEY", "--set", "X-Region=eu-west-1")
    assert "9 tools found" in said and "canary" not in said
    assert AuthConfig.objects.get().token == KEY
    (tmp_path / "key").write_text(f"{KEY}\n")
    run("add", str(row.pk), "--name", "Second", "--set", f"api_key=file:{tmp_path / 'key'}")
    assert AuthConfig.objects.filter(token__isnull=False).count() == 2


def test_a_secret_written_out_is_refused_and_not_repeated(guarded_url: str) -> None:
    row = put(keyed(guarded_url))
    for words in (["--set", f"api_key={KEY}"], ["--token", KEY], ["--set", KEY], ["--set", "api_key=env:NOT_THERE"]):
        with pytest.raises(CommandError) as refused:
            run("add", str(row.pk), *words)
        assert "canary" not in str(refused.value)
    assert not McpServer.objects.exists()


def test_a_dry_run_shows_everything_but_secrets_and_stores_nothing(
    guarded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = put(keyed(guarded_url))
    monkeypatch.setenv("WEATHER_KEY", KEY)
    words = ("add", str(row.pk), "--set", "api_key=env:WEATHER_KEY", "--dry-run")
    said, _ = run(*words)
    assert guarded_url in said and "X-Region: [REDACTED]" in said and "canary" not in said
    assert "X-Client: aster" in said  # fixed by the entry
    told, _ = run_json(*words)
    assert told["would_store"]["auth_type"] == "BEARER" and "canary" not in json.dumps(told)
    assert not McpServer.objects.exists() and not AuthConfig.objects.exists()


def test_mistakes_are_told(bob: Person) -> None:
    row = put(weather("http://127.0.0.1:9/mcp"))
    for words, problem in (
        (["999"], "no such entry"),
        ([str(row.pk)], "Nobody answers"),
        ([str(row.pk), "--set", "nothing=1"], "asks for nothing of this name"),
        ([str(row.pk), "--remote", "4"], "has no remote-4"),
        ([str(row.pk), "--remote", "0", "--package", "0"], "not both"),
        ([str(row.pk), "--scopes", "read_file"], "TOOL:SCOPE"),
    ):
        with pytest.raises(CommandError, match=problem):
            run("add", *words)
    for words in (["add", str(row.pk)], ["search", "x"], ["sync-registry"]):
        with pytest.raises(CommandError, match="Only an admin"):
            run(*words, who="bob@acme.test")
    assert not McpServer.objects.exists()


def test_registries_are_read_now(settings: Settings) -> None:
    fake = FakeRegistry(*(entry(f"com.example/server-{number}") for number in range(5)), *ODD, page_size=2)
    with serve(fake) as base:
        settings.ASTER_REGISTRIES = [base]
        told, code = run_json("sync-registry")
        assert (code, told[0]["entries_read"], told[0]["odd_entries"]) == (0, 5, len(ODD))
        assert RegistryEntry.objects.count() == 5
    settings.ASTER_REGISTRIES = [base]
    said, code = run("sync-registry")
    assert code == 1 and "Nobody answers" in said
    settings.ASTER_REGISTRIES = []
    with pytest.raises(CommandError, match="ASTER_REGISTRIES"):
        run("sync-registry")
