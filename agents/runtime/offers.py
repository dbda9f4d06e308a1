"""What the servers of an agent offer besides tools, asked for at once with the caller's own connections.

A server that is away, slow or not connected costs its own part only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import anyio
from mcp.shared.uri_template import InvalidUriTemplate, UriTemplate

from agents.runtime.recording import Recorded
from agents.runtime.session import Progress, ask_ready, opened
from agents.services import endpoints
from agents.services.calls import ReadyCall
from agents.services.endpoints import Endpoint
from aster.accounts.access import Actor
from aster.errors import AsterError, NotFound
from aster.threads import in_db_thread
from integrations.mcp_client import PROMPTS, RESOURCES, TEMPLATES, Offer, Rounds
from integrations.models import McpServer

# So long a list waits for a server that does not answer; after some lists the breaker spares everybody that.
PATIENCE_SECONDS = 5.0
AT_ONCE = 20
# Where a resource is read is looked up again after so long, or when its server or the person's connection changes.
KNOWN_SECONDS = 60.0
MOST_KNOWN = 500
_LOOKS_HASHED = re.compile(r"_[0-9a-f]{10}$")
Found = list[tuple[McpServer, dict[str, Any]]]
# By server, its version, connection and kind: until when, and what it has.
_known: dict[tuple[Any, ...], tuple[float, frozenset[str]]] = {}


async def list_offers(endpoint: Endpoint, offer: Offer, *, actor: Actor) -> Found:
    """Everything of one kind behind the endpoint, by server in a stable order, each in its server's own."""
    ready = await in_db_thread(endpoints.ready_sources, endpoint, offer.capability, actor=actor)
    listed = await _ask_all(ready, offer)
    return [(each.server, item) for each in ready for item in listed[each.server.pk]]


async def _ask_all(ready: list[ReadyCall], offer: Offer) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {each.server.pk: [] for each in ready}
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def ask(each: ReadyCall) -> None:
        try:
            async with limit, opened(each, patience=PATIENCE_SECONDS) as session:
                found[each.server.pk] = items = await session.list_offers(offer)
        except AsterError:
            return
        _remember(each, offer, frozenset(item[offer.identity] for item in items))

    async with anyio.create_task_group() as group:
        for each in ready:
            group.start_soon(ask, each)
    return found


# --- One prompt, one resource ---------------------------------------------------------------------------------------


async def get_prompt(
    endpoint: Endpoint,
    name: str,
    arguments: Mapping[str, Any] | None,
    *,
    actor: Actor,
    rounds: Rounds,
    progress: Progress,
) -> dict[str, Any]:
    server, own = await find_prompt(endpoint, name, actor=actor)
    params = {"name": own} if arguments is None else {"name": own, "arguments": dict(arguments)}
    return await _ask(endpoint, server, PROMPTS, "prompts/get", params, own, actor, rounds, progress)


async def read_resource(
    endpoint: Endpoint, server: McpServer, uri: str, *, actor: Actor, rounds: Rounds, progress: Progress
) -> dict[str, Any]:
    # What follows the question mark may be a secret, and is nothing that the record needs.
    name = uri.partition("?")[0].partition("#")[0]
    return await _ask(endpoint, server, RESOURCES, "resources/read", {"uri": uri}, name, actor, rounds, progress)


async def _ask(
    endpoint: Endpoint, server: McpServer, offer: Offer, method: str, params: dict[str, Any], name: str,
    actor: Actor, rounds: Rounds, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    async with Recorded(actor, f"{method} {name}", endpoint.agent, server) as record:
        prepare = endpoints.prepare_source
        ready = record.prepared(await in_db_thread(prepare, endpoint, server, offer.capability, actor=actor))
        record.result = await ask_ready(ready, method, params, rounds=rounds, progress=progress)
    return record.result


async def complete(endpoint: Endpoint, server: McpServer, params: Mapping[str, Any], *, actor: Actor) -> dict[str, Any]:
    """Suggestions while somebody types; nothing that a record is kept of."""
    ready = await in_db_thread(endpoints.prepare_source, endpoint, server, "completions", actor=actor)
    return await ask_ready(ready, "completion/complete", params, rounds=Rounds(), progress=None)


async def find_prompt(endpoint: Endpoint, name: str, *, actor: Actor) -> tuple[McpServer, str]:
    """Whose prompt it is and what its server calls it. Raises NotFound."""
    found = await in_db_thread(endpoints.named_source, endpoint, name, actor=actor)
    if found is None:
        raise no_such("prompt", name)
    server, own = found
    if endpoint.server is None and _LOOKS_HASHED.search(own):
        # The server's own name was changed to fit, and only its list tells from what.
        for owner, prompt in await list_offers(endpoint, PROMPTS, actor=actor):
            if owner.pk == server.pk and endpoint.named(server, prompt["name"]) == name:
                return server, str(prompt["name"])
    return server, own


async def find_resource(endpoint: Endpoint, uri: str, *, actor: Actor) -> McpServer:
    """The server to read `uri` from: the first that lists it, else the first with a template it fits, else the only one
    that has resources at all. Raises NotFound."""
    ready = await in_db_thread(endpoints.ready_sources, endpoint, RESOURCES.capability, actor=actor)
    if endpoint.server:
        return endpoint.server
    if len(ready) == 1:
        return ready[0].server
    listed = await _identities(ready, RESOURCES)
    for each in ready:
        if uri in listed[each.server.pk]:
            return each.server
    templates = await _identities(ready, TEMPLATES)
    for each in ready:
        if any(_fits(template, uri) for template in templates[each.server.pk]):
            return each.server
    having = [each.server for each in ready if listed[each.server.pk] or templates[each.server.pk]]
    if len(having) == 1:
        return having[0]
    raise no_such("resource", uri)


def no_such(kind: str, name: str) -> NotFound:
    return NotFound(f"There is no {kind} {name[:200]} here.", code=f"unknown_{kind}")


def _fits(template: str, uri: str) -> bool:
    try:
        return template == uri or UriTemplate.parse(template).match(uri) is not None
    except (InvalidUriTemplate, ValueError):
        return False


# --- Where things are -----------------------------------------------------------------------------------------------


async def _identities(ready: list[ReadyCall], offer: Offer) -> dict[int, frozenset[str]]:
    now = time.monotonic()
    found: dict[int, frozenset[str]] = {}
    for each in ready:
        until, names = _known.get(_key(each, offer), (0.0, frozenset[str]()))
        if now < until:
            found[each.server.pk] = names
    unknown = [each for each in ready if each.server.pk not in found]
    listed = await _ask_all(unknown, offer) if unknown else {}
    return found | {pk: frozenset(item[offer.identity] for item in items) for pk, items in listed.items()}


def _key(ready: ReadyCall, offer: Offer) -> tuple[Any, ...]:
    return ready.server.pk, ready.server.updated_at, ready.connection.pk if ready.connection else None, offer.method


def _remember(ready: ReadyCall, offer: Offer, names: frozenset[str]) -> None:
    _known.pop(key := _key(ready, offer), None)
    _known[key] = time.monotonic() + KNOWN_SECONDS, names
    while len(_known) > MOST_KNOWN:
        del _known[next(iter(_known))]
