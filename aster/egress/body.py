"""How much of an answer Aster takes: a cap on decoded bytes, whatever the peer claims or compresses."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import httpx2

from aster.errors import UpstreamError

MAX_RESPONSE_BYTES = 8 * 1024 * 1024
_STEP = 64 * 1024


class ResponseTooLarge(UpstreamError, httpx2.TransportError):
    """The answer exceeds the cap. Both an UpstreamError and a transport error, so that the MCP SDK treats it as one."""

    code = "response_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The server's answer is larger than {limit / 1048576:g} MiB.", step="http")


class Intake:
    """What one response body goes through: `feed` every chunk from the wire, then `finish`.

    `limit` of None is for event streams that were asked for: endless in total, and each event is bounded by its reader.
    Raises ResponseTooLarge, or httpx2.RemoteProtocolError for an encoding that was not asked for and cannot be undone.
    """

    def __init__(self, headers: httpx2.Headers, *, limit: int | None) -> None:
        self._limit = limit
        self._wire = self._decoded = 0
        encoding = headers.get("content-encoding", "identity").strip().lower() or "identity"
        self.is_encoded = encoding != "identity"
        # We ask for identity. Some servers compress all the same; in an event stream that would hold events back.
        if self.is_encoded and (limit is None or encoding not in ("gzip", "x-gzip", "deflate")):
            raise httpx2.RemoteProtocolError("The server compressed its answer although it was asked not to.")
        self._decoder = _Inflate(raw_allowed=encoding == "deflate") if self.is_encoded else None
        declared = headers.get("content-length", "")
        if limit is not None and declared.isascii() and declared.isdigit() and int(declared) > limit:
            raise ResponseTooLarge(limit)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._wire = self._count(self._wire, chunk)
        if self._decoder is None:
            yield chunk
            return
        for piece in self._decoder.feed(chunk):
            self._decoded = self._count(self._decoded, piece)
            yield piece

    def finish(self) -> None:
        if self._decoder and self._wire and not self._decoder.is_complete:
            raise httpx2.RemoteProtocolError("The server's compressed answer ends too early.")

    def _count(self, so_far: int, chunk: bytes) -> int:
        if self._limit is not None and so_far + len(chunk) > self._limit:
            raise ResponseTooLarge(self._limit)
        return so_far + len(chunk)


class _Inflate:
    """gzip or deflate in pieces of at most 64 KiB, so that a bomb is noticed before it is unpacked."""

    def __init__(self, *, raw_allowed: bool) -> None:
        # RFC 9110 §8.4.1.2: "deflate" means zlib format, but some servers send the raw stream.
        self._raw_allowed = raw_allowed
        self._zlib = zlib.decompressobj(wbits=47)  # 32 + 15: detects gzip and zlib

    @property
    def is_complete(self) -> bool:
        return self._zlib.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._zlib.eof:  # RFC 1952 §2.2: a gzip file is a series of members.
                self._zlib = zlib.decompressobj(wbits=47)
            if piece := self._decompress(data):
                yield piece
            data = self._zlib.unused_data or self._zlib.unconsumed_tail

    def _decompress(self, data: bytes) -> bytes:
        raw_allowed, self._raw_allowed = self._raw_allowed, False
        try:
            return self._zlib.decompress(data, _STEP)
        except zlib.error:
            if not raw_allowed:
                raise httpx2.RemoteProtocolError("The server's compressed answer is damaged.") from None
        self._zlib = zlib.decompressobj(wbits=-15)
        return self._decompress(data)
