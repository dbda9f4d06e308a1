"""Applying a file: what is shown is what is done, all of it or none, whoever else is at work."""

from __future__ import annotations

import io
import json
import socket
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError
from django.db import connections
from pytest_django.fixtures import Settings

from agents.models import Agent, LlmConfig, ToolGrant
from agents.services.agents import save_agent
from aster.accounts.models import AuditEvent, Organization
from aster.celery import app as celery_app
from aster.configuration.apply import apply as carry_out
from aster.configuration.apply import preview
from aster.configuration.document import parse
from aster.demo.world import DemoWorld
from aster.errors import Conflict, InvalidInput, NotAllowed
from integrations.models import AuthConfig, Connection, McpServer, Tool
from integrations.services.connections import begin_connection, complete_connection
from integrations.services.servers import save_auth_config, save_server
from integrations.services.targets import build_target
from integrations.tasks import sync_server
from tests.configuration.stage import apply, export, globex, mcp, plan, write
from tests.conftest import Person
from tests.walks.conftest import callback_params, consent

__all__ = ["globex"]

pytestmark = pytest.mark.django_db(transaction=True)
URL = "https://93.184.216.34/mcp"
FILE = f"""version: 1
auth_configs:
  Key: {{auth_type: BEARER, token: env:THE_KEY}}
servers:
  crm: {{name: CRM, url: "{URL}", auth_config: Key, tool_scopes: {{"crm:read": [crm:read]}}}}
agents:
  helper:
    name: Helper
    servers: [crm]
    disabled_tools: {{crm: [drop]}}
    approvals: {{crm: {{send: admin}}}}
    tool_scopes: {{"crm:send": [crm:send]}}
"""


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "canary-1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path, FILE)


def test_a_plan_says_what_would_change_and_changes_nothing(alice: Person, file: Path) -> None:
    code, told = mcp("plan", file)
    assert code == 2
    assert told.splitlines()[:6] == [
        "+ auth config Key",
        '    auth_type: – → "BEARER"',
        '    token: – → "set"',
        "+ server crm",
        '    name: – → "CRM"',
        f'    url: – → "{URL}"',
    ]
    assert told.splitlines()[-1] == "3 to create."
    assert not McpServer.objects.exists()
    assert not AuditEvent.objects.exists()


def test_applying_twice_is_the_same_as_once(alice: Person, file: Path) -> None:
    assert "3 to create." in apply(file)
    events = AuditEvent.objects.count()
    assert set(AuditEvent.objects.values_list("via", flat=True)) == {"cli"}
    assert apply(file) == "Nothing to change.\n"
    assert AuditEvent.objects.count() == events
    assert plan(file)[0] == 0


