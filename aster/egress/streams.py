"""Connections of the async clients, straight on asyncio: they cost a third less CPU a request than through anyio.

What is written goes out with the next read, or once it is much: head and body of a request share one system call.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpcore2

# Beyond this, reading stops until somebody takes it, and writing does not wait for the next read.
_HELD = 64 * 1024
# A pool asks each of its idle connections on every request: among a hundred, that many system calls.
_LOOK_AGAIN_SECONDS = 0.005


class AsyncioBackend(httpcore2.AsyncNetworkBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        local = (local_address, 0) if local_address else None
        with _as_connect_errors():
            async with asyncio.timeout(timeout):
                loop = asyncio.get_running_loop()
                transport, protocol = await loop.create_connection(_Inbox, host, port, local_addr=local)
        for option in socket_options or ():
            transport.get_extra_info("socket").setsockopt(*option)
        return _Stream(transport, protocol)


class _Inbox(asyncio.Protocol):
    """What has arrived and nobody has read yet."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.error: Exception | None = None
        self.transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > _HELD and self.transport:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended, self.error = True, self.error or exc
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def writable(self) -> None:
        await self._writable.wait()

    async def arrival(self, timeout: float | None) -> None:
        """Wait for data or the end. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        self._reader = waiting = loop.create_future()
        timer = loop.call_later(timeout, _give_up, waiting) if timeout is not None else None
        try:
            await waiting
        finally:
            self._reader = None
            if timer:
                timer.cancel()

    def take(self, most: int) -> bytes:
        taken = bytes(self.data[:most])
        del self.data[:most]
        if self.transport and not self.ended and len(self.data) <= _HELD and not self.transport.is_reading():
            self.transport.resume_reading()
        return taken

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)


def _give_up(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, transport: asyncio.Transport, inbox: _Inbox) -> None:
        self._transport, self._inbox = transport, inbox
        self._outgoing: list[bytes] = []
        self._outgoing_size = 0
        self._looked_at = 0.0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._flush()
        inbox = self._inbox
        if not inbox.data and not inbox.ended:
            try:
                await inbox.arrival(timeout)
            except TimeoutError:
                raise httpcore2.ReadTimeout() from None
        else:
            await asyncio.sleep(0)  # A peer that never stops talking must not keep the loop to itself.
        if not inbox.data and inbox.error:
            raise httpcore2.ReadError(str(inbox.error)) from inbox.error
        return inbox.take(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._transport.is_closing():
            raise httpcore2.WriteError("The connection is closed.")
        self._outgoing.append(bytes(buffer))
        self._outgoing_size += len(buffer)
        if self._outgoing_size > _HELD:
            self._flush()
            try:
                async with asyncio.timeout(timeout):
                    await self._inbox.writable()
            except TimeoutError:
                raise httpcore2.WriteTimeout() from None

    def _flush(self) -> None:
        if self._outgoing:
            whole, self._outgoing, self._outgoing_size = b"".join(self._outgoing), [], 0
            self._transport.write(whole)

    async def aclose(self) -> None:
        if not self._inbox.ended:
            # Whoever still reads must not take our end for the peer's.
            self._inbox.error = ConnectionAbortedError("closed here")
        self._outgoing.clear()
        self._transport.abort()
        await asyncio.sleep(0)  # asyncio closes the socket in its next round

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        self._flush()
        loop, inbox = asyncio.get_running_loop(), self._inbox
        if inbox.data or inbox.ended:
            # Said in the clear by whoever is on the way. Kept, it would be read as the first words of the TLS session.
            await self.aclose()
            raise httpcore2.ConnectError("The server spoke or closed the connection before the TLS handshake.")
        inbox.transport = None  # until there is the one below which reading is paused
        try:
            with _as_connect_errors():
                async with asyncio.timeout(timeout):
                    secured = await loop.start_tls(
                        self._transport, inbox, ssl_context, server_hostname=server_hostname or ""
                    )
        except (httpcore2.NetworkError, httpcore2.TimeoutException):
            await self.aclose()
            raise
        if secured is None:
            raise httpcore2.ConnectError("The connection was closed during the TLS handshake.")
        inbox.transport = secured
        return _Stream(secured, inbox)

    def _looks_again(self) -> bool:
        return time.monotonic() - self._looked_at >= _LOOK_AGAIN_SECONDS

    def _has_arrived(self) -> bool:
        return self._inbox.ended or bool(self._inbox.data) or self._transport.is_closing()

    def _is_readable(self) -> bool:
        """Also by what the kernel holds and the loop has not come to yet."""
        if self._has_arrived():
            return True
        self._looked_at = time.monotonic()
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))

    def get_extra_info(self, info: str) -> Any:
        match info:
            # Of a connection that nobody uses: it has ended, or the other side says what nobody asked for.
            case "is_readable":  # what httpcore2 asks
                return self._is_readable() if self._looks_again() else self._has_arrived()
            case "is_readable_now":
                return self._is_readable()
            case "has_arrived":  # the same, as far as the loop has heard
                return self._has_arrived()
            case "transport":  # for whoever takes the connection over (`pool`)
                return self._transport
            case "client_addr":
                return self._transport.get_extra_info("sockname")
            case "server_addr":
                return self._transport.get_extra_info("peername")
            case _:
                return self._transport.get_extra_info(info)


@contextmanager
def _as_connect_errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        # The kernel's own timeout has an errno; ours has none.
        if error.errno:
            raise httpcore2.ConnectError(str(error)) from error
        raise httpcore2.ConnectTimeout() from None
    except (OSError, ssl.SSLError) as error:
        raise httpcore2.ConnectError(str(error)) from error
