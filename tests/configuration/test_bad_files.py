"""What is wrong with a file is said all at once, with its place and without any value; nothing is stored."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.core.management import CommandError
from pytest_django.fixtures import Settings

from agents.models import Agent
from aster.accounts.models import AuditEvent, Organization
from aster.configuration.document import parse
from aster.configuration.reading import Problems
from connectors.registry import find_connector
from integrations.models import AuthConfig, McpServer
from integrations.services.servers import save_server
from tests.configuration.stage import apply, export, globex, mcp, write
from tests.conftest import Person

__all__ = ["globex"]

pytestmark = pytest.mark.django_db
URL = "https://93.184.216.34/mcp"


def problems_of(text: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        parse(text, {})
    return caught.value.problems


def refused(folder: Path, text: str, *more: str) -> list[str]:
    """The problems that plan and apply tell, which are the same; nothing is stored."""
    file = write(folder, text)
    code, told = mcp("plan", file, "--json", *more)
    assert code == 1
    assert mcp("apply", file, "--json", "--yes", *more) == (1, told)
    assert not McpServer.objects.exists()
    assert not AuthConfig.objects.exists()
    assert not AuditEvent.objects.exists()
    problems: list[str] = json.loads(told)["problems"]
    return problems


def test_unknown_names_are_told_with_their_line_and_the_nearest_known_one() -> None:
    text = f"version: 1\nserver:\n  x: {{}}\nservers:\n  github:\n    urll: {URL}\n    nonsense: 1\n"
    assert problems_of(text) == [
        "line 2, server: unknown; did you mean servers?",
        "line 6, servers.github.urll: unknown; did you mean url?",
        "line 7, servers.github.nonsense: unknown",
    ]


def test_wrong_types_are_told_without_what_was_written() -> None:
    text = """version: 1
organization: {keep_calls_days: 0}
auth_configs:
  Key: {auth_type: BAERER, token: 55123}
servers:
  github: {timeout_seconds: 900, is_enabled: "yes", tool_scopes: {a: "files:read"}}
  Git Hub: {}
connectors:
  slak: {}
"""
    told = problems_of(text)
    assert told == [
        "line 2, organization.keep_calls_days: must be at least 1",
        "line 4, auth_configs.Key.auth_type: must be one of NONE, BEARER, BASIC, CLIENT_CREDENTIALS, "
        "AUTHORIZATION_CODE, TOKEN_EXCHANGE, ID_JAG; did you mean BEARER?",
        "line 4, auth_configs.Key.token: must be a text (put quotes around it) or null",
        "line 6, servers.github.is_enabled: must be true or false",
        "line 6, servers.github.timeout_seconds: must be at most 600",
        "line 6, servers.github.tool_scopes.a: must be a list",
        "line 7, servers.Git Hub: is no such name: lowercase letters, digits and single hyphens make one",
        told[-1],
    ]
    assert re.fullmatch(r"line 9, connectors\.slak: must be one of .+; did you mean slack\?", told[-1])
    assert "55123" not in str(told)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "The file is empty."),
        ("- a\n", "The file is a list or text."),
        ("servers: {}\n", "version is missing"),
        ("version: 2\n", "line 1, version: must be 1"),
        ("version: 1\nservers:\n  a: {}\n  b: {}\n  a: {}\n", "line 5, servers.a: this is there twice"),
        ("version: 1\nservers: [\n", "line 3: this is not YAML as it is taken here"),
        ("version: 1\nservers: &a {x: {}}\nagents: *a\n", "line 3: this is not YAML as it is taken here: aliases"),
        ("version: 1\nservers: !!python/object:os.system {}\n", "line 2, servers: tags (!name) are not allowed"),
        ("version: 1\nservers:\n", "line 2, servers: must be names with values"),
        ("version: 1\n? [a, b]\n: 1\n", "a name in it is no text"),
        ("version: 1\nagents: " + "[" * 200 + "]" * 200, "nested more than 40 levels deep"),
        ("#" * 1_100_000, "larger than 1024 kB"),
        *(
            (
                f"version: 1\norganization:\n  keep_calls_days: {number}\n",
                "line 3, organization.keep_calls_days: a number",
            )
            for number in (
                f"0x{'f' * 4000}",
                "9" * 5000,
                "1" + ":59" * 50_000,
                f"1{':59' * 9000}.5",
                2**53 + 1,
                "0x_",
                -(2**60),
            )
        ),
    ],
)
def test_what_is_no_configuration_is_refused_in_words(text: str, words: str) -> None:
    assert any(words in line for line in problems_of(text)), problems_of(text)


def test_a_bomb_of_aliases_is_refused_at_its_first_alias() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12))
    assert "line 2: this is not YAML as it is taken here: aliases" in problems_of(f"l0: &l0 [a]\n{levels}\n")[0]


def test_secrets_that_are_missing_or_written_out_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    text = f"""version: 1
auth_configs:
  A: {{auth_type: BEARER, token: env:NO_SUCH_TOKEN}}
  B: {{auth_type: BEARER, token: file:{tmp_path}/none}}
  C: {{auth_type: BEARER, token: file:{tmp_path}/empty}}
  D: {{auth_type: BEARER, token: sk-canary-991}}
  E: {{auth_type: BASIC, username: u, password: "plain:canary"}}
  F: {{auth_type: BEARER, custom_headers: {{X-Key: env:NO_SUCH_KEY}}}}
  G: {{auth_type: BEARER, token: "file:token.txt"}}
