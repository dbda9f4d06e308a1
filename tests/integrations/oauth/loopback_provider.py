"""A small authorization server and a protected resource on loopback: confidential clients, PKCE, rotating tokens."""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote_plus, urlencode

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route


class Provider:
    """What it hands out is single use and checked as strictly as the RFCs allow."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clients: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.refresh_tokens: set[str] = set()
        self.app = Starlette(
            routes=[
                Route("/mcp", self.resource),
                Route("/.well-known/oauth-protected-resource/mcp", self.protected_resource),
                Route("/.well-known/oauth-authorization-server/as", self.metadata),
                Route("/as/register", self.register, methods=["POST"]),
                Route("/as/authorize", self.authorize),
                Route("/as/token", self.token, methods=["POST"]),
                Route("/as/revoke", self.revoke, methods=["POST"]),
            ]
        )

    async def resource(self, request: Request) -> Response:
        pointer = f"{self.url}/.well-known/oauth-protected-resource/mcp"
        header = f'Bearer error="invalid_token", resource_metadata="{pointer}", scope="mcp:read"'
        return Response(status_code=401, headers={"www-authenticate": header})

    async def protected_resource(self, request: Request) -> Response:
        return JSONResponse({"resource": f"{self.url}/mcp", "authorization_servers": [f"{self.url}/as"]})

    async def metadata(self, request: Request) -> Response:
        base = f"{self.url}/as"
        return JSONResponse(
            {
                "issuer": base,
                "authorization_endpoint": f"{base}/authorize?policy=signin",
                "token_endpoint": f"{base}/token",
                "registration_endpoint": f"{base}/register",
                "revocation_endpoint": f"{base}/revoke",
                "scopes_supported": ["mcp:read", "offline_access"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def register(self, request: Request) -> Response:
        body = await request.json()
        if "scope" in body:
            return JSONResponse({"error": "invalid_client_metadata"}, 400)
        client_id = f"client:{secrets.token_hex(4)}"
        client = {**body, "client_id": client_id, "client_secret": "s/cr:t+%", "client_secret_expires_at": 0}
        self.clients[client_id] = client
        return JSONResponse(client, 201)

    async def authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        client = self.clients[query["client_id"]]
        assert query["policy"] == "signin"
        assert query["redirect_uri"] in client["redirect_uris"]
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        answer = {"code": code, "state": query["state"], "iss": f"{self.url}/as"}
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode(answer)}", 302)

    async def token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        if not self._knows_client(request):
            return JSONResponse({"error": "invalid_client"}, 401)
        if form.get("resource") != f"{self.url}/mcp":
            return JSONResponse({"error": "invalid_target"}, 400)
        if not (self._redeem_code(form) if form["grant_type"] == "authorization_code" else self._redeem_refresh(form)):
            return JSONResponse({"error": "invalid_grant", "error_description": "Used or unknown."}, 400)
        fresh = secrets.token_urlsafe(8)
        self.refresh_tokens.add(fresh)
        return JSONResponse({"access_token": secrets.token_urlsafe(8), "expires_in": 60, "refresh_token": fresh})

    async def revoke(self, request: Request) -> Response:
        if not self._knows_client(request):
            return JSONResponse({"error": "invalid_client"}, 401)
        self.refresh_tokens.discard(str((await request.form())["token"]))
        return Response()

    def _knows_client(self, request: Request) -> bool:
        pair = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        client_id, secret = (unquote_plus(part) for part in pair.split(":"))
        return secret == str(self.clients[client_id]["client_secret"])

    def _redeem_code(self, form: dict[str, str]) -> bool:
        asked = self.codes.pop(form["code"], {})
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return asked.get("code_challenge") == challenge and asked["redirect_uri"] == form["redirect_uri"]

    def _redeem_refresh(self, form: dict[str, str]) -> bool:
        known = form["refresh_token"] in self.refresh_tokens
        self.refresh_tokens.discard(form["refresh_token"])
        return known


@contextmanager
def run_provider() -> Iterator[Provider]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        provider = Provider(f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(provider.app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield provider
        finally:
            server.should_exit = True
            thread.join(10)
