"""Who calls the gateway, and with what rules: an app's access token or an API key, as `Authorization: Bearer` (or
`X-API-Key`)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.types import Send

from agents.authorization_server import tokens
from agents.authorization_server.challenges import challenge, insufficient
from agents.authorization_server.endpoints import issuer
from agents.gateway.relay import Caller
from agents.services.rules import Address, Rules, load_rules
from aster.accounts.access import CALL, Actor
from aster.accounts.authentication import presented_key
from aster.accounts.services import authenticate_keys
from aster.errors import AsterError, NotAllowed, NotFound, NotSignedIn
from aster.leases import Leased

ACTOR, ENDPOINT = "aster.actor", "aster.endpoint"


@dataclass(frozen=True)
class _Bearer:
    """Whom a key or token stands for. `resource` is the one URL that a token is for; a key opens all it may."""

    actor: Actor
    resource: str = ""


def _bearers(wanted: Mapping[str, _Bearer | None]) -> dict[str, _Bearer]:
    """Those of the presented texts that are good now: one query for keys and two for tokens, however many."""
    held = tokens.holders_of(wanted.keys())
    tokens.note_use(list(held.values()))
    keys = authenticate_keys([text for text in wanted if not tokens.is_access_token(text)], via="gateway")
    return {
        **{text: _Bearer(holder.actor, holder.resource) for text, holder in held.items()},
        **{text: _Bearer(actor) for text, actor in keys.items()},
    }


class Admission:
    """For one event loop; `close()` when it ends."""

    def __init__(self) -> None:
        self._bearers: Leased[str, _Bearer] = Leased(_bearers)
        self._rules: Leased[Address, Rules] = Leased(load_rules)

    def close(self) -> None:
        self._bearers.close()
        self._rules.close()

    async def admit_to_admin(self, headers: Mapping[str, str], path: str, organization: str) -> Actor:
        """The caller of the admin server. Raises NotSignedIn or NotFound."""
        actor = await self._actor(headers, path)
        if actor.organization.slug != organization:
            raise NotFound("There is nothing at this address, or this key does not belong to it.")
        return replace(actor, request_id=secrets.token_hex(8))

    async def admit(self, headers: Mapping[str, str], path: str, address: Address, server: str | None = None) -> Caller:
        """The caller of a request, with the rules of the agent and the endpoint, the agent or one server of it.

        Raises NotSignedIn, NotAllowed, or NotFound: of an agent or server that is not theirs a key learns nothing.
        """
        actor = await self._actor(headers, path)
        rules = await self._rules.ask(address) if actor.organization.slug == address[0] else None
        endpoint = rules.endpoint(server) if rules else None
        if rules is None or endpoint is None:
            raise NotFound("There is no such agent or server of an agent, or this key does not belong to it.")
        if actor.app:
            actor.require_scope(CALL)
        actor = replace(actor, organization=rules.agent.organization, request_id=secrets.token_hex(8))
        return Caller(actor, rules, endpoint)

    async def _actor(self, headers: Mapping[str, str], path: str) -> Actor:
        """A token is good for exactly the address it was made for (RFC 8707)."""
        text = presented_key(headers)
        bearer = await self._bearers.ask(text) if text else None
        if bearer is None or (bearer.resource and bearer.resource != f"{issuer()}{path}"):
            words = "Sign in (OAuth), or send an API key of this organization as Authorization: Bearer …."
            words += " Make a key under API keys in the hub."
            raise NotSignedIn(words, code="unauthenticated", extra={"had_token": bool(text)})
        return bearer.actor


async def refuse(send: Send, error: AsterError, path: str) -> None:
    """Answer an error of the admission, with what a client needs to sign in or to ask for more."""
    body: dict[str, Any] = {"code": error.code, "detail": error.message, "fields": {}}
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    challenged = ""
    if isinstance(error, NotSignedIn):
        challenged = challenge(path, had_token=bool(error.extra.get("had_token")))
    elif isinstance(error, NotAllowed):
        challenged = insufficient(path)
    if challenged:
        headers.append((b"www-authenticate", challenged.encode()))
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
