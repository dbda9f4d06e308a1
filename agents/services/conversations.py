"""Verbs on conversations: begin one, say something, stop the answer, delete.

At most one turn is answered at a time. Who says something claims the turn with one conditional UPDATE; the turn stays
claimed while whoever answers it keeps saying so (`keep_turn`), so that a process that died is noticed in a minute.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from agents.models import Agent, Author, Conversation, Message, MessageState
from agents.schema_check import check_arguments
from aster.accounts.access import CALL, Actor
from aster.accounts.models import Organization, User, is_row_id
from aster.errors import Conflict, InvalidInput, NotFound

MAX_TEXT, MAX_INPUT, MAX_TITLE = 20_000, 100_000, 80
LAST_MESSAGES = 50
# How long a turn counts as alive without a sign of life.
LEASE = timedelta(seconds=60)
INTERRUPTED = "Aster was stopped while the agent was answering. Send the message again."


def visible_conversations(actor: Actor, agent: Agent | None = None) -> QuerySet[Conversation]:
    """One's own conversations, newest first; with one agent, or all of them."""
    rows = Conversation.objects.visible_to(actor).select_related("agent")
    return rows.filter(agent=agent) if agent else rows


def find_conversation(key: str | int, *, actor: Actor, agent: Agent | None = None) -> Conversation:
    """One's own conversation. Another person's does not exist. A turn that died is settled on the way."""
    rows = visible_conversations(actor, agent).select_related("agent__llm_config", "agent__organization")
    found = rows.filter(pk=int(key)).first() if is_row_id(key) else None
    if found is None:
        raise NotFound("There is no such conversation.")
    if found.turn and not is_running(found):
        _settle(found)
    return found


def is_running(conversation: Conversation) -> bool:
    """Whether an answer is being made right now."""
    return bool(conversation.turn and conversation.turn_until and conversation.turn_until > timezone.now())


def start_conversation(
    agent: Agent, actor: Actor, input: Mapping[str, Any] | None = None, *, context_id: str = ""
) -> Conversation:
    """Begin a conversation with `agent`, with values for its input schema."""
    actor.require_scope(CALL)
    person = actor.person
    require_answers(agent)
    values = dict(input or {})
    check_input(agent, values)
    about = {"organization": actor.organization, "agent": agent, "user": person, "context_id": context_id}
    return Conversation.objects.create(**about, input=values, origin=actor.origin)


def require_answers(agent: Agent) -> None:
    """Refuse an agent that cannot answer at all. Raises Conflict."""
    if not agent.is_enabled:
        raise Conflict(f"{agent} is switched off. An admin can switch it on.", code="agent_disabled")
    if agent.llm_config is None:
        words = f"{agent} has no model to think with. An admin can choose an LLM config on the agent's page."
        raise Conflict(words, code="no_model")


def check_input(agent: Agent, values: dict[str, Any]) -> None:
    """Raise InvalidInput for values that the agent's input_json_schema does not take, or that are missing."""
    problems: dict[str, list[str]] = {}
    if len(json.dumps(values)) > MAX_INPUT:
        problems["input"] = [f"Is longer than {MAX_INPUT:,} characters."]
    elif values and not agent.input_json_schema:
        problems["input"] = [f"{agent} takes no input. Leave it out."]
    else:
        for path, words in check_arguments(agent.input_json_schema, values):
            problems.setdefault(".".join(("input", *path)), []).append(words)
    if problems:
        name, found = next(iter(problems.items()))
        raise InvalidInput(f"{name}: {found[0]}", fields=problems)


def add_message(conversation: Conversation, text: str, actor: Actor) -> Message:
    """Say something, which claims the turn: `agents.runtime.chat.answer` is to be called with this conversation next.

    Raises Conflict while the agent still answers.
    """
    actor.require_scope(CALL)
    require_answers(conversation.agent)
    text = _check_text(text)
    now, turn = timezone.now(), uuid.uuid4()
    with transaction.atomic():
        free = Q(turn=None) | Q(turn_until__lte=now)
        claimed = Conversation.objects.visible_to(actor).filter(free, pk=conversation.pk)
        if not claimed.update(turn=turn, turn_until=now + LEASE, stop_requested=False, updated_at=now):
            find_conversation(conversation.pk, actor=actor)
            raise Conflict("The agent is still answering. Wait for the answer, or stop it.", code="turn_running")
        _close_unfinished(conversation)
        if not conversation.title:
            conversation.title = _title_of(text)
            Conversation.objects.filter(pk=conversation.pk).update(title=conversation.title)
        message = Message.objects.create(conversation=conversation, author=Author.PERSON, text=text)
    conversation.turn, conversation.turn_until, conversation.stop_requested = turn, now + LEASE, False
    conversation.updated_at = now
    return message


