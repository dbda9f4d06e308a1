"""What reaches the terminal, and how a wrong command line ends."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO

import pytest
from django.core.management import CommandError

from aster.cli.output import Output
from tests.aster.command_line import run
from tests.conftest import Person

NASTY = "a\x1b]0;x\x07b\x9b31m\u202ec\U000e0001\td"
SHOWN = r"a\u001b]0;x\u0007b\u009b31m\u202ec\udb40\udc01\td"


@pytest.mark.parametrize("way", ["say", "table"])
def test_what_a_terminal_would_obey_is_shown_as_its_number(way: str) -> None:
    stdout = StringIO()
    out = Output(stdout, as_json=False)
    if way == "say":
        out.say(NASTY)
    else:
        out.table(("Name",), [(NASTY,)])
    assert SHOWN in stdout.getvalue()


def test_a_document_shows_it_too_and_means_the_same() -> None:
    stdout = StringIO()
    Output(stdout, as_json=True).document({"name": NASTY, "text": "x\ny ü"})
    assert SHOWN in stdout.getvalue()
    assert "ü" in stdout.getvalue()
    assert json.loads(stdout.getvalue()) == {"name": NASTY, "text": "x\ny ü"}


@pytest.mark.django_db
def test_an_error_shows_it_too(alice: Person) -> None:
    with pytest.raises(CommandError) as caught:
        run("plan", "-f", f"/none/{NASTY}")
    assert SHOWN in str(caught.value)


def mcp_of_a_shell(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "manage.py", "mcp", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", [["plann"], ["plan", "--organization", "acme"], ["list", "--organization", "a", "--x"]]
)
def test_a_wrong_command_line_ends_with_1_as_2_means_that_something_would_change(words: list[str]) -> None:
    done = mcp_of_a_shell(*words)
    assert done.returncode == 1
    assert "usage: manage.py mcp" in done.stderr
    assert "Traceback" not in done.stderr
