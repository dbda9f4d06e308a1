"""`manage.py serve`: the whole installation in one process, with a demo world beside it if wanted."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from aster.accounts.models import User
from aster.demo.world import DemoWorld
from aster.demo_organization import ADMIN, MEMBER, create_demo_organization


class Command(BaseCommand):
    help = "Migrate and serve everything on this machine."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--demo", action="store_true", help="start the demo provider and servers beside Aster")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        with ExitStack() as running:
            password = self._start_demo(running, options) if options["demo"] else None
            self._greet(options, password)
            config = uvicorn.Config(
                "aster.asgi:application", host=options["host"], port=options["port"], lifespan="on",
                log_config=None, access_log=False, timeout_graceful_shutdown=2, server_header=False,
            )  # fmt: skip
            server = uvicorn.Server(config)
            with suppress(KeyboardInterrupt):  # uvicorn hands the signal on once everything has stopped
                server.run()
        if not server.started:
            raise CommandError(f"Could not serve on {options['host']}:{options['port']}. Is the port in use? Set PORT.")

    def _start_demo(self, running: ExitStack, options: dict[str, Any]) -> str | None:
        port = int(os.environ.get("ASTER_DEMO_PORT", options["port"] + 1))
        world = DemoWorld(port=port, state_path=settings.ASTER_DATA_DIR / "demo-provider.json")
        try:
            world.start()
        except OSError as error:
            raise CommandError(f"The demo world cannot start: {error} Set ASTER_DEMO_PORT, or DEMO=0.") from None
        running.callback(world.stop)
        return create_demo_organization(notes_url=world.notes_url, weather_url=world.weather_url)

    def _greet(self, options: dict[str, Any], password: str | None) -> None:
        say = self.stdout.write
        say(f"\n  Aster is at {settings.ASTER_PUBLIC_URL}/hub/   (Ctrl-C stops it)")
        if password:
            note = settings.ASTER_DATA_DIR / "demo-sign-in.txt"
            note.write_text(f"{ADMIN} (admin) and {MEMBER} (member), password {password}\n")
            note.chmod(0o600)
            say(f"\n  Sign in as  {ADMIN}   (admin)\n          or  {MEMBER}   (member)\n  password    {password}")
            say(f"  kept in     {note}\n")
        elif not User.objects.exists():
            say("\n  Nobody can sign in yet. Make the first organization in another terminal:")
            say('  .venv/bin/python manage.py create_org "Your company" --admin you@example.com\n')
        self.stdout.flush()
