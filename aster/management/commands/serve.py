"""`manage.py serve`: the whole installation in one process, with a demo world beside it if wanted."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, suppress
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from aster.accounts.models import User
from aster.demo.serving import bind_port
from aster.demo.world import DemoWorld
from aster.demo_organization import ADMIN, MEMBER, create_demo_organization, is_empty_installation
from aster.serving import serve

SIGN_IN = settings.ASTER_DATA_DIR / "demo-sign-in.txt"
DEMO_PORT = settings.ASTER_DATA_DIR / "demo-port"


class Command(BaseCommand):
    help = "Migrate and serve everything on this machine."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--demo", action="store_true", help="start the demo provider and servers beside Aster")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["demo"] and not settings.DEBUG:
            words = "The demo servers are on this machine, which Aster reaches only while developing."
            raise CommandError(f"{words} Set DEBUG=1, or serve without --demo (make run DEMO=0).")
        try:
            listener = bind_port(options["host"], options["port"])
            listener.listen(128)
        except OSError as error:
            raise CommandError(f"{error.strerror} PORT=… chooses another port.") from None
        call_command("migrate", interactive=False, verbosity=0)
        with ExitStack() as running:
            running.callback(listener.close)
            password = self._start_demo(running, options["port"]) if options["demo"] else None
            self._greet(password, demo=options["demo"])
            with suppress(KeyboardInterrupt):  # uvicorn hands the signal on once everything has stopped
                serve(listener, log_config=None, timeout_graceful_shutdown=2)

    def _start_demo(self, running: ExitStack, port: int) -> str | None:
        # The demo servers keep the port they were added with, whatever port Aster is on today.
        kept = DEMO_PORT.read_text().strip() if DEMO_PORT.exists() else str(port + 1)
        demo_port = int(os.environ.get("ASTER_DEMO_PORT", kept))
        world = DemoWorld(port=demo_port, state_path=settings.ASTER_DATA_DIR / "demo-provider.json")
        try:
            world.start()
        except OSError as error:
            raise CommandError(f"The demo world cannot start: {error} Set ASTER_DEMO_PORT, or DEMO=0.") from None
        running.callback(world.stop)
        if not is_empty_installation():
            return None
        # Kept before there is anybody to sign in: who stops the server meanwhile still gets in next time.
        password = f"demo-{secrets.token_hex(4)}"
        DEMO_PORT.write_text(str(demo_port))
        SIGN_IN.touch(mode=0o600)
        SIGN_IN.write_text(f"{ADMIN} (admin) and {MEMBER} (member), password {password}\n")
        create_demo_organization(
            password=password, notes_url=world.notes_url, weather_url=world.weather_url, model_url=world.model_url
        )
        return password

    def _greet(self, password: str | None, *, demo: bool) -> None:
        say = self.stdout.write
        say(f"\n  Aster is at {settings.ASTER_PUBLIC_URL}/hub/   (Ctrl-C stops it)")
        if password:
            say(f"\n  Sign in as  {ADMIN}   (admin)\n          or  {MEMBER}   (member)\n  password    {password}")
            say(f"  kept in     {SIGN_IN}\n")
        elif SIGN_IN.exists():
            say(f"  The demo's sign-in is in {SIGN_IN} (unless you changed it).\n")
        elif demo and User.objects.exists():
            say("  No demo organization was made: there are people here already.\n")
        elif not User.objects.exists():
            say("\n  Nobody can sign in yet. Make the first organization in another terminal:")
            say(f'  {_environment()}.venv/bin/python manage.py create_org "Your company" --admin you@example.com\n')
        self.stdout.flush()


def _environment() -> str:
    """What a command in another terminal needs in front to meet the same installation."""
    own_place = settings.ASTER_DATA_DIR != settings.BASE_DIR / "var"
    place = f"ASTER_DATA_DIR={settings.ASTER_DATA_DIR} " if own_place else ""
    return f"{place}PORT={settings.PORT} " if settings.PORT != 8000 else place
