"""A scheduled run: an agent's turn for a person who is not there."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from agents.models import Author, Conversation, MessageState, RunStatus, TaskRun
from agents.runtime.chat import answer
from agents.services import conversations, schedules
from agents.services.approvals import ApprovalRequired
from agents.services.notices import tell_of_failure
from aster.accounts.access import Actor
from aster.egress import keep_async_pool
from aster.errors import AsterError, ConnectionRequired

logger = logging.getLogger(__name__)

_STOPS = frozenset({ConnectionRequired.code})


def run_task(pk: int) -> None:
    """Run the task if it is due and nobody else does. How it went is in its runs."""
    run = schedules.begin_run(pk)
    if run is None:
        return
    actor = schedules.actor_of(run.task)
    if actor is None:
        _end(run, f"{run.task.created_by} is no longer a member of {run.task.organization}.", stops=True)
        return
    try:
        conversation = conversations.start_conversation(run.task.agent, actor=actor, input=run.task.input)
        TaskRun.objects.filter(pk=run.pk).update(conversation=conversation)
        run.conversation = conversation
        conversations.add_message(conversation, run.task.prompt, actor=actor)
        asyncio.run(_answer(conversation, actor))
    except AsterError as error:
        _end(run, error.message, stops=error.code in _STOPS)
    except Exception:
        logger.exception("Run %s of a scheduled task failed", run.pk)
        _end(run, "Aster failed; this is a bug. The log says more.")
    else:
        _judge(run, conversation)


async def _answer(conversation: Conversation, actor: Actor) -> None:
    async with keep_async_pool():
        await answer(conversation, actor=actor, on_event=_nobody_watches)


def _nobody_watches(kind: str, data: dict[str, Any]) -> None:
    """What happens is in the conversation."""


def _judge(run: TaskRun, conversation: Conversation) -> None:
    """How the turn went, from what it left behind."""
    said = conversation.messages.filter(author=Author.MODEL).order_by("-id").first()
    calls = [each.facts for each in conversation.messages.filter(author=Author.TOOL)]
    if disconnected := next((facts for facts in calls if facts.get("code") in _STOPS), None):
        server = disconnected.get("server") or "a server"
        _end(run, f"Your {server} connection needs to be reconnected. Then switch the task on again.", stops=True)
    elif said is None or said.state != MessageState.COMPLETE:
        _end(run, (said and said.error) or "The agent did not come to an end.")
    elif waiting := next((facts for facts in calls if facts.get("code") == ApprovalRequired.code), None):
        tool = waiting.get("title") or "a tool"
        _end(run, f"A call of {tool} waits for approval. Once it is approved, run the task again within 30 minutes.")
    else:
        schedules.end_run(run, RunStatus.OK, conversation=conversation)


def _end(run: TaskRun, error: str, *, stops: bool = False) -> None:
    schedules.end_run(run, RunStatus.FAILED, error=error, conversation=run.conversation)
    if stops:
        schedules.stop_task(run.task, error)
    tell_of_failure(run.task, error, stopped=stops)
