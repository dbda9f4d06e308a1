"""What a verb of the command line is, and whom it acts for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandParser

from aster.accounts.access import Actor
from aster.accounts.management.arguments import find_membership, find_organization
from aster.cli.output import Output

FAILED, WOULD_CHANGE = 1, 2  # exit codes; 0 is well


@dataclass(frozen=True)
class Verb:
    """`run` gets the actor, the parsed options and where to write, and gives the exit code (None is 0).

    What it raises as AsterError is shown in words, and ends with code 1.
    """

    name: str
    help: str
    run: Callable[[Actor, dict[str, Any], Output], int | None]
    add_arguments: Callable[[CommandParser], None] = lambda parser: None


def add_common(parser: CommandParser) -> None:
    parser.add_argument("--organization", required=True, metavar="NAME", help="name or slug")
    parser.add_argument("--email", metavar="PERSON", help="who acts, and whose sign-ins are used; without, nobody's")
    parser.add_argument("--json", action="store_true", help="print one JSON document, for scripts")


def find_actor(organization: str, email: str | None) -> Actor:
    found = find_organization(organization)
    if email is None:
        return Actor.system(found, via="cli")
    membership = find_membership(email, found)
    return Actor(found, membership.user, membership.role, via="cli")
