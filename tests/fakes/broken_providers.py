"""An MCP server and its sign-in provider on one port, each of whose documents and answers can be made wrong.

with run_provider() as provider:
    provider.metadata["code_challenge_methods_supported"] = None
    ...  # the server is at provider.mcp_url, its issuer is provider.issuer
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tests.fakes.mcp_servers import Receive, Send, modern_and_legacy_app, serve

HTML = (200, "<!doctype html><title>Sign in</title>", "text/html")
HANG = (0, "", "")
Answer = tuple[int, Any, str]


class BrokenProvider:
    """Works as it is; tests break it.

    resource, metadata: what to change in the two documents; None takes an entry out. challenge: what the 401 says,
    empty for no header. answers: path → (status, body, content type) sent instead, or HANG. refusal: status and header
    for everybody who comes with a token. before_token: called in a thread before a token request is answered. tokens,
    refresh_tokens: what is accepted. asked: (method, path) of each request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.resource: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.challenge: str | None = None
        self.answers: dict[str, Answer] = {}
        self.refusal: tuple[int, str] | None = None
        self.tokens: set[str] = set()
        self.refresh_tokens: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.before_token: Callable[[], object] | None = None
        self._server = modern_and_legacy_app()
        self.app = Starlette(
            routes=[
                Route("/.well-known/oauth-protected-resource/mcp", self._resource),
                Route("/.well-known/oauth-authorization-server/{name}", self._metadata),
                Route("/as/token", self._token, methods=["POST"]),
                Route("/as/register", self._register, methods=["POST"]),
                Mount("/", self._guard),
            ],
            lifespan=lambda app: self._server.app.router.lifespan_context(app),  # type: ignore[attr-defined]
        )

    @property
    def mcp_url(self) -> str:
        return f"{self.url}/mcp"

    @property
    def issuer(self) -> str:
        return f"{self.url}/as"

    @property
    def pointer(self) -> str:
        return f"{self.url}/.well-known/oauth-protected-resource/mcp"

    def grant(self) -> tuple[str, str]:
        """A pair of tokens that is good."""
        access, refresh = f"access-{secrets.token_hex(8)}", f"refresh-{secrets.token_hex(8)}"
        self.tokens.add(access)
        self.refresh_tokens.add(refresh)
        return access, refresh

    def refuse_tokens(self, error: str, status: int = 400, **more: str) -> None:
        self.answers["/as/token"] = (status, {"error": error, **more}, "application/json")

    def times_asked(self, path: str) -> int:
        return sum(1 for _, asked in self.asked if asked == path)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.asked.append((scope["method"], scope["path"]))
        answer = self.answers.get(scope["path"])
        if answer is None:
            await self.app(scope, receive, send)
        elif answer is HANG:
            while (await receive())["type"] != "http.disconnect":
                await asyncio.sleep(0)
        else:
            status, body, kind = answer
            text = body if isinstance(body, str) else json.dumps(body)
            await Response(text, status, media_type=kind)(scope, receive, send)

    async def _resource(self, request: Request) -> Response:
        document = {"resource": self.mcp_url, "authorization_servers": [self.issuer], "scopes_supported": ["tools"]}
        return JSONResponse(_changed(document, self.resource))

    async def _metadata(self, request: Request) -> Response:
        base = f"{self.url}/{request.path_params['name']}"
        document = {
            "issuer": base,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "registration_endpoint": f"{base}/register",
            "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        }
        return JSONResponse(_changed(document, self.metadata))

    async def _register(self, request: Request) -> Response:
        try:
            asked = json.loads(await request.body())
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return JSONResponse({"error": "invalid_client_metadata", "error_description": "Not an object."}, 400)
        return JSONResponse({**asked, "client_id": f"client-{secrets.token_hex(4)}"}, 201)

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        if self.before_token:
            await asyncio.to_thread(self.before_token)
        given = str(form.get("refresh_token", ""))
        if form.get("grant_type") == "refresh_token" and given not in self.refresh_tokens:
            return JSONResponse({"error": "invalid_grant", "error_description": "Token was revoked."}, 400)
        self.refresh_tokens.discard(given)
        access, refresh = self.grant()
        return JSONResponse({"access_token": access, "refresh_token": refresh, "expires_in": 3600})

    async def _guard(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        if given and self.refusal:
            status, header = self.refusal
            await Response("no", status, {"www-authenticate": header})(scope, receive, send)
        elif given in self.tokens:
            await self._server(scope, receive, send)
        else:
            header = f'Bearer resource_metadata="{self.pointer}"' if self.challenge is None else self.challenge
            await Response("no", 401, {"www-authenticate": header} if header else {})(scope, receive, send)


def _changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**document, **changes}.items() if value is not None}


@contextmanager
def run_provider() -> Iterator[BrokenProvider]:
    provider = BrokenProvider()
    with serve(provider) as base:
        provider.url = base
        yield provider
