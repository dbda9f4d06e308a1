"""A bound on the total time of sync requests, also against a peer that sends one byte just before every timeout."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import httpcore2
import httpx2

_SLICE = 64 * 1024


class DeadlineExceeded(httpx2.ReadTimeout):
    """The whole request took longer than the `deadline()` around it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The server did not answer within {seconds:g} s.")
        self.seconds = seconds


class _Deadline(NamedTuple):
    at: float  # time.monotonic()
    seconds: float


_current: ContextVar[_Deadline | None] = ContextVar("egress_deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound everything that `client()` does inside: lookup, dial, TLS, headers and body. Raises DeadlineExceeded.

    Of nested deadlines the earlier one counts. Async requests are bounded by `asyncio.timeout` instead.
    """
    outer, inner = _current.get(), _Deadline(time.monotonic() + seconds, seconds)
    token = _current.set(min(outer, inner) if outer else inner)
    try:
        yield
    finally:
        _current.reset(token)


def clip(timeout: float | None) -> float | None:
    """`timeout`, or what is left until the deadline if that is less; DeadlineExceeded if nothing is left."""
    current = _current.get()
    if current is None:
        return timeout
    left = current.at - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(current.seconds)
    return left if timeout is None else min(timeout, left)


@contextmanager
def within_deadline() -> Iterator[None]:
    """Name the deadline when it, and not the step's own timeout, was what ended the step."""
    try:
        yield
    except httpcore2.TimeoutException:
        current = _current.get()
        if current and time.monotonic() > current.at - 0.005:  # poll() counts in milliseconds
            raise DeadlineExceeded(current.seconds) from None
        raise


class DeadlineStream(httpcore2.NetworkStream):
    """Every wait on the socket ends at the deadline of whoever waits; pooled streams outlive single deadlines."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with within_deadline():
            return self._stream.read(max_bytes, clip(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with within_deadline():
            # In slices, because the stream below starts its timeout anew after every partial send.
            for start in range(0, len(buffer), _SLICE):
                self._stream.write(buffer[start : start + _SLICE], clip(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        with within_deadline():
            try:
                return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, clip(timeout)))
            except DeadlineExceeded:
                self.close()
                raise

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
