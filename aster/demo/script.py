"""What the scripted model says and does: rules over the last message, the tools on offer and what they answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aster.demo.weather import CITIES

WHAT_I_AM = "I am a scripted model of the demo: I follow fixed rules and understand very little."
CAN_DO = (
    "Ask me for **your notes**, for the **weather** in a city such as Oslo, or tell me something to write down: "
    "`add a note: buy milk`."
)
CONNECT_TOOL = "connect_account"
_ADDS_NOTE = re.compile(r"\b(?:add|create|write|make|take|save)\b[^:.]*\bnotes?\b(?P<rest>.*)", re.I | re.S)
_WRITES_DOWN = re.compile(r"\b(?:write down|remember|note down)\b(?P<rest>.*)", re.I | re.S)
_ASKS_NOTES = re.compile(r"\bnotes?\b", re.I)
_ASKS_WEATHER = re.compile(r"\b(?:weather|forecast|rain|sunny|temperature|umbrella)\b", re.I)
_ASKS_WHO = re.compile(r"\bwho am i\b", re.I)
_NEEDS_CONNECTION = re.compile(r"\bconnect(?:ed|ion)?\b|\breconnect", re.I)
_FILLER = re.compile(r"^[\s:,–-]*(?:(?:that|saying|which says|about|to)\b)?[\s:,–-]*", re.I)


@dataclass(frozen=True)
class Say:
    text: str


@dataclass(frozen=True)
class ToolCall:
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Wish:
    """One thing that was asked for: the tool for it, and what to say where that tool is not on offer."""

    tool: str
    arguments: dict[str, Any]
    about: str


def next_step(messages: Sequence[dict[str, Any]], tools: Sequence[str]) -> Say | ToolCall:
    """The next step of a conversation: the wishes of the last message one after the other, then what came of them."""
    last = max((n for n, each in enumerate(messages) if each.get("role") == "user"), default=-1)
    said = _text(messages[last]) if last >= 0 else ""
    since = messages[last + 1 :]
    results = [_text(each) for each in since if each.get("role") == "tool"]
    wishes = list(_wishes(said))
    if len(results) < len(wishes) and not (results and _NEEDS_CONNECTION.search(results[-1])):
        wish = wishes[len(results)]
        # A server nobody has signed in to yet offers one tool in place of its own.
        names = [wish.tool, CONNECT_TOOL] if wish.about == "notes" else [wish.tool]
        found = next((name for want in names for name in tools if name.endswith(f"__{want}")), None)
        if found:
            return ToolCall(found, wish.arguments if found.endswith(wish.tool) else {})
        results.append("")
    return Say(_answer(wishes, results, is_first=not _has_spoken(messages)))


def _wishes(said: str) -> Iterator[_Wish]:
    if _ASKS_WEATHER.search(said):
        city = next((city for city in CITIES if city.lower() in said.lower()), None)
        yield _Wish("get_forecast", {"city": city}, "weather") if city else _Wish("list_cities", {}, "weather")
    if _ASKS_WHO.search(said):
        yield _Wish("whoami", {}, "notes")
    if adds := _ADDS_NOTE.search(said) or _WRITES_DOWN.search(said):
        text = _FILLER.sub("", adds["rest"]).strip() or "A note from the demo chat"
        yield _Wish("create_note", {"title": text.splitlines()[0][:80], "body": text[:2000]}, "notes")
    elif _ASKS_NOTES.search(said):
        yield _Wish("list_notes", {}, "notes")


def _answer(wishes: Sequence[_Wish], results: Sequence[str], *, is_first: bool) -> str:
    parts = [WHAT_I_AM] if is_first else []
    parts += [_report(wish, result) for wish, result in zip(wishes, results, strict=False)]
    return "\n\n".join(parts) if wishes else "\n\n".join([*parts, CAN_DO])


def _report(wish: _Wish, result: str) -> str:
    if not result:
        return f"I have no tool for the {wish.about} here. An admin can switch one on, on the agent's Tools page."
    value = _json(result)
    if isinstance(value, dict) and isinstance(value.get("notes"), list):
        lines = [f"- **{note.get('title')}**: {note.get('body')}" for note in value["notes"][:5]]
        return "\n".join([f"You have {value.get('total')} notes. The newest:", "", *lines])
    if isinstance(value, dict) and wish.tool == "create_note" and "id" in value:
        return f"Done. I wrote the note **{value.get('title')}** (`{value['id']}`)."
    if isinstance(value, dict) and wish.tool == "whoami" and "name" in value:
        return f"The notes belong to **{value['name']}**."
    if isinstance(value, dict) and isinstance(value.get("cities"), list):
        names = ", ".join(str(city.get("name")) for city in value["cities"])
        return f"I can look up the weather for {names}. Which one?"
    if _NEEDS_CONNECTION.search(result):
        return f"I could not reach the {wish.about}: a connection is needed. Connect, then ask me again."
    lines = result.strip()[:1500].splitlines()
    return "\n".join([f"{lines[0].rstrip(':')}:", "", *(f"- {line}" for line in lines[1:])] if lines[1:] else lines)


def _has_spoken(messages: Sequence[dict[str, Any]]) -> bool:
    return any(each.get("role") == "assistant" and _text(each).strip() for each in messages)


def _text(message: dict[str, Any]) -> str:
    """A message's content, which is a text or a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
