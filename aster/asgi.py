"""The front door: the gateway's hot path branches off before Django; everything else is Django's."""

from __future__ import annotations

import os
from typing import cast

import django
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aster.settings")
django.setup()

from django.conf import settings  # noqa: E402
from starlette.types import ASGIApp, Receive, Scope, Send  # noqa: E402

from agents.gateway.app import Gateway  # noqa: E402
from aster.embedded import background_work  # noqa: E402


class FrontDoor:
    """An ASGI application with a lifespan: starts the gateway and, on one machine, worker and scheduler."""

    def __init__(self, pages: ASGIApp) -> None:
        self.pages = pages
        self.gateway: Gateway | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["path"].startswith("/mcp/") and self.gateway:
            await self.gateway(scope, receive, send)
        else:
            await self.pages(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        gateway = Gateway()
        async with gateway.lifespan():
            with background_work(settings.ASTER_EMBEDDED_WORKER):
                self.gateway = gateway
                await send({"type": "lifespan.startup.complete"})
                await receive()  # lifespan.shutdown
                self.gateway = None
        await send({"type": "lifespan.shutdown.complete"})


application = FrontDoor(cast(ASGIApp, get_asgi_application()))
