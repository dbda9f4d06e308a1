"""The guard in front of a protected MCP server: checks the token, its audience and the scope of each call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aster.demo.records import Grant

MAX_BODY_BYTES = 4 * 1024 * 1024


def metadata_path(resource: str) -> str:
    """Return where the protected resource metadata of this URL lives: path-inserted, RFC 9728 section 3.1."""
    return f"/.well-known/oauth-protected-resource{urlsplit(resource).path.rstrip('/')}"


class BearerGate:
    """ASGI guard. Lets a request through to `app` with the caller's identity in the scope, or answers 401 or 403.

    lookup: access token → Grant, or None. resource: the URL a token must have been issued for, compared exactly.
    scopes: what the server has; the first one is needed for everything. tool_scopes: tool name → the scope its calls
    need on top.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        lookup: Callable[[str], Grant | None],
        issuer: str,
        resource: str,
        scopes: Sequence[str],
        tool_scopes: Mapping[str, str],
    ) -> None:
        self.app = AuthContextMiddleware(app)
        self.lookup = lookup
        self.issuer = issuer
        self.resource = resource
        self.scopes = tuple(scopes)
        self.tool_scopes = tool_scopes

    async def metadata_endpoint(self, request: Request) -> Response:
        """Serve the protected resource metadata (RFC 9728)."""
        return JSONResponse(
            {
                "resource": self.resource,
                "resource_name": "Acme Notes",
                "authorization_servers": [self.issuer],
                "scopes_supported": list(self.scopes),
                "bearer_methods_supported": ["header"],
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            await self._refuse(401)(scope, receive, send)
            return
        grant = self.lookup(token.strip())
        if grant is None or grant.resource != self.resource:
            reason = "The access token is expired or unknown." if grant is None else "The token is for another server."
            await self._refuse(401, "invalid_token", reason)(scope, receive, send)
            return
        body, receive = await _buffer_body(receive)
        missing = [name for name in self._needed_scopes(body) if name not in grant.scopes]
        if missing:
            reason = f"This needs the scope {missing[0]}."
            await self._refuse(403, "insufficient_scope", reason)(scope, receive, send)
            return
        identity = AccessToken(
            token="",
            client_id=grant.client_id,
            scopes=list(grant.scopes),
            resource=grant.resource,
            subject=grant.person or None,
            claims={"iss": self.issuer},
        )
        await self.app({**scope, "user": AuthenticatedUser(identity)}, receive, send)

    def _needed_scopes(self, body: bytes) -> list[str]:
        # The body is the truth, not the Mcp-Name header, which older clients do not send.
        try:
            message = json.loads(body)
            tool = message["params"]["name"] if message["method"] == "tools/call" else ""
        except (ValueError, TypeError, LookupError, RecursionError):
            tool = ""
        extra = self.tool_scopes.get(tool) if isinstance(tool, str) else None
        return [self.scopes[0], *([extra] if extra else [])]

    def _refuse(self, status: int, error: str = "", reason: str = "") -> Response:
        address = self.resource.removesuffix(urlsplit(self.resource).path) + metadata_path(self.resource)
        fields = {"resource_metadata": address, "scope": " ".join(self.scopes)}
        if error:
            # RFC 6750 section 3.1: a request without a token gets no error code.
            fields |= {"error": error, "error_description": reason}
        challenge = ", ".join(f'{name}="{value}"' for name, value in fields.items())
        body = {"error": error or "unauthorized", "error_description": reason or "Sign in to use this server."}
        return JSONResponse(body, status, headers={"WWW-Authenticate": f"Bearer {challenge}"})


async def _buffer_body(receive: Receive) -> tuple[bytes, Receive]:
    """Read the body and return it with a `receive` that plays it again; past the limit, the rest stays unread."""
    seen: list[Message] = []
    size, more = 0, True
    while more and size <= MAX_BODY_BYTES:
        message = await receive()
        seen.append(message)
        size += len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
    waiting = iter(seen)

    async def replay() -> Message:
        return next(waiting, None) or await receive()

    return b"".join(message.get("body", b"") for message in seen), replay
