"""Running verbs of `manage.py mcp` as a shell would."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from django.core.management import call_command


def run(*words: str, who: str = "alice@acme.test") -> tuple[str, int]:
    """What a verb prints, and its exit code. Raises CommandError, as the shell shows it."""
    out = StringIO()
    try:
        call_command("mcp", *words, "--organization", "acme", "--email", who, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(ended.code or 0)
    return out.getvalue(), 0


def run_json(*words: str) -> tuple[Any, int]:
    said, code = run(*words, "--json")
    return json.loads(said), code