"""
    told = problems_of(text)
    assert told[0] == "line 3, auth_configs.A.token: the environment variable NO_SUCH_TOKEN is not set or empty"
    assert f"the file {tmp_path}/none cannot be read as text" in told[1]
    assert f"the file {tmp_path}/empty is empty" in told[2]
    assert "write env:NAME or file:/path" in told[3]
    assert "write env:NAME or file:/path" in told[4]
    assert told[5].startswith("line 8, auth_configs.F.custom_headers.X-Key: the environment variable NO_SUCH_KEY")
    assert "a file is named by its whole path" in told[6]
    assert "canary" not in str(told)


def test_a_secret_to_keep_has_to_be_stored(alice: Person, tmp_path: Path) -> None:
    text = """version: 1
auth_configs:
  A: {auth_type: BEARER, token: stored}
  B: {auth_type: BEARER, custom_headers: {X-Key: stored}}
"""
    assert refused(tmp_path, text) == [
        "line 3, auth config A: token: nothing is stored yet; write env:NAME or file:/path",
        "line 4, auth config B: custom_headers.X-Key: nothing is stored yet; write env:NAME or file:/path",
    ]


def test_everything_that_cannot_be_stored_is_told_at_once_with_its_object(
    alice: Person, tmp_path: Path, settings: Settings
) -> None:
    settings.ASTER_STDIO_COMMANDS = ["python"]
    text = f"""version: 1
auth_configs:
  Key: {{auth_type: BEARER}}
servers:
  inside: {{url: "http://10.1.2.3/mcp"}}
  local: {{transport: stdio, command: bash}}
  variable: {{transport: stdio, command: python, args: ["${{DATABASE_URL}}"]}}
  github: {{url: "{URL}", auth_config: Kee}}
  follows: {{url: "{URL}", auth_config: Key}}
  add: {{url: "{URL}"}}
  first: {{name: Same, url: "{URL}"}}
  second: {{name: same, url: "{URL}"}}
agents:
  helper: {{servers: [githup]}}
  other: {{servers: [github]}}
  rules: {{servers: [first], disabled_tools: {{second: [x]}}}}
  scopes: {{tool_scopes: {{create_issue: ["a"]}}}}
