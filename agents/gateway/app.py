"""The gateway's ASGI application, for both protocol eras: one URL per agent, `/mcp/{organization}/{agent}`, and under
it one per server, `/mcp/{organization}/{agent}/{server}`, where things have the server's own names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from django.conf import settings
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.gateway.auth import SERVER, RequireKey
from agents.gateway.handlers import build_server
from agents.gateway.handshake import Handshake, may_be_handshake, refuse_method
from aster.egress import keep_async_pool


class Gateway:
    """Built once per process; `lifespan()` must be entered before the first request (a session manager runs once)."""

    def __init__(self) -> None:
        self._manager = StreamableHTTPSessionManager(
            build_server(), json_response=False, stateless=True, security_settings=_security()
        )
        door = RequireKey(self._handle)
        addresses = ("/mcp/{organization}/{agent}", "/mcp/{organization}/{agent}/{server}")
        self._app = Starlette(routes=[Route(address, _WithServer(door)) for address in addresses])

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await refuse_method(scope, send)
            return
        if may_be_handshake(Headers(scope=scope)):
            handshake = Handshake(receive, send)
            await handshake.peek()
            receive, send = handshake.receive, handshake.send
        await self._manager.handle_request(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Space around a value is no part of it (RFC 9110 §5.5), but httptools leaves what follows it.
        headers = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        await self._app({**scope, "headers": headers}, receive, send)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with keep_async_pool(), self._manager.run():
            yield


class _WithServer:
    """Puts the server of the address into the scope, or None."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[SERVER] = scope["path_params"].get("server")
        await self.app(scope, receive, send)


def _security() -> TransportSecuritySettings:
    """Host and Origin checks against DNS rebinding (Streamable HTTP, Security Warning)."""
    public = urlsplit(settings.ASTER_PUBLIC_URL)
    hosts = [public.netloc, *settings.ALLOWED_HOSTS, *(f"{host}:*" for host in settings.ALLOWED_HOSTS)]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[f"{public.scheme}://{public.netloc}"])
