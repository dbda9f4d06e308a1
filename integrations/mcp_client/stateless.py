"""A modern server over Streamable HTTP: neither session nor connection, every request is one POST (2026-07-28).

The request says all a server needs to know, the answer is one JSON object or one event stream, and leaving the stream
is how a request is cancelled. So none of the SDK's session machinery is between a call and the wire: a turn over many
servers would spend most of its time there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import anyio
import httpx2
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
)
from mcp_types import SERVER_INFO_META_KEY, Implementation
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import ValidationError
from pydantic_core import to_json

from aster import egress
from integrations.mcp_client.failures import Refusal, connection_ended, explain, explain_status, timed_out
from integrations.mcp_client.probe import MAX_EVENT_BYTES, best_version, modern_meta
from integrations.mcp_client.target import Era, Target
from integrations.mcp_client.tools import MAX_NAME
from integrations.mcp_client.wire import Exchange, parse_message

log = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 0.05


def routing_headers(method: str, params: Mapping[str, Any]) -> dict[str, str]:
    """What a modern request repeats in its headers (2026-07-28, Streamable HTTP §Request Metadata)."""
    headers = {MCP_PROTOCOL_VERSION_HEADER: LATEST_MODERN_VERSION, MCP_METHOD_HEADER: method}
    if method == "tools/call":
        headers[MCP_NAME_HEADER] = _tool_name(str(params["name"]))
    elif name := NAME_BEARING_METHODS.get(method):
        headers[MCP_NAME_HEADER] = encode_header_value(str(params[name]))  # a URI may hold a secret
    return headers


def stamp(params: Mapping[str, Any], capabilities: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`params` with what every modern request carries in `_meta`."""
    return {**params, "_meta": {**(params.get("_meta") or {}), **modern_meta(capabilities)}}


def _tool_name(name: str) -> str:
    return _known_name(name) if len(name) <= MAX_NAME else encode_header_value(name)


_known_name = lru_cache(maxsize=1024)(encode_header_value)


