"""Who calls the gateway, and with what rules: an app's access token or an API key, as `Authorization: Bearer` (or
`X-API-Key`)."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from starlette.types import Send

from agents.authorization_server import tokens
from agents.authorization_server.challenges import challenge, insufficient
from agents.authorization_server.endpoints import issuer
from agents.gateway.head import Head
from agents.gateway.relay import Caller
from agents.services.rules import Address, Rules, load_rules
from aster.accounts.access import CALL, Actor
from aster.accounts.services import authenticate_keys
from aster.errors import AsterError, NotAllowed, NotFound, NotSignedIn
from aster.leases import Leased

ACTOR, ENDPOINT = "aster.actor", "aster.endpoint"


@dataclass(frozen=True)
class _Bearer:
    """Whom a key or token stands for. `resource` is the one URL that a token is for; a key opens all it may."""

    actor: Actor
    resource: str = ""
    # By address, the callers they were let in as. What is believed of them ends with this object (leases).
    admitted: dict[str, _Admitted] = field(default_factory=dict, repr=False, compare=False)


def _bearers(wanted: Mapping[str, _Bearer | None]) -> dict[str, _Bearer]:
    """Those of the presented texts that are good now: one query for keys and two for tokens, however many."""
    held = tokens.holders_of(wanted.keys())
    tokens.note_use(list(held.values()))
    keys = authenticate_keys([text for text in wanted if not tokens.is_access_token(text)], via="gateway")
    return {
        **{text: _Bearer(holder.actor, holder.resource) for text, holder in held.items()},
        **{text: _Bearer(actor) for text, actor in keys.items()},
    }


class _Admitted(NamedTuple):
    """A caller as they were let in last: while the rules of the address are the same, they are again."""

    address: Address
    caller: Caller


class Admission:
    """For one event loop; `close()` when it ends."""

    def __init__(self) -> None:
        self._bearers: Leased[str, _Bearer] = Leased(_bearers)
        self._rules: Leased[Address, Rules] = Leased(load_rules)
        self._here, self._count = secrets.token_hex(4), itertools.count(1)

    def close(self) -> None:
        self._bearers.close()
        self._rules.close()

    async def admit_to_admin(self, head: Head, organization: str) -> Actor:
        """The caller of the admin server. Raises NotSignedIn or NotFound."""
        actor = (await self._bearer(head)).actor
        if actor.organization.slug != organization:
            raise NotFound("There is nothing at this address, or this key does not belong to it.")
        return actor.in_request(self._request_id())

    def held(self, head: Head) -> Caller | None:
        """What admit() would say, if nothing has to be asked for it."""
        bearer = self._bearers.get(head.key) if head.key else None
        known = bearer.admitted.get(head.address) if bearer else None
        if known is None:
            return None
        return self._in_request(known.caller) if self._rules.get(known.address) is known.caller.rules else None

    async def admit(self, head: Head, address: Address, server: str | None = None) -> Caller:
        """The caller of a request, with the rules of the agent and the endpoint, the agent or one server of it.

        Raises NotSignedIn, NotAllowed, or NotFound: of an agent or server that is not theirs a key learns nothing.
        """
        bearer = await self._bearer(head)
        actor = bearer.actor
        rules = await self._rules.ask(address) if actor.organization.slug == address[0] else None
        endpoint = rules.endpoint(server) if rules else None
        if rules is None or endpoint is None:
            raise NotFound("There is no such agent or server of an agent, or this key does not belong to it.")
        if actor.app:
            actor.require_scope(CALL)
        caller = Caller(replace(actor, organization=rules.agent.organization), rules, endpoint, {})
        bearer.admitted[head.address] = _Admitted(address, caller)
        return self._in_request(caller)

    async def _bearer(self, head: Head) -> _Bearer:
        """A token is good for exactly the address it was made for (RFC 8707)."""
        bearer = await self._bearers.ask(head.key) if head.key else None
        if bearer is None or (bearer.resource and bearer.resource != f"{issuer()}{head.address}"):
            words = "Sign in (OAuth), or send an API key of this organization as Authorization: Bearer …."
            words += " Make a key under API keys in the hub."
            raise NotSignedIn(words, code="unauthenticated", extra={"had_token": bool(head.key)})
        return bearer

    def _in_request(self, caller: Caller) -> Caller:
        actor = caller.actor.in_request(self._request_id())
        return Caller(actor, caller.rules, caller.endpoint, caller.plans)

    def _request_id(self) -> str:
        """One that no other process and no other request of this one has."""
        return f"{self._here}{next(self._count):08x}"


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
