"""`manage.py mcp doctor`: find out on the command line why a server does not work."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from aster.accounts.access import Actor
from aster.cli.output import Output
from aster.cli.verbs import FAILED, Verb
from integrations.services import doctor, servers

MARKS = {"ok": "ok  ", "warning": "WARN", "failed": "FAIL", "skipped": "-   "}


def _arguments(parser: CommandParser) -> None:
    parser.add_argument("server", help="slug or id")


def _run(actor: Actor, options: dict[str, Any], out: Output) -> int | None:
    found = doctor.diagnose(servers.find_server(options["server"], actor=actor), actor=actor)
    out.document(found.as_json())
    for step in found.steps:
        out.say(f"{MARKS[step.status]}  {step.title}: {step.found}")
        told = [step.advice, *(f"{fix.text} {fix.value}".strip() for fix in step.fixes)]
        if step.status in ("warning", "failed"):
            told += [" ".join(filter(None, (e.url, str(e.status or ""), e.words))) for e in step.evidence]
        for line in filter(None, told):
            out.say(f"        {line}")
    out.say(f"\n{found.summary}")
    return FAILED if found.status == "failed" else None


VERBS = (Verb("doctor", "walk from the address to the tools; exit code 1 if a step failed", _run, _arguments),)
