"""Who calls the gateway, and with what rules: an API key, as `Authorization: Bearer` or `X-API-Key`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.types import Send

from agents.gateway.relay import Caller
from agents.services.rules import Address, Rules, load_rules
from aster.accounts.access import Actor
from aster.accounts.authentication import presented_key
from aster.accounts.services import authenticate_keys
from aster.errors import AsterError, NotFound, NotSignedIn
from aster.leases import Leased

ACTOR, ENDPOINT = "aster.actor", "aster.endpoint"


def _callers(texts: Mapping[str, Actor | None]) -> dict[str, Actor]:
    return authenticate_keys(texts.keys(), via="gateway")


class Admission:
    """For one event loop; `close()` when it ends."""

    def __init__(self) -> None:
        self._callers: Leased[str, Actor] = Leased(_callers)
        self._rules: Leased[Address, Rules] = Leased(load_rules)

    def close(self) -> None:
        self._callers.close()
        self._rules.close()

    async def admit_to_admin(self, headers: Mapping[str, str], organization: str) -> Actor:
        """The caller of the admin server. Raises NotSignedIn or NotFound."""
        actor = await self._actor(headers)
        if actor.organization.slug != organization:
            raise NotFound("There is nothing at this address, or this key does not belong to it.")
        return replace(actor, request_id=secrets.token_hex(8))

    async def admit(self, headers: Mapping[str, str], address: Address, server: str | None = None) -> Caller:
        """The caller of a request, with the rules of the agent and the endpoint, the agent or one server of it.

        Raises NotSignedIn or NotFound: of an agent or server that is not theirs a key learns nothing.
        """
        actor = await self._actor(headers)
        rules = await self._rules.ask(address) if actor.organization.slug == address[0] else None
        endpoint = rules.endpoint(server) if rules else None
        if rules is None or endpoint is None:
            raise NotFound("There is no such agent or server of an agent, or this key does not belong to it.")
        actor = replace(actor, organization=rules.agent.organization, request_id=secrets.token_hex(8))
        return Caller(actor, rules, endpoint)

    async def _actor(self, headers: Mapping[str, str]) -> Actor:
        text = presented_key(headers)
        actor = await self._callers.ask(text) if text else None
        if actor is None:
            words = (
                "Send an API key of this organization as Authorization: Bearer …. Make one under API keys in the hub."
            )
            raise NotSignedIn(words, code="unauthenticated")
        return actor


async def refuse(send: Send, error: AsterError) -> None:
    body: dict[str, Any] = {"code": error.code, "detail": error.message, "fields": {}}
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if error.http_status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="aster"'))
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
