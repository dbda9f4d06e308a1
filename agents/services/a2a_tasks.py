"""Verbs on A2A tasks: send a message, look, list, cancel (A2A 1.0 §3.1).

A task is a message and the turn that answers it. One whose turn ended because something waits for the person
(a connection, an approval) takes another message; then it is several turns of one conversation, its context.
The conversation's rows are the truth. `state` keeps what was read from them once a turn was over.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from agents.models import (
    A2aTask,
    A2aTaskQuerySet,
    Agent,
    Approval,
    Approver,
    Author,
    CallOutcome,
    Conversation,
    Message,
    MessageState,
    TaskState,
)
from agents.services import conversations
from agents.services.approvals import approval_url
from agents.services.links import connection_words, waiting_for_person
from aster.accounts.access import CALL, Actor
from aster.errors import Conflict, InvalidInput, NotFound
from integrations.services.links import connect_url

# Of one person, in all their contexts
MAX_AT_ONCE = 20
MAX_HISTORY = 100
GO_ON = "When it is done, send a message to this task: the agent goes on from there."
NO_TASK = "There is no such task."
WAITING = (TaskState.AUTH_REQUIRED, TaskState.INPUT_REQUIRED)


@dataclass(frozen=True)
class Sending:
    """What a client sends; ids are empty where it gave none."""

    text: str
    message_id: str
    context_id: str = ""
    task_id: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """An earlier message of a task."""

    id: str
    is_person: bool
    text: str


@dataclass(frozen=True)
class TaskView:
    """A task as it stands, for whoever writes it down."""

    id: str
    context_id: str
    state: TaskState
    at: datetime
    words: str = ""
    links: list[dict[str, str]] = field(default_factory=list)
    answer: str = ""
    history: list[Said] = field(default_factory=list)

    @property
    def is_working(self) -> bool:
        return self.state == TaskState.WORKING


# --- Sending --------------------------------------------------------------------------------------------------------


def send(agent: Agent, sending: Sending, actor: Actor) -> A2aTask:
    """Say something to an agent, which claims the turn: whoever called has it answered next (agents.runtime.turns).

    Raises NotFound (no such task), InvalidInput, or Conflict: the context is busy (`turn_running`), the task has ended
    (`task_over`), too many are at work, the agent is off or has no model.
    """
    actor.require_scope(CALL)
    try:
        with transaction.atomic():
            _require_room(actor)
            return _go_on(agent, sending, actor) if sending.task_id else _begin(agent, sending, actor)
    except IntegrityError:  # the context's first two messages came at once
        raise Conflict("The agent is still answering in this context.", code="turn_running") from None


def _require_room(actor: Actor) -> None:
    alive = Conversation.objects.filter(user=actor.person, turn_until__gt=timezone.now()).exclude(context_id="")
    if alive.count() >= MAX_AT_ONCE:
        words = f"{MAX_AT_ONCE} of your tasks are being worked on already. Wait for one of them, or cancel it."
        raise Conflict(words, code="too_many_tasks")


def _begin(agent: Agent, sending: Sending, actor: Actor) -> A2aTask:
    """A new task, in a context that is there or a new one. The ids of contexts are each caller's own."""
    conversations.require_answers(agent)
    context_id = sending.context_id or str(uuid.uuid4())
    mine = conversations.visible_conversations(actor, agent)
    conversation = mine.select_related("agent__llm_config").filter(context_id=context_id).first()
    if conversation is None:
        conversation = conversations.start_conversation(agent, actor, sending.input, context_id=context_id)
    elif sending.input:
        words = "The input belongs to the first message of a context. Leave the data out, or begin a new context."
        raise InvalidInput(words)
    message = conversations.add_message(conversation, sending.text, actor)
    return A2aTask.objects.create(
        conversation=conversation, turn=conversation.turn, turns=[{"message": message.pk, "id": sending.message_id}]
    )


