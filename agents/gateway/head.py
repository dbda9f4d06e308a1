"""The head of a request as the gateway reads it, once for all requests that repeat it.

A client says the same about itself every time. Only the length of the body, the name of what is called, and what
proxies write on the way change, and nothing of that is needed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_NAME_HEADER, MCP_PROTOCOL_VERSION_HEADER
from starlette.types import Scope

from aster.accounts.authentication import presented_key

# A head that nobody repeats is forgotten after that time to twice of it, as what was admitted with it is (leases).
KEPT_SECONDS = 15.0
MOST_KEPT = 1_000
MOST_BYTES = 4_096
_NAME = MCP_NAME_HEADER.encode()
_READ = frozenset(
    {
        *(b"authorization", b"x-api-key", b"host", b"origin", b"content-type", b"accept", b"mcp-session-id"),
        *(MCP_PROTOCOL_VERSION_HEADER.encode(), MCP_METHOD_HEADER.encode()),
    }
)


class Head:
    """What is the same in many requests. Its repr shows nothing of it: it holds a key or token."""

    __slots__ = ("accepts_both", "address", "headers", "is_expected", "key", "lasting", "meta", "method", "version")

    def __init__(
        self, lasting: tuple[Any, ...], address: str, headers: Mapping[str, str], *, is_expected: bool
    ) -> None:
        self.lasting, self.address, self.headers = lasting, address, headers
        self.key = presented_key(headers)
        # Host, origin and type as they are every day. The SDK's server says what is wrong with others.
        self.is_expected = is_expected
        self.accepts_both = _accepts_both(headers.get("accept", "")[:200])
        self.version = headers.get(MCP_PROTOCOL_VERSION_HEADER, "")
        self.method = headers.get(MCP_METHOD_HEADER, "")
        self.meta: dict[str, Any] | None = None  # what a request in order said last of its client


class Heads:
    """Those of one event loop; `close()` when it ends. `hosts` and `origins` are what the SDK's server allows."""

    def __init__(self, hosts: Collection[str], origins: Collection[str]) -> None:
        self._hosts, self._origins = frozenset(hosts), frozenset(origins)
        self._young: dict[tuple[Any, ...], Head] = {}
        self._old: dict[tuple[Any, ...], Head] = {}
        self._turning: asyncio.TimerHandle | None = None

    def read(self, scope: Scope) -> tuple[Head, str | None]:
        """The head of a request and its Mcp-Name, None if it comes twice or not at all."""
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        lasting = (scope["path"], *[pair for pair in pairs if pair[0] in _READ])
        head = self._young.get(lasting)
        if head is None:
            head = self._old.get(lasting)
            if head is None:
                head = self._read(lasting)
            else:
                self.keep(head)
        names = [pair[1] for pair in pairs if pair[0] == _NAME]
        return head, _text(names[0]) if len(names) == 1 else None

    def keep(self, head: Head) -> None:
        """Remember the head of somebody who was let in: others could make up as many as they like."""
        if head.lasting in self._young or _size(head.lasting) > MOST_BYTES:
            return
        if len(self._young) >= MOST_KEPT:
            self._young.clear()
        self._young[head.lasting] = head
        if self._turning is None:
            self._turning = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._turn)

    def _turn(self) -> None:
        self._old, self._young = self._young, {}
        self._turning = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._turn) if self._old else None

    def close(self) -> None:
        if self._turning:
            self._turning.cancel()

    def _read(self, lasting: tuple[Any, ...]) -> Head:
        """One that came twice is left out: which of them counts is for the SDK to say."""
        path, *pairs = lasting
        found, twice = dict[bytes, bytes](), set[bytes]()
        for name, value in pairs:
            if name in found:
                twice.add(name)
            found[name] = value
        headers = {name.decode("latin-1"): _text(value) for name, value in found.items() if name not in twice}
        return Head(lasting, path.rstrip("/"), headers, is_expected=self._is_expected(headers))

    def _is_expected(self, headers: Mapping[str, str]) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        return (
            (host in self._hosts or f"{host.rpartition(':')[0]}:*" in self._hosts)
            and (not origin or origin in self._origins)
            and headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        )


def stripped(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The headers of a request without space around the values: it is no part of them (RFC 9110 §5.5), but httptools
    leaves what follows."""
    return [(name, value.strip(b" \t")) for name, value in scope["headers"]]


def _size(lasting: tuple[Any, ...]) -> int:
    path, *pairs = lasting
    return len(path) + sum(len(name) + len(value) for name, value in pairs)


def _text(value: bytes) -> str:
    return value.strip(b" \t").decode("latin-1")


@lru_cache(maxsize=64)
def _accepts_both(accept: str) -> bool:
    offered = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
    return {"application/json", "text/event-stream"} <= offered
