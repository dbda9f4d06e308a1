"""The least that is an HTTP client: it sends prepared requests over kept connections and takes the time of each.

The same client measures every way to a tool, so that ratios are those of what is between it and the tool.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True)
class Ask:
    """A prepared request: where it goes, and all of its bytes."""

    host: str
    port: int
    data: bytes
    expects: bytes

    @classmethod
    def post(cls, url: str, body: bytes, headers: dict[str, str], expects: bytes) -> Ask:
        place = urlsplit(url)
        lines = {"Host": place.netloc, "Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        data = f"POST {place.path} HTTP/1.1\r\n{head}\r\n".encode() + body
        return cls(place.hostname or "", place.port or 80, data, expects)


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._done: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._done:
            self._done.set_result(b"%d " % self._parser.get_status_code() + bytes(self._body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(exc or ConnectionError("closed"))

    async def ask(self, data: bytes) -> bytes:
        self._body.clear()
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._done

    def close(self) -> None:
        self._transport.close()


@dataclass(frozen=True)
class Timing:
    """Of many requests: median and 95th percentile in milliseconds, and requests per second."""

    p50: float
    p95: float
    per_second: float


async def load(ask: Ask, *, at_once: int, times: int) -> Timing:
    """Send `ask` `times` times, `at_once` of them at a time. Raises if an answer is not the one that it expects."""
    taken: list[float] = []
    left = iter(range(times))

    async def one_after_the_other() -> None:
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, ask.host, ask.port)
        try:
            for _ in left:
                started = time.perf_counter()
                answer = await connection.ask(ask.data)
                taken.append((time.perf_counter() - started) * 1000)
                if ask.expects not in answer:
                    raise RuntimeError(f"Not what was expected: {answer[:500]!r}")
        finally:
            connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    seconds = time.perf_counter() - started
    return Timing(statistics.median(taken), statistics.quantiles(taken, n=20)[18], len(taken) / seconds)
