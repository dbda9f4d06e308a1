"""The demo world's parts on one host: the provider at the root, `/notes/mcp`, `/weather/mcp`, `/model/v1` and a front
page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from aster.demo.authorization_server import AuthorizationServer
from aster.demo.bearer_gate import BearerGate, metadata_path
from aster.demo.mcp_servers import create_notes_server, create_weather_server
from aster.demo.pages import SECURITY_HEADERS, render_front_page
from aster.demo.records import DEMO_SCOPES
from aster.demo.scripted_model import scripted_model_routes

TOOL_SCOPES = {"create_note": "notes:write", "delete_note": "notes:write"}


def create_application(
    server: AuthorizationServer, *, notes_url: str, weather_url: str, model_url: str, word_seconds: float
) -> Starlette:
    """Return the ASGI application of the whole world. It can be started once, like the SDK's session managers."""
    notes, weather = _session_manager(create_notes_server()), _session_manager(create_weather_server())
    gate = BearerGate(
        StreamableHTTPASGIApp(notes),
        lookup=server.lookup,
        issuer=server.issuer,
        resource=notes_url,
        scopes=tuple(DEMO_SCOPES),
        tool_scopes=TOOL_SCOPES,
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with notes.run(), weather.run():
            yield

    async def front_page(request: Request) -> Response:
        shown = [
            ("Acme Notes", "Your own notes. Needs a sign-in with OAuth.", notes_url),
            ("Acme Weather", "Forecasts for eight cities. Open to everybody.", weather_url),
            ("Scripted model", "Answers chats by fixed rules, in the OpenAI protocol. No key.", model_url),
            ("Acme ID", "The sign-in provider; its metadata is at the usual well-known address.", server.issuer),
        ]
        return HTMLResponse(render_front_page(shown), headers=SECURITY_HEADERS)

    routes = [
        *server.routes,
        Route(metadata_path(notes_url), gate.metadata_endpoint),
        Route(urlsplit(notes_url).path, gate),
        Route(urlsplit(weather_url).path, StreamableHTTPASGIApp(weather)),
        *scripted_model_routes(urlsplit(model_url).path, word_seconds=word_seconds),
        Route("/", front_page),
    ]
    # A web page that rebinds its name to 127.0.0.1 must not get to the provider.
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False)
    return Starlette(routes=routes, middleware=[trusted], lifespan=lifespan)


def _session_manager(server: MCPServer[Any]) -> StreamableHTTPSessionManager:
    # The application made here is not used: building it is the public way to a session manager, with the SDK's own
    # Host and Origin checks for loopback.
    server.streamable_http_app(stateless_http=True)
    return server.session_manager
