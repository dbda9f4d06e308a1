"""Files that describe servers under `mcp:` and scopes under `security:`."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError
from pytest_django.fixtures import Settings

from aster.configuration.document import parse
from aster.configuration.reading import Problems
from integrations.models import AuthConfig, AuthType, McpServer, Transport
from tests.configuration.stage import SEED, apply, export, mcp, plan, write
from tests.conftest import Person

pytestmark = pytest.mark.django_db
TOKEN = "ghp-canary-5512"


@pytest.fixture(autouse=True)
def _environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ASTER_STDIO_COMMANDS = ["python"]
    settings.ASTER_ALLOWED_HOSTS_PRIVATE = ["localhost:3000", "127.0.0.1:3000"]
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)


def test_the_complete_example_becomes_servers_with_their_scopes_and_sign_in(alice: Person) -> None:
    told = apply(SEED)
    filesystem, github = McpServer.objects.order_by("name")
    assert (filesystem.slug, filesystem.transport, filesystem.command) == ("filesystem", Transport.STDIO, "python")
    assert (filesystem.args, filesystem.working_dir) == (["/path/to/filesystem_mcp_server.py"], "/tmp")
    assert (filesystem.env, filesystem.timeout_seconds, filesystem.retry_attempts) == ({"DEBUG": "1"}, 30, 3)
    assert filesystem.tool_scopes == {
        "list_directory": ["files:read"], "read_file": ["files:read"], "write_file": ["files:write"],
    }  # fmt: skip
    assert (github.transport, github.url) == (Transport.SSE, "http://localhost:3000/mcp")
    assert github.tool_scopes.keys() == {"create_issue", "list_issues", "update_issue"}
    auth = AuthConfig.objects.get()
    assert (auth.name, auth.auth_type, auth.token, auth.custom_headers) == ("github", AuthType.BEARER, TOKEN, {})
    assert github.auth_config == auth
    alice.organization.refresh_from_db()
    assert alice.organization.scope_hierarchy["github:admin"] == ["github:write", "github:read"]
    assert "every agent is an MCP server already" in told
    assert "keys are made in Aster" in told
    assert TOKEN not in told
    assert "admin-key-123" not in told


def test_the_example_and_its_export_change_nothing_once_it_is_applied(alice: Person, tmp_path: Path) -> None:
    assert plan(SEED)[0] == 2
    apply(SEED)
    assert plan(SEED)[0] == 0
    assert "Nothing to change." in apply(SEED)
    written = export(tmp_path)
    assert TOKEN not in written.read_text()
    assert plan(written) == (0, {"changes": [], "not_in_file": [], "notes": [], "summary": "Nothing to change."})


def problems_of(text: str, **environ: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        parse(text, environ)
    return caught.value.problems


def test_variables_that_are_missing_are_all_named_and_nothing_is_stored(alice: Person, tmp_path: Path) -> None:
    text = """mcp:
  servers:
    - name: a
      url: https://93.184.216.34/mcp
      headers: {Authorization: "Bearer ${ONE}", X-Team: "${TWO}"}
    - name: b
      transport: stdio
      command: python
      env: {KEY: "${THREE}"}
"""
    file = write(tmp_path, text)
    with pytest.raises(CommandError, match="3 problems"):
        mcp("apply", file, "--yes")
    assert not McpServer.objects.exists()
    assert problems_of(text, TWO="") == [
        "line 5, mcp.servers[0].headers.Authorization: the environment variable ONE is not set or empty",
        "line 5, mcp.servers[0].headers.X-Team: the environment variable TWO is not set or empty",
        "line 9, mcp.servers[1].env.KEY: the environment variable THREE is not set or empty",
    ]


def test_headers_that_are_no_bearer_token_stay_headers_and_literals_are_noted(alice: Person, tmp_path: Path) -> None:
    text = """mcp:
  servers:
    - name: search
      url: https://93.184.216.34/mcp
      headers: {X-API-Key: literal-canary, authorization: "Basic ${GITHUB_TOKEN}"}
"""
    told = apply(write(tmp_path, text))
    auth = AuthConfig.objects.get()
    assert (auth.auth_type, auth.token) == (AuthType.BEARER, "")
    assert auth.custom_headers == {"X-API-Key": "literal-canary", "authorization": f"Basic {TOKEN}"}
    assert "note: line 5, mcp.servers[0].headers.X-API-Key: the value itself stands in the file" in told
    assert "[0].headers.authorization" not in told
    assert "canary" not in told


@pytest.mark.parametrize("switch", ["enabled", "client_enabled"])
def test_what_is_switched_off_there_is_switched_off_here(alice: Person, tmp_path: Path, switch: str) -> None:
    servers = "servers: [{name: a, url: 'https://93.184.216.34/mcp'}, {name: b, url: 'https://93.184.216.34/x'}]"
    apply(write(tmp_path, f"mcp: {{{switch}: false, {servers}}}\n"))
    assert set(McpServer.objects.values_list("is_enabled", flat=True)) == {False}


def test_every_key_of_a_server_is_understood(alice: Person, tmp_path: Path) -> None:
    text = """version: "1.4.0"
