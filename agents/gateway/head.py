"""The head of a request as the gateway reads it, once for all requests that repeat it.

A client says the same about itself every time. Only the length of the body and the name of what is called change, and
no length is needed here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_NAME_HEADER, MCP_PROTOCOL_VERSION_HEADER
from starlette.types import Scope

from aster.accounts.authentication import presented_key

MOST_KEPT = 1_000
_NAME = MCP_NAME_HEADER.encode()
_CHANGING = (b"content-length", _NAME)


class Head:
    """What is the same in many requests. Its repr shows nothing of it: it holds a key or token."""

    __slots__ = ("accepts_both", "address", "admitted", "headers", "is_expected", "key", "meta", "method", "version")

    def __init__(self, address: str, headers: Mapping[str, str], *, is_expected: bool) -> None:
        self.address, self.headers = address, headers
        self.key = presented_key(headers)
        # Host, origin and type as they are every day. The SDK's server says what is wrong with others.
        self.is_expected = is_expected
        self.accepts_both = _accepts_both(headers.get("accept", ""))
        self.version = headers.get(MCP_PROTOCOL_VERSION_HEADER, "")
        self.method = headers.get(MCP_METHOD_HEADER, "")
        self.meta: dict[str, Any] | None = None  # what a request in order said last of its client
        self.admitted: Any = None  # what the admission made of it last; it knows for how long that holds


class Heads:
    """Those of a process. `hosts` and `origins` are what the SDK's server allows."""

    def __init__(self, hosts: Collection[str], origins: Collection[str]) -> None:
        self._hosts, self._origins = frozenset(hosts), frozenset(origins)
        self._known: dict[tuple[object, ...], Head] = {}

    def read(self, scope: Scope) -> tuple[Head, str | None]:
        """The head of a request and its Mcp-Name, None if it comes twice or not at all."""
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        lasting = (scope["path"], *[pair for pair in pairs if pair[0] not in _CHANGING])
        head = self._known.get(lasting)
        if head is None:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            head = self._known[lasting] = self._read(scope["path"], pairs)
        names = [pair[1] for pair in pairs if pair[0] == _NAME]
        return head, _text(names[0]) if len(names) == 1 else None

    def _read(self, path: str, pairs: list[tuple[bytes, bytes]]) -> Head:
        """One that came twice is left out: which of them counts is for the SDK to say."""
        names = [name.decode("latin-1") for name, _ in pairs]
        headers = {name: _text(value) for name, (_, value) in zip(names, pairs, strict=True) if names.count(name) == 1}
        return Head(path.rstrip("/"), headers, is_expected=self._is_expected(headers))

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


def _text(value: bytes) -> str:
    return value.strip(b" \t").decode("latin-1")


@lru_cache(maxsize=64)
def _accepts_both(accept: str) -> bool:
    offered = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
    return {"application/json", "text/event-stream"} <= offered
