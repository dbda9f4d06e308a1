"""The row that every call leaves behind, however it ends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Any

import anyio

from agents.models import Agent
from agents.services import calls
from agents.services.calls import AgentTool, CallRow, ReadyCall
from aster.accounts.access import Actor
from aster.errors import AsterError, ConnectionRequired, UpstreamError
from aster.threads import Grouped
from integrations.mcp_client import asks_for_input
from integrations.models import Connection, McpServer

Write = Callable[[Callable[[], CallRow]], Awaitable[None]]
INPUT_REQUIRED = "input_required"  # in the record: a round that ended with a question of the server's
# Calls that end together are written in one transaction; each still waits until its row is stored.
_record_calls = Grouped(calls.record_calls)


class Recorded:
    """Writes one ToolCall row however the call within ends, also when it is cancelled.

    It holds what is known of the call so far, so that its row tells of the server also when the call was refused. With
    a `write` of its own, a call that is passed on to somebody else for want of a connection gets no row yet.
    """

    __slots__ = ("_actor", "_agent", "_began", "_passes_on", "_write", "connection", "result", "server", "tool_name")

    def __init__(
        self,
        actor: Actor,
        tool_name: str,
        agent: Agent | None,
        server: McpServer | None = None,
        *,
        write: Write | None = None,
        passes_on: Callable[[], bool] = lambda: False,
    ) -> None:
        self._actor, self._agent, self._write, self._passes_on = actor, agent, write, passes_on
        self.tool_name, self.server = tool_name, server
        self.connection: Connection | None = None
        self.result: dict[str, Any] = {}

    def found(self, tool: AgentTool) -> None:
        self.server = tool.server
        if tool.tool:
            self.tool_name = tool.tool.name

    def prepared(self, ready: ReadyCall) -> ReadyCall:
        self.connection = ready.connection
        return ready

    async def __aenter__(self) -> Recorded:
        self._began = time.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        told = None if error is None else _as_told(error)
        row = partial(
            calls.call_row,
            actor=self._actor,
            tool_name=self.tool_name,
            outcome=calls.outcome_of(self.result, told),
            duration_ms=int((time.monotonic() - self._began) * 1000),
            agent=self._agent,
            server=self.server,
            connection=self.connection,
            error=told,
            code=INPUT_REQUIRED if asks_for_input(self.result) else "",
        )
        if self._write is None:
            with anyio.CancelScope(shield=True):
                await _record_calls(row)
        elif not (isinstance(told, ConnectionRequired) and self._passes_on()):
            await self._write(row)


def _as_told(error: BaseException) -> AsterError:
    if isinstance(error, AsterError):
        return error
    if isinstance(error, Exception):
        return AsterError("Aster failed; this is a bug.", code="internal_error")
    return UpstreamError("The call was cancelled.", code="cancelled", step="call")
