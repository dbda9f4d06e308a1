"""`manage.py create_api_key EMAIL --organization NAME`: a key for scripts."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aster.accounts import services
from aster.accounts.access import KEY_SCOPES, Actor
from aster.accounts.management.arguments import KEY_NAME, find_membership, find_organization, free_key_name
from aster.errors import AsterError


class Command(BaseCommand):
    help = "Create an API key that acts as a member of an organization. The key is printed once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="whose key it is")
        parser.add_argument("--organization", required=True, metavar="NAME", help="name or slug")
        parser.add_argument("--scopes", nargs="+", default=["*"], help=f"what it may do: {', '.join(KEY_SCOPES)}, …")
        parser.add_argument("--name", help=f"what the key is called in the hub; {KEY_NAME}, with a number, if left out")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        membership = find_membership(options["email"], find_organization(options["organization"]))
        actor = Actor(membership.organization, membership.user, membership.role, via="cli")
        scopes = [scope for text in options["scopes"] for scope in text.replace(",", " ").split()]
        name = options["name"] or free_key_name(membership.organization)
        try:
            key, text = services.create_api_key(membership.user, name=name, scopes=scopes, actor=actor)
        except AsterError as error:
            raise CommandError(error.message) from None
        if options["json"]:
            body = {"id": key.pk, "api_key": text, "scopes": key.scopes, "organization": key.organization.slug}
            self.stdout.write(json.dumps({**body, "user": membership.user.email}))
        else:
            self.stdout.write(f"{text}   (shown once; scopes: {' '.join(key.scopes)})")
