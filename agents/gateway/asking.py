"""A server that asks in the middle of a call, passed on to the client: elicitation in rounds (2026-07-28, MRTR).

The client brings a state back with its answers. What it gets is not the server's own but ours: encrypted, for ten
minutes, and good for nothing but the same request by the same person through the same agent. It holds the server's
state, byte by byte, and which questions were asked. Clients of 2025-11-25 that open links get error -32042 instead; a
state does not survive that, as it did not in their time. Everybody else reads what the server asked.

Every round is a call of its own: it passes every check again and has its own row in the record. An approval is spent by
the round that the server answers, so that nobody is asked twice and no approval lets two calls through.
"""

from __future__ import annotations

import hashlib
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from agents.gateway import approving, connecting
from agents.gateway.connecting import Context
from agents.gateway.handshake import URL_ERROR_VERSION, opens_urls
from agents.models import Agent
from agents.runtime.session import record_refusal
from agents.services.calls import BAD_STATE
from aster.accounts.access import Actor
from aster.crypto import DecryptionFailed, decrypt, encrypt
from aster.errors import NotAllowed
from integrations.mcp_client import RefusedRequest, Rounds

PREFIX = "r1."
SECONDS = 600
# The keys of our own questions; what is answered to them is not for any server.
_OURS = frozenset({connecting.ASK, approving.FORM, approving.PAGE})
_REFUSED = "This requestState is not one that was given for this request. Make the call again without it."


@dataclass(frozen=True)
class Bound:
    """What a state is good for: this request, by this person, through this agent. `name` says also which server."""

    actor: Actor
    agent: Agent
    name: str
    digest: str


def bind(method: str, actor: Actor, agent: Agent, name: str, arguments: Mapping[str, Any] | None = None) -> Bound:
    what = json.dumps([actor.person.pk, agent.pk, method, name, arguments], sort_keys=True)
    return Bound(actor, agent, name, hashlib.sha256(what.encode()).hexdigest())


def is_ours(state: object) -> bool:
    return isinstance(state, str) and state.startswith(PREFIX)


async def rounds_of(ctx: Context, bound: Bound) -> Rounds:
    """What the client can be asked, and what it answered. Raises MCPError for a state that is not for this request,
    which is recorded as a call that was refused.

    Without a state the answers go on as they are: the server judges them, as it does those of any client.
    """
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return Rounds(_modes_of_legacy(ctx))
    modes, said = modes_in(declared_by(ctx)), ctx.params or {}
    state, answers = said.get("requestState"), dict(said.get("inputResponses") or {})
    if state is None or (approving.FORM in answers and not is_ours(state)):
        return Rounds(modes, {key: answer for key, answer in answers.items() if key not in _OURS})
    sealed = _unseal(state, bound)
    if sealed is None:
        name = bound.name if ctx.method == "tools/call" else f"{ctx.method} {bound.name}"
        await record_refusal(bound.agent, name, NotAllowed(_REFUSED, code=BAD_STATE), actor=bound.actor)
        raise MCPError(types.INVALID_PARAMS, _REFUSED)
    return Rounds(modes, {key: answers[key] for key in sealed["asked"] if key in answers}, sealed["state"])


def pass_on(version: str | None, asked: Mapping[str, Any], bound: Bound) -> dict[str, Any]:
    """The `input_required` result for the client. Raises UrlElicitationRequiredError for those of 2025-11-25."""
    asks: dict[str, Any] = asked["inputRequests"]
    if version in MODERN_PROTOCOL_VERSIONS:
        sealed = {**asked, "requestState": _seal(asked.get("requestState"), list(asks), bound)}
        try:
            types.InputRequiredResult.model_validate(sealed)
        except ValidationError:
            words = "The server asks for input in a form that cannot be passed on."
            raise MCPError(types.INTERNAL_ERROR, words) from None
        return sealed
    links = [
        types.ElicitRequestURLParams(
            mode="url",
            message=ask["params"]["message"],
            url=ask["params"]["url"],
            elicitation_id=hashlib.sha256(ask["params"]["url"].encode()).hexdigest()[:32],
        )
        for ask in asks.values()
    ]
    raise UrlElicitationRequiredError(links, links[0].message if links else "The server asks for input.")


def require_capability(version: str | None, declared: Mapping[str, Any], error: Exception) -> None:
    """Raise MCPError (-32021) if `error` is a server's refusal for want of what the client did not declare."""
    lacks = isinstance(error, RefusedRequest) and error.rpc_code == types.MISSING_REQUIRED_CLIENT_CAPABILITY
    data = error.rpc_data if lacks and isinstance(error, RefusedRequest) else None
    required = data.get("requiredCapabilities") if isinstance(data, dict) else None
    if version not in MODERN_PROTOCOL_VERSIONS or not isinstance(required, dict):
        return
    # What the client did declare is Aster's to pass on.
    if not required.keys() <= declared.keys():
        words, capabilities = str(error.args[0]), {"requiredCapabilities": required}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, words, capabilities) from None


def declared_by(ctx: Context) -> dict[str, Any]:
    capabilities = ctx.session.client_capabilities
    return capabilities.model_dump(by_alias=True, exclude_none=True) if capabilities else {}


def modes_in(declared: Mapping[str, Any]) -> frozenset[str]:
    """The kinds of elicitation that a client of 2026-07-28 has declared."""
    elicitation = declared.get("elicitation")
    if not isinstance(elicitation, dict):
        return frozenset()
    url = {"url"} if elicitation.get("url") is not None else set[str]()
    # An empty capability means forms (2026-07-28, Elicitation, Capabilities).
    return frozenset(url | ({"form"} if elicitation.get("form") is not None or not url else set()))


def _modes_of_legacy(ctx: Context) -> frozenset[str]:
    opens = ctx.protocol_version == URL_ERROR_VERSION and ctx.request and opens_urls(ctx.request.headers)
    return frozenset({"url"} if opens else ())


def _seal(state: str | None, asked: list[str], bound: Bound) -> str:
    sealed = encrypt({"for": bound.digest, "until": int(time.time()) + SECONDS, "asked": asked, "state": state})
    return PREFIX + urlsafe_b64encode(sealed).decode()


def _unseal(state: object, bound: Bound) -> dict[str, Any] | None:
    text = state.removeprefix(PREFIX) if isinstance(state, str) and is_ours(state) else ""
    try:
        sealed = urlsafe_b64decode(text.encode("ascii"))
        # Only what we wrote, to the last character: the decoder overlooks what it does not know.
        opened = decrypt(sealed) if urlsafe_b64encode(sealed).decode() == text else None
    except (ValueError, DecryptionFailed):
        opened = None
    if not isinstance(opened, dict) or opened.get("for") != bound.digest or opened.get("until", 0) < time.time():
        return None
    return opened
