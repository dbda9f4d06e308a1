"""What happens to a task, as the events of A2A: told by the turn that runs here, or read off the rows by whoever comes
later, in another process as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from agents.a2a.writing import Writer
from agents.models import A2aTask
from agents.runtime import turns
from agents.services import a2a_tasks
from agents.services.a2a_tasks import TaskView
from aster.accounts.access import Actor
from aster.threads import in_db_thread

# None now and then, while nothing happens
Events = AsyncGenerator[dict[str, Any] | None, None]
LOOK_SECONDS = 0.5
# Whoever answers notices a stop within a second, in whatever process.
CANCEL_SECONDS = 10.0


async def look(task: A2aTask, actor: Actor, history: int = 0) -> TaskView:
    return await in_db_thread(lambda: a2a_tasks.view_of(a2a_tasks.bring_up_to_date(task, actor), history=history))


async def follow_turn(task: A2aTask, actor: Actor, writer: Writer, history: int) -> Events:
    """Have the message that was just sent answered, and tell what happens. The answer does not need its listener."""
    view = await look(task, actor, history)
    yield writer.sent(view)
    speaking = 0
    async with aclosing(turns.follow(task.conversation, actor=actor)) as events:
        async for event in events:
            if event is None:
                yield None
                continue
            kind, data = event
            if kind == "text":
                # Each entry of the model is a paragraph of the answer.
                gap = "\n\n" if speaking and data["message"] != speaking else ""
                yield writer.answer_update(view, f"{gap}{data['text']}", append=bool(speaking))
                speaking = data["message"]
            elif kind == "call":
                where = f" at {data['server']}" if data["server"] else ""
                yield writer.progress(view, f"Calling {data['title']}{where}.", data["call_id"])
    yield writer.status_update(await look(task, actor))


async def watch(task: A2aTask, actor: Actor, writer: Writer) -> Events:
    """The task as it stands, and what becomes of it until it is answered or waits for the person."""
    view = await look(task, actor, a2a_tasks.MAX_HISTORY)
    yield writer.sent(view)
    heard = time.monotonic()
    while view.is_working:
        await asyncio.sleep(LOOK_SECONDS)
        before, view = view.answer, await look(task, actor)
        if view.answer != before:
            goes_on = bool(before) and view.answer.startswith(before)
            yield writer.answer_update(view, view.answer[len(before) * goes_on :], append=goes_on)
            heard = time.monotonic()
        elif time.monotonic() - heard > turns.SILENCE_SECONDS:
            yield None
            heard = time.monotonic()
    yield writer.status_update(view)


async def wait_for_end(task: A2aTask, actor: Actor) -> None:
    """Give a turn that was asked to stop the time to do it."""
    end = time.monotonic() + CANCEL_SECONDS
    while (await look(task, actor)).is_working and time.monotonic() < end:
        await asyncio.sleep(LOOK_SECONDS / 5)
