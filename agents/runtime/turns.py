"""A turn that goes on when whoever asked for it goes away: a task of its own, which listeners follow.

`follow` yields the events; `as_stream` is the same as server-sent events (WHATWG HTML §9.2), for pages and the API.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from agents.models import Conversation
from agents.runtime.chat import answer
from aster.accounts.access import Actor

Event = tuple[str, dict[str, Any]]
# Proxies give up on a stream that is silent for a minute.
SILENCE_SECONDS = 15.0
# What holds a task is not the loop (asyncio.create_task): without these it could be collected while it runs.
_running = set[asyncio.Task[None]]()


async def follow(conversation: Conversation, *, actor: Actor) -> AsyncGenerator[Event | None, None]:
    """Answer the message that was just added, and yield what happens; None now and then while nothing does.

    The turn has begun when the first event is there: `conversation`, with its id.
    """
    queue = asyncio.Queue[Event]()
    told = answer(conversation, actor=actor, on_event=lambda kind, data: queue.put_nowait((kind, data)))
    task = asyncio.create_task(told)
    _running.add(task)
    task.add_done_callback(_running.discard)
    kind = "conversation"
    yield kind, {"id": conversation.pk}
    while kind != "end":
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                kind, data = await queue.get()
        except TimeoutError:
            if task.done() and queue.empty():
                break
            yield None
        else:
            yield kind, data
    await task


async def begin(conversation: Conversation, *, actor: Actor) -> None:
    """Have the message answered by a task that nobody waits for; the rows will tell."""
    async with aclosing(follow(conversation, actor=actor)) as events:
        await anext(events)


async def as_stream(conversation: Conversation, *, actor: Actor) -> AsyncGenerator[bytes, None]:
    """The turn as the body of a `text/event-stream`."""
    async with aclosing(follow(conversation, actor=actor)) as events:
        async for event in events:
            yield _encode(*event) if event else b": still there\n\n"


async def to_end(conversation: Conversation, *, actor: Actor) -> Event:
    """Answer, and return the `end` event; for those who want no stream."""
    async with aclosing(follow(conversation, actor=actor)) as events:
        last = [event async for event in events if event][-1]
    return last


def _encode(kind: str, data: dict[str, Any]) -> bytes:
    # JSON escapes line breaks, so one data line is enough.
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
