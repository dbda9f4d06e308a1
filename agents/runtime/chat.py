"""One turn of a conversation: the model is asked, its calls are made, and so on until it has answered.

Rows are written as things happen, so that whoever looks later sees what whoever listens (`on_event`) saw. The events:

    text    message, text                                              a piece of the model's answer
    call    message, call_id, tool, title, server, arguments           a call is about to be made
    result  message, call_id, tool, outcome, code, duration_ms, connection, text
    banner  server, text, url                                          a connection is missing; where to make it
    end     message, state, error                                      exactly once, the last one
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import anyio
from django.db import IntegrityError

from agents.llm import client_of
from agents.llm.base import Finish, TextDelta, ToolRequest, Turn, Usage
from agents.models import Agent, Author, Conversation, Message, MessageState
from agents.runtime.calling import Asked, Calling
from agents.runtime.finding import Finding
from agents.runtime.history import history, read_arguments, system_text
from agents.runtime.session import AgentSession
from agents.services import calls, conversations
from aster.accounts.access import Actor
from aster.errors import AsterError, Conflict, NotFound
from aster.rows import storable
from aster.threads import in_db_thread, in_waiting_thread

OnEvent = Callable[[str, dict[str, Any]], None]
WATCH_SECONDS = 0.5
# In one answer; the model sees that the others were not taken.
MAX_CALLS = 50
MAX_AT_ONCE = 10
SILENT = "The model answered nothing. Ask again, or ask an admin to look at the LLM config."
TOO_LONG = "The answer was cut: it reached the longest answer that the LLM config allows."
FILTERED = "The model's provider ended the answer: its rules do not allow it."
BUG = "Aster failed; this is a bug. Its log has the reason."
_UNSAFE, _ID = re.compile(r"[^A-Za-z0-9_-]"), re.compile(r"[A-Za-z0-9_-]{1,100}")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one turn may cost."""

    rounds: int = 20
    same_call: int = 3
    seconds: float = 600


@dataclass(frozen=True)
class _End:
    state: str
    error: str = ""


async def answer(conversation: Conversation, *, actor: Actor, on_event: OnEvent, limits: Limits | None = None) -> None:
    """Answer what `add_message` just added. Raises nothing but Conflict, when there is no turn to answer.

    What fails is told by the `end` event and kept with the message. Cancelled, it stores what it has and stops.
    """
    if conversation.turn is None:
        raise Conflict("There is no message to answer.")
    await _Answering(conversation, actor, on_event, limits or Limits()).run()


