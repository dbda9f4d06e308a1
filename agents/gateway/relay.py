"""Plain calls, answered from what is held in memory: one request to the server, none to the database.

The rules are those of every other call (`agents.services.calls`); only where they are read differs (`aster.leases`).
Whatever is not in order here (a missing connection, a tool that waits for approval, a switch that is off) is left to
the handlers, which look at it again and have the words for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from typing import NamedTuple

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from pydantic_core import to_json

from agents.gateway import asking, connecting, eras
from agents.gateway.plain import CALL, PlainRequest
from agents.gateway.responses import Response, encoded, failure, success
from agents.runtime.session import Around, Progress, call_ready
from agents.services import calls
from agents.services.call_log import CallLog
from agents.services.calls import AgentTool, ReadyCall
from agents.services.endpoints import Endpoint
from agents.services.links import connect_link
from agents.services.rules import Rules
from aster.accounts.access import Actor
from aster.errors import AsterError, ConnectionRequired, bug_words
from aster.leases import Leased
from aster.threads import in_db_thread
from integrations.mcp_client import KeptSessions, Rounds, Session, SharedSession, asks_for_input
from integrations.services.access import require_connection
from integrations.services.held import Held, Holder, load_held

log = logging.getLogger(__name__)
# Most calls are made by clients that can be asked nothing, or the same as with the last call.
_rounds = lru_cache(maxsize=16)(Rounds)


class Plan(NamedTuple):
    """What reaches one tool for one caller. `held` is the connection that it goes out with, if it takes one; `session`
    is for a server that wants no connection."""

    ready: ReadyCall
    session: SharedSession | None
    holder: Holder | None
    held: Held | None


class Caller(NamedTuple):
    """Who asks, at which endpoint, and what rules hold for them now.

    `plans` are their calls that were found in order already, by name: while actor and rules are the same, they are.
    """

    actor: Actor
    rules: Rules
    endpoint: Endpoint
    plans: dict[str, Plan]


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

    async def call(
        self, request: PlainRequest, caller: Caller, progress: Progress | None, has_begun: Callable[[], bool]
    ) -> Response | None:
        """The response, or None if the request is for the handlers: not once the answer `has_begun`. `progress` is told
        if the client asked for that."""
        try:
            result = await self._call(request, caller, progress, has_begun)
        except MCPError as error:
            return failure(request, error)
        return None if result is None else success(request, result)

    async def _call(
        self, request: PlainRequest, caller: Caller, progress: Progress | None, has_begun: Callable[[], bool]
    ) -> bytes | None:
        try:
            plan = await self._plan_of(request.name, caller)
        except Exception:  # a bug, before anything was sent: the handlers run into it as well, and tell of it
            return None
        if plan is None:
            return None
        actor, agent, arguments = caller.actor, caller.rules.agent, request.arguments
        around = Around(progress, _rounds(asking.modes_in(request.declared)), request.trace)
        try:
            result = await call_ready(
                plan.ready,
                plan.session or self._kept_session(plan.ready, actor),
                agent,
                arguments,
                actor=actor,
                around=around,
                write=self._log.note,
                passes_on=lambda: not has_begun(),
            )
        except ConnectionRequired as missing:
            if not has_begun():
                return None  # its link is the handlers' business; nothing ran
            link = await in_db_thread(connect_link, missing, actor)
            return encoded(eras.tool_error(connecting.in_words(missing, link)), request)
        except AsterError as error:
            asking.require_capability(request.version, request.declared, error)
            return encoded(eras.tool_error(eras.in_words(error)), request)
        except Exception:
            log.exception("A gateway request failed (%s)", actor.request_id)
            raise MCPError(INTERNAL_ERROR, bug_words(actor.request_id)) from None
        if asks_for_input(result):
            bound = asking.bind(CALL, actor, agent, caller.endpoint.inward(request.name), arguments)
            return to_json(asking.pass_on(request.version, result, bound))
        return encoded(eras.result_for_client(result, modern=request.is_modern), request)

    async def _plan_of(self, name: str, caller: Caller) -> Plan | None:
        """What the call needs, if it is in order as far as anybody can tell without asking."""
        plan = caller.plans.get(name)
        if plan is None:
            plan = await self._plan(name, caller)
        elif plan.holder and await self._held.ask(plan.holder) is not plan.held:
            caller.plans.pop(name, None)  # another call may have been as quick
            plan = await self._plan(name, caller)
        return plan

    async def _plan(self, name: str, caller: Caller) -> Plan | None:
        rules, actor = caller.rules, caller.actor
        found = rules.tools.get(caller.endpoint.inward(name))
        if found is None or found.tool is None or not _is_in_order(rules, found, actor):
            return None
        server, auth, own, known = found.server, found.server.auth_config, found.tool.name, rules.known_tool(found)
        if auth is None or not auth.is_oauth:
            connection, target, holder, held = None, rules.target(server), None, None
        else:
            holder = (auth.pk, actor.person.pk if auth.needs_person else None)
            held = await self._held.ask(holder)
            if held is None:
                return None
            try:
                require_connection(server, actor, known={server.pk: held.connection})
            except ConnectionRequired:
                return None
            connection, target = held.connection, held.target(server)
        session = None if target.costs_to_open else SharedSession(target)
        plan = caller.plans[name] = Plan(ReadyCall(server, own, known, connection, target), session, holder, held)
        return plan

    def _kept_session(self, ready: ReadyCall, actor: Actor) -> AbstractAsyncContextManager[Session]:
        whose = (ready.server.pk, actor.user and actor.user.pk, ready.connection and ready.connection.pk)
        return self._kept.use(whose, ready.target)


def _is_in_order(rules: Rules, found: AgentTool, actor: Actor) -> bool:
    """Nothing is to be said about the call but its answer, as far as the agent's rules go."""
    if found.tool is None or (found.server.pk, found.tool.name) in rules.guarded:
        return False
    try:
        calls.require_rules(rules.agent, found, actor=actor)
    except AsterError:
        return False
    return True