def _go_on(agent: Agent, sending: Sending, actor: Actor) -> A2aTask:
    task = find_task(sending.task_id, agent=agent, actor=actor)
    conversation = task.conversation
    if sending.context_id not in ("", conversation.context_id):
        raise InvalidInput("The task belongs to another context. Leave contextId out, or send the task's.")
    if task.is_over:
        words = f"The task is {task.get_state_display().lower()} and takes no more messages."
        raise Conflict(f"{words} Begin a new one: leave taskId out and keep contextId.", code="task_over")
    if sending.input:
        raise InvalidInput("The input belongs to the first message of a context. Leave the data out.")
    was = task.turn
    message = conversations.add_message(conversation, sending.text, actor)
    task.turn, task.state, task.words, task.links = conversation.turn, TaskState.WORKING, "", []
    task.turns, task.updated_at = [*task.turns, {"message": message.pk, "id": sending.message_id}], timezone.now()
    names = ("turn", "state", "words", "links", "turns", "updated_at")
    # Compare-and-set: it may have been canceled or answered since it was read.
    open_one = A2aTask.objects.filter(pk=task.pk, turn=was, state__in=WAITING)
    if not open_one.update(**{name: getattr(task, name) for name in names}):
        raise Conflict("Somebody else changed this task just now. Look at it again.", code="turn_running")
    return task


# --- Looking --------------------------------------------------------------------------------------------------------


def find_task(key: str, *, agent: Agent, actor: Actor) -> A2aTask:
    """One's own task with this agent, up to date."""
    try:
        wanted = uuid.UUID(key)
    except ValueError:
        raise NotFound(NO_TASK) from None
    task = tasks_of(agent, actor).filter(pk=wanted).first()
    if task is None:
        raise NotFound(NO_TASK)
    return bring_up_to_date(task, actor)


def tasks_of(agent: Agent, actor: Actor) -> A2aTaskQuerySet:
    rows = A2aTask.objects.visible_to(actor).filter(conversation__agent=agent)
    return rows.select_related("conversation__agent__llm_config", "conversation__agent__organization")


def bring_up_to_date(task: A2aTask, actor: Actor) -> A2aTask:
    """Read off the conversation how the task's turn ended, if it has."""
    if task.state != TaskState.WORKING:
        return task
    # This ends a turn whose process died.
    conversation = conversations.find_conversation(task.conversation_id, actor=actor)
    if conversation.turn is not None and conversation.turn == task.turn:
        return task
    state, words, links = _outcome(task, actor)
    ours = A2aTask.objects.filter(pk=task.pk, turn=task.turn, state=TaskState.WORKING)
    ours.update(state=state, words=words, links=links, updated_at=timezone.now())
    task.refresh_from_db(fields=["state", "words", "links", "turn", "turns", "updated_at"])
    return task


def settle_all(agent: Agent, actor: Actor) -> None:
    """Bring those up to date that nobody looked at since they ended; before a list, which filters by state."""
    for task in tasks_of(agent, actor).filter(state=TaskState.WORKING):
        bring_up_to_date(task, actor)


def view_of(task: A2aTask, *, history: int = MAX_HISTORY, with_answer: bool = True) -> TaskView:
    """The task with its answer so far and its last `history` messages. What is in the answer is not in the history."""
    said: list[Said] = []
    answer = ""
    turns = task.turns if history else task.turns[-1:]
    for number, turn in enumerate(turns if history or with_answer else [], 1):
        rows = _rows_of(task.conversation_id, turn["message"]).exclude(author=Author.TOOL)
        answer = "\n\n".join(row.text for row in rows if row.author == Author.MODEL and row.text.strip())
        said += [Said(turn["id"], True, row.text) for row in rows if row.author == Author.PERSON]
        if answer and number < len(turns):
            said.append(Said(f"answer-to-{turn['message']}", False, answer))
    return TaskView(
        str(task.pk), task.conversation.context_id, TaskState(task.state), task.updated_at, task.words, task.links,
        answer if with_answer else "", said[-history:] if history else [],
    )  # fmt: skip


