"""What it takes to reach one MCP server, as a value that services build from the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mcp.server.lowlevel.server import Server

from aster.errors import UpstreamError

TransportName = Literal["streamable_http", "sse", "stdio", "connector"]
Era = Literal["", "modern", "legacy"]

# token(None) gives the access token to use; token(rejected) is asked once after a 401 and gives another one, or None.
TokenSource = Callable[[str | None], Awaitable[str | None]]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One MCP server and the credentials to use there. Its repr shows neither credentials nor addresses.

    `era` and `discover` are what an earlier `Session` found; with them a modern server is called without any
    negotiation. An empty `era` means: ask. `timeout` is in seconds and bounds each step (connect, list, call) as a
    whole. `retry_attempts` are extra tries of steps that may be repeated. `url` names the connector for transport
    `connector`.
    """

    transport: TransportName
    key: str = ""
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: TokenSource | None = field(default=None, repr=False)
    command: str = field(default="", repr=False)
    args: Sequence[str] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str = field(default="", repr=False)
    timeout: float = 30.0
    retry_attempts: int = 0
    era: Era = ""
    discover: Mapping[str, Any] | None = field(default=None, repr=False)
    # Kept connections are shared by calls of one lane, a server with one set of credentials; None: none is kept
    lane: Hashable = field(default=None, repr=False)

    @property
    def costs_to_open(self) -> bool:
        """Whether a session there holds more than kept connections do: a handshake, a stream, a process."""
        return self.era != "modern" or self.transport != "streamable_http"

    @property
    def has_credentials(self) -> bool:
        return bool(self.headers) or self.token is not None


ConnectorResolver = Callable[[Target], Server[Any]]
_resolvers: list[ConnectorResolver] = []


def register_connector_resolver(resolver: ConnectorResolver) -> None:
    """Say who builds the in-process server of a `connector` target; the last one registered counts."""
    _resolvers[:] = [resolver]


def resolve_connector(target: Target) -> Server[Any]:
    if not _resolvers:
        raise UpstreamError("No connectors are installed.", step="dial")
    return _resolvers[0](target)
