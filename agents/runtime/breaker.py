"""Servers that do not answer are left alone for a while, so that nobody waits for their timeouts one after the other.

Each process learns for itself: what one cannot reach, another may. Changing the server makes everybody try again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from aster.errors import UpstreamError
from integrations.models import McpServer

FAILURES = 5
REST_SECONDS = 15.0
LONGEST_REST = 240.0
_UNREACHED = frozenset({"dial", "http"})


@dataclass
class _Circuit:
    version: object
    failures: int = 0
    rests_until: float = 0.0
    is_tried: bool = False


class Breaker:
    """`clock` in seconds; only tests have another than the process's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._circuits: dict[int, _Circuit] = {}

    def watch(self, server: McpServer) -> Watch:
        """Around everything that asks `server`. After five failures in a row it is left alone, at first for 15 seconds.

        Then one caller tries; meanwhile, and if that fails, the others go on being refused. Raises UpstreamError with
        the code `server_resting`; nothing was sent then.
        """
        return Watch(self, server)

    def require_awake(self, server: McpServer) -> None:
        """Raise what watch() would, without asking the server: for checks before anything else is done for a call."""
        circuit = self._circuits.get(server.pk)
        if circuit and circuit.version == server.updated_at and self._is_resting(circuit):
            raise self._resting(server, circuit)

    def _enter(self, server: McpServer) -> _Circuit:
        circuit = self._circuits.get(server.pk)
        if circuit is None or circuit.version != server.updated_at:
            circuit = self._circuits[server.pk] = _Circuit(server.updated_at)
        if self._is_resting(circuit):
            raise self._resting(server, circuit)
        circuit.is_tried = circuit.failures >= FAILURES
        return circuit

    def _is_resting(self, circuit: _Circuit) -> bool:
        return circuit.failures >= FAILURES and (circuit.is_tried or self._clock() < circuit.rests_until)

    def _judge(self, circuit: _Circuit, *, is_away: bool) -> None:
        circuit.failures = circuit.failures + 1 if is_away else 0
        if circuit.failures >= FAILURES:
            rest = min(REST_SECONDS * 2 ** (circuit.failures - FAILURES), LONGEST_REST)
            circuit.rests_until = self._clock() + rest

    def _resting(self, server: McpServer, circuit: _Circuit) -> UpstreamError:
        left = max(1, round(circuit.rests_until - self._clock()))
        return UpstreamError(
            f"{server} has not answered {circuit.failures} times in a row. Aster tries it again in {left} s.",
            step="dial", code="server_resting", retryable=True, hint="An admin can find out why on the server's page.",
        )  # fmt: skip


class Watch:
    """One use of a server, for the length of a `with`: see Breaker.watch()."""

    __slots__ = ("_breaker", "_circuit", "_is_trial", "_server")

    def __init__(self, breaker: Breaker, server: McpServer) -> None:
        self._breaker, self._server = breaker, server

    def __enter__(self) -> None:
        self._circuit = self._breaker._enter(self._server)
        self._is_trial = self._circuit.failures >= FAILURES

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None or isinstance(error, UpstreamError):
            self._breaker._judge(self._circuit, is_away=error is not None and _says_nothing(error))
        if self._is_trial:
            self._circuit.is_tried = False


def _says_nothing(error: UpstreamError) -> bool:
    """Whether the server is away or hangs. A tool that fails, or a call that is refused, is an answer."""
    return error.code == UpstreamError.TIMEOUT or (error.step in _UNREACHED and error.retryable)


breaker = Breaker()