def say(
    agent: Agent,
    text: str,
    actor: Actor,
    *,
    conversation: str | int | None = None,
    input: Mapping[str, Any] | None = None,
) -> tuple[Conversation, Message]:
    """Say something to `agent`, in a conversation that is there or in a new one. All or nothing."""
    if conversation is None:
        with transaction.atomic():
            begun = start_conversation(agent, actor, input)
            return begun, add_message(begun, text, actor)
    if input:
        problem = "The input belongs to the start of a conversation. Leave it out, or start a new one."
        raise InvalidInput(problem, fields={"input": [problem]})
    found = find_conversation(conversation, actor=actor, agent=agent)
    return found, add_message(found, text, actor)


def last_messages(conversation: Conversation) -> list[Message]:
    """The end of what was said, in its order."""
    return list(conversation.messages.order_by("-pk")[:LAST_MESSAGES])[::-1]


def answer_to(message: Message) -> list[Message]:
    """Everything said after `message`, by the model and the tools."""
    return list(Message.objects.filter(conversation_id=message.conversation_id, pk__gt=message.pk))


def _check_text(text: str) -> str:
    text = text.strip()
    problem = ""
    if not text:
        problem = "Write a message first."
    elif len(text) > MAX_TEXT:
        problem = f"A message has at most {MAX_TEXT:,} characters; this one has {len(text):,}."
    elif "\x00" in text:
        problem = "Null characters are not allowed."
    if problem:
        raise InvalidInput(problem, fields={"text": [problem]})
    return text


def _title_of(text: str) -> str:
    first = " ".join(text.split("\n", 1)[0].split())
    return first if len(first) <= MAX_TITLE else f"{first[: MAX_TITLE - 1].rstrip()}…"


def stop(conversation: Conversation, actor: Actor) -> None:
    """Ask for the end of the answer. Whoever makes it notices within a second; without one there is nothing to do."""
    actor.require_scope(CALL)
    Conversation.objects.visible_to(actor).filter(pk=conversation.pk).exclude(turn=None).update(stop_requested=True)
    conversation.stop_requested = conversation.turn is not None


def stop_begun_at(origin: str, user: User, organization: Organization) -> None:
    """Ask for the end of every answer that is being made for this person on pages of another app."""
    running = Conversation.objects.filter(organization=organization, user=user, origin=origin).exclude(turn=None)
    running.update(stop_requested=True)


def delete(conversation: Conversation, actor: Actor) -> None:
    """Delete a conversation with all that was said; an answer that is being made ends."""
    actor.require_scope(CALL)
    Conversation.objects.visible_to(actor).filter(pk=conversation.pk).delete()


# --- The turn, for whoever answers it -------------------------------------------------------------------------------


def keep_turn(conversation: Conversation) -> bool:
    """Say that the turn is alive. False: somebody stopped it, deleted the conversation, or the turn was taken over."""
    row = Conversation.objects.filter(pk=conversation.pk, turn=conversation.turn, stop_requested=False)
    until = row.values_list("turn_until", flat=True).first()
    now = timezone.now()
    if until and until < now + LEASE / 2:
        return bool(row.update(turn_until=now + LEASE))
    return until is not None


def end_turn(conversation: Conversation) -> None:
    """Give the turn back. Entries that were still being written count as stopped."""
    with transaction.atomic():
        ours = Conversation.objects.filter(pk=conversation.pk, turn=conversation.turn)
        if ours.update(turn=None, turn_until=None, stop_requested=False, updated_at=timezone.now()):
            _close_unfinished(conversation, "")
    conversation.turn = conversation.turn_until = None
    conversation.stop_requested = False


def _settle(conversation: Conversation) -> None:
    """End a turn whose process died; one conditional UPDATE, so that a turn begun meanwhile is left alone."""
    with transaction.atomic():
        dead = Conversation.objects.filter(pk=conversation.pk, turn=conversation.turn, turn_until__lte=timezone.now())
        if dead.update(turn=None, turn_until=None, stop_requested=False):
            _close_unfinished(conversation)
            conversation.turn = conversation.turn_until = None
        else:
            conversation.refresh_from_db(fields=["turn", "turn_until", "stop_requested"])


def _close_unfinished(conversation: Conversation, why: str = INTERRUPTED) -> None:
    unfinished = Message.objects.filter(conversation=conversation, state=MessageState.WRITING)
    unfinished.update(state=MessageState.STOPPED, error=why)
