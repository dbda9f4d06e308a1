"""The gateway's ASGI application: one URL per agent, `/mcp/{organization}/{agent}`, for both protocol eras.

A request is admitted, read, and answered by the relay if it is a plain call or listing. The SDK's server answers
everything else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from agents.gateway.auth import ACTOR, AGENT, Admission, refuse
from agents.gateway.handlers import build_server
from agents.gateway.handshake import Handshake, may_be_handshake, refuse_method
from agents.gateway.plain import read_plain
from agents.gateway.relay import Caller, Relay
from aster.egress import keep_async_pool
from aster.errors import AsterError, NotFound

MAX_BODY = 4 * 1024 * 1024
# A call that takes longer than this is worth watching for a client that has left.
PATIENT_SECONDS = 0.05
_PATH = re.compile(r"/mcp/([a-z0-9-]+)/([a-z0-9-]+)/?").fullmatch


class Gateway:
    """Built once per process; `lifespan()` must be entered before the first request (a session manager runs once)."""

    def __init__(self) -> None:
        security = _security()
        self._hosts, self._origins = frozenset(security.allowed_hosts), frozenset(security.allowed_origins)
        self._manager = StreamableHTTPSessionManager(
            build_server(), json_response=False, stateless=True, security_settings=security
        )
        self._admission = Admission()
        self._relay = Relay()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with keep_async_pool(), self._manager.run():
            try:
                yield
            finally:
                self._admission.close()
                await self._relay.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        try:
            path = _PATH(scope["path"])
            if path is None:
                raise NotFound("There is nothing at this address.")
            caller = await self._admission.admit(headers, (path[1], path[2]))
        except AsterError as error:
            await refuse(send, error)
            return
        read = _Body(receive)
        if scope["method"] == "POST" and self._is_expected(headers):
            body = await read.whole()
            if read.has_left:
                return
            plain = read_plain(headers, body) if body is not None else None
            try:
                answer = await self._answer(plain, caller, read) if plain else None
            except asyncio.CancelledError:
                if not read.has_left:
                    raise
                return
            if answer is not None:
                await _send_json(send, answer)
                return
        scope[ACTOR], scope[AGENT] = caller.actor, caller.rules.agent
        await self._hand_on(scope, read.again, send)

    async def _answer(self, plain: Any, caller: Caller, read: _Body) -> bytes | None:
        """The relay's answer. A client that leaves ends its call (2026-07-28, Cancellation)."""
        answering = asyncio.current_task()
        watch = asyncio.get_running_loop().call_later(PATIENT_SECONDS, read.watch, answering)
        try:
            return await self._relay.answer(plain, caller)
        finally:
            watch.cancel()
            read.unwatch()

    async def _hand_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await refuse_method(scope, send)
            return
        if may_be_handshake(Headers(scope=scope)):
            handshake = Handshake(receive, send)
            await handshake.peek()
            receive, send = handshake.receive, handshake.send
        await self._manager.handle_request(scope, receive, send)

    def _is_expected(self, headers: dict[str, str]) -> bool:
        """Host, origin and type as they are every day. The SDK's server says what is wrong with others."""
        host, origin = headers.get("host", ""), headers.get("origin")
        return (
            (host in self._hosts or f"{host.rpartition(':')[0]}:*" in self._hosts)
            and (not origin or origin in self._origins)
            and headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        )


class _Body:
    """A request's body, read once and, if need be, handed on as if nobody had looked."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read: list[Message] = []
        self._watching: asyncio.Task[None] | None = None
        self.has_left = False  # the client: nobody waits for an answer any more

    async def whole(self) -> bytes | None:
        """The body; None if it is too large or the client has left."""
        message = await self._receive()
        self._read.append(message)
        if message["type"] == "http.request" and not message.get("more_body"):
            return message.get("body", b"")  # type: ignore[no-any-return]
        parts, size = [message.get("body", b"")], len(message.get("body", b""))
        while message["type"] == "http.request" and message.get("more_body") and size <= MAX_BODY:
            message = await self._receive()
            self._read.append(message)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        self.has_left = message["type"] == "http.disconnect"
        return b"".join(parts) if not self.has_left and size <= MAX_BODY else None

    async def again(self) -> Message:
        return self._read.pop(0) if self._read else await self._receive()

    def watch(self, task: asyncio.Task[Any] | None) -> None:
        """Cancel `task` if the client leaves."""
        if task:
            self._watching = asyncio.get_running_loop().create_task(self._await_end(task))

    def unwatch(self) -> None:
        if self._watching:
            self._watching.cancel()

    async def _await_end(self, task: asyncio.Task[Any]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_left = True
        task.cancel()


def _headers(scope: Scope) -> dict[str, str]:
    """By name in lower case. One that came twice is left out: which of them counts is for the SDK to say."""
    pairs = scope["headers"]
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    if len(found) != len(pairs):
        names = [name.decode("latin-1") for name, _ in pairs]
        for name in {each for each in names if names.count(each) > 1}:
            del found[name]
    return found


async def _send_json(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _security() -> TransportSecuritySettings:
    """Host and Origin checks against DNS rebinding (Streamable HTTP, Security Warning)."""
    public = urlsplit(settings.ASTER_PUBLIC_URL)
    hosts = [public.netloc, *settings.ALLOWED_HOSTS, *(f"{host}:*" for host in settings.ALLOWED_HOSTS)]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[f"{public.scheme}://{public.netloc}"])