class StatelessChannel:
    """What `Channel` is to other servers, for one that wants no connection. Requests may run at once."""

    era: Era = "modern"

    def __init__(self, target: Target) -> None:
        self.target = target
        self.discover: dict[str, Any] | None = None
        self.is_assumed = False
        self.is_broken = False  # closed, perhaps to be replaced by one that could not be opened
        self.protocol_version = ""
        self._id = 0
        self._pool: egress.Pool | None = None
        self.owns_pool = False

    @classmethod
    def remembered(cls, target: Target) -> StatelessChannel | None:
        """A channel that is ready at once: to a server that was found to be one of these, in a loop that keeps a pool.

        Nothing is agreed on with it; what it is now shows with the first answer.
        """
        if target.costs_to_open or not target.discover or not (kept := egress.kept_pool()):
            return None
        channel = cls(target)
        channel._pool, channel.discover, channel.is_assumed = kept, dict(target.discover), True
        channel.protocol_version = best_version(target.discover.get("supportedVersions"))
        return channel if channel.protocol_version else None

    @property
    def server_info(self) -> Implementation | None:
        stamps = (self.discover or {}).get("_meta")
        try:
            return Implementation.model_validate(stamps[SERVER_INFO_META_KEY]) if isinstance(stamps, dict) else None
        except (KeyError, ValidationError):
            return None

    @property
    def capabilities(self) -> dict[str, Any]:
        said = (self.discover or {}).get("capabilities")
        return said if isinstance(said, dict) else {}

    @property
    def instructions(self) -> str | None:
        said = (self.discover or {}).get("instructions")
        return said if isinstance(said, str) else None

    async def start(self) -> None:
        kept = egress.kept_pool()
        self._pool, self.owns_pool = kept or egress.Pool(), kept is None

    async def close(self, *, politely: bool = True) -> None:
        self.is_broken = True
        if self._pool and self.owns_pool:
            await self._pool.aclose()

    async def negotiate(self, era: Era, discover: Mapping[str, Any] | None) -> None:
        """Nothing is agreed on with a server that is remembered; what it is shows with the first answer."""
        self.is_assumed = bool(discover)
        found = discover or await self.request("server/discover", {}, step="initialize", timeout=self.target.timeout)
        self.protocol_version = best_version(found.get("supportedVersions"))
        if not self.protocol_version:
            raise explain(RuntimeError("no common version"), Exchange(), self.target, "initialize")
        self.discover = dict(found)

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
        the server may ask back for.

        Raises Refusal for an answer that is not a result, UpstreamError for no answer, AuthChallenge for 401 and 403.
        """
        self._id = number = self._id + 1
        exchange = Exchange(timeout=timeout)
        stamped = stamp(params, capabilities)
        if progress is not None:
            stamped["_meta"]["progressToken"] = number
        sent = {
            "Content-Type": "application/json",
            **self.target.headers,
            "accept": "application/json, text/event-stream",
            **routing_headers(method, params),
            **(headers or {}),
        }
        send = self._exchange if self.target.token is None else self._authorized
        try:
            content = to_json({"jsonrpc": "2.0", "id": number, "method": method, "params": stamped})
            async with asyncio.timeout(timeout):
                message = await send(content, sent, exchange, number, progress)
        except TimeoutError:
            raise timed_out(step, timeout) from None
        except Exception as error:  # whatever it is, it leaves as one error
            raise explain(error, exchange, self.target, step) from None
        result = self._read(message, exchange, step)
        self.is_assumed = False
        return result

    async def _authorized(
        self, content: bytes, headers: dict[str, str], exchange: Exchange, number: int, progress: ProgressFnT | None
    ) -> dict[str, Any]:
        """The message that answers; an empty one if none came. A rejected token is replaced once."""
        target = self.target
        token = await target.token(None) if target.token else None
        if token:
            headers["Authorization"] = f"Bearer {token}"
            message = await self._exchange(content, headers, exchange, number, progress)
            if exchange.status != 401 or not target.token:
                return message
            other = await target.token(token)
            if not other or other == token:
                return message
            headers["Authorization"] = f"Bearer {other}"
        return await self._exchange(content, headers, exchange, number, progress)

    async def _exchange(
        self, content: bytes, headers: dict[str, str], exchange: Exchange, number: int, progress: ProgressFnT | None
    ) -> dict[str, Any]:
        if self._pool is None:
            raise RuntimeError("start() comes first")
        url = self.target.url
        async with self._pool.post(url, content, headers, lane=self.target.lane) as answer:
            exchange.note_answer(answer, url)
            if answer.is_stream:
                return await self._follow(answer, number, progress)
            return parse_message(bytes(answer.body)) if exchange.content_type == "application/json" else {}

    async def _follow(self, answer: egress.Answer, number: int, progress: ProgressFnT | None) -> dict[str, Any]:
        request = httpx2.Request("POST", self.target.url)
        response = httpx2.Response(answer.status, headers=answer.headers, content=answer.chunks(), request=request)
        events = aiter(httpx2.EventSource(response, max_event_size=MAX_EVENT_BYTES))
        async for event in events:
            message = parse_message(event.data)
            if "method" not in message and ("result" in message or "error" in message):
                # Only a connection that was read to the end serves the next call. Nothing there may cost the answer.
                with anyio.move_on_after(LAST_WORDS_SECONDS), suppress(Exception):
                    async for _ in events:
                        pass
                return message
            if progress and message.get("method") == "notifications/progress":
                await _tell(progress, message.get("params"), number)
        return {}

    def _read(self, message: dict[str, Any], exchange: Exchange, step: str) -> dict[str, Any]:
        if isinstance(error := message.get("error"), dict):
            code = error.get("code")
            said = MCPError(code if isinstance(code, int) else 0, str(error.get("message", "")), error.get("data"))
            raise explain(said, exchange, self.target, step)
        if exchange.failed:
            raise explain(ConnectionError(), exchange, self.target, step)
        result = message.get("result")
        if isinstance(result, dict):
            return result
        if exchange.content_type == "text/event-stream":
            # A stream that ends before its answer has lost the request: nothing resumes it in this era.
            raise connection_ended(self.target, step)
        raise Refusal(explain_status(exchange, self.target, step), exchange)


async def _tell(progress: ProgressFnT, params: object, number: int) -> None:
    """Pass a progress notification of request `number` on. Nobody's trouble with it costs the call."""
    if not isinstance(params, dict) or params.get("progressToken") != number:
        return
    done, total, words = params.get("progress"), params.get("total"), params.get("message")
    if not isinstance(done, int | float) or isinstance(done, bool):
        return
    try:
        await progress(
            float(done),
            float(total) if isinstance(total, int | float) else None,
            words if isinstance(words, str) else None,
        )
    except Exception:
        log.exception("Could not pass progress on")
