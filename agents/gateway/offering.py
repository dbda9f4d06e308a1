"""Prompts, resources and completion, passed on from the servers behind an endpoint.

What an agent names keeps to one scheme: prompts are called as tools are, resources keep their URI, and a read goes to
the server that lists it. Nothing of it may be cached for others (Caching, private).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import mcp_types as types
from django.core import signing
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, ValidationError

from agents.gateway import asking, connecting
from agents.gateway.auth import ACTOR, ENDPOINT
from agents.gateway.connecting import Context
from agents.runtime import offers
from agents.runtime.offers import Found
from agents.services.calls import REFUSALS
from agents.services.endpoints import Endpoint
from agents.services.links import connect_link
from aster.accounts.access import Actor
from aster.errors import AsterError, ConnectionRequired, NotFound
from aster.threads import in_db_thread
from integrations.mcp_client import PROMPTS, RESOURCES, TEMPLATES, Offer, RefusedRequest, asks_for_input
from integrations.models import McpServer

MODERN = "2026-07-28"
MOST_ON_PAGE, MOST_BYTES = 500, 1024 * 1024
NOT_FOUND = -32002  # what servers of the older eras say of a resource; -32602 since 2026-07-28
_SALT = "aster.page"
COMPLETE = {"resultType": "complete"}
# What an agent offers depends on the person and the organization's settings: nobody may keep it for others.
PRIVATE = {"ttlMs": 0, "cacheScope": "private"}
NOTHING_TO_SUGGEST: dict[str, Any] = {**COMPLETE, "completion": {"values": []}}
Item = dict[str, Any]


def caller(ctx: Context) -> tuple[Actor, Endpoint]:
    scope = ctx.request.scope  # type: ignore[union-attr]
    return scope[ACTOR], scope[ENDPOINT]


# --- Lists ----------------------------------------------------------------------------------------------------------


async def list_prompts(ctx: Context, params: types.PaginatedRequestParams | None) -> dict[str, Any]:
    _, endpoint = caller(ctx)

    def named(server: McpServer, item: Item) -> Item:
        return {**item, "name": endpoint.named(server, item["name"])}

    return await _list(ctx, params, PROMPTS, types.Prompt, named)


async def list_resources(ctx: Context, params: types.PaginatedRequestParams | None) -> dict[str, Any]:
    return await _list(ctx, params, RESOURCES, types.Resource, lambda server, item: item)


async def list_templates(ctx: Context, params: types.PaginatedRequestParams | None) -> dict[str, Any]:
    return await _list(ctx, params, TEMPLATES, types.ResourceTemplate, lambda server, item: item)


async def _list(
    ctx: Context,
    params: types.PaginatedRequestParams | None,
    offer: Offer,
    shape: type[BaseModel],
    shown: Callable[[McpServer, Item], Item],
) -> dict[str, Any]:
    actor, endpoint = caller(ctx)
    try:
        found = await offers.list_offers(endpoint, offer, actor=actor)
    except AsterError as error:
        raise MCPError(types.INVALID_PARAMS, error.message) from None
    every = [(server, shown(server, item)) for server, item in found if _is_whole(shape, item)]
    page, following = _page(_once(every, offer.identity), params.cursor if params else None, offer)
    listed: dict[str, Any] = {offer.key: page, **COMPLETE, **PRIVATE}
    return listed if following is None else {**listed, "nextCursor": following}


def _is_whole(shape: type[BaseModel], item: Item) -> bool:
    """One bad item must not cost a client the whole list."""
    try:
        shape.model_validate(item)
    except ValidationError:
        return False
    return True


def _once(found: Found, identity: str) -> Found:
    """Of two servers with the same URI the first one counts, as it does when it is read."""
    kept: dict[str, tuple[McpServer, Item]] = {}
    for server, item in found:
        kept.setdefault(item[identity], (server, item))
    return list(kept.values())


def _page(found: Found, cursor: str | None, offer: Offer) -> tuple[list[Item], str | None]:
    """The items after `cursor`, which names the last one of its page: what comes and goes elsewhere moves nothing."""
    start = 0 if cursor is None else _after(found, cursor, offer)
    page: list[Item] = []
    size = 0
    for _, item in found[start : start + MOST_ON_PAGE]:
        size += len(json.dumps(item))
        if page and size > MOST_BYTES:
            break
        page.append(item)
    end = start + len(page)
    if end >= len(found):
        return page, None
    server, last = found[end - 1]
    return page, signing.dumps([offer.key, server.pk, _digest(last[offer.identity]), end], salt=_SALT)


def _after(found: Found, cursor: str, offer: Offer) -> int:
    try:
        key, server_id, digest, end = signing.loads(cursor, salt=_SALT)
    except (signing.BadSignature, ValueError):
        key = None
    if key != offer.key:
        raise MCPError(types.INVALID_PARAMS, "There is no such page. Begin again without a cursor.")
    for position, (server, item) in enumerate(found):
        if server.pk == server_id and _digest(item[offer.identity]) == digest:
            return position + 1
    # The last one of that page is gone meanwhile.
    return min(int(end), len(found))


def _digest(identity: str) -> str:
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:16]


# --- One of them ----------------------------------------------------------------------------------------------------


async def get_prompt(ctx: Context, params: types.GetPromptRequestParams) -> dict[str, Any]:
    actor, endpoint = caller(ctx)
    bound = asking.bind(ctx.method, actor, endpoint.agent, endpoint.inward(params.name), params.arguments)
    rounds = await asking.rounds_of(ctx, bound)
    progress = ctx.session.report_progress

    async def ask() -> dict[str, Any]:
        return await offers.get_prompt(
            endpoint, params.name, params.arguments, actor=actor, rounds=rounds, progress=progress
        )

    result = await _explained(ctx, params, ask)
    return asking.pass_on(ctx.protocol_version, result, bound) if asks_for_input(result) else result


async def read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> dict[str, Any]:
    actor, endpoint = caller(ctx)
    uri = str((ctx.params or {}).get("uri", params.uri))  # verbatim

    async def ask() -> dict[str, Any]:
        server = await offers.find_resource(endpoint, uri, actor=actor)
        bound = asking.bind(ctx.method, actor, endpoint.agent, f"{server.pk} {uri}")
        rounds = await asking.rounds_of(ctx, bound)
        progress = ctx.session.report_progress
        result = await offers.read_resource(endpoint, server, uri, actor=actor, rounds=rounds, progress=progress)
        return asking.pass_on(ctx.protocol_version, result, bound) if asks_for_input(result) else result

    result = await _explained(ctx, params, ask, uri)
    return result if asks_for_input(result) else {**result, **PRIVATE}


async def complete(ctx: Context, params: types.CompleteRequestParams) -> dict[str, Any]:
    """Suggestions come from the server of the prompt or template; one that has none suggests nothing."""
    actor, endpoint = caller(ctx)
    reference = params.ref

    async def ask() -> dict[str, Any]:
        said = {key: value for key, value in (ctx.params or {}).items() if key in ("ref", "argument", "context")}
        if isinstance(reference, types.PromptReference):
            server, own = await offers.find_prompt(endpoint, reference.name, actor=actor)
            said["ref"] = {**said["ref"], "name": own}
        else:
            server = await offers.find_resource(endpoint, reference.uri, actor=actor)
        try:
            return await offers.complete(endpoint, server, said, actor=actor)
        except ConnectionRequired:
            return NOTHING_TO_SUGGEST  # getting the prompt leads to the link

    try:
        return await _explained(ctx, params, ask)
    except MCPError as error:
        if error.code == types.METHOD_NOT_FOUND:
            return NOTHING_TO_SUGGEST
        raise


async def _explained(ctx: Context, params: Any, ask: Callable[[], Any], uri: str | None = None) -> dict[str, Any]:
    """What went wrong as an error of the protocol: these requests have no result that says it."""
    actor, _ = caller(ctx)
    try:
        result: dict[str, Any] = await ask()
        return {**COMPLETE, **result}
    except ConnectionRequired as missing:
        link = await in_db_thread(connect_link, missing, actor)
        if connecting.accepted(params) is None and (
            led := connecting.lead_to(ctx, connecting.ASK, missing.message, link)
        ):
            return led.model_dump(by_alias=True, mode="json", exclude_none=True)
        raise MCPError(types.INTERNAL_ERROR, connecting.in_words(missing, link)) from None
    except RefusedRequest as refused:
        raise _refused(ctx, refused, uri) from None
    except NotFound as error:
        raise _not_found(ctx, error.message, uri) from None
    except AsterError as error:
        code = types.INVALID_PARAMS if error.code in REFUSALS else types.INTERNAL_ERROR
        raise MCPError(code, f"{error.message} {getattr(error, 'hint', '')}".strip()) from None


def _refused(ctx: Context, refused: RefusedRequest, uri: str | None) -> MCPError:
    """The server's own refusal, with the code that the client's era has for it."""
    if uri is not None and refused.rpc_code in (NOT_FOUND, types.INVALID_PARAMS):
        return _not_found(ctx, refused.message, uri)
    known = refused.rpc_code in (types.INVALID_PARAMS, types.METHOD_NOT_FOUND)
    return MCPError(refused.rpc_code if known else types.INTERNAL_ERROR, refused.message)


def _not_found(ctx: Context, message: str, uri: str | None) -> MCPError:
    if uri is None:
        return MCPError(types.INVALID_PARAMS, message)
    code = types.INVALID_PARAMS if ctx.protocol_version == MODERN else NOT_FOUND
    return MCPError(code, message, {"uri": uri})
