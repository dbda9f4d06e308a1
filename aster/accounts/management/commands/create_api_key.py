"""`manage.py create_api_key EMAIL --organization NAME`: a key for scripts."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from aster.accounts import services
from aster.accounts.access import KEY_SCOPES, Actor
from aster.accounts.models import Membership, Organization
from aster.errors import AsterError


class Command(BaseCommand):
    help = "Create an API key that acts as a member of an organization. The key is printed once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="whose key it is")
        parser.add_argument("--organization", required=True, metavar="NAME", help="name or slug")
        parser.add_argument("--scopes", nargs="+", default=["*"], help=f"what it may do: {', '.join(KEY_SCOPES)}, …")
        parser.add_argument("--name", default="Command line", help="what the key is called in the hub")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        membership = find_membership(options["email"], find_organization(options["organization"]))
        actor = Actor(membership.organization, membership.user, membership.role, via="cli")
        scopes = [scope for text in options["scopes"] for scope in text.replace(",", " ").split()]
        try:
            key, text = services.create_api_key(membership.user, name=options["name"], scopes=scopes, actor=actor)
        except AsterError as error:
            raise CommandError(error.message) from None
        if options["json"]:
            body = {"id": key.pk, "api_key": text, "scopes": key.scopes, "organization": key.organization.slug}
            self.stdout.write(json.dumps({**body, "user": membership.user.email}))
        else:
            self.stdout.write(f"{text}   (shown once; scopes: {' '.join(key.scopes)})")


def find_membership(email: str, organization: Organization) -> Membership:
    """The place of a person in an organization. Raises CommandError if they have none."""
    rows = Membership.objects.select_related("organization", "user").filter(organization=organization)
    membership = rows.filter(user__email__iexact=email).first()
    if membership is None:
        raise CommandError(f"{email} is not a member of {organization.name}.")
    return membership


def find_organization(name: str) -> Organization:
    """The organization with this slug or name. Raises CommandError if there is none, or more than one."""
    found = list(Organization.objects.filter(Q(slug=name) | Q(name=name))[:2])
    if len(found) != 1:
        problem = "is not unique: use its slug" if found else "does not exist"
        raise CommandError(f"The organization “{name}” {problem}.")
    return found[0]
