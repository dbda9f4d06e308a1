"""`manage.py add_member EMAIL --organization NAME`: add a person, also one who belongs to another organization."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from aster.accounts import services
from aster.accounts.access import Actor
from aster.accounts.management.arguments import find_organization
from aster.accounts.models import Role
from aster.errors import AsterError


class Command(BaseCommand):
    help = "Add a person to an organization. Make sure that the account is really theirs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--organization", required=True, metavar="NAME", help="name or slug")
        parser.add_argument("--role", choices=Role.values, default=Role.MEMBER)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = Actor.system(find_organization(options["organization"]), via="cli")
        try:
            added = services.add_member(options["email"], options["role"], actor=actor)
        except AsterError as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{added.membership.user.email} is now {options['role']} of {actor.organization.name}.")
        if added.set_password_path:
            self.stdout.write(f"They choose a password at {settings.ASTER_PUBLIC_URL}{added.set_password_path}")
