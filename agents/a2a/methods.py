"""The methods of A2A over JSON-RPC (1.0 §9, 0.3 §7): each reads its params, asks one service and writes the answer."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from asgiref.sync import async_to_sync
from django.db.models import Q
from django.utils import timezone

from agents.a2a.card import card_of
from agents.a2a.following import Events, follow_turn, wait_for_end, watch
from agents.a2a.reading import NO_PUSH, RpcRequest, get, read_history, read_id, read_send
from agents.a2a.refusals import (
    METHOD_NOT_FOUND,
    PUSH_NOT_SUPPORTED,
    TASK_NOT_CANCELABLE,
    UNSUPPORTED_OPERATION,
    VERSION_NOT_SUPPORTED,
    Refused,
    invalid,
)
from agents.a2a.writing import OldWriter, Writer, page_token, read_page_token
from agents.models import A2aTask, A2aTaskQuerySet, Agent, TaskState
from agents.runtime import turns
from agents.services import a2a_tasks
from agents.services.a2a_tasks import TaskView
from agents.services.skills import skills_of
from aster.accounts.access import Actor
from aster.errors import Conflict

PAGE, MAX_PAGE = 50, 100
# An agent that will not work on anything now; whoever asks can do nothing about it.
_REJECTS = ("agent_disabled", "no_model")


@dataclass(frozen=True)
class Talk:
    """One request to one agent."""

    agent: Agent
    actor: Actor
    rpc: RpcRequest
    writer: Writer

    @property
    def params(self) -> dict[str, Any]:
        return self.rpc.params

    def task(self) -> A2aTask:
        return a2a_tasks.find_task(read_id(self.params, "id", required=True), agent=self.agent, actor=self.actor)


Result = dict[str, Any] | Events
Method = Callable[[Talk], Result]


def answer(agent: Agent, actor: Actor, rpc: RpcRequest, version: str) -> Result:
    """The result of a request, or the events of its stream. Raises Refused, or one of Aster's errors."""
    if version not in ("1.0", "0.3"):
        words = f"A2A {version[:20]} is not spoken here: send A2A-Version 1.0, or none for 0.3."
        raise Refused(VERSION_NOT_SUPPORTED, words)
    is_old = version == "0.3"
    method = (_OLD_METHODS if is_old else _METHODS).get(rpc.method)
    if method is None and is_old and rpc.method in _METHODS:
        words = f"{rpc.method} is a method of A2A 1.0: send the header A2A-Version: 1.0."
        raise Refused(VERSION_NOT_SUPPORTED, words)
    if method is None:
        words = f"There is no method {rpc.method[:60]} in A2A {version}."
        if rpc.method in _OLD_METHODS:
            words = f"{words} It is one of 0.3: leave the header A2A-Version out."
        raise Refused(METHOD_NOT_FOUND, words)
    return method(Talk(agent, actor, rpc, OldWriter() if is_old else Writer()))


# --- Sending --------------------------------------------------------------------------------------------------------


def send(talk: Talk) -> Result:
    wanted = read_send(talk.params, is_old=talk.writer.is_old)
    task = _begin(talk, wanted.sending)
    if isinstance(task, TaskView):
        return talk.writer.sent(task)
    if wanted.waits:
        async_to_sync(turns.to_end)(task.conversation, actor=talk.actor)
        a2a_tasks.bring_up_to_date(task, talk.actor)
    else:
        async_to_sync(turns.begin)(task.conversation, actor=talk.actor)
    return talk.writer.sent(a2a_tasks.view_of(task, history=wanted.history))


def send_streaming(talk: Talk) -> Result:
    wanted = read_send(talk.params, is_old=talk.writer.is_old)
    task = _begin(talk, wanted.sending)
    if isinstance(task, TaskView):
        return _only(talk.writer, task)
    return follow_turn(task, talk.actor, talk.writer, wanted.history)


def _begin(talk: Talk, sending: a2a_tasks.Sending) -> A2aTask | TaskView:
    """The task, or what is told of one that the agent does not take on."""
    try:
        return a2a_tasks.send(talk.agent, sending, talk.actor)
    except Conflict as refused:
        if refused.code not in _REJECTS or sending.task_id:
            raise
        context_id = sending.context_id or str(uuid.uuid4())
        return TaskView(str(uuid.uuid4()), context_id, TaskState.REJECTED, timezone.now(), refused.message)


async def _only(writer: Writer, view: TaskView) -> Events:
    yield writer.sent(view)
    if writer.is_old:  # where the end of a stream is an event
        yield writer.status_update(view)


# --- Tasks ----------------------------------------------------------------------------------------------------------


def get_task(talk: Talk) -> Result:
    return talk.writer.task(a2a_tasks.view_of(talk.task(), history=read_history(talk.params)))