"""
    told = refused(tmp_path, text)
    assert [line.partition(":")[0] for line in told] == [
        "line 3, auth config Key", "line 5, server inside", "line 6, server local", "line 7, server variable",
        "line 8, server github", "line 10, server add", "line 12, server second", "line 14, agent helper",
        "line 16, agent rules", "line 17, agent scopes",
    ]  # fmt: skip
    assert "Enter the key" in told[0]
    assert "10.1.2.3" in told[1]
    assert "Allowed: python" in told[2]
    assert "list DATABASE_URL in ASTER_ENV_VARS" in told[3]
    assert "there is no auth config Kee, neither in the file nor stored" in told[4]
    assert "There is an MCP server called Same already" in told[6]
    assert "there is no server githup" in told[7]
    assert "disabled_tools: second is not one of its servers" in told[8]


def test_an_error_in_the_last_object_stores_nothing(alice: Person, tmp_path: Path) -> None:
    text = (
        f"version: 1\nservers:\n  good: {{url: '{URL}'}}\nagents:\n  a: {{servers: [good]}}\n  b: {{llm_config: M}}\n"
    )
    [told] = refused(tmp_path, text)
    assert told == "line 6, agent b: there is no LLM config M, neither in the file nor stored."
    assert not Agent.objects.exists()


def test_a_file_that_aster_would_store_in_another_way_is_refused(alice: Person, tmp_path: Path) -> None:
    text = f"version: 1\nservers:\n  good: {{url: '{URL}', command: x}}\n"
    [told] = refused(tmp_path, text)
    assert "Aster stores it in another way (command" in told


def test_for_people_all_problems_are_listed_and_a_file_that_is_not_there_is_named(
    alice: Person, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match=r"2 problems:\n- line 2, servrs.*\n- version is missing|version"):
        mcp("plan", write(tmp_path, "a: 1\nservrs: {}\n"))
    with pytest.raises(CommandError, match=r"none\.yml cannot be read: No such file"):
        mcp("plan", tmp_path / "none.yml")


def test_a_connector_has_no_settings_of_another_kind_and_its_slug_is_taken(alice: Person, tmp_path: Path) -> None:
    [told] = refused(tmp_path, "version: 1\nconnectors:\n  slack: {api_key: 'file:/proc/self/comm'}\n")
    assert told == "line 3, connector slack: this connector has no api_key."
    text = "version: 1\nconnectors: {slack: {client_id: a, client_secret: 'file:/proc/self/comm'}}\n"
    apply(write(tmp_path, text))
    with pytest.raises(CommandError, match="this slug belongs to a connector"):
        mcp("plan", write(tmp_path, f"version: 1\nservers: {{slack: {{url: '{URL}'}}}}\n"))


def test_only_a_server_of_the_catalogue_comes_from_it(alice: Person, tmp_path: Path) -> None:
    hosted = find_connector("aws-knowledge-mcp")
    text = f"""version: 1
servers:
  a: {{url: "{URL}", source: "catalog:aws-knowledge-mcp"}}
  b: {{url: "{hosted.url}", transport: sse, source: "catalog:aws-knowledge-mcp"}}
  c: {{url: "{URL}", source: "catalog:slack"}}
  d: {{url: "{URL}", source: "catalog:none"}}
"""
    told = refused(tmp_path, text)
    assert [line.partition(":")[0] for line in told] == [
        f"line {n}, server {each}" for n, each in zip((3, 4, 5, 6), "abcd", strict=True)
    ]
    assert f"in the catalogue, aws-knowledge-mcp is {hosted.url} (streamable_http)" in told[0]
    assert "catalog:slack is no server of the catalogue" in told[2]


def test_a_hosted_connector_stays_what_the_catalogue_says(
    alice: Person, globex: Organization, tmp_path: Path, settings: Settings
) -> None:
    hosted = find_connector("aws-knowledge-mcp")
    server = McpServer(name=hosted.name, url=hosted.url, source="catalog:aws-knowledge-mcp")
    save_server(server, actor=alice.actor, test=False)
    written = export(tmp_path)
    assert apply(written) == "Nothing to change.\n"
    text = written.read_text()
    with pytest.raises(CommandError, match="in the catalogue, aws-knowledge-mcp is"):
        mcp("plan", write(tmp_path, text.replace(server.url, URL)))
    with pytest.raises(CommandError, match="enabled already"):
        twice = f"version: 1\nservers: {{again: {{url: '{server.url}', source: 'catalog:aws-knowledge-mcp'}}}}\n"
        mcp("plan", write(tmp_path, twice))
    apply(written, organization="globex")
    assert McpServer.objects.get(organization=globex).source == server.source
