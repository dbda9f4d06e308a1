"""Running the verbs of the command line, and organizations with something to write down."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from aster.accounts.models import Organization

FIXTURES = Path(__file__).parent / "fixtures"
SEED = FIXTURES / "complete_mcp_configuration.yml"


def mcp(verb: str, file: Path | str, *more: str, organization: str = "acme") -> tuple[int, str]:
    """The exit code and what was printed; refusals are raised as CommandError."""
    out, code = StringIO(), 0
    try:
        call_command("mcp", verb, "-f", str(file), "--organization", organization, *more, stdout=out)
    except SystemExit as left:
        code = int(left.code or 0)
    return code, out.getvalue()


def plan(file: Path | str, *more: str, organization: str = "acme") -> tuple[int, dict[str, Any]]:
    code, told = mcp("plan", file, "--json", *more, organization=organization)
    return code, json.loads(told)


def apply(file: Path | str, *more: str, organization: str = "acme") -> str:
    code, told = mcp("apply", file, "--yes", *more, organization=organization)
    assert code == 0
    return told


def export(folder: Path, organization: str = "acme") -> Path:
    file = folder / f"{organization}.yml"
    mcp("export", file, "--yes", organization=organization)
    return file


def write(folder: Path, text: str) -> Path:
    file = folder / "aster.yml"
    file.write_text(text)
    return file


@pytest.fixture
def globex(db: None) -> Organization:
    """An empty organization beside Acme."""
    return Organization.objects.create(name="Globex", slug="globex")
