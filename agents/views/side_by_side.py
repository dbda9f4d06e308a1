"""Two sides of a difference for people: what is new is marked, and nothing in it stays invisible."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from integrations.services.definitions import Difference

MAX_WORDS, MAX_TEXT = 300, 20_000
FIELDS = {
    "title": "Title",
    "description": "Description",
    "annotations": "Hints",
    "inputSchema": "Input",
    "outputSchema": "Output",
}
_WORD = re.compile(r"\s+|\w+|[^\w\s]")
# Controls, formats (zero width, direction, tags), private and unassigned ones, and the spaces that look alike.
_UNSEEN_KINDS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})
# Letters and marks that are blank all the same: fillers, joiners and variation selectors, which can carry whole texts.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


@dataclass(frozen=True)
class Piece:
    """A stretch of a text; `changed` if the other side says something else there."""

    text: str
    changed: bool = False


@dataclass(frozen=True)
class Line:
    """One difference for people: where it is, and both sides; None where there is nothing."""

    label: str
    path: str
    kind: str
    old: list[Piece] | None
    new: list[Piece] | None


def line_of(found: Difference) -> Line:
    field, *inner = found.path
    label = FIELDS.get(field, field)
    # An input is called by its name; everything else by where it is in the schema.
    if field in ("inputSchema", "outputSchema") and len(inner) > 1 and inner[0] == "properties":
        label, inner = f"{label} “{visible(inner[1])}”", inner[2:]
    old, new = _sides(found)
    return Line(label, visible(".".join(inner)), found.kind, old, new)


def _sides(found: Difference) -> tuple[list[Piece] | None, list[Piece] | None]:
    if found.kind == "added":
        return None, [Piece(_text(found.new), True)]
    if found.kind == "removed":
        return [Piece(_text(found.old))], None
    return compare(_text(found.old), _text(found.new))


def _text(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(each, str) and each for each in value):
        value = "\n".join(value)
    text = value if isinstance(value, str) and value else json.dumps(value, indent=2, ensure_ascii=False)
    return visible(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text):,} characters)")


def visible(text: str) -> str:
    """A text with what nobody could see in it spelled out: a model reads that too."""
    return "".join(each if _is_seen(each) else f"⟨U+{ord(each):04X}⟩" for each in text)


def _is_seen(character: str) -> bool:
    if character in " \n\t":
        return True
    return unicodedata.category(character) not in _UNSEEN_KINDS and not _BLANK.match(character)


def compare(old: str, new: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts, with the words marked that are only in one of them."""
    before, after = _WORD.findall(old), _WORD.findall(new)
    start = _count_same(before, after)
    end = _count_same(before[start:][::-1], after[start:][::-1])
    left, right = before[start : len(before) - end], after[start : len(after) - end]
    same = ("".join(before[:start]), "".join(before[len(before) - end :]))
    marked = _mark(left, right)
    return _joined(same, marked[0]), _joined(same, marked[1])


def _count_same(one: list[str], other: list[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _mark(before: list[str], after: list[str]) -> tuple[list[Piece], list[Piece]]:
    if len(before) + len(after) > MAX_WORDS:
        # The time it takes grows with the square, and the texts are a stranger's.
        return [Piece("".join(before), True)], [Piece("".join(after), True)]
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        left.append(Piece("".join(before[a:b]), kind != "equal"))
        right.append(Piece("".join(after[c:d]), kind != "equal"))
    return left, right


def _joined(same: tuple[str, str], middle: list[Piece]) -> list[Piece]:
    return [piece for piece in (Piece(same[0]), *middle, Piece(same[1])) if piece.text]
