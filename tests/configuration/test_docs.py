"""The published schema is the one in use, and the examples of the documentation work."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.conf import settings as installed
from jsonschema import Draft202012Validator
from pytest_django.fixtures import Settings

from agents.models import Agent
from aster.configuration.document import parse
from aster.configuration.schema import published
from integrations.models import McpServer
from tests.configuration.stage import apply, export, plan, write
from tests.conftest import Person

DOCS = installed.BASE_DIR / "docs"
MAKE = 'manage.py shell -v 0 -c "from aster.configuration.schema import published; print(published(), end=str())"'


def examples() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (DOCS / "configuration.md").read_text(), re.DOTALL)


def test_the_published_schema_is_the_one_in_use() -> None:
    text = (DOCS / "configuration.schema.json").read_text()
    assert text == published(), f"make it anew: {MAKE} > docs/configuration.schema.json"
    Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.django_db
def test_the_example_is_applied_and_an_export_of_it_changes_nothing(
    alice: Person, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ASTER_STDIO_COMMANDS = ["uvx"]
    for name in ("GITHUB_TOKEN", "SLACK_SECRET", "LLM_KEY"):
        monkeypatch.setenv(name, f"canary-{name}")
    file = write(tmp_path, examples()[0])
    assert "canary" not in apply(file)
    assert plan(file)[0] == 0
    assert set(McpServer.objects.values_list("slug", flat=True)) == {"github", "crm", "files", "slack"}
    assert McpServer.objects.get(slug="files").env == {"LOG_LEVEL": "info"}
    assert Agent.objects.get().prompt == "You help the support team.\nSay what you did.\n"
    assert plan(export(tmp_path))[0] == 0


def test_the_example_with_mcp_is_read() -> None:
    wanted = parse(examples()[1], {"GITHUB_TOKEN": "x"}).wanted
    assert wanted["servers"]["github"]["tool_scopes"] == {"create_issue": ["github:write"]}
