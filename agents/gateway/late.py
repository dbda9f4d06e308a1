"""An MCP server that is built when it is first asked: what it imports costs memory that many processes never need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from aster.threads import in_waiting_thread


class LateManager:
    """Its session manager runs in a task of its own, from the first `get()` to `aclose()`."""

    def __init__(self, build: Callable[[], StreamableHTTPSessionManager]) -> None:
        self._build = build
        self._running: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[StreamableHTTPSessionManager] | None = None
        self._ended = asyncio.Event()

    async def get(self) -> StreamableHTTPSessionManager:
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(self._ready))
        return await asyncio.shield(self._ready)

    async def aclose(self) -> None:
        self._ended.set()
        if self._running:
            await asyncio.wait({self._running})

    async def _run(self, ready: asyncio.Future[StreamableHTTPSessionManager]) -> None:
        try:
            # Importing takes a while, and the loop has other callers.
            manager = await in_waiting_thread(self._build)
            async with manager.run():
                ready.set_result(manager)
                await self._ended.wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)
            self._ready = None  # whoever asks next tries again
