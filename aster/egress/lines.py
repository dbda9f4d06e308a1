"""One kept connection for one request after the other: less than half the CPU time of a client and its pool.

For whoever asks few addresses very often, as the background refresh does. What may be dialled, what is sent and how
much is taken are the rules of the transports (`guard`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h11
import httpcore2
import httpx2

from aster.egress.addresses import Policy, Resolver, check_target, resolve_with_system
from aster.egress.body import MAX_RESPONSE_BYTES, Intake, ResponseTooLarge
from aster.egress.clients import USER_AGENT
from aster.egress.deadline import DeadlineExceeded
from aster.egress.guard import AsyncGuardedBackend, tls_context, translated
from aster.egress.streams import AsyncioBackend

KEEPALIVE_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_CHUNK = 64 * 1024
_HEAD_BYTES = 100 * 1024


@dataclass(frozen=True)
class Reply:
    """A whole answer. It may hold secrets, so a repr shows neither headers nor body."""

    status: int
    headers: httpx2.Headers = field(repr=False)
    body: bytes = field(repr=False)


class AsyncLine:
    """For one task at a time. 10 s to connect at most. `policy` None means the settings."""

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        resolver: Resolver = resolve_with_system,
        connector: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        self._policy = policy
        self._backend = AsyncGuardedBackend(policy, resolver, connector or AsyncioBackend())
        self._wire: _Wire | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: object, where: TracebackType | None) -> None:
        await self._close()

    async def exchange(
        self,
        method: str,
        url: httpx2.URL,
        *,
        headers: Mapping[str, str],
        content: bytes = b"",
        limit: int = MAX_RESPONSE_BYTES,
        seconds: float = 15.0,
    ) -> Reply:
        """One request and its answer, of at most `limit` bytes, within `seconds`. A redirect is an answer like others.

        What has arrived when the time is over still counts: it may be the only copy of what the other side gave away.
        Raises httpx2.TransportError (see `explain`), for a refused address one that is also a ForbiddenAddress.
        """
        ends = time.monotonic() + seconds
        with translated, _h11_errors():
            origin = (url.scheme, *check_target(url, self._policy or Policy.from_settings()))
            # Built before anything is dialled: a header that is not valid stops here.
            head = h11.Request(method=method, target=url.raw_path, headers=_head(url, headers, content))
            wire = await self._connect(origin, min(seconds, _CONNECT_SECONDS))
            try:
                await wire.send(head, content, ends)
                reply = await wire.receive(limit, ends)
            except (httpcore2.ReadTimeout, httpcore2.WriteTimeout):
                await self._close()
                if time.monotonic() < ends:
                    raise
                raise DeadlineExceeded(seconds) from None
            except BaseException:
                await self._close()
                raise
            if not wire.is_ready_again():
                await self._close()
            return reply

    async def _connect(self, origin: tuple[str, str, int], seconds: float) -> _Wire:
        if self._wire and self._wire.origin == origin and not self._wire.has_ended():
            return self._wire
        await self._close()
        (scheme, host, port), ends = origin, time.monotonic() + seconds
        stream = await self._backend.connect_tcp(host, port, timeout=seconds)
        if scheme == "https":
            stream = await stream.start_tls(tls_context(), host, timeout=_left(ends))
        self._wire = _Wire(origin, stream)
        return self._wire

    async def _close(self) -> None:
        if self._wire:
            wire, self._wire = self._wire, None
            await wire.stream.aclose()


class _Wire:
    """An open connection. h11 knows what HTTP/1.1 allows when; here bytes are carried to it and from it."""

    def __init__(self, origin: tuple[str, str, int], stream: httpcore2.AsyncNetworkStream) -> None:
        self.origin, self.stream = origin, stream
        self._http = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        self._idle_until = math.inf
        self._allowance = 0

    async def send(self, head: h11.Request, content: bytes, ends: float) -> None:
        parts = (head, h11.Data(data=content), h11.EndOfMessage())
        sent = b"".join([self._http.send(part) or b"" for part in parts])
        # A server may answer and close before it has read everything: its answer counts.
        with suppress(httpcore2.WriteError):
            await self.stream.write(sent, timeout=_left(ends))

    async def receive(self, limit: int, ends: float) -> Reply:
        self._allowance = limit + 2 * _HEAD_BYTES
        while not isinstance(head := await self._next_event(limit, ends), h11.Response):
            pass  # 1xx
        headers, body = httpx2.Headers(head.headers.raw_items()), bytearray()
        intake = Intake(headers, limit=limit)
        while isinstance(part := await self._next_event(limit, ends), h11.Data):
            for piece in intake.feed(bytes(part.data)):
                body += piece
        intake.finish()
        return Reply(head.status_code, headers, bytes(body))

    async def _next_event(self, limit: int, ends: float) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self.stream.read(_CHUNK, timeout=_left(ends))
            # Announcements and framing count too: nobody may talk for ever without saying anything.
            self._allowance -= len(data)
            if self._allowance < 0:
                raise ResponseTooLarge(limit)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise httpcore2.RemoteProtocolError("The server closed the connection without an answer.")
            self._http.receive_data(data)
        return event

    def is_ready_again(self) -> bool:
        """Whether the connection can carry another request: both sides are done, and nothing was said beyond that."""
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if not done or self._http.trailing_data != (b"", False):
            return False
        self._http.start_next_cycle()
        self._idle_until = time.monotonic() + KEEPALIVE_SECONDS
        return True

    def has_ended(self) -> bool:
        # Readable while nobody asks: closed, or an answer to nothing.
        return time.monotonic() > self._idle_until or bool(self.stream.get_extra_info("is_readable_now"))


def _left(ends: float) -> float:
    return max(0.0, ends - time.monotonic())


def _head(url: httpx2.URL, headers: Mapping[str, str], content: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.netloc),
        (b"User-Agent", USER_AGENT.encode()),
        (b"Accept-Encoding", b"identity"),
        (b"Content-Length", b"%d" % len(content)),
        *((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()),
    ]


@contextmanager
def _h11_errors() -> Iterator[None]:
    try:
        yield
    except h11.RemoteProtocolError as error:
        raise httpcore2.RemoteProtocolError(str(error)) from None
    except (h11.LocalProtocolError, UnicodeEncodeError):
        # Their words quote what is wrong, and that may be a credential.
        raise httpcore2.LocalProtocolError from None
