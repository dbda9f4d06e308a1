"""`manage.py mcp doctor SERVER --organization NAME`: find out on the command line why a server does not work."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aster.accounts.access import Actor
from aster.accounts.management.arguments import find_membership, find_organization
from aster.errors import AsterError
from integrations.services import doctor, servers

MARKS = {"ok": "ok  ", "warning": "WARN", "failed": "FAIL", "skipped": "-   "}


class Command(BaseCommand):
    help = "Look after MCP servers."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        one = verbs.add_parser("doctor", help="walk from the address to the tools; exit code 1 if a step failed")
        one.add_argument("server", help="slug or id")
        one.add_argument("--organization", required=True, metavar="NAME", help="name or slug")
        one.add_argument("--email", metavar="PERSON", help="whose sign-in to look at; without, nobody's")
        one.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        actor = self._actor(options["organization"], options["email"])
        try:
            found = doctor.diagnose(servers.find_server(options["server"], actor=actor), actor=actor)
        except AsterError as error:
            raise CommandError(error.message) from None
        if options["json"]:
            self.stdout.write(json.dumps(found.as_json()))
        else:
            self._tell(found)
        if found.status == "failed":
            sys.exit(1)

    def _actor(self, organization: str, email: str | None) -> Actor:
        found = find_organization(organization)
        if email is None:
            return Actor.system(found, via="cli")
        membership = find_membership(email, found)
        return Actor(found, membership.user, membership.role, via="cli")

    def _tell(self, found: doctor.Diagnosis) -> None:
        for step in found.steps:
            self.stdout.write(f"{MARKS[step.status]}  {step.title}: {step.found}")
            told = [step.advice, *(f"{fix.text} {fix.value}".strip() for fix in step.fixes)]
            if step.status in ("warning", "failed"):
                told += [" ".join(filter(None, (e.url, str(e.status or ""), e.words))) for e in step.evidence]
            for line in filter(None, told):
                self.stdout.write(f"        {line}")
        self.stdout.write(f"\n{found.summary}")
