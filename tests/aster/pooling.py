"""Pools for the length of a test, and what is asked over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

from aster.egress import Pool
from tests.aster.byte_server import ByteServer
from tests.aster.test_egress import DEBUG

Result = TypeVar("Result")
Run = Callable[[Coroutine[Any, Any, Result]], Result]
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
STREAM = HEAD + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


_opened: list[Pool] = []


def a_pool(**options: Any) -> Pool:
    _opened.append(Pool(**options))
    return _opened[-1]


async def closing_pools(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return await asyncio.wait_for(work, 20)
    finally:
        while _opened:
            await _opened.pop().aclose()
        await asyncio.sleep(0)


async def ask(pool: Pool, server: ByteServer, lane: Hashable = "one", **options: Any) -> bytes:
    async with pool.post(server.url, b"{}", {"X-A": "b"}, lane=lane, **options) as answer:
        return bytes(answer.body)


async def ask_once(server: ByteServer, **options: Any) -> tuple[int, bytes]:
    async with a_pool(policy=DEBUG).post(server.url, b"{}", {}, lane="one", **options) as answer:
        return answer.status, bytes(answer.body)


async def in_thread(wait: Callable[..., Any]) -> bool:
    return bool(await asyncio.to_thread(wait, timeout=5))
