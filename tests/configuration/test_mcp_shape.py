"""Files that describe servers under `mcp:` and scopes under `security:`."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from integrations.models import AuthConfig, AuthType, McpServer, Transport
from tests.configuration.stage import SEED, apply, export, plan
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
