"""Plain calls and listings, answered from what is held in memory: one request to the server, none to the database.

The rules are those of every other call (`agents.services.calls`); only where they are read differs (`aster.leases`).
Whatever is not in order here (a missing connection, a tool that waits for approval, a switch that is off) is left to
the handlers, which look at it again and have the words for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from mcp_types import INTERNAL_ERROR, SERVER_INFO_META_KEY
from pydantic_core import to_json

from agents.gateway import eras
from agents.gateway.plain import CALL, PlainRequest
from agents.runtime.session import call_ready
from agents.services import calls
from agents.services.call_log import CallLog
from agents.services.calls import AgentTool, ReadyCall
from agents.services.rules import Rules
from agents.services.tool_pages import page_of_tools
from aster import __version__
from aster.accounts.access import Actor
from aster.errors import AsterError, ConnectionRequired, NotFound
from aster.leases import Leased
from integrations.mcp_client import KeptSessions, Session
from integrations.services.access import require_connection
from integrations.services.held import Held, Holder, load_held

log = logging.getLogger(__name__)
SERVER_INFO = {"name": "aster", "version": __version__}
MOST_PAGES = 64
_STAMP = {SERVER_INFO_META_KEY: SERVER_INFO}


_Ready = tuple[ReadyCall, AbstractAsyncContextManager[Session]]


class Failed(Exception):
    """A bug of Aster's own, in words for the client: JSON-RPC's internal error."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what rules hold for them now."""

    actor: Actor
    rules: Rules


class Relay:
    """For one event loop; `aclose()` when it ends."""

    def __init__(self) -> None:
        self._held: Leased[Holder, Held] = Leased(load_held)
        self._kept = KeptSessions()
        self._log = CallLog()

    async def aclose(self) -> None:
        self._held.close()
        await self._kept.aclose()
        await self._log.aclose()

    async def answer(self, request: PlainRequest, caller: Caller) -> bytes | None:
        """The JSON-RPC response, or None if the request is for the handlers."""
        try:
            result = await self._call(request, caller) if request.method == CALL else _listing(request, caller)
        except Failed as failure:
            error = to_json({"code": INTERNAL_ERROR, "message": str(failure)})
            return b'{"jsonrpc":"2.0","id":%s,"error":%s}' % (to_json(request.id), error)
        return None if result is None else _response(request, result)

    async def _call(self, request: PlainRequest, caller: Caller) -> bytes | None:
        try:
            ready = await self._ready(request, caller)
        except Exception:  # a bug, before anything was sent: the handlers run into it as well, and tell of it
            return None
        if ready is None:
            return None
        actor, agent = caller.actor, caller.rules.agent
        try:
            result = await call_ready(*ready, agent, request.arguments, actor=actor, write=self._log.note)
        except ConnectionRequired:
            return None  # its link is the handlers' business; nothing ran
        except AsterError as error:
            return _encoded(eras.tool_error(eras.in_words(error)), request)
        except Exception:
            log.exception("A gateway request failed (%s)", actor.request_id)
            raise Failed(eras.bug_words(actor.request_id)) from None
        return _encoded(eras.result_for_client(result, modern=request.is_modern), request)

    async def _ready(self, request: PlainRequest, caller: Caller) -> _Ready | None:
        rules, actor = caller.rules, caller.actor
        found = rules.tools.get(request.name)
        if found is None or found.tool is None or not _is_in_order(rules, found, actor):
            return None
        server, auth, connection = found.server, found.server.auth_config, None
        if auth is None or not auth.is_oauth:
            session = rules.session(server)
        else:
            held = await self._held.ask((auth.pk, actor.person.pk if auth.needs_person else None))
            if held is None:
                return None
            connection, session = held.connection, held.session(server)
            try:
                require_connection(server, actor, known={server.pk: connection})
            except ConnectionRequired:
                return None
        ready = ReadyCall(server, found.tool.name, rules.known_tool(found), connection, session.target)
        if not session.needs_closing:
            return ready, session
        whose = (server.pk, actor.user and actor.user.pk, connection and connection.pk)
        return ready, self._kept.use(whose, session.target)


def _is_in_order(rules: Rules, found: AgentTool, actor: Actor) -> bool:
    """Nothing is to be said about the call but its answer, as far as the agent's rules go."""
    if found.tool is None or (found.server.pk, found.tool.name) in rules.guarded:
        return False
    try:
        calls.require_rules(rules.agent, found, actor=actor)
    except AsterError:
        return False
    return True


def _listing(request: PlainRequest, caller: Caller) -> bytes | None:
    """The page of tools as it was rendered last for callers with the same scopes under the same rules."""
    rules, actor = caller.rules, caller.actor
    cursor = request.params.get("cursor")
    key = (request.is_modern, actor.scopes, bool(actor.origin), cursor)
    known = rules.pages.get(key)
    if known is None:
        offered = calls.offered_of(rules.agent, rules.tools.values(), actor=actor)
        if any(each.tool is None for each in offered):
            return None  # a server that nobody has listed yet
        try:
            page, following = page_of_tools(offered, cursor)
        except NotFound:
            return None
        listed = [tool for each in page if (tool := eras.tool_for_client(each.definition, modern=request.is_modern))]
        result: dict[str, Any] = {"tools": listed, **({"nextCursor": following} if following else {})}
        if request.is_modern:
            result |= {"ttlMs": 0, "cacheScope": "private"}
        known = _encoded(result, request)
        if len(rules.pages) < MOST_PAGES:  # anybody can make up a cursor
            rules.pages[key] = known
    return known


def _encoded(result: Mapping[str, Any], request: PlainRequest) -> bytes:
    if request.is_modern:
        meta = {**_STAMP, **(result.get("_meta") or {})}
        return to_json({"resultType": "complete", **result, "_meta": meta})
    return to_json(result)


def _response(request: PlainRequest, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (to_json(request.id), result)
