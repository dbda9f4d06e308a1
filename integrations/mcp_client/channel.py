"""One live connection: a transport of the SDK in a task of its own, and raw JSON-RPC requests over it.

The task is what keeps a crash of the transport out of the caller's code: inside the SDK it would cancel whoever has
the connection open. Requests go through the SDK's dispatcher, below its typed session, because that one refuses whole
answers for one bad part: a tool list for one tool, a result for a missing `resultType`, a call for its output schema.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
from mcp import StdioServerParameters
from mcp.client.session import ClientSession
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.runner import modern_on_request
from mcp.shared.direct_dispatcher import create_direct_dispatcher_pair
from mcp.shared.dispatcher import CallOptions, Dispatcher, ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types import DiscoverResult, Implementation

from integrations.mcp_client.failures import Refusal, explain, explain_exception, timed_out
from integrations.mcp_client.probe import CLIENT_INFO, MAX_EVENT_BYTES, UNSUPPORTED_VERSION
from integrations.mcp_client.stateless import routing_headers, stamp
from integrations.mcp_client.target import Era, Target, resolve_connector
from integrations.mcp_client.wire import CURRENT, Exchange, open_wire

GOODBYE_SECONDS = 3.0
SHUTDOWN_SECONDS = 10.0  # the SDK's own escalation for a command that will not end takes up to 7
STDIO_DISCOVER_SECONDS = 10.0
UNCANCELLABLE = ("initialize", "server/discover")
Answer = TypeVar("Answer")


class Channel:
    """A connection from `start` to `close`; both and every request may run in different tasks."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.era: Era = ""
        self.discover: dict[str, Any] | None = None
        self.is_assumed = False  # modern from memory, and nothing has confirmed it yet
        self.is_broken = False
        self._dispatcher: Dispatcher[Any] | None = None
        self._sdk: ClientSession | None = None
        self._failure: Exception | None = None
        self._opening = Exchange()
        self._settled, self._stop, self._scope = anyio.Event(), anyio.Event(), anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None

    @property
    def sdk(self) -> ClientSession:
        if self._sdk is None:
            raise RuntimeError("start() comes first")
        return self._sdk

    @property
    def protocol_version(self) -> str | None:
        return self.sdk.protocol_version

    @property
    def server_info(self) -> Implementation | None:
        return self.sdk.server_info

    @property
    def capabilities(self) -> dict[str, Any]:
        said = self.sdk.server_capabilities
        return said.model_dump(by_alias=True, mode="json", exclude_none=True) if said else {}

    @property
    def instructions(self) -> str | None:
        return self.sdk.instructions

    async def start(self) -> None:
        """Bring the transport up, within `target.timeout` seconds. Raises UpstreamError, ForbiddenAddress."""
        token = CURRENT.set(self._opening)
        try:
            # A plain asyncio task, so that opening and closing may happen in different tasks of the caller.
            self._task = asyncio.create_task(self._run(), name=f"mcp {self.target.key or self.target.transport}")
        finally:
            CURRENT.reset(token)
        try:
            with anyio.fail_after(self.target.timeout):
                await self._settled.wait()
        except TimeoutError:
            raise timed_out("initialize", self.target.timeout) from None
        if self._failure:
            raise explain(self._failure, self._opening, self.target, "http")

    async def _run(self) -> None:
        try:
            with self._scope:
                async with (
                    _open_dispatcher(self.target) as dispatcher,
                    ClientSession(dispatcher=dispatcher, client_info=Implementation.model_validate(CLIENT_INFO)) as sdk,
                ):
                    self._dispatcher, self._sdk = dispatcher, sdk
                    self._settled.set()
                    await self._stop.wait()
        except Exception as error:  # told to whoever waits for an answer
            self._failure = error
        finally:
            self.is_broken = True
            self._settled.set()

    async def close(self, *, politely: bool = True) -> None:
        """End the connection and wait until its task, and a command it started, are gone. Never raises for the peer."""
        if self._task is None:
            return
        self._stop.set()
        try:
            if politely:
                with anyio.move_on_after(GOODBYE_SECONDS, shield=True):
                    await asyncio.wait({self._task})
        finally:
            # Through the scope and not task.cancel(): only the former lets the SDK finish ending a command.
            self._scope.cancel()
            with anyio.move_on_after(SHUTDOWN_SECONDS, shield=True):
                await asyncio.wait({self._task})
            self._task.cancel()

    async def negotiate(self, era: Era, discover: Mapping[str, Any] | None) -> None:
        """Agree on a version: by what is remembered, by asking, or by handshake. Raises Refusal, UpstreamError."""
        if era == "legacy":
            await self._initialize()
        elif discover:
            self._adopt(discover)
            self.is_assumed = True
        elif era == "modern" or self.target.transport == "connector":
            self._adopt(await self._discover(self.target.timeout))
        else:
            await self._negotiate_blind()

    async def _negotiate_blind(self) -> None:
        """stdio: `server/discover` first; any error or silence means a handshake (basic/versioning)."""
        try:
            self._adopt(await self._discover(min(STDIO_DISCOVER_SECONDS, self.target.timeout / 3)))
        except Exception:
            if self.is_broken:
                raise
        else:
            return
        try:
            await self._initialize()
        except Refusal as refusal:
            if refusal.code != UNSUPPORTED_VERSION:
                raise
            # A slow starter that read our first question late has settled on the modern era meanwhile.
            self._adopt(await self._discover(self.target.timeout))

    async def _discover(self, timeout: float) -> dict[str, Any]:
        self.era = "modern"
        return await self.request("server/discover", {}, step="initialize", timeout=timeout)

    def _adopt(self, discover: Mapping[str, Any]) -> None:
        # Fields that only steer caches must not cost the connection when a server forgets them.
        lenient = {"resultType": "complete", "capabilities": {}, "ttlMs": 0, "cacheScope": "private", **discover}
        try:
            self.sdk.adopt(DiscoverResult.model_validate(lenient, by_name=False))
        except (ValueError, RuntimeError) as error:
            raise explain_exception(error, self.target, "initialize") from None
        self.era, self.discover = "modern", dict(discover)

    async def _initialize(self) -> None:
        self.era, self.discover = "legacy", None
        await self._send(self.sdk.initialize(), "initialize", self.target.timeout)

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        step: str,
        timeout: float,
        progress: ProgressFnT | None = None,
        headers: Mapping[str, str] | None = None,
        capabilities: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send one request and give its raw result; `timeout` in seconds bounds it as a whole. `capabilities` are what
        a modern server may ask back for; a legacy one was told at its handshake that it may ask for nothing.

        Raises Refusal for an answer that is not a result, UpstreamError for no answer, AuthChallenge for 401 and 403.
        """
        options: CallOptions = {"headers": {**self._headers(method, params), **(headers or {})}}
        if method in UNCANCELLABLE:
            options["cancel_on_abandon"] = False
        if progress is not None:
            options["on_progress"] = progress
        if self._dispatcher is None or self._failure is not None:
            raise explain(self._failure or ConnectionError(), Exchange(), self.target, step)
        stamped = stamp(params, capabilities) if self.era == "modern" else dict(params)
        result = await self._send(self._dispatcher.send_raw_request(method, stamped, options), step, timeout)
        self.is_assumed = False
        return result

    async def _send(self, sending: Coroutine[Any, Any, Answer], step: str, timeout: float) -> Answer:
        """Bound one request in time and turn every way it can fail into Refusal or AsterError."""
        exchange = Exchange(timeout=timeout)
        token = CURRENT.set(exchange)
        error: Exception = ConnectionError()
        try:
            with anyio.fail_after(timeout), anyio.CancelScope() as scope:
                if self.target.transport == "sse":
                    # Its POSTs are acknowledged apart from the answer; the SDK would wait for one that never comes.
                    exchange.on_failure = scope.cancel
                return await sending
        except TimeoutError:
            raise timed_out(step, timeout) from None
        except Exception as raised:  # sorted below
            error = raised
        finally:
            CURRENT.reset(token)
        if isinstance(error, MCPError) and error.message == "Connection closed":
            self.is_broken = True
            error = self._failure or error
        raise explain(error, exchange, self.target, step)

    def _headers(self, method: str, params: Mapping[str, Any]) -> dict[str, str]:
        """A legacy server gets the version only."""
        if self.era == "modern":
            return routing_headers(method, params)
        version = self.protocol_version
        return {MCP_PROTOCOL_VERSION_HEADER: version} if version else {}


@asynccontextmanager
async def _open_dispatcher(target: Target) -> AsyncIterator[Dispatcher[Any]]:
    if target.transport == "connector":
        async with _open_connector(target) as direct:
            yield direct
    elif target.transport == "stdio":
        # What the command writes to stderr may hold secrets: it belongs neither into our logs nor into errors.
        with open(os.devnull, "w", encoding="utf-8") as quiet:
            async with stdio_client(_stdio_parameters(target), errlog=quiet) as streams:
                yield JSONRPCDispatcher(*streams)
    elif target.transport == "sse":
        async with (
            open_wire(target) as wire,
            sse_client(target.url, httpx_client_factory=lambda headers=None, timeout=None, auth=None: wire) as streams,
        ):
            yield JSONRPCDispatcher(*streams)
    else:
        async with (
            open_wire(target) as wire,
            streamable_http_client(target.url, http_client=wire, max_sse_event_size=MAX_EVENT_BYTES) as streams,
        ):
            yield JSONRPCDispatcher(*streams)


def _stdio_parameters(target: Target) -> StdioServerParameters:
    return StdioServerParameters(
        command=target.command,
        args=list(target.args),
        env=dict(target.env),
        cwd=target.cwd or None,
        encoding_error_handler="replace",  # one bad byte must cost one message, not the connection
    )


@asynccontextmanager
async def _open_connector(target: Target) -> AsyncIterator[Dispatcher[Any]]:
    """An in-process server, wired as `mcp.Client(server)` does it, but with its exceptions kept as causes."""
    server = resolve_connector(target)
    ours, theirs = create_direct_dispatcher_pair(raise_handler_exceptions=True)

    async def ignore(*_: object) -> None:
        """Nothing is notified to a server of 2026-07-28."""

    async with server.lifespan(server) as state, anyio.create_task_group() as tasks:
        await tasks.start(theirs.run, modern_on_request(server, state), ignore)
        yield ours
        theirs.close()