def _rows_of(conversation_id: int, first: int) -> QuerySet[Message]:
    """A turn: the person's message, and everything up to their next one."""
    rows = Message.objects.filter(conversation_id=conversation_id).order_by("pk")
    following = rows.filter(pk__gt=first, author=Author.PERSON).values_list("pk", flat=True).first()
    until = Q(pk__lt=following) if following else Q()
    return rows.filter(until, pk__gte=first)


# --- How a turn ended -----------------------------------------------------------------------------------------------

Outcome = tuple[TaskState, str, list[dict[str, str]]]


def _outcome(task: A2aTask, actor: Actor) -> Outcome:
    rows = list(_rows_of(task.conversation_id, task.turns[-1]["message"]))
    last = next((row for row in reversed(rows) if row.author == Author.MODEL), None)
    if last is None or last.state == MessageState.WRITING:
        return TaskState.FAILED, conversations.INTERRUPTED, []
    if last.state == MessageState.STOPPED:
        return (TaskState.FAILED if last.error else TaskState.CANCELED), last.error, []
    if last.state == MessageState.FAILED:
        return TaskState.FAILED, last.error, []
    if missing := _missing_connections(rows):
        asked = [f"{connection_words(name, again=False)} Connect it here: {url}" for name, url in missing.items()]
        links = [{"kind": "connect", "server": name, "url": url} for name, url in missing.items()]
        return TaskState.AUTH_REQUIRED, " ".join([*asked, GO_ON]), links
    if waiting := _open_approvals(rows):
        links = [{"kind": "approval", "tool": each.tool_name, "url": approval_url(each.pk, actor)} for each in waiting]
        return TaskState.INPUT_REQUIRED, " ".join([*(_ask(each, actor) for each in waiting), GO_ON]), links
    # Nothing failed for it, but the answer may say that something is not connected.
    links = [
        {"kind": "connect", "server": server.name, "url": connect_url(server, actor)}
        for server, _ in waiting_for_person(task.conversation.agent, actor)
    ]
    return TaskState.COMPLETED, last.error, links


def _missing_connections(rows: list[Message]) -> dict[str, str]:
    """The servers that wanted a sign-in in this turn and answered no call after that, with where to connect."""
    missing: dict[str, str] = {}
    for facts in (row.facts for row in rows if row.author == Author.TOOL):
        if facts.get("connect"):
            missing[facts["server"]] = facts["connect"]
        elif facts.get("outcome") == CallOutcome.OK:
            missing.pop(facts.get("server", ""), None)
    return missing


def _open_approvals(rows: list[Message]) -> list[Approval]:
    asked = {row.facts["approval"] for row in rows if row.author == Author.TOOL and row.facts.get("approval")}
    return list(Approval.objects.open().filter(pk__in=asked).select_related("server").order_by("pk"))


def _ask(approval: Approval, actor: Actor) -> str:
    whose = "your" if approval.approver == Approver.CALLER else "an admin's"
    words = f"{approval.tool_name} at {approval.server} needs {whose} approval for this call."
    return f"{words} It is seen and approved here: {approval_url(approval.pk, actor)}"


# --- Canceling ------------------------------------------------------------------------------------------------------


def cancel(task: A2aTask, actor: Actor) -> A2aTask:
    """End a task that waits; ask for the end of one that is worked on, which is noticed within a second.

    Raises Conflict (`task_over`) for one that has ended.
    """
    actor.require_scope(CALL)
    if task.is_over:
        raise task_over(task)
    if task.state in WAITING:
        ours = A2aTask.objects.filter(pk=task.pk, turn=task.turn, state=task.state)
        ours.update(state=TaskState.CANCELED, words="", links=[], updated_at=timezone.now())
        task.refresh_from_db()
    else:
        conversations.stop(task.conversation, actor)
    return task


def task_over(task: A2aTask) -> Conflict:
    return Conflict(f"The task is {task.get_state_display().lower()} already.", code="task_over")
