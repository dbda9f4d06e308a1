"""What the rest of Aster uses: open a target, list its tools, call them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from mcp.shared.dispatcher import ProgressFnT

from aster.egress import ResponseTooLarge
from aster.errors import AsterError, UpstreamError
from integrations.mcp_client.channel import Channel
from integrations.mcp_client.failures import (
    USE_HTTP,
    AuthChallenge,
    Refusal,
    RefusedRequest,
    is_strange,
    lost_session,
    timed_out,
    was_never_sent,
)
from integrations.mcp_client.offers import Offer, OfferCollector, read_answer
from integrations.mcp_client.probe import probe_target, require_streamable
from integrations.mcp_client.retrying import repeat
from integrations.mcp_client.rounds import Rounds
from integrations.mcp_client.stateless import StatelessChannel
from integrations.mcp_client.target import Era, Target
from integrations.mcp_client.tools import (
    KnownTool,
    ToolCollector,
    ToolListing,
    asked_by_links,
    read_call_result,
    read_refused_call,
    result_too_large,
)

HEADER_MISMATCH = -32020
UNKNOWN_METHOD = -32601
NOBODY_ASKS_BACK = Rounds()
DIAGNOSIS_SECONDS = 5.0
_UNKNOWN = KnownTool({})
AnyChannel = Channel | StatelessChannel


class Session:
    """A conversation with one server that outlives its connection: see `_repair`. Calls may run concurrently.

    `era` and `discover` are to be stored and given back in the next `Target`.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._channel: AnyChannel | None = None
        self._repairing = asyncio.Lock()
        # How many requests each channel carries, and those that are replaced but still carry some
        self._carried: dict[AnyChannel, int] = {}
        self._replaced = set[AnyChannel]()
        self._listed: dict[str, KnownTool] = {}

    @property
    def era(self) -> Era:
        return self._live.era

    @property
    def is_open(self) -> bool:
        return self._channel is not None

    def assume(self) -> None:
        """What the server is may have changed since it answered last: the next answer shows it."""
        if isinstance(self._channel, StatelessChannel):
            self._channel.is_assumed = True

    @property
    def is_free(self) -> bool:
        """Whether it holds nothing that has to be closed."""
        return isinstance(self._channel, StatelessChannel) and not self._channel.owns_pool and not self._replaced

    @property
    def protocol_version(self) -> str:
        return self._live.protocol_version or ""

    @property
    def server_info(self) -> dict[str, Any]:
        """Name and version as the server gives them: for display only."""
        info = self._live.server_info
        return info.model_dump(by_alias=True, mode="json", exclude_none=True) if info else {}

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the server says it offers: tools, prompts, resources, completions."""
        return self._live.capabilities

    @property
    def instructions(self) -> str:
        return self._live.instructions or ""

    @property
    def discover(self) -> dict[str, Any] | None:
        """The modern server's description of itself; None for a legacy server."""
        return self._live.discover

    async def list_tools(self) -> ToolListing:
        """All pages of tools/list within `target.timeout` seconds. Raises UpstreamError (step tools)."""
        return await repeat(self._list_tools, self.target.retry_attempts)

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        tool: KnownTool | Mapping[str, Any] | None = None,
        progress: ProgressFnT | None = None,
        timeout: float | None = None,
        meta: Mapping[str, Any] | None = None,
        rounds: Rounds = NOBODY_ASKS_BACK,
    ) -> dict[str, Any]:
        """Call a tool; its wire CallToolResult comes back untouched, also one with `isError`.

        It may be an `input_required` result, if what the server asks for is what `rounds` offers.

        `tool` is the stored wire tool. Give it when the session has not listed the tools: modern servers want some
        arguments mirrored into headers (`x-mcp-header`), and only its schema tells which. `timeout` in seconds,
        `target.timeout` if not given, bounds all tries together. A call that was not sent is tried again; one that may
        have run only if the tool says that this does no harm.

        Raises UpstreamError (step call): `tool_call_failed` if the server refuses, `timeout`, `result_too_large`.
        """
        known = tool if isinstance(tool, KnownTool) else KnownTool(tool) if tool else self._listed.get(name, _UNKNOWN)
        ends = time.monotonic() + (timeout or self.target.timeout)
        params = {"name": name, "arguments": dict(arguments or {}), **({"_meta": dict(meta)} if meta else {})}
        try:
            return await self._call_tool(params, known, progress, ends, rounds)
        except (AsterError, Refusal) as failure:
            call = partial(self._call_tool, params, known, progress, ends, rounds)
            after = None if known.may_be_repeated else "dial"
            return await repeat(call, self.target.retry_attempts, ends=ends, after=after, failed=failure)

    async def open(self) -> None:
        """Ready it for calls; once it is, this does nothing."""
        if self._channel is None:
            self._channel = StatelessChannel.remembered(self.target)
        if self._channel is not None:
            return
        try:
            self._channel = await self._open_channel()
        except Refusal as refusal:
            raise refusal.error from None

    async def _open_channel(self) -> AnyChannel:
        target = self.target
        try:
            return await repeat(lambda: self._connect(target.era, target.discover), self.target.retry_attempts)
        except Refusal as refusal:
            # What is remembered may be out of date: a server of the other era refuses our first words.
            if not target.era or not is_strange(refusal):
                raise
        return await repeat(lambda: self._connect("", None), self.target.retry_attempts)

    async def close(self, *, politely: bool = True) -> None:
        while self._replaced:
            await self._replaced.pop().close(politely=False)
        if self._channel:
            await self._channel.close(politely=politely)

    @property
    def _live(self) -> AnyChannel:
        if self._channel is None:
            raise RuntimeError("Use open_target()")
        return self._channel

    async def _connect(self, era: Era, discover: Mapping[str, Any] | None) -> AnyChannel:
        target = self.target
        if target.transport == "sse":
            return await self._connect_sse()
        if era or target.transport != "streamable_http":
            return await self._start(era, discover)
        probe = await probe_target(target)
        require_streamable(probe, target)
        channel = await self._start(probe.era, probe.discover)
        channel.is_assumed = False
        return channel

    async def _start(self, era: Era, discover: Mapping[str, Any] | None) -> AnyChannel:
        is_stateless = era == "modern" and self.target.transport == "streamable_http"
        channel = StatelessChannel(self.target) if is_stateless else Channel(self.target)
        try:
            await channel.start()
            await channel.negotiate(era, discover)
        except BaseException:
            await channel.close(politely=False)
            raise
        return channel

    async def _connect_sse(self) -> AnyChannel:
        try:
            return await self._start("legacy", None)
        except AuthChallenge:
            raise
        except (Refusal, UpstreamError) as failure:
            error = failure.error if isinstance(failure, Refusal) else failure
        # It may be a Streamable HTTP server: worth a question, since the two are easily mistaken for each other.
        try:
            seconds = min(self.target.timeout, DIAGNOSIS_SECONDS)
            found = await probe_target(replace(self.target, timeout=seconds))
        except AsterError:
            raise error from None
        if found.transport == "streamable_http":
            raise UpstreamError("The address does not speak SSE.", step="initialize", hint=USE_HTTP)
        raise error

    async def _list_tools(self) -> ToolListing:
        timeout = self.target.timeout
        ends = time.monotonic() + timeout
        collector = ToolCollector(checks_headers=self.era == "modern")
        cursor: str | None = None
        while True:
            left = ends - time.monotonic()
            if left <= 0:
                raise timed_out("tools", timeout)
            params = {} if cursor is None else {"cursor": cursor}
            try:
                page = await self._request("tools/list", params, step="tools", timeout=left)
            except Refusal as refusal:
                raise refusal.error from None
            cursor = collector.add_page(page)
            if cursor is None:
                break
        self._listed = {tool["name"]: KnownTool(tool) for tool in collector.listing.tools}
        return collector.listing

    async def _call_tool(
        self,
        params: dict[str, Any],
        tool: KnownTool,
        progress: ProgressFnT | None,
        ends: float,
        rounds: Rounds,
    ) -> dict[str, Any]:
        options = {"step": "call", "timeout": ends - time.monotonic(), "progress": progress}
        headers = self._mirrored(params, tool)
        try:
            try:
                result = await self._round("tools/call", params, rounds, headers=headers, **options)
            except Refusal as refusal:
                if refusal.code != HEADER_MISMATCH:
                    raise
                # The schema we know is out of date. Refused before it ran, so it may be sent again.
                await self.list_tools()
                headers = self._mirrored(params, self._listed.get(params["name"], _UNKNOWN))
                result = await self._round("tools/call", params, rounds, headers=headers, **options)
        except Refusal as refusal:
            return read_refused_call(refusal, rounds, self.target.key)
        except ResponseTooLarge:
            raise result_too_large() from None
        return read_call_result(result, rounds, self.target.key)

    def _mirrored(self, params: Mapping[str, Any], tool: KnownTool) -> dict[str, str]:
        return tool.param_headers(params["arguments"]) if self._live.era == "modern" else {}

    async def list_offers(self, offer: Offer) -> list[dict[str, Any]]:
        """All prompts, resources or templates within `target.timeout` seconds; none if the server has no such thing."""
        if offer.capability not in self.capabilities:
            return []
        return await repeat(lambda: self._list_offers(offer), self.target.retry_attempts)

    async def _list_offers(self, offer: Offer) -> list[dict[str, Any]]:
        ends, collector, params = time.monotonic() + self.target.timeout, OfferCollector(offer), dict[str, Any]()
        while True:
            left = ends - time.monotonic()
            if left <= 0:
                raise timed_out("offers", self.target.timeout)
            try:
                page = await self._request(offer.method, params, step="offers", timeout=left)
            except Refusal as refusal:
                if refusal.code == UNKNOWN_METHOD:
                    return []
                raise refusal.error from None
            cursor = collector.add_page(page)
            if cursor is None:
                return list(collector.items.values())
            params = {"cursor": cursor}

    async def ask(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        rounds: Rounds = NOBODY_ASKS_BACK,
        progress: ProgressFnT | None = None,
    ) -> dict[str, Any]:
        """One request that changes nothing (resources/read, prompts/get, completion/complete); its wire result comes
        back untouched. Raises RefusedRequest with the server's own code, or another UpstreamError (step ask)."""

        async def send() -> dict[str, Any]:
            timeout = self.target.timeout
            return await self._round(method, params, rounds, step="ask", timeout=timeout, progress=progress)

        try:
            result = await repeat(send, self.target.retry_attempts)
        except Refusal as refusal:
            if asked := asked_by_links(refusal, rounds, self.target.key):
                return asked
            raise RefusedRequest(refusal.error, refusal.code, refusal.data) from None
        except ResponseTooLarge:
            raise result_too_large() from None
        return read_answer(result, rounds, self.target.key)

    def _round(
        self, method: str, params: Mapping[str, Any], rounds: Rounds, **options: Any
    ) -> Awaitable[dict[str, Any]]:
        if rounds is not NOBODY_ASKS_BACK and self._live.era == "modern":
            params = {**params, **rounds.params}
        return self._request(method, params, capabilities=rounds.capabilities, **options)

    async def _request(self, method: str, params: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Send over the live channel; replace a channel that is gone, lost its session or speaks the wrong era."""
        channel = self._live
        if channel.is_broken:
            await self._repair(channel, channel.era, channel.discover)
            channel = self._live
        was_assumed = channel.is_assumed
        try:
            return await self._send_over(channel, method, params, options)
        except Refusal as refusal:
            if lost_session(refusal, self.target):
                # The server answers 404 instead of looking at the request, so sending it again repeats nothing
                # (2025-11-25, Streamable HTTP §Session Management).
                await self._repair(channel, channel.era, None)
            elif was_assumed and is_strange(refusal):
                try:
                    changed = await self._changes_era(channel)
                except AsterError as failure:
                    if was_never_sent(failure):
                        raise refusal from None  # what failed is asking again: the request itself had arrived
                    raise
                if not changed:
                    raise
            else:
                raise
        return await self._send_over(self._live, method, params, options)

    async def _send_over(
        self, channel: AnyChannel, method: str, params: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        self._carried[channel] = self._carried.get(channel, 0) + 1
        try:
            return await channel.request(method, params, **options)
        finally:
            self._carried[channel] -= 1
            if not self._carried[channel]:
                del self._carried[channel]
                if channel in self._replaced:
                    self._replaced.discard(channel)
                    await channel.close(politely=False)

    async def _changes_era(self, channel: AnyChannel) -> bool:
        await self._repair(channel, "", None)
        return self._live.era != channel.era

    async def _repair(self, broken: AnyChannel, era: Era, discover: Mapping[str, Any] | None) -> None:
        """Put a new channel in the place of `broken`, unless a concurrent call has done so already."""
        async with self._repairing:
            if self._channel is not broken:
                return
            if broken in self._carried:
                self._replaced.add(broken)  # other calls still wait for what the server says to them
            else:
                await broken.close(politely=False)
            try:
                self._channel = await self._connect(era, discover)
            except Refusal as refusal:
                raise refusal.error from None
