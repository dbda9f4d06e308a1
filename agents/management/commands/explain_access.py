"""`manage.py explain_access EMAIL AGENT TOOL --organization NAME`: why somebody may call a tool or not."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.services.agents import find_agent
from agents.services.explain import explain_access
from aster.accounts.access import Actor
from aster.accounts.management.arguments import find_organization
from aster.errors import AsterError

MARKS = {"ok": "ok  ", "warning": "NOTE", "failed": "STOP", "skipped": "-   "}


class Command(BaseCommand):
    help = "Explain whether a person may call a tool through an agent; exit code 1 if not."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="whose access")
        parser.add_argument("agent", help="slug or id")
        parser.add_argument("tool", help="as the agent lists it, or SERVER:TOOL")
        parser.add_argument("--organization", required=True, metavar="NAME", help="name or slug")
        parser.add_argument("--key", type=int, metavar="ID", help="with this API key of theirs; without, signed in")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        actor = Actor.system(find_organization(options["organization"]), via="cli")
        try:
            agent = find_agent(options["agent"], actor=actor)
            told = explain_access(options["email"], agent, options["tool"], actor=actor, key_id=options["key"])
        except AsterError as error:
            raise CommandError(error.message) from None
        if options["json"]:
            self.stdout.write(json.dumps(told.as_json()))
        else:
            for step in told.steps:
                self.stdout.write(f"{MARKS[step.status]}  {step.title}: {step.found}")
            self.stdout.write(f"\n{told.verdict} {told.advice}".rstrip())
        if not told.allowed:
            sys.exit(1)
