"""Who calls the gateway: an API key, as `Authorization: Bearer` or `X-API-Key`. Pure ASGI; runs before any MCP code."""

from __future__ import annotations

import json
import uuid
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.services.agents import find_agent
from agents.services.endpoints import Endpoint, find_endpoint
from aster.accounts.access import Actor
from aster.accounts.authentication import presented_key
from aster.accounts.services import authenticate_key
from aster.errors import NotFound
from aster.threads import in_db_thread

# SERVER: the slug in the address, or None for the whole agent
ACTOR, ENDPOINT, SERVER = "aster.actor", "aster.endpoint", "aster.server"


def _admit(key: str, organization: str, slug: str, server: str | None) -> tuple[Actor, Endpoint] | None:
    actor = authenticate_key(key, via="gateway", request_id=uuid.uuid4().hex[:16])
    if actor is None:
        return None
    # A key of another organization learns nothing, not even that the agent exists.
    if actor.organization.slug != organization:
        raise NotFound("There is no such agent.")
    return actor, find_endpoint(find_agent(slug, actor=actor), server)


class RequireKey:
    """Lets a request through with its actor and endpoint in the scope, or answers 401 or 404."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        params: dict[str, str] = scope["path_params"]
        try:
            admitted = await in_db_thread(
                _admit, presented_key(Headers(scope=scope)), params["organization"], params["agent"], scope[SERVER]
            )
        except NotFound as error:
            words = "There is no such agent or server of an agent, or this key does not belong to it."
            await _answer(send, 404, error.code, words)
            return
        if admitted is None:
            words = (
                "Send an API key of this organization as Authorization: Bearer …. Make one under API keys in the hub."
            )
            await _answer(send, 401, "unauthenticated", words)
            return
        scope[ACTOR], scope[ENDPOINT] = admitted
        await self.app(scope, receive, send)


async def _answer(send: Send, status: int, code: str, detail: str) -> None:
    body: dict[str, Any] = {"code": code, "detail": detail, "fields": {}}
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="aster"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