def test_a_change_is_shown_from_old_to_new_and_a_secret_only_as_changed(
    alice: Person, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(file)
    monkeypatch.setenv("THE_KEY", "canary-2")
    changed = write(tmp_path, FILE.replace("name: Helper", 'name: Helper\n    prompt: "Be brief.\\nBe kind."'))
    code, told = mcp("plan", changed)
    assert code == 2
    assert told.splitlines() == [
        "~ auth config Key",
        '    token: "stored" → "changes"',
        "~ agent helper",
        "    prompt:",
        "        @@ -0,0 +1,2 @@",
        "        +Be brief.",
        "        +Be kind.",
        "2 to change.",
    ]
    assert "canary" not in told + apply(changed)
    assert AuthConfig.objects.get().token == "canary-2"


def test_what_the_file_does_not_mention_stays(alice: Person, file: Path, tmp_path: Path) -> None:
    apply(file)
    server = McpServer.objects.get()
    server.timeout_seconds = 99
    save_server(server, actor=alice.actor, discover=False)
    save_server(McpServer(name="By hand", url=URL), actor=alice.actor, test=False)
    code, told = plan(file)
    assert (code, told["changes"], told["not_in_file"]) == (0, [], [{"kind": "server", "key": "by-hand"}])
    assert "server by-hand: not in the file, stays" in mcp("plan", file)[1]
    apply(write(tmp_path, FILE.replace("name: CRM", "name: Renamed")))
    assert McpServer.objects.get(slug="crm").timeout_seconds == 99
    assert McpServer.objects.filter(slug="by-hand").exists()


def test_rules_for_tools_wait_for_a_server_that_was_never_listed(alice: Person, file: Path, tmp_path: Path) -> None:
    apply(file)
    grants = ToolGrant.objects.order_by("tool_name").values_list("tool_name", "is_enabled", "approver")
    assert list(grants) == [("drop", False, ""), ("send", True, "admin")]
    server = McpServer.objects.get()
    Tool.objects.create(server=server, name="send", definition={"name": "send"})
    McpServer.objects.update(tools_synced_at=server.created_at)
    assert plan(file)[0] == 0
    misspelt = write(tmp_path, FILE.replace("[drop]", "[dorp]"))
    with pytest.raises(CommandError, match="agent helper: disabled_tools: CRM has no tool dorp"):
        mcp("plan", misspelt)
    less = write(tmp_path, FILE.replace("{crm: [drop]}", "{}").replace("{crm: {send: admin}}", "{}"))
    apply(less)
    assert not ToolGrant.objects.exists()


def test_pages_and_scripts_still_name_only_tools_that_are_known(alice: Person, file: Path) -> None:
    apply(file)
    server = McpServer.objects.get()
    for how in ({"switched_off": {server: ["x"]}}, {"changed_approvers": {server: {"x": "admin"}}}):
        with pytest.raises(InvalidInput, match="has no tool x"):
            save_agent(Agent.objects.get(), actor=alice.actor, **how)  # type: ignore[arg-type]


def test_what_changed_between_the_plan_and_the_yes_stops_it(alice: Person, file: Path) -> None:
    document, actor = parse(FILE), alice.actor
    shown = preview(document, actor=actor)
    save_server(McpServer(name="Other", slug="crm", url=URL), actor=actor, test=False)
    with pytest.raises(Conflict, match="changed something meanwhile"):
        carry_out(document, actor=actor, expected=shown)
    assert McpServer.objects.get().name == "Other"
    assert not AuthConfig.objects.exists()


def test_another_organizations_objects_of_the_same_names_are_untouched(
    alice: Person, globex: Organization, file: Path
) -> None:
    apply(file, organization="globex")
    apply(file)
    before = list(McpServer.objects.filter(organization=globex).values())
    pruned = write(file.parent, "version: 1\nservers: {}\nauth_configs: {}\nagents: {}\n")
    apply(pruned, "--prune")
    assert list(McpServer.objects.filter(organization=globex).values()) == before
    assert {each.organization for each in Agent.objects.all()} == {globex}
    assert AuthConfig.objects.get().organization == globex


def test_only_admins_plan_apply_and_export(alice: Person, bob: Person, file: Path, tmp_path: Path) -> None:
    for verb, *more in (("plan",), ("apply", "--yes"), ("export", "--yes")):
        with pytest.raises(CommandError, match="Only an admin"):
            mcp(verb, file, *more, "--email", bob.user.email)
    with pytest.raises(NotAllowed):
        carry_out(parse(FILE), actor=bob.actor, expected=preview(parse(FILE), actor=alice.actor))
    mcp("apply", file, "--yes", "--email", alice.user.email)
    assert AuditEvent.objects.filter(action="created").first().actor == alice.user  # type: ignore[union-attr]


def test_without_a_terminal_nobody_can_agree(alice: Person, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(CommandError, match="Add --yes"):
        mcp("apply", file)
    assert not McpServer.objects.exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_it_is_asked_first(alice: Person, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    with pytest.raises(CommandError, match="Nothing was changed"):
        mcp("apply", file)
    assert not McpServer.objects.exists()
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert "Done." in mcp("apply", file)[1]
    assert McpServer.objects.exists()


def test_a_file_comes_from_standard_input_and_goes_to_standard_output(
    alice: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FILE.encode())))
    apply("-")
    code, text = mcp("export", "-")
    assert code == 0
    assert plan(write(tmp_path, text))[0] == 0
    assert json.loads(mcp("export", "-", "--json")[1])["document"]["servers"]["crm"]["url"] == URL


def test_an_export_overwrites_nothing_unasked_and_leaves_nothing_beside_it(alice: Person, tmp_path: Path) -> None:
    file = export(tmp_path)
    file.write_text("precious")
    with pytest.raises(CommandError, match="is there already"):
        mcp("export", file)
    assert file.read_text() == "precious"
    mcp("export", file, "--yes")
    assert "version: 1" in file.read_text()
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(CommandError, match="cannot be written: No such file or directory"):
        mcp("export", tmp_path / "none" / "x.yml")


def test_arguments_of_a_command_may_name_variables_and_their_values_are_not_stored(
    alice: Person, tmp_path: Path, settings: Settings
) -> None:
    settings.ASTER_STDIO_COMMANDS, settings.ASTER_ENV_VARS = ["python"], ["THE_KEY"]
    text = 'version: 1\nservers: {db: {transport: stdio, command: python, args: ["--key", "${THE_KEY}"]}}\n'
    apply(write(tmp_path, text))
    server = McpServer.objects.get()
    assert server.args == ["--key", "${THE_KEY}"]
    assert build_target(server).args == ["--key", "canary-1"]
    assert "canary" not in export(tmp_path).read_text()


def test_work_is_asked_for_only_after_all_is_stored(alice: Person, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        celery_app, "send_task", lambda name, **how: sent.append((name, Agent.objects.filter(slug="helper").exists()))
    )
    mcp("plan", file)
    assert sent == []
    apply(file)
    assert sent == [("integrations.tasks.sync_server", True)]


def test_nothing_is_asked_of_others_until_somebody_connects(alice: Person, tmp_path: Path, world: DemoWorld) -> None:
    text = f"""version: 1
auth_configs:
  People: {{auth_type: AUTHORIZATION_CODE, client_mode: dynamic}}
servers:
  notes: {{url: "{world.notes_url}", auth_config: People}}
"""
    file = write(tmp_path, text)
    apply(file)
    auth = AuthConfig.objects.get()
    assert (auth.discovered_at, auth.token_url, auth.provider_metadata) == (None, "", {})
    sync_server(McpServer.objects.get().pk)
    url = begin_connection(auth, actor=alice.actor).authorization_url
    assert url
    complete_connection(callback_params(consent(url, "Ada Park")), actor=alice.actor)
    assert Connection.objects.get().user == alice.user
    McpServer.objects.update(sync_due_at=McpServer.objects.get().created_at)
    sync_server(McpServer.objects.get().pk)
    assert McpServer.objects.get().test_status == "ok"
    # What was learned is no drift, and no part of what is written down.
    assert plan(file)[0] == 0
    written = export(tmp_path)
    assert "token_url" not in written.read_text()
    assert plan(written)[0] == 0


def test_a_server_that_is_open_is_listed_by_the_background(alice: Person, tmp_path: Path, world: DemoWorld) -> None:
    apply(write(tmp_path, f'version: 1\nservers: {{weather: {{url: "{world.weather_url}"}}}}\n'))
    server = McpServer.objects.get()
    assert (server.tested_at, server.tools.count()) == (None, 0)
    sync_server(server.pk)
    assert server.tools.count() > 0


def test_no_name_is_looked_up_while_the_database_waits(
    alice: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[tuple[str, bool]] = []
    database = connections["default"]  # of this thread; names are looked up in others

    def answer(host: str | bytes, *rest: object, **how: object) -> list[object]:
        looked_up.append((host if isinstance(host, str) else host.decode(), database.in_atomic_block))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    text = """version: 1
auth_configs: {P: {auth_type: AUTHORIZATION_CODE, client_id: x, token_url: "https://login.test/token"}}
servers: {crm: {url: "https://crm.test/mcp", auth_config: P}}
llm_configs: {M: {base_url: "https://llm.test/v1", model: m}}
"""
    apply(write(tmp_path, text))
    assert {host for host, _ in looked_up} == {"crm.test", "login.test", "llm.test"}
    assert not any(inside for _, inside in looked_up)


def test_a_secret_that_somebody_else_changed_meanwhile_stops_it(
    alice: Person, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(file)
    monkeypatch.setenv("THE_KEY", "canary-2")
    document = parse(FILE)
    shown = preview(document, actor=alice.actor)
    auth = AuthConfig.objects.get()
    auth.token = "canary-rotated"
    save_auth_config(auth, actor=alice.actor)
    with pytest.raises(Conflict, match="changed something meanwhile"):
        carry_out(document, actor=alice.actor, expected=shown)
    assert AuthConfig.objects.get().token == "canary-rotated"
    assert "canary" not in f"{shown}{shown.as_json()}"


def test_null_takes_a_secret_away(alice: Person, tmp_path: Path) -> None:
    text = f'version: 1\nllm_configs: {{M: {{base_url: "{URL}", model: m, api_key: env:THE_KEY}}}}\n'
    apply(write(tmp_path, text))
    without = write(tmp_path, text.replace("env:THE_KEY", "null"))
    assert '    api_key: "stored" → –' in mcp("plan", without)[1].splitlines()
    apply(without)
    assert LlmConfig.objects.get().api_key == ""
    assert plan(without)[0] == 0
