"""The search that a model is offered in place of an agent's tools when there are too many of them.

What it finds is offered from the next round on. It reads what the session has resolved already: no server is asked, and
nothing is found that the caller is not offered.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from string import ascii_letters
from typing import Any

from agents.llm.base import OfferedTool
from agents.models import Message
from agents.runtime.history import capped, offered_tools
from agents.services.calls import AgentTool
from agents.services.tool_budget import must_be_searched

# No agent's tool is called so: their names have two underscores between server and tool (naming.name_tools).
FIND_TOOLS = "find_tools"
MOST_FOUND, MOST_OFFERED = 10, 40
MOST_WORDS, MOST_SERVERS = 20, 30
SEARCH = {
    "name": FIND_TOOLS,
    "title": "Look for tools",
    "description": "Finds those of your tools that fit a few words, best first. You can call what it names from your "
    "next step on. Use words for the action and the thing, such as “create invoice”.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "query": {"type": "string", "minLength": 1, "maxLength": 500, "description": "What the tool should do"},
            "server": {"type": "string", "maxLength": 200, "description": "Only tools of this server"},
        },
        "required": ["query"],
    },
}
# Each word of a query counts once for a tool, where it counts most.
NAME, TITLE, DESCRIPTION = 6, 3, 1
# They stand in every description.
_NO_HELP = frozenset(
    [
        "all",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "for",
        "from",
        "in",
        "into",
        "is",
        "it",
        "me",
        "my",
        "of",
        "on",
        "or",
        "that",
        "the",
        "this",
        "to",
        "tool",
        "tools",
        "with",
    ]
)
_LETTERS = frozenset(ascii_letters)
_WORD, _HUMP = re.compile(r"[^\W_]+"), re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Finding:
    """What a model is offered of `tools`: everything, or the search with what it found and what is in use."""

    def __init__(self, tools: Mapping[str, AgentTool], rows: Iterable[Message] = ()) -> None:
        self.tools = tools
        self.is_needed = must_be_searched(each.definition for each in tools.values())
        # In the order of their last use: a dict as a set that keeps it.
        self._at_hand: dict[str, None] = {}
        for name in (call["name"] for row in rows for call in row.calls):
            self.take(name)

    def take(self, name: str) -> None:
        """Keep a tool at hand that was found or called; the one that was not for longest makes room."""
        if name in self.tools:
            self._at_hand.pop(name, None)
            self._at_hand[name] = None
            if len(self._at_hand) > MOST_OFFERED:
                del self._at_hand[next(iter(self._at_hand))]

    def offered(self) -> tuple[OfferedTool, ...]:
        if not self.is_needed:
            return offered_tools(each.definition for each in self.tools.values())
        return offered_tools((SEARCH, *(self.tools[name].definition for name in self._at_hand)))

    @property
    def words(self) -> str:
        """What a model has to be told of it; nothing when it is offered every tool."""
        if not self.is_needed:
            return ""
        return (
            f"You have {len(self.tools):,} tools, too many to be shown at once. They come from {self._sources()}. "
            f"Call {FIND_TOOLS} with a few words to get those that you need; you can call them from your next step on. "
            "Look for a tool before you say that you cannot do something."
        )

    def _sources(self) -> str:
        counts = Counter(each.server.name for each in self.tools.values())
        named = [f"{name} ({count:,})" for name, count in counts.items()]
        left = len(named) - MOST_SERVERS
        return ", ".join(named[:MOST_SERVERS]) + (f" and {left} more servers" if left > 0 else "")

    def find(self, query: str, server: str = "") -> str:
        """The answer to a search, for the model to read. What it names is at hand from then on."""
        fits = [name for name in self._ranked(query) if self._is_at(name, server.strip())]
        if not fits:
            return self._nothing(query.strip(), server.strip())
        best = fits[:MOST_FOUND]
        for name in reversed(best):
            self.take(name)
        left = len(fits) - len(best)
        more = f" {left:,} more fit less well: other words find those." if left else ""
        lines = (json.dumps(_shown(self.tools[name]), ensure_ascii=False) for name in best)
        return capped("\n".join((f"Best first. You can call these from your next step on.{more}", *lines)))

    def _nothing(self, query: str, server: str) -> str:
        if not self.tools:
            return "You have no tools: none is switched on for this agent and person."
        where, also = (f" at a server called “{server}”", ", or leave the server out") if server else ("", "")
        return (
            f"No tool fits “{query}”{where}. Try fewer or other words, such as a verb and a thing{also}. "
            f"Your tools come from {self._sources()}."
        )

    def _is_at(self, name: str, place: str) -> bool:
        at = self.tools[name].server
        return place.casefold() in at.name.casefold() or place.casefold() in at.slug

    def _ranked(self, query: str) -> list[str]:
        """The tools that have a word of the query, by what their words count; those that are alike stay in order."""
        asked = [word for word in dict.fromkeys(_words(query)) if word not in _NO_HELP]
        # A single letter begins too many words to mean any of them; in other scripts one sign may be a word.
        asked = [word for word in asked if word not in _LETTERS][:MOST_WORDS]
        wanted = [(word, {each for each in self._vocabulary if _alike(word, each)}) for word in asked]
        scores = {
            name: sum(_score(word, alike, places) for word, alike in wanted) for name, places in self._index.items()
        }
        return sorted((name for name, score in scores.items() if score), key=lambda name: -scores[name])

    @cached_property
    def _index(self) -> dict[str, list[tuple[int, set[str]]]]:
        return {name: _places(each) for name, each in self.tools.items()}

    @cached_property
    def _vocabulary(self) -> set[str]:
        return {word for places in self._index.values() for _, words in places for word in words}


def _places(each: AgentTool) -> list[tuple[int, set[str]]]:
    """The words of a tool with what they count, those that count most first."""
    description = str(each.definition.get("description") or "")
    texts = ((NAME, each.tool.name if each.tool else each.name), (TITLE, _title(each)), (DESCRIPTION, description))
    return [(counts, set(_words(text))) for counts, text in texts]


def _title(each: AgentTool) -> str:
    return each.tool.title if each.tool else str(each.definition["title"])


def _words(text: str) -> list[str]:
    return _WORD.findall(_HUMP.sub(" ", text).casefold())


def _alike(word: str, other: str) -> bool:
    """Words that begin alike (invoice, invoices). Scripts without spaces have whole sentences for a word."""
    if not word.isascii():
        return word in other
    return other.startswith(word) or (len(other) > 2 and word.startswith(other))


def _score(word: str, alike: set[str], places: list[tuple[int, set[str]]]) -> int:
    """What a word of the query counts for a tool: where it counts most, and the word itself more than one like it."""
    return next((counts + (word in words) for counts, words in places if not alike.isdisjoint(words)), 0)


# --- What is shown of a tool ----------------------------------------------------------------------------------------

MOST_INPUTS, LONGEST = 12, 300


def _shown(each: AgentTool) -> dict[str, Any]:
    """A tool as far as it helps to choose. Its whole schema comes with the offer."""
    definition = each.definition
    description = _cut(str(definition.get("description") or ""))
    names = {"name": each.name, "title": _title(each), "server": each.server.name}
    return {**names, "description": description, "inputs": _inputs(definition)}


def _inputs(definition: Mapping[str, Any]) -> dict[str, str]:
    schema = definition.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(properties, dict):
        return {}
    required = schema.get("required")
    must = required if isinstance(required, list) else []
    shown = {name: _input(each, name in must) for name, each in list(properties.items())[:MOST_INPUTS]}
    left = len(properties) - len(shown)
    return {**shown, "…": f"{left} more"} if left else shown


def _input(schema: Any, is_required: bool) -> str:
    schema = schema if isinstance(schema, dict) else {}
    kind = schema.get("type")
    facts = [kind if isinstance(kind, str) else "any", "required" if is_required else ""]
    about = _cut(str(schema.get("description") or ""), 100)
    return ", ".join(filter(None, facts)) + (f": {about}" if about else "")


def _cut(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()}…"
