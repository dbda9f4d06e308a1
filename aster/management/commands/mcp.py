"""`manage.py mcp VERB --organization NAME`: servers, their tools and the whole configuration, from the command line."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aster.cli import configuration, doctor, registry, servers
from aster.cli.output import Output, printable
from aster.cli.verbs import FAILED, Verb, add_common, find_actor
from aster.errors import AsterError

_GROUPS = (servers, doctor, registry, configuration)
VERBS: dict[str, Verb] = {verb.name: verb for group in _GROUPS for verb in group.VERBS}


class _Parser(CommandParser):
    """A wrong command line ends with 1: 2 is what `plan` says of a file that would change something."""

    def error(self, message: str) -> NoReturn:
        if not self.called_from_command_line:
            super().error(message)
        self.print_usage(sys.stderr)
        self.exit(FAILED, printable(f"{self.prog}: error: {message}\n"))


class Command(BaseCommand):
    help = "Look after MCP servers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.__class__ = _Parser  # Django makes it, and there is no other way to say of which class
        parsers = parser.add_subparsers(dest="verb", required=True)
        for verb in VERBS.values():
            one = parsers.add_parser(verb.name, help=verb.help)
            verb.add_arguments(one)
            add_common(one)

    def handle(self, *args: Any, **options: Any) -> None:
        out = Output(self.stdout, as_json=options["json"])  # type: ignore[arg-type]
        try:
            code = VERBS[options["verb"]].run(find_actor(options["organization"], options["email"]), options, out)
        except AsterError as error:
            raise CommandError(printable(error.message)) from None
        if code:
            sys.exit(code)
