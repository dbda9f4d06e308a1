"""An agent at work: resolve → connect → discover → namespace → execute → cleanup (features G2).

`AgentSession` holds the connections of one turn (a chat message, a scheduled run). `call_once` is the short form for
one call, which the gateway and the playground use.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp.shared.dispatcher import ProgressFnT

from agents.models import Agent
from agents.runtime.breaker import breaker
from agents.runtime.recording import Recorded, Write
from agents.services import approvals, calls
from agents.services.agents import assigned_servers
from agents.services.approvals import Leave
from agents.services.calls import AgentTool, ReadyCall
from aster.accounts.access import Actor
from aster.errors import AsterError, ConnectionRequired, NotFound, UpstreamError
from aster.threads import Grouped, in_db_thread, in_waiting_thread
from integrations.mcp_client import AuthChallenge, Rounds, Session, asks_for_input, open_target, was_never_sent
from integrations.models import McpServer
from integrations.services.access import at_server
from integrations.services.refresh import mark_rejected, needs_reconnect
from integrations.services.step_up import missing_scopes, want_scopes
from integrations.services.targets import connections_for

Progress = ProgressFnT


@dataclass(frozen=True)
class Around:
    """What surrounds a call: where its progress goes, what its server may ask back, and its trace."""

    progress: Progress | None = None
    rounds: Rounds = field(default_factory=Rounds)
    meta: Mapping[str, Any] = field(default_factory=dict)


async def call_once(
    agent: Agent, name: str, arguments: dict[str, Any], *, actor: Actor, around: Around | None = None
) -> dict[str, Any]:
    """Authorize, open, call, close and record one call through an agent. Returns the server's result untouched: one
    that asks for input if `around` offers an answer."""
    async with Recorded(actor, name, agent) as record:
        ready = await _authorize(record, agent, name, arguments, actor)
        record.result = await _open_and_call(ready, arguments, around or Around())
    return record.result


async def call_ready(
    ready: ReadyCall,
    opening: AbstractAsyncContextManager[Session],
    agent: Agent,
    arguments: dict[str, Any],
    *,
    actor: Actor,
    around: Around,
    write: Write,
    passes_on: Callable[[], bool],
) -> dict[str, Any]:
    """The same for a call that was found in order already, over a session that others use as well.

    It is recorded by `write`, unless only a sign-in helps and the caller `passes_on` such a call.
    """
    async with Recorded(actor, ready.tool_name, agent, ready.server, write=write, passes_on=passes_on) as record:
        record.prepared(ready)
        async with _Explained(ready):
            with breaker.watch(ready.server):
                async with opening as session:
                    record.result = await _send(session, ready, arguments, around)
    return record.result


async def record_refusal(agent: Agent, name: str, refusal: AsterError, *, actor: Actor) -> None:
    """The row of a call that was refused before anything about it was looked up."""
    with suppress(AsterError):
        async with Recorded(actor, name, agent):
            raise refusal


async def _authorize(record: Recorded, agent: Agent, name: str, arguments: dict[str, Any], actor: Actor) -> ReadyCall:
    """Checks ask the database alone. Only an unknown tool is worth asking servers nobody has listed yet."""

    def authorize() -> ReadyCall:
        found = calls.find_tool(agent, name, actor=actor)
        record.found(found)
        awake = partial(breaker.require_awake, found.server)
        return record.prepared(calls.authorize_call(agent, found, arguments, actor=actor, require_reachable=awake))

    try:
        return await in_db_thread(authorize)
    except NotFound:
        await in_waiting_thread(calls.learn_tools, agent, actor=actor)
        return await in_db_thread(authorize)


async def call_server(server: McpServer, tool_name: str, arguments: dict[str, Any], *, actor: Actor) -> dict[str, Any]:
    """The same for a call straight to a server."""
    async with Recorded(actor, tool_name, None, server) as record:
        ready = record.prepared(await in_db_thread(calls.authorize_server_call, server, tool_name, actor=actor))
        record.result = await _open_and_call(ready, arguments, Around())
    return record.result


async def _open_and_call(ready: ReadyCall, arguments: dict[str, Any], around: Around) -> dict[str, Any]:
    async with opened(ready) as session:
        return await _send(session, ready, arguments, around)


@asynccontextmanager
async def opened(ready: ReadyCall, *, patience: float | None = None) -> AsyncIterator[Session]:
    """The server behind what passed every check; its refusals leave as what a person can do about them.

    With `patience` no step may take longer than so many seconds.
    """
    target = ready.target if patience is None else replace(ready.target, timeout=min(patience, ready.target.timeout))
    async with _Explained(ready):
        with breaker.watch(ready.server):
            async with open_target(target) as session:
                yield session


async def ask_ready(
    ready: ReadyCall, method: str, params: Mapping[str, Any], *, rounds: Rounds, progress: Progress | None
) -> dict[str, Any]:
    """Open, ask and close for one request that is no call of a tool."""
    async with opened(ready) as session:
        return await session.ask(method, params, rounds=rounds, progress=progress)


async def _send(session: Session, ready: ReadyCall, arguments: dict[str, Any], around: Around) -> dict[str, Any]:
    """Send the call. An approval is spent as the last thing before that, and stays spent unless nothing was sent.

    A server that asks for input has not made the call yet: the round that gets its answer spends the approval.
    """
    spent = None
    if ready.leave:
        if ready.target.token:
            await ready.target.token(None)  # renewed now if it has to be: that may fail
        spent = await in_db_thread(approvals.spend, ready.leave)
    try:
        options: dict[str, Any] = {"progress": around.progress, "meta": around.meta, "rounds": around.rounds}
        result = await session.call_tool(ready.tool_name, arguments, tool=ready.definition, **options)
    except AsterError as error:
        if spent and was_never_sent(error):
            await in_db_thread(approvals.give_back, spent)
        raise
    if spent and asks_for_input(result):
        await in_db_thread(approvals.give_back, spent)
    return result


class _Explained:
    """Around what asks a server: its refusals leave as what the person can do about them."""

    __slots__ = ("_ready",)

    def __init__(self, ready: ReadyCall) -> None:
        self._ready = ready

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if isinstance(error, ConnectionRequired):
            raise at_server(error, self._ready.server) from None
        if isinstance(error, AuthChallenge) and (required := await self._require_sign_in(error)):
            raise required from None

    async def _require_sign_in(self, refused: AuthChallenge) -> AsterError | None:
        """A server that refuses a token that was just renewed refuses the person: only connecting again helps. One
        that wants more rights says which (step-up). None if no sign-in helps."""
        ready, auth = self._ready, self._ready.server.auth_config
        if auth and auth.is_oauth and (scopes := missing_scopes(refused)):
            return await in_db_thread(want_scopes, ready.server, ready.connection, scopes)
        if ready.connection is None or ready.connection.user is None or refused.status != 401:
            return None
        await in_db_thread(mark_rejected, ready.connection, refused.message)
        return at_server(needs_reconnect(ready.connection), ready.server)


class _Link:
    """One server of a turn: a task that opens it, keeps it open until the turn ends, and closes it in the same task."""

    def __init__(self, ready: ReadyCall) -> None:
        self.ready = ready
        self.session: Session | None = None
        self.error: AsterError | None = None
        self.opened = anyio.Event()
        self._done = anyio.Event()
        self._scope: anyio.CancelScope | None = None

    async def run(self) -> None:
        with anyio.CancelScope() as self._scope:
            if not self._done.is_set():
                await self._hold()

    def end(self) -> None:
        """Close it; a server that has not answered yet is not waited for."""
        self._done.set()
        if self._scope and not self.opened.is_set():
            self._scope.cancel()

    @property
    def live(self) -> Session:
        """What was opened; raises why it was not."""
        if self.session is None or self.error:
            raise self.error or UpstreamError(f"{self.ready.server} closed the connection.", step="dial")
        return self.session

    async def _hold(self) -> None:
        try:
            async with _Explained(self.ready), open_target(self.ready.target) as self.session:
                self.opened.set()
                await self._done.wait()
        except AsterError as error:
            self.error = error
        finally:
            self.opened.set()


_Asked = tuple[AgentTool, dict[str, Any], Recorded]


class AgentSession:
    """The tools of an agent for one person, connected for the length of a turn.

    A server that cannot be reached, or that the person has not connected, costs its own tools only: they stay listed,
    and calling one raises the server's own error.
    """

    def __init__(self, agent: Agent, actor: Actor) -> None:
        self.agent, self.actor = agent, actor
        self.tools: dict[str, AgentTool] = {}
        self._known: list[AgentTool] = []
        self.problems: dict[int, AsterError] = {}
        self._links: dict[int, _Link] = {}
        # A model asks for several calls at once: one thread looks at them all.
        self._check = Grouped(self._check_all)

    @classmethod
    @asynccontextmanager
    async def open(cls, agent: Agent, *, actor: Actor) -> AsyncIterator[AgentSession]:
        session = cls(agent, actor)
        await in_db_thread(session._resolve)
        async with anyio.create_task_group() as group:
            try:
                await session._connect(group)
                yield session
            finally:
                for link in session._links.values():
                    link.end()

    def _resolve(self) -> None:
        servers = assigned_servers(self.agent)
        self._known = calls.known_tools(self.agent, servers)
        offered = calls.offered_of(self.agent, self._known, actor=self.actor)
        self.tools = {each.name: each for each in offered}
        connections = connections_for(servers, self.actor.user)
        for server in servers:
            if server.is_enabled:
                try:
                    ready = calls.prepare_call(server, "", actor=self.actor, known=connections)
                    self._links[server.pk] = _Link(ready)
                except AsterError as error:
                    self.problems[server.pk] = error

    async def _connect(self, group: TaskGroup) -> None:
        """Start every connection at once. Nothing waits here: a call waits for its own server only."""
        for link in self._links.values():
            group.start_soon(link.run)

    async def call(self, name: str, arguments: dict[str, Any], *, progress: Progress | None = None) -> dict[str, Any]:
        async with Recorded(self.actor, name, self.agent) as record:
            found = calls.find_tool(self.agent, name, actor=self.actor, known=self._known)
            record.found(found)
            leave = await self._check((found, arguments, record))
            if isinstance(leave, AsterError):
                raise leave
            if found.tool is None:
                raise NotFound("List the tools again to see what the server offers.", code="unknown_tool")
            link, tool = self._links[found.server.pk], found.tool
            ready = replace(link.ready, tool_name=tool.name, definition=tool.definition, leave=leave)
            async with _Explained(ready):
                with breaker.watch(found.server):
                    await link.opened.wait()
                    record.result = await _send(link.live, ready, arguments, Around(progress))
        return record.result

    def _check_all(self, asked: list[_Asked]) -> list[Leave | AsterError | None]:
        """Whether these calls may go out: for each what it spends, or why it may not. A turn goes on for minutes, so
        the rules are those of now."""
        try:
            agent, servers, off = calls.rules_now(self.agent, [found for found, _, _ in asked], actor=self.actor)
        except AsterError as refusal:
            return [refusal] * len(asked)
        outcomes: list[Leave | AsterError | None] = []
        for read, arguments, record in asked:
            try:
                found = calls.under_rules(agent, read, servers, off)
                reachable = partial(self._require_reachable, found, record)
                leave = calls.require_allowed(agent, found, arguments, actor=self.actor, require_reachable=reachable)
            except AsterError as refusal:
                outcomes.append(refusal)
            else:
                outcomes.append(leave)
        return outcomes

    def _require_reachable(self, found: AgentTool, record: Recorded) -> None:
        """Raise what this turn knows to be wrong with the server of a tool."""
        if problem := self.problems.get(found.server.pk):
            raise problem
        link = self._links[found.server.pk]
        record.prepared(link.ready)
        breaker.require_awake(found.server)
        if link.opened.is_set():
            link.live  # noqa: B018  (raises why it could not be opened)

    def connection_label(self, name: str) -> str:
        """Whose grant calls of the tool go out with; asks the database. Empty: none, or there is no such tool."""
        found = self.tools.get(name)
        link = self._links.get(found.server.pk) if found else None
        return str(link.ready.connection)[:200] if link and link.ready.connection else ""