def cancel_task(talk: Talk) -> Result:
    task = talk.task()
    try:
        a2a_tasks.cancel(task, talk.actor)
        async_to_sync(wait_for_end)(task, talk.actor)
        if task.is_over and task.state != TaskState.CANCELED:
            raise a2a_tasks.task_over(task)
    except Conflict as over:
        raise Refused(TASK_NOT_CANCELABLE, over.message, why=over.code) from None
    return talk.writer.task(a2a_tasks.view_of(task))


def subscribe(talk: Talk) -> Result:
    task = talk.task()
    if task.is_over:
        raise Refused(UNSUPPORTED_OPERATION, a2a_tasks.task_over(task).message, why="task_over")
    return watch(task, talk.actor, talk.writer)


def list_tasks(talk: Talk) -> Result:
    """One's own tasks with this agent, the last changed first (§3.1.4)."""
    params = talk.params
    size = get(params, "pageSize", int, PAGE)
    if not 1 <= size <= MAX_PAGE:
        raise invalid(f"pageSize must be from 1 to {MAX_PAGE}.")
    history, with_artifacts = read_history(params), get(params, "includeArtifacts", bool, False)
    a2a_tasks.settle_all(talk.agent, talk.actor)
    rows = _filtered(a2a_tasks.tasks_of(talk.agent, talk.actor), params)
    total = rows.count()
    if token := get(params, "pageToken", str, ""):
        rows = rows.filter(_after(token))
    found = list(rows[: size + 1])
    more = len(found) > size
    last = found[size - 1] if more else None
    views = (a2a_tasks.view_of(task, history=history, with_answer=with_artifacts) for task in found[:size])
    return {
        "tasks": [_listed(talk.writer, view, with_artifacts) for view in views],
        "nextPageToken": page_token(last.updated_at, str(last.pk)) if last else "",
        "pageSize": min(size, len(found)),
        "totalSize": total,
    }


def _listed(writer: Writer, view: TaskView, with_artifacts: bool) -> dict[str, Any]:
    shown = writer.task(view, with_artifacts=with_artifacts)
    return {"artifacts": [], **shown} if with_artifacts else shown


def _filtered(rows: A2aTaskQuerySet, params: dict[str, Any]) -> A2aTaskQuerySet:
    if context_id := read_id(params, "contextId"):
        rows = rows.filter(conversation__context_id=context_id)
    state = get(params, "status", str, "TASK_STATE_UNSPECIFIED")
    if state != "TASK_STATE_UNSPECIFIED":
        known = {Writer().state(each): each for each in TaskState}
        if state not in (*known, "TASK_STATE_SUBMITTED"):
            raise invalid("status is no state of a task.")
        rows = rows.filter(state=known.get(state, ""))
    if since := get(params, "statusTimestampAfter", str, ""):
        rows = rows.filter(updated_at__gte=_read_time(since))
    return rows


def _read_time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise invalid("statusTimestampAfter must be a time such as 2026-11-20T09:00:00Z.") from None
    return at if at.tzinfo else at.replace(tzinfo=timezone.get_default_timezone())


def _after(token: str) -> Q:
    try:
        at, task_id = read_page_token(token)
        return Q(updated_at__lt=at) | Q(updated_at=at, pk__lt=uuid.UUID(task_id))
    except ValueError:
        raise invalid("pageToken is none that was given here.") from None


# --- The rest -------------------------------------------------------------------------------------------------------


def get_card(talk: Talk) -> Result:
    """The card needs a key in any case, and shows what the caller may see: there is nothing to extend."""
    return card_of(talk.agent, skills_of(talk.agent, actor=talk.actor))


def refuse_push(talk: Talk) -> NoReturn:
    raise Refused(PUSH_NOT_SUPPORTED, NO_PUSH)


_METHODS: dict[str, Method] = {
    **{"SendMessage": send, "SendStreamingMessage": send_streaming, "GetTask": get_task, "ListTasks": list_tasks},
    **{"CancelTask": cancel_task, "SubscribeToTask": subscribe, "GetExtendedAgentCard": get_card},
    **{f"{verb}TaskPushNotificationConfig": refuse_push for verb in ("Create", "Get", "Delete")},
    "ListTaskPushNotificationConfigs": refuse_push,
}
_OLD_METHODS: dict[str, Method] = {
    **{"message/send": send, "message/stream": send_streaming, "tasks/get": get_task, "tasks/cancel": cancel_task},
    **{"tasks/resubscribe": subscribe, "agent/getAuthenticatedExtendedCard": get_card},
    **{f"tasks/pushNotificationConfig/{verb}": refuse_push for verb in ("set", "get", "list", "delete")},
}
