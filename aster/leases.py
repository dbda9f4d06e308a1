"""What was read from the database and is believed for a moment, so that a hot path need not ask again.

Nothing is believed for longer than a second: a revoked key, a switch or a disconnected account counts on every process
by then, whoever changed it and however. In the process where a change is audited it counts at once (`forget`). What is
in use is read again in the background before its time is over, all of it in one go, so that no call waits for that.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db import transaction

from aster.threads import Grouped, in_db_thread

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
log = logging.getLogger(__name__)

RENEWED_SECONDS = 0.6
BELIEVED_SECONDS = 0.9
# So long after its last use something is still kept fresh, if it is among the last used ones.
KEPT_SECONDS = 15.0
MOST_KEPT = 2_000

_changes = itertools.count(1)
_changed = 0


def forget() -> None:
    """Believe nothing in this process that was read before now."""
    global _changed
    _changed = next(_changes)


def forget_after_commit() -> None:
    transaction.on_commit(forget)


@dataclass(slots=True)
class _Lease(Generic[V]):
    value: V
    read_at: float
    change: int
    used_at: float


class Leased(Generic[K, V]):
    """Values by key. `read` gets the wanted keys, each with the value known so far or None, and gives those there are.

    It runs in a database thread, and may give the known value back where nothing has changed. For one event loop;
    call `close()` when it ends. `clock` in seconds; only tests have another than the process's.
    """

    def __init__(
        self, read: Callable[[Mapping[K, V | None]], Mapping[K, V]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._clock = read, clock
        self._leases: dict[K, _Lease[V]] = {}
        self._missing = Grouped(self._read_missing)
        self._keeper: asyncio.Task[None] | None = None

    def get(self, key: K) -> V | None:
        """What is believed now; None if that has to be asked."""
        lease = self._leases.get(key)
        if lease is None or lease.change != _changed:
            return None
        now = self._clock()
        if now - lease.read_at > BELIEVED_SECONDS:
            return None
        lease.used_at = now
        return lease.value

    async def ask(self, key: K) -> V | None:
        """What is believed, or is read now; None if there is no such thing."""
        value = self.get(key)
        if value is None:
            value = await self._missing(key)
            if self._keeper is None:
                self._keeper = asyncio.get_running_loop().create_task(self._keep())
        return value

    def close(self) -> None:
        if self._keeper:
            self._keeper.cancel()

    def _read_missing(self, keys: list[K]) -> list[V | None]:
        # Not from the leases: what was read before a change may have been put there meanwhile.
        found = self._store(dict.fromkeys(keys))
        return [found.get(key) for key in keys]

    def _store(self, keys: Mapping[K, None]) -> Mapping[K, V]:
        # Whatever changes while this reads counts as changed after it.
        read_at, change = self._clock(), _changed
        known = {key: (lease.value if (lease := self._leases.get(key)) else None) for key in keys}
        found = self._read(known)
        for key in keys:
            if key in found:
                lease = self._leases.get(key)
                used_at = lease.used_at if lease else read_at
                self._leases[key] = _Lease(found[key], read_at, change, used_at)
            else:
                self._leases.pop(key, None)
        return found

    async def _keep(self) -> None:
        try:
            while self._leases:
                await asyncio.sleep(RENEWED_SECONDS)
                await self.renew()
        finally:
            self._keeper = None

    async def renew(self) -> None:
        """One round of what goes on in the background."""
        self._drop_unused()
        try:
            await in_db_thread(self._store, dict.fromkeys(self._leases))
        except Exception:  # the leases run out, and whoever asks next hears why
            log.exception("What the gateway knows could not be read again")

    def _drop_unused(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        leases = list(self._leases.items())  # another thread may add some meanwhile
        by_use = sorted(leases, key=lambda item: item[1].used_at, reverse=True)
        for number, (key, lease) in enumerate(by_use):
            if lease.used_at < oldest or number >= MOST_KEPT:
                self._leases.pop(key, None)