class _Answering:
    def __init__(self, conversation: Conversation, actor: Actor, on_event: OnEvent, limits: Limits) -> None:
        self.conversation, self.actor, self.limits = conversation, actor, limits
        self.tell = on_event
        self.agent: Agent
        self.writing: _Writing | None = None
        self.is_stopped = False

    async def run(self) -> None:
        end = _End(MessageState.STOPPED, conversations.INTERRUPTED)
        try:
            end = await self._bounded()
        except Exception:
            log.exception("A turn of conversation %s failed", self.conversation.pk)
            end = _End(MessageState.FAILED, BUG)
        finally:
            with anyio.CancelScope(shield=True):
                await self._finish(end)

    async def _bounded(self) -> _End:
        """The turn within its time, while somebody watches whether it is still wanted."""
        end: _End | None = None
        async with anyio.create_task_group() as group:
            group.cancel_scope.deadline = anyio.current_time() + self.limits.seconds
            group.start_soon(self._watch, group.cancel_scope)
            end = await self._turn()
            group.cancel_scope.cancel()
        if end is None and self.is_stopped:
            end = _End(MessageState.STOPPED)
        minutes = self.limits.seconds / 60
        return end or _End(MessageState.FAILED, f"The answer took longer than {minutes:g} minutes and was ended.")

    async def _watch(self, scope: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep(WATCH_SECONDS)
            if self.writing:
                await self.writing.save()
            if not await in_db_thread(conversations.keep_turn, self.conversation):
                self.is_stopped = True
                scope.cancel()
                return

    async def _turn(self) -> _End:
        try:
            self.agent = await in_db_thread(self._load_agent)
            await in_waiting_thread(calls.learn_tools, self.agent, actor=self.actor)
        except AsterError as error:
            return _failed(error)
        async with AgentSession.open(self.agent, actor=self.actor) as session:
            try:  # inside: the session's task group would wrap what passes it
                return await self._rounds(session)
            except AsterError as error:
                return _failed(error)

    def _load_agent(self) -> Agent:
        rows = Agent.objects.visible_to(self.actor).select_related("organization", "llm_config")
        agent = rows.filter(pk=self.conversation.agent_id).first()
        if agent is None:
            raise NotFound("This agent was deleted.")
        conversations.require_answers(agent)
        return agent

    async def _rounds(self, session: AgentSession) -> _End:
        finding = await in_db_thread(lambda: Finding(session.tools, self.conversation.messages.all()))
        calling = Calling(session, finding, self.actor, self.tell, self.limits.same_call)
        missing = await calling.announce_missing()
        system = system_text(self.agent, self.conversation.input, missing, finding.words)
        for _ in range(self.limits.rounds):
            message, reason = await self._ask(system, finding)
            if reason == "refused":
                return _End(MessageState.FAILED, FILTERED)
            if not message.calls:
                # What was said stays, with the reason why there is no more of it.
                return _End(MessageState.COMPLETE, TOO_LONG if reason == "length" else "")
            asked = [Asked(message.pk, call["id"], call["name"], call["arguments"]) for call in message.calls]
            for reads, group in groupby(asked, calling.only_reads):
                if reads:
                    await self._make_at_once(calling, list(group))
                else:
                    for each in group:
                        await self._make(calling, each)
        words = f"The agent called tools {self.limits.rounds} times without coming to an answer, and was ended."
        return _End(MessageState.FAILED, words)

    async def _make(self, calling: Calling, asked: Asked) -> None:
        fields = await calling.make(asked)
        row = await in_db_thread(self._add, author=Author.TOOL, **fields)
        self.tell("result", result_event(row))

    async def _make_at_once(self, calling: Calling, asked: list[Asked]) -> None:
        """Calls that only read wait for nobody; what changes something happens in the order the model gave."""
        gone: list[NotFound] = []
        limiter = anyio.CapacityLimiter(MAX_AT_ONCE)

        async def make(each: Asked) -> None:
            async with limiter:
                try:
                    await self._make(calling, each)
                except NotFound as deleted:
                    gone.append(deleted)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for each in asked:
                group.start_soon(make, each)
        if gone:
            raise gone[0]

    async def _ask(self, system: str, finding: Finding) -> tuple[Message, str]:
        """One answer of the model, written down while it comes; with the reason why it ended."""
        tools = finding.offered()
        rows = await in_db_thread(lambda: list(self.conversation.messages.all()))
        turn = Turn(system, history(rows, with_tools=bool(tools)), tools)
        message = await in_db_thread(self._add, author=Author.MODEL, state=MessageState.WRITING)
        writing = self.writing = _Writing(message)
        requests: list[ToolRequest] = []
        reason = ""
        async with aclosing(client_of(self.agent.llm_config).answer(turn)) as pieces:  # type: ignore[arg-type]
            async for piece in pieces:
                match piece:
                    case TextDelta(text) if text := storable(text):
                        writing.add(text)
                        self.tell("text", {"message": message.pk, "text": text})
                    case ToolRequest():
                        requests.append(piece)
                    case Usage():
                        message.input_tokens, message.output_tokens = piece.input_tokens, piece.output_tokens
                    case Finish():
                        reason = piece.reason
        message.calls = _calls_of(requests)
        if message.calls:
            await writing.close(MessageState.COMPLETE)
            self.writing = None
        return message, reason

    def _add(self, **fields: Any) -> Message:
        try:
            return Message.objects.create(conversation_id=self.conversation.pk, **fields)
        except IntegrityError:
            raise NotFound("This conversation was deleted.") from None

    async def _finish(self, end: _End) -> None:
        """Close what is open, give the turn back, and say so. An answer without a word is a failure."""
        message: Message | None = None
        with suppress(NotFound):
            if self.writing is None:
                self.writing = _Writing(await in_db_thread(self._add, author=Author.MODEL, state=MessageState.WRITING))
            message = self.writing.message
            if end.state == MessageState.COMPLETE and self.writing.is_blank:
                end = _End(MessageState.FAILED, end.error or SILENT)
            await self.writing.close(end.state, end.error)
        await in_db_thread(conversations.end_turn, self.conversation)
        self.tell("end", {"message": message and message.pk, "state": str(end.state), "error": end.error})


class _Writing:
    """The entry that the model is writing, saved now and then: the last save is the one that counts."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self._unsaved: list[str] = []
        self._lock = anyio.Lock()

    def add(self, text: str) -> None:
        self._unsaved.append(text)

    @property
    def is_blank(self) -> bool:
        return not any(text.strip() for text in (self.message.text, *self._unsaved))

    def _join(self) -> None:
        self.message.text, self._unsaved = "".join((self.message.text, *self._unsaved)), []

    async def save(self) -> None:
        async with self._lock:
            if self.message.state == MessageState.WRITING and self._unsaved:
                self._join()
                await in_db_thread(self._update, text=self.message.text)

    async def close(self, state: str, error: str = "") -> None:
        message = self.message
        async with self._lock:
            self._join()
            message.state, message.error = state, error[:500]
            names = ("text", "calls", "state", "error", "input_tokens", "output_tokens")
            await in_db_thread(self._update, **{name: getattr(message, name) for name in names})

    def _update(self, **fields: Any) -> None:
        # No row: the conversation was deleted, and the turn is about to notice.
        Message.objects.filter(pk=self.message.pk).update(**fields)


def _calls_of(requests: list[ToolRequest]) -> list[dict[str, Any]]:
    """The calls as they are kept. Ids and names that a provider would not take back are replaced."""
    kept: list[dict[str, Any]] = []
    for request in requests[:MAX_CALLS]:
        taken = {call["id"] for call in kept}
        fits = _ID.fullmatch(request.id) and request.id not in taken
        arguments = read_arguments(request.arguments)
        kept.append(
            {
                "id": request.id if fits else f"call_{uuid.uuid4().hex[:24]}",
                "name": _UNSAFE.sub("_", request.name)[:64] or "unnamed",
                "arguments": storable(request.arguments)[:2000] if arguments is None else arguments,
            }
        )
    return kept


def result_event(row: Message) -> dict[str, Any]:
    """What is told of a finished call, now and to whoever reads the conversation later."""
    facts = {name: row.facts.get(name) for name in ("outcome", "code", "duration_ms", "connection")}
    return {"message": row.pk, "call_id": row.call_id, "tool": row.tool_name, **facts, "text": row.text}


def _failed(error: AsterError) -> _End:
    return _End(MessageState.FAILED, f"{error.message} {getattr(error, 'hint', '')}".strip())