name: my-agent
mcp:
  client_timeout: 12.5
  client_retry_attempts: 9
  servers:
    - {name: Weather_Alerts, enabled: false, transport: streamable_http, url: "https://93.184.216.34/mcp",
       timeout: 0.5, expose_as_skills: true, tool_scopes: {"Weather_Alerts:get": ["a:read"], get: ["b:read"]}}
    - {name: test, url: "https://93.184.216.34/x", command: python}
"""
    notes = parse(text).notes
    assert "line 1, version: is not read" in notes
    assert "line 2, name: is not read" in notes
    assert "line 5, mcp.client_retry_attempts: 5 is the most here" in notes
    assert "line 9, mcp.servers[1].url: means nothing with stdio" in notes
    apply(write(tmp_path, text))
    weather = McpServer.objects.get(slug="weather-alerts")
    assert (weather.name, weather.is_enabled, weather.expose_as_skills) == ("Weather_Alerts", False, True)
    assert (weather.timeout_seconds, weather.retry_attempts) == (1, 5)
    assert weather.tool_scopes == {"get": ["a:read", "b:read"]}
    local = McpServer.objects.get(slug="mcp-test")
    assert (local.transport, local.timeout_seconds) == (Transport.STDIO, 13)
    assert plan(write(tmp_path, text))[0] == 0


def test_names_that_are_unknown_or_there_twice_are_told() -> None:
    text = """mcp:
  enabld: true
  servers:
    - {name: a, comand: python, timeout: soon}
    - {url: "https://x.test"}
"""
    assert problems_of(text) == [
        "line 2, mcp.enabld: unknown; did you mean enabled?",
        "line 4, mcp.servers[0].comand: unknown; did you mean command?",
        "line 4, mcp.servers[0].timeout: must be a number",
        "line 5, mcp.servers[1]: name is missing",
    ]
    twice = "mcp: {servers: [{name: a b, command: x}, {name: A_B, command: x}]}\n"
    assert problems_of(twice) == ["line 1, mcp.servers[1].name: a server a-b is there twice"]
    assert problems_of("mcp: {}\nservers: {}\n") == [
        "line 2, servers: write either mcp: or Aster's own sections in one file"
    ]


def test_a_private_address_is_refused_unless_the_operator_allows_it(alice: Person, settings: Settings) -> None:
    settings.ASTER_ALLOWED_HOSTS_PRIVATE = []
    settings.DEBUG = False
    with pytest.raises(CommandError, match=r"server github: url: .*localhost"):
        mcp("plan", SEED)
    settings.ASTER_STDIO_COMMANDS = []
    with pytest.raises(CommandError, match="2 problems:\n- server filesystem: command: Local commands are off"):
        mcp("plan", SEED)


def test_pruning_by_a_file_that_names_no_servers_leaves_them_alone(alice: Person, tmp_path: Path) -> None:
    apply(SEED)
    assert "Nothing to change." in apply(write(tmp_path, "mcp: {enabled: true, client_timeout: 9}\n"), "--prune")
    assert McpServer.objects.count() == 2
    apply(write(tmp_path, "mcp: {servers: []}\n"), "--prune")
    assert not McpServer.objects.exists()


def test_a_server_whose_headers_are_gone_signs_in_no_more(alice: Person, tmp_path: Path) -> None:
    text = "mcp: {servers: [{name: github, url: 'https://93.184.216.34/mcp', headers: {X-Key: '${GITHUB_TOKEN}'}}]}\n"
    apply(write(tmp_path, text))
    assert McpServer.objects.get().auth_config is not None
    apply(write(tmp_path, text.replace(", headers: {X-Key: '${GITHUB_TOKEN}'}", "")))
    assert McpServer.objects.get().auth_config is None


def test_addresses_with_variables_and_names_that_make_no_slug_are_refused() -> None:
    text = (
        "mcp:\n  servers:\n    - name: a\n      url: https://${HOST}/mcp\n    - {name: 天気, url: 'https://x.test'}\n"
    )
    first, second = problems_of(text, HOST="x.test")
    assert first.startswith("line 4, mcp.servers[0].url: variables are replaced in headers")
    assert second.startswith("line 5, mcp.servers[1].name: has no Latin letter") and "write a slug" in second
