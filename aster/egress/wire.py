"""One connection that carries requests one after the other, parsed by llhttp: a third of a general client's CPU time.

Head and body of a request go out in one write, and the loop hands an answer straight to whoever waits for it. What is
sent and how much is taken are the rules of the transports (`guard`); `pool` keeps the connections.
"""

from __future__ import annotations

import asyncio
import re
import select
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import lru_cache
from typing import cast

import httptools
import httpx2

from aster.egress.body import MAX_RESPONSE_BYTES, Intake, ResponseTooLarge

_HEAD_BYTES = 100 * 1024
# Beyond this, reading stops until somebody takes what has arrived of a stream.
_HELD = 256 * 1024
_TIMEOUT = re.compile(rb"timeout=(\d{1,4})\b").search
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e]*").fullmatch


def encode_headers(headers: Mapping[str, str]) -> list[bytes]:
    """Header lines as they are sent. Raises httpx2.LocalProtocolError, which quotes nothing: it may be a credential."""
    return [
        _encode_line(name, value) if name == "Authorization" or len(value) > _LONG else _encode_known(name, value)
        for name, value in headers.items()
    ]


def _encode_line(name: str, value: str) -> bytes:
    if not (_NAME(name) and _VALUE(value)):
        raise httpx2.LocalProtocolError("A header or the path of the request is not valid in HTTP.")
    return f"{name}: {value}\r\n".encode("ascii")


# Arguments may be headers too, of any length: not worth remembering.
_LONG = 200
_encode_known = lru_cache(maxsize=4096)(_encode_line)  # most of a call's headers are those of the one before


def _text(raw: bytes) -> str:
    return raw.decode("latin-1").strip()


class Answer:
    """Status and headers of an answer, and its body as it comes. Its repr shows neither: they may hold secrets."""

    __slots__ = (
        "_ended",
        "_first",
        "_held",
        "_intake",
        "_waiting",
        "_wire",
        "body",
        "error",
        "is_stream",
        "raw_headers",
        "status",
    )

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.status = 0
        self.raw_headers: list[tuple[bytes, bytes]] = []  # names in lower case
        self._first: dict[bytes, bytes] = {}
        self.body = bytearray()
        self.is_stream = False
        self.error: Exception | None = None
        self._intake: Intake | None = None
        self._held: deque[bytes] = deque()
        self._ended = False
        self._waiting: asyncio.Future[None] | None = None

    def header(self, name: str) -> str:
        """The first value of a header, named in lower case; empty if there is none."""
        return _text(self._first.get(name.encode(), b""))

    def header_list(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each == name]

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [(_text(name), _text(value)) for name, value in self.raw_headers]

    async def chunks(self) -> AsyncIterator[bytes]:
        """What a stream says, as it arrives. Raises httpx2.TransportError if it breaks off."""
        while True:
            while self._held:
                yield self._held.popleft()
            self._wire.resume()
            if self.error:
                raise self.error
            if self._ended:
                return
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting

    # --- from the wire ---

    def begin(self, limit: int) -> None:
        """The head is complete."""
        self._first = first = dict(reversed(self.raw_headers))
        said_type = first.get(b"content-type", b"").strip().lower()
        self.is_stream = 200 <= self.status < 300 and said_type.startswith(b"text/event-stream")
        if self.is_stream or first.get(b"content-encoding"):
            self._intake = Intake(httpx2.Headers(self.headers), limit=None if self.is_stream else limit)
        elif (length := first.get(b"content-length", b"").strip()).isdigit() and int(length) > limit:
            raise ResponseTooLarge(limit)

    @property
    def has_length(self) -> bool:
        """Whether it says where it ends, before the connection does."""
        return bool(self._first.get(b"content-length") or self._first.get(b"transfer-encoding"))

    @property
    def kept_seconds(self) -> float | None:
        """For how long the server says it keeps the connection afterwards; None if it does not say."""
        said = self._first.get(b"keep-alive")
        found = _TIMEOUT(said) if said else None
        return float(found[1]) if found else None

    def take(self, data: bytes, limit: int) -> None:
        if self._intake is None:
            self.body += data
            if len(self.body) > limit:
                raise ResponseTooLarge(limit)
            return
        for piece in self._intake.feed(data):
            if self.is_stream:
                self._held.append(piece)
            else:
                self.body += piece
        self._wake()

    @property
    def is_full(self) -> bool:
        return self.is_stream and sum(map(len, self._held)) > _HELD

    def end(self, error: Exception | None = None) -> None:
        self._ended, self.error = True, error
        self._wake()

    def _wake(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)


