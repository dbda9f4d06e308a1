"""The clients everybody uses. None of them follows redirects, reads proxy settings or shares cookies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2

from aster.egress.addresses import Policy
from aster.egress.guard import AsyncEgressTransport, EgressTransport
from aster.egress.pool import keep_pool

USER_AGENT = "Aster"
TIMEOUT = httpx2.Timeout(15, connect=10)
# Tools may take their time to answer; between two events of a stream a minute or two of silence is normal.
ASYNC_TIMEOUT = httpx2.Timeout(15, connect=10, read=120)

_clients: dict[Policy | None, httpx2.Client] = {}
_pools: dict[asyncio.AbstractEventLoop, AsyncEgressTransport] = {}
# A forked worker must not write into its parent's connections.
os.register_at_fork(after_in_child=_clients.clear)


def client(*, policy: Policy | None = None) -> httpx2.Client:
    """The process-wide sync client; thread-safe, never closed. 10 s to connect, 15 s between two reads.

    Raises httpx2.TransportError (see `explain`), for a refused address one that is also a ForbiddenAddress.
    `policy` None means the settings.
    """
    return _clients.get(policy) or _clients.setdefault(policy, _build_client(policy))


def _build_client(policy: Policy | None) -> httpx2.Client:
    return httpx2.Client(
        transport=EgressTransport(policy=policy),
        headers={"User-Agent": USER_AGENT},
        cookies=_no_cookies(),
        timeout=TIMEOUT,
        follow_redirects=False,
        trust_env=False,
    )


def _no_cookies() -> CookieJar:
    """For clients that all tenants share: a cookie set for one must not be sent for another."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


@asynccontextmanager
async def async_client(
    *,
    headers: Mapping[str, str] | None = None,
    auth: httpx2.Auth | None = None,
    timeout: httpx2.Timeout = ASYNC_TIMEOUT,
    policy: Policy | None = None,
    shared: bool = False,
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of one's own (headers, auth, cookies) over the pool kept for the running loop, if there is one.

    One that is `shared` by several tenants takes no cookies.
    Without a kept pool, or with a `policy` of its own, its connections are closed at exit.
    """
    kept = _pools.get(asyncio.get_running_loop()) if policy is None else None
    async with httpx2.AsyncClient(
        transport=_Borrowed(kept) if kept else AsyncEgressTransport(policy=policy),
        headers={"User-Agent": USER_AGENT, **(headers or {})},
        auth=auth,
        cookies=_no_cookies() if shared else None,
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
    ) as opened:
        yield opened


@asynccontextmanager
async def keep_async_pool(*, policy: Policy | None = None) -> AsyncIterator[None]:
    """Share one connection pool among all `async_client()` of the running loop, and make one `Pool` its `kept_pool()`.

    Wrap the loop's whole life in it. Nested in another one for the same loop, it leaves the outer pool in charge.
    """
    loop = asyncio.get_running_loop()
    if loop in _pools:
        yield
        return
    _pools[loop] = AsyncEgressTransport(policy=policy)
    try:
        async with keep_pool(policy=policy):
            yield
    finally:
        await _pools.pop(loop).aclose()


class _Borrowed(httpx2.AsyncBaseTransport):
    """A kept transport in the hands of one client: closing the client leaves it open."""

    def __init__(self, kept: AsyncEgressTransport) -> None:
        self._kept = kept

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._kept.handle_async_request(request)
