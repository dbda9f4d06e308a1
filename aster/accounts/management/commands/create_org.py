"""`manage.py create_org NAME --admin EMAIL`: an organization and its first admin, for scripts."""

from __future__ import annotations

import json
import secrets
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from aster.accounts import services
from aster.accounts.access import Actor
from aster.accounts.management.arguments import KEY_NAME
from aster.accounts.models import Role
from aster.errors import AsterError


class Command(BaseCommand):
    help = "Create an organization with its first admin."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what people will see, for example “Acme Research”")
        parser.add_argument("--admin", required=True, metavar="EMAIL", help="the first admin; created if unknown")
        parser.add_argument("--password", help="for a new person; generated and printed once if left out")
        parser.add_argument("--api-key", action="store_true", help="also make an API key for the admin")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        generated = secrets.token_urlsafe(12)
        password = options["password"] or generated
        try:
            organization, user = services.create_organization(
                options["name"], admin_email=options["admin"], password=password
            )
            actor = Actor(organization, user, Role.ADMIN, via="cli")
            key = services.create_api_key(user, name=KEY_NAME, actor=actor)[1] if options["api_key"] else None
        except AsterError as error:
            raise CommandError(error.message) from None
        known = not user.check_password(password)
        result = {
            "organization": {"id": organization.pk, "name": organization.name, "slug": organization.slug},
            "admin": user.email,
            # An existing person keeps their password; one given by the caller is not repeated.
            "password": None if known or options["password"] else generated,
            "api_key": key,
            "url": f"{settings.ASTER_PUBLIC_URL}/hub/",
        }
        if options["json"]:
            self.stdout.write(json.dumps(result))
            return
        self.stdout.write(f"Created {organization.name} ({organization.slug}). Sign in at {result['url']}")
        self.stdout.write(f"  admin     {user.email}")
        if known:
            self.stdout.write("  password  as before: this person has an account already")
        for label, name in (("password", "password"), ("API key", "api_key")):
            if result[name]:
                self.stdout.write(f"  {label:<9} {result[name]}   (shown once)")