class Wire(asyncio.Protocol):
    """An open connection, for one request at a time. `ask` gives a whole answer, of a stream one that has begun."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._here: asyncio.Future[Answer] | None = None
        self._limit = MAX_RESPONSE_BYTES
        self._unsaid_bytes = 0  # heads, trailers, framing: what has come since the last piece of a body
        self._is_interim = self._keeps_alive = False
        self._ends_with_connection = self._is_paused = False
        self._poll: select.poll | None = None
        self.is_closed = False
        self.is_ready = False  # the last answer was read to its end, and nothing was said beyond it
        self.idle_until = 0.0
        self.promised = 0.0  # seconds for which the server says it keeps an idle connection, less one

    @classmethod
    def over(cls, transport: asyncio.Transport) -> Wire:
        """Take a dialled (and secured) connection over."""
        wire = cls()
        wire._transport = transport
        transport.set_protocol(wire)
        wire.is_closed = transport.is_closing()
        return wire

    async def ask(self, request: bytes, limit: int = MAX_RESPONSE_BYTES) -> Answer:
        """Send a whole request. Raises httpx2.TransportError (ReadError, RemoteProtocolError, ResponseTooLarge)."""
        if self.is_closed or self._transport is None:
            raise httpx2.WriteError("The connection is closed.")
        self._answer, self._limit, self._unsaid_bytes = Answer(self), limit, 0
        self.is_ready = False
        self._here = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._here

    def close(self) -> None:
        self.is_closed = True
        if self._transport:
            self._transport.abort()

    def has_spoken(self) -> bool:
        """Of a connection nobody uses: it has ended, or says what nobody asked for; also what the loop has not seen."""
        if self.is_closed or self._transport is None or self._transport.is_closing():
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def resume(self) -> None:
        if self._is_paused and self._transport and not self.is_closed:
            self._is_paused = False
            self._transport.resume_reading()

    # --- asyncio.Protocol ---

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody has asked
            self.close()
            return
        self._unsaid_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._unsaid_bytes > _HEAD_BYTES:
                raise httpx2.RemoteProtocolError("The head of the answer is too large.")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # What our own callbacks raise comes wrapped.
            cause = error.__context__ if isinstance(error.__context__, httpx2.TransportError) else None
            self._fail(cause or httpx2.RemoteProtocolError("The answer is not valid HTTP."))
        except httpx2.TransportError as error:
            self._fail(error)
        if self._answer and self._answer.is_full and self._transport and not self._is_paused and not self.is_closed:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        return None  # connection_lost follows

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._answer is None:
            return
        if self._ends_with_connection and exc is None:
            self._finish()
        else:
            self._fail(httpx2.ReadError("The server closed the connection without an answer."))

    # --- httptools ---

    def on_message_begin(self) -> None:
        if self._answer is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer:
            self._answer.raw_headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        answer = self._answer
        if answer is None:
            return
        answer.status = self._parser.get_status_code()
        self._is_interim = 100 <= answer.status < 200
        if self._is_interim:
            answer.raw_headers.clear()
            return
        self._unsaid_bytes = 0
        answer.begin(self._limit)
        self._keeps_alive = self._parser.should_keep_alive()
        if (said := answer.kept_seconds) is not None:
            self.promised = max(0.5, said - 1)
        self._ends_with_connection = not answer.has_length and answer.status not in (204, 304)
        if answer.is_stream:
            self._arrived()

    def on_body(self, body: bytes) -> None:
        self._unsaid_bytes = 0
        if self._answer:
            self._answer.take(body, self._limit)

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
        elif self._answer:
            self._finish()

    def _finish(self) -> None:
        answer, self._answer = cast(Answer, self._answer), None
        try:
            if answer._intake:
                answer._intake.finish()
        except httpx2.TransportError as error:
            self._answer = answer
            self._fail(error)
            return
        self.is_ready = self._keeps_alive and not self._ends_with_connection and self._is_said()
        answer.end()
        self._arrived(answer)

    def _is_said(self) -> bool:
        """Whether the request went out whole: a server that answers before that may take the rest for another one."""
        transport = None if self.is_closed else self._transport
        return transport is not None and not transport.get_write_buffer_size()

    def _arrived(self, answer: Answer | None = None) -> None:
        if self._here and not self._here.done():
            self._here.set_result(answer or cast(Answer, self._answer))

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        self.close()
        if self._here and not self._here.done():
            self._here.set_exception(error)
        elif answer:
            answer.end(error)


def as_request(method: str, target: bytes, host: bytes, lines: Iterable[bytes], content: bytes) -> bytes:
    """A whole HTTP/1.1 request; `lines` are blocks of header lines."""
    return b"".join(
        [
            b"%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Aster\r\nAccept-Encoding: identity\r\nContent-Length: %d\r\n"
            % (method.encode("ascii"), target, host, len(content)),
            *lines,
            b"\r\n",
            content,
        ]
    )
