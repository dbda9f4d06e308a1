"""Kept connections of a process's data plane: one POST after the other, at the price of little more than the wire.

A connection serves one lane only (a server with one person's credentials): what a confused server says on it can then
reach nobody else. What may be dialled is judged where all egress is judged (`guard`, `addresses`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from types import TracebackType

import httpcore2
import httpx2

from aster.egress.addresses import Policy, Resolver, check_target, resolve_with_system
from aster.egress.body import MAX_RESPONSE_BYTES
from aster.egress.guard import AsyncGuardedBackend, tls_context, translated
from aster.egress.streams import AsyncioBackend
from aster.egress.wire import Answer, Wire, as_request, encode_headers

CONNECT_SECONDS = 10.0
# Unless a server promises more. Many close an idle connection after five seconds; what is sent at that moment is lost.
KEEPALIVE_SECONDS = 4.0
MOST_KEEPALIVE_SECONDS = 30.0
# Of one lane; whoever comes then waits for a connection to become free.
MAX_PER_LANE = 200
MAX_IDLE = 500

_pools: dict[asyncio.AbstractEventLoop, Pool] = {}


class Pool:
    """For one event loop. `policy` None means the settings, read for every request."""

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        resolver: Resolver = resolve_with_system,
        connector: httpcore2.AsyncNetworkBackend | None = None,
        most_per_lane: int = MAX_PER_LANE,
        most_idle: int = MAX_IDLE,
    ) -> None:
        self._policy = policy
        self._most_per_lane, self._most_idle = most_per_lane, most_idle
        self._backend = AsyncGuardedBackend(policy, resolver, connector or AsyncioBackend())
        self._lanes: dict[tuple[Hashable, Hashable], _Lane] = {}
        self._idle = 0
        self._closed = False

    def post(
        self, url: str, content: bytes, headers: Mapping[str, str], *, lane: Hashable = None, limit: int | None = None
    ) -> Exchange:
        """`async with pool.post(…) as answer`: send one request. A redirect is an answer like others.

        Connections of a `lane` are kept for it; without a lane none is. Whoever asks bounds the time: leaving the block
        before the answer has ended closes the connection. Raises httpx2.TransportError (see `explain`), for a refused
        address one that is also a ForbiddenAddress.
        """
        return Exchange(self, url, content, headers, lane, limit or MAX_RESPONSE_BYTES)

    def take_idle(self, place: _Place, lane: Hashable) -> tuple[_Lane, Wire] | None:
        """What take() gives, if it is there."""
        found = self._lanes.get((place.origin, lane))
        if found is None or not found.idle or found.busy >= found.most:
            return None
        wire = self._idle_of(found)
        if wire is None:
            self._forget_unused(found)
            return None
        found.busy += 1
        return found, wire

    async def take(self, place: _Place, lane: Hashable) -> tuple[_Lane, Wire]:
        key = (place.origin, lane)
        found = self._lanes.get(key)
        if found is None:
            found = self._lanes[key] = _Lane(key, self._most_per_lane)
        try:
            await found.enter()
        except BaseException:
            self._forget_unused(found)
            raise
        if wire := self._idle_of(found):
            return found, wire
        try:
            return found, await self._dial(place)
        except BaseException:
            self.give(found, None)
            raise

    def _idle_of(self, lane: _Lane) -> Wire | None:
        """The connection that was used last, if it is still there."""
        while lane.idle:
            wire = lane.idle.pop()
            self._idle -= 1
            if time.monotonic() < wire.idle_until and not wire.has_spoken():
                return wire
            wire.close()
        return None

    def give(self, lane: _Lane, wire: Wire | None) -> None:
        """Take a connection back; one that cannot carry another request is closed."""
        if self._idle >= self._most_idle:
            self._drop_stale()
        lane.leave()
        if wire is None:
            pass
        elif (
            lane.is_kept and wire.is_ready and not wire.is_closed and not self._closed and self._idle < self._most_idle
        ):
            kept = min(wire.promised or KEEPALIVE_SECONDS, MOST_KEEPALIVE_SECONDS)
            wire.idle_until = time.monotonic() + kept
            lane.idle.append(wire)
            self._idle += 1
        else:
            wire.close()
        self._forget_unused(lane)

    def _drop_stale(self) -> None:
        now = time.monotonic()
        for lane in list(self._lanes.values()):
            while lane.idle and (lane.idle[0].idle_until < now or lane.idle[0].is_closed):
                lane.idle.popleft().close()
                self._idle -= 1
            self._forget_unused(lane)

    def _forget_unused(self, lane: _Lane) -> None:
        if not lane.idle and not lane.busy and self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]

    async def _dial(self, place: _Place) -> Wire:
        scheme, host, port = place.origin
        ends = time.monotonic() + CONNECT_SECONDS
        stream = await self._backend.connect_tcp(host, port, timeout=CONNECT_SECONDS)
        if scheme == "https":
            stream = await stream.start_tls(tls_context(), host, timeout=max(0.0, ends - time.monotonic()))
        # Of TLS only what it has opened: session tickets come unasked (RFC 8446 §4.6.1).
        if stream.get_extra_info("has_arrived" if scheme == "https" else "is_readable"):
            await stream.aclose()
            raise httpcore2.RemoteProtocolError("The server spoke before it was asked, or closed the connection.")
        return Wire.over(stream.get_extra_info("transport"))

    async def aclose(self) -> None:
        self._closed = True
        for lane in self._lanes.values():
            while lane.idle:
                lane.idle.pop().close()
        self._idle = 0
        await asyncio.sleep(0)  # asyncio closes sockets in its next round


class _Lane:
    """The connections of one origin and one set of credentials: idle ones, how many are out, who waits for one."""

    __slots__ = ("busy", "idle", "key", "most", "waiting")

    def __init__(self, key: tuple[Hashable, Hashable], most: int) -> None:
        self.key, self.most = key, most
        self.idle: deque[Wire] = deque()
        self.busy = 0
        self.waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_kept(self) -> bool:
        return self.key[1] is not None

    async def enter(self) -> None:
        """Take a place among the busy ones. Whoever waited longest gets the one that becomes free."""
        if self.busy < self.most:
            self.busy += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # it was handed over to nobody
            raise

    def leave(self) -> None:
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)  # the place passes on
                return
        self.busy -= 1


class Exchange:
    """One request on a connection of the pool, for the length of an `async with`."""

    __slots__ = ("_content", "_headers", "_lane", "_lane_key", "_limit", "_pool", "_url", "_wire")

    def __init__(
        self, pool: Pool, url: str, content: bytes, headers: Mapping[str, str], lane: Hashable, limit: int
    ) -> None:
        self._pool, self._url, self._content, self._headers = pool, url, content, headers
        self._lane_key, self._limit = lane, limit
        self._lane: _Lane | None = None
        self._wire: Wire | None = None

    async def __aenter__(self) -> Answer:
        with translated:
            place = _place_of(self._url, self._pool._policy or Policy.from_settings())
            # Built before anything is dialled: a header that is not valid stops here.
            lines = encode_headers(self._headers)
            request = as_request("POST", place.target, place.host, lines, self._content)
            taken = self._pool.take_idle(place, self._lane_key) or await self._pool.take(place, self._lane_key)
            self._lane, self._wire = taken
            try:
                return await self._wire.ask(request, self._limit)
            except BaseException:
                self._end()
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            self._pool.give(lane, self._wire)


class _Place:
    """Where a URL leads, judged once: a pure function of URL and policy. Names are looked up when dialling."""

    __slots__ = ("host", "origin", "target")

    def __init__(self, url: str, policy: Policy) -> None:
        parsed = httpx2.URL(url)
        self.origin = (parsed.scheme, *check_target(parsed, policy))
        self.target, self.host = parsed.raw_path, parsed.netloc


@lru_cache(maxsize=1024)
def _place_of(url: str, policy: Policy) -> _Place:
    return _Place(url, policy)


@asynccontextmanager
async def keep_pool(*, policy: Policy | None = None) -> AsyncIterator[None]:
    """Make one Pool the `kept_pool()` of the running loop; wrap the loop's whole life in it."""
    loop = asyncio.get_running_loop()
    if loop in _pools:
        yield
        return
    _pools[loop] = Pool(policy=policy)
    try:
        yield
    finally:
        await _pools.pop(loop).aclose()


def kept_pool() -> Pool | None:
    """The pool kept for the running loop; without one, a Pool of one's own has to be closed."""
    return _pools.get(asyncio.get_running_loop())
