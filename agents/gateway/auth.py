"""Who calls the gateway: an app's access token or an API key, as `Authorization: Bearer` (or `X-API-Key`).

Pure ASGI; runs before any MCP code.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.authorization_server import tokens
from agents.authorization_server.challenges import challenge, insufficient
from agents.authorization_server.endpoints import issuer
from agents.models import Agent
from agents.services.agents import find_agent
from aster.accounts.access import CALL, Actor
from aster.accounts.authentication import presented_key
from aster.accounts.services import authenticate_key
from aster.errors import NotAllowed, NotFound
from aster.threads import in_db_thread

ACTOR, AGENT = "aster.actor", "aster.agent"


def _admit(key: str, path: str, organization: str, slug: str) -> tuple[Actor, Agent] | None:
    request_id = uuid.uuid4().hex[:16]
    if tokens.is_access_token(key):
        actor = _holder(key, path, request_id)
    else:
        actor = authenticate_key(key, via="gateway", request_id=request_id)
    if actor is None:
        return None
    # A key of another organization learns nothing, not even that the agent exists.
    if actor.organization.slug != organization:
        raise NotFound("There is no such agent.")
    return actor, find_agent(slug, actor=actor)


def _holder(token: str, path: str, request_id: str) -> Actor | None:
    """Who holds this token, if it is for exactly this address (RFC 8707). Raises NotAllowed if it may not call."""
    holder = tokens.holders_of([token]).get(token)
    if holder is None or holder.resource != f"{issuer()}{path}":
        return None
    holder.actor.require_scope(CALL)
    tokens.note_use([holder])
    return replace(holder.actor, request_id=request_id)


class RequireKey:
    """Lets a request through with its actor and agent in the scope, or answers 401 or 404."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        params: dict[str, str] = scope["path_params"]
        key, path = presented_key(Headers(scope=scope)), scope["path"]
        try:
            admitted = await in_db_thread(_admit, key, path, params["organization"], params["agent"])
        except NotAllowed as error:
            await _answer(send, 403, error.code, error.message, insufficient(path))
            return
        except NotFound as error:
            await _answer(send, 404, error.code, "There is no such agent, or this key does not belong to it.")
            return
        if admitted is None:
            words = "Sign in (OAuth), or send an API key of this organization as Authorization: Bearer …."
            words += " Make a key under API keys in the hub."
            await _answer(send, 401, "unauthenticated", words, challenge(path, had_token=bool(key)))
            return
        scope[ACTOR], scope[AGENT] = admitted
        await self.app(scope, receive, send)


async def _answer(send: Send, status: int, code: str, detail: str, challenged: str = "") -> None:
    body: dict[str, Any] = {"code": code, "detail": detail, "fields": {}}
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if challenged:
        headers.append((b"www-authenticate", challenged.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
