"""What was said in a conversation, in the form in which the page draws it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.utils.safestring import SafeString

from agents.models import Author, CallOutcome, Conversation, Message, MessageState
from agents.runtime.finding import FIND_TOOLS
from agents.runtime.history import results_of
from agents.services.approvals import visible_approvals
from agents.services.conversations import is_running
from agents.views.approvals import Card
from agents.views.calls import OUTCOME_TONES
from agents.views.markdown import render_markdown
from aster.accounts.access import Actor

# What stays of a very long conversation on the page; the whole of it is in the API.
MAX_SHOWN = 400


@dataclass(frozen=True)
class CallCard:
    """One call of a tool: what was asked, and what came of it, if something has."""

    dom_id: str
    name: str
    arguments: Any
    result: Message | None
    is_waiting: bool
    # What became of the approval that the call waits for, if it does and the approval is still kept
    approval: Card | None = None
    # What "Ask again" says once more, when the call would go through now
    again: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        return self.result.facts if self.result else {}

    @property
    def looked_for(self) -> str:
        """The words of a search for tools, which is Aster's own and asks no server."""
        is_search = self.name == FIND_TOOLS and isinstance(self.arguments, dict)
        return str(self.arguments.get("query", "")) if is_search else ""

    @property
    def duration_ms(self) -> int | None:
        return self.facts.get("duration_ms")

    @property
    def tone(self) -> str:
        if self.result is None:
            return "neutral"
        if self.waits_for_approval:
            return self.approval.tone if self.approval else "info"
        outcome = self.facts.get("outcome")
        return OUTCOME_TONES[CallOutcome(outcome)] if outcome in CallOutcome.values else "error"

    @property
    def waits_for_approval(self) -> bool:
        return self.facts.get("code") == "approval_required"

    @property
    def is_open(self) -> bool:
        """Whether the person has something to do in it."""
        decided = self.approval and self.approval.state not in ("pending", "approved")
        return self.waits_for_approval and not decided

    @property
    def words(self) -> str:
        """The outcome; one that worked needs no word beside its duration."""
        if self.result is None:
            return "Running" if self.is_waiting else "Stopped"
        if self.facts.get("outcome") == CallOutcome.OK:
            return ""
        if self.waits_for_approval:
            return self.approval.label if self.approval and self.approval.state != "pending" else "Waits for approval"
        if self.facts.get("outcome") == CallOutcome.CONNECTION_REQUIRED:
            return "Needs sign-in"
        outcome = self.facts.get("outcome")
        return str(CallOutcome(outcome).label) if outcome in CallOutcome.values else "Not called"


@dataclass(frozen=True)
class Entry:
    """One message of the person or the agent, with the calls it led to."""

    message: Message
    html: SafeString | None
    calls: list[CallCard]
    is_last: bool = False
    # What "Try again" says once more
    again: str = ""

    @property
    def is_person(self) -> bool:
        return self.message.author == Author.PERSON

    @property
    def is_writing(self) -> bool:
        return self.message.state == MessageState.WRITING


@dataclass(frozen=True)
class Thread:
    entries: list[Entry]
    is_running: bool = False
    hidden: int = 0


def thread_of(conversation: Conversation, actor: Actor) -> Thread:
    rows = list(conversation.messages.order_by("-id")[: MAX_SHOWN + 1])[::-1]
    hidden = conversation.messages.count() - MAX_SHOWN if len(rows) > MAX_SHOWN else 0
    rows = rows[-MAX_SHOWN:]
    running = is_running(conversation)
    asked_for = _approvals([row for row in rows if row.author == Author.TOOL], actor)
    said = [pair for pair in zip(rows, results_of(rows), strict=True) if pair[0].author != Author.TOOL]
    last_said = max((row.pk for row, _ in said if row.author == Author.PERSON), default=0)
    entries, last_words = [], ""
    for row, results in said:
        is_last = row is said[-1][0]
        if row.author == Author.PERSON:
            last_words = row.text
            entries.append(Entry(row, None, [], is_last))
            continue
        again = last_words if row.pk > last_said and not running else ""
        cards = [_card(row, call, results.get(call["id"]), is_last and running) for call in row.calls]
        cards = [replace(card, approval=asked_for.get(card.facts.get("approval")), again=again) for card in cards]
        failed = is_last and row.state in (MessageState.FAILED, MessageState.STOPPED)
        entries.append(Entry(row, render_markdown(row.text), cards, is_last, again if failed else ""))
    return Thread(entries, running, hidden)


def _approvals(results: Iterable[Message], actor: Actor) -> dict[int | None, Card]:
    """The approvals that calls of this conversation wait or waited for, by id."""
    wanted = [pk for row in results if (pk := row.facts.get("approval"))]
    return {row.pk: Card(row, actor) for row in visible_approvals(actor).filter(pk__in=wanted)} if wanted else {}


def _card(row: Message, call: dict[str, Any], result: Message | None, is_waiting: bool) -> CallCard:
    # Ids of calls are the model's, and unique in one answer only.
    number = row.calls.index(call)
    return CallCard(f"{row.pk}-{number}", str(call.get("name")), call.get("arguments"), result, is_waiting)
