"""The gateway's ASGI application, for both protocol eras: one URL per agent, `/mcp/{organization}/{agent}`, and under
it one per server, `/mcp/{organization}/{agent}/{server}`, where things have the server's own names.

A request is admitted, read, and answered by the relay if it is a plain call or listing. The SDK's server answers
everything else.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from agents.gateway.auth import ACTOR, ENDPOINT, Admission, refuse
from agents.gateway.handlers import build_server
from agents.gateway.handshake import Handshake, may_be_handshake, refuse_method
from agents.gateway.head import Head, Heads, stripped
from agents.gateway.late import LateManager
from agents.gateway.plain import CALL, PlainRequest, read_plain
from agents.gateway.relay import Caller, Relay
from agents.gateway.reply import Reply
from agents.gateway.tool_list import list_tools
from aster.accounts.access import Actor
from aster.egress import keep_async_pool
from aster.errors import AsterError, NotFound

MAX_BODY = 4 * 1024 * 1024
# A call that takes longer than this is worth watching for a client that has left.
PATIENT_SECONDS = 0.05
PING_SECONDS = 15.0
# Whoever's body takes longer than this to arrive is asked again who they are.
LATE_SECONDS = 0.1
_ADMIN = "admin"  # a slug that no agent can have
_PATH = re.compile(r"/mcp/([a-z0-9-]+)/([a-z0-9-]+)(?:/([a-z0-9-]+))?").fullmatch


class Gateway:
    """Built once per process; `lifespan()` must be entered before the first request (a session manager runs once)."""

    def __init__(self) -> None:
        security = _security()
        self._heads = Heads(security.allowed_hosts, security.allowed_origins)
        self._manager = StreamableHTTPSessionManager(
            build_server(), json_response=False, stateless=True, security_settings=security
        )
        self._admin = LateManager(lambda: _admin_manager(security))
        self._admission = Admission()
        self._relay = Relay()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with keep_async_pool(), self._manager.run():
            try:
                yield
            finally:
                await self._admin.aclose()
                self._admission.close()
                self._heads.close()
                await self._relay.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head, name = self._heads.read(scope)
        read, body = _Body(receive), None
        try:
            admitted = self._admission.held(head) or await self._admit(head)
            if scope["method"] == "POST":
                began = time.monotonic()
                body = await read.whole()
                if time.monotonic() - began > LATE_SECONDS:
                    # It may take as long as its client likes: who was let in then may be locked out by now.
                    admitted = await self._admit(head)
        except AsterError as error:
            await refuse(send, error, head.address)
            return
        if read.has_left:
            return
        self._heads.keep(head)
        if isinstance(admitted, Actor):
            scope[ACTOR] = admitted
            await self._hand_on(await self._admin.get(), scope, read.again, send)
            return
        plain = read_plain(head, name, body) if body is not None and head.is_expected else None
        if plain and await self._answered(plain, admitted, read, send):
            return
        scope[ACTOR], scope[ENDPOINT] = admitted.actor, admitted.endpoint
        await self._hand_on(self._manager, scope, read.again, send)

    async def _admit(self, head: Head) -> Caller | Actor:
        """Who asks, of the admin server the actor alone. Raises NotSignedIn, NotAllowed or NotFound."""
        path = _PATH(head.address)
        if path is None:
            raise NotFound("There is nothing at this address.")
        if path[2] == _ADMIN and not path[3]:
            return await self._admission.admit_to_admin(head, path[1])
        return await self._admission.admit(head, (path[1], path[2]), path[3])

    async def _answered(self, plain: PlainRequest, caller: Caller, read: _Body, send: Send) -> bool:
        """Whether this is answered from what is held."""
        reply = Reply(send, plain)
        if plain.method == CALL:
            return await self._called(plain, caller, read, reply)
        response = list_tools(plain, caller)
        if response:
            await reply.finish(response)
        return response is not None

    async def _called(self, plain: PlainRequest, caller: Caller, read: _Body, reply: Reply) -> bool:
        """Whether the relay made the call. A client that leaves ends it (2026-07-28, Cancellation)."""
        loop, answering = asyncio.get_running_loop(), asyncio.current_task()
        attending: list[asyncio.Task[None]] = []
        watch = loop.call_later(
            PATIENT_SECONDS, lambda: attending.append(loop.create_task(_attend(answering, read, reply)))
        )
        try:
            wanted = plain.progress_token is not None
            progress = reply.progress if wanted else None
            response = await self._relay.call(plain, caller, progress, lambda: reply.has_begun)
        except asyncio.CancelledError:
            if not read.has_left:
                raise
            return True
        finally:
            watch.cancel()
            for task in attending:
                task.cancel()
        if response is None and not reply.has_begun:
            return False
        await reply.finish(response)
        return True

    async def _hand_on(self, manager: StreamableHTTPSessionManager, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await refuse_method(scope, send)
            return
        scope["headers"] = stripped(scope)
        if may_be_handshake(Headers(scope=scope)):
            handshake = Handshake(receive, send)
            await handshake.peek()
            receive, send = handshake.receive, handshake.send
        await manager.handle_request(scope, receive, send)


class _Body:
    """A request's body, read once and, if need be, handed on as if nobody had looked."""

    __slots__ = ("_read", "_receive", "has_left")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read: list[Message] = []
        self.has_left = False  # the client: nobody waits for an answer any more

    async def whole(self) -> bytes | None:
        """The body; None if it is too large or the client has left."""
        message = await self._receive()
        self._read.append(message)
        if message["type"] == "http.request" and not message.get("more_body"):
            return bytes(message.get("body", b""))
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

    async def left(self) -> None:
        """Wait until the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_left = True


async def _attend(call: asyncio.Task[Any] | None, read: _Body, reply: Reply) -> None:
    """Cancel the call if its client leaves, and until then show proxies now and then that it goes on."""
    leaving = asyncio.create_task(read.left())
    try:
        while not leaving.done():
            await asyncio.wait({leaving}, timeout=PING_SECONDS)
            if not leaving.done():
                await reply.ping()
        if call:
            call.cancel()
    finally:
        leaving.cancel()


def _admin_manager(security: TransportSecuritySettings) -> StreamableHTTPSessionManager:
    from agents.gateway.admin.server import build_admin_server  # with the serializers of the API

    server = build_admin_server()
    return StreamableHTTPSessionManager(server, json_response=False, stateless=True, security_settings=security)


def _security() -> TransportSecuritySettings:
    """Host and Origin checks against DNS rebinding (Streamable HTTP, Security Warning)."""
    public = urlsplit(settings.ASTER_PUBLIC_URL)
    hosts = [public.netloc, *settings.ALLOWED_HOSTS, *(f"{host}:*" for host in settings.ALLOWED_HOSTS)]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[f"{public.scheme}://{public.netloc}"])
