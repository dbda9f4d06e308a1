"""What differs between two values, in lines for people: two that differ never look the same."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any

LONGEST = 100
BEFORE = 20  # characters of what is the same that are left before the first that is not


def told(name: str, old: Any, new: Any) -> Iterator[str]:
    """Of maps the entries that differ, of long lists what went and came, of texts the lines."""
    if isinstance(new, dict) and isinstance(old, dict | None) and (old or new):
        yield from _entries(name, old or {}, new)
    elif isinstance(new, str) and isinstance(old, str | None) and "\n" in f"{old or ''}{new}":
        yield f"{name}:"
        yield from (f"    {line}" for line in _lines(old or "", new))
    elif isinstance(new, list) and isinstance(old, list) and len(f"{old}{new}") > LONGEST:
        yield f"{name}: {len(old)} → {len(new)}; {_items(old, new)}"
    else:
        before, after = _pair(old, new)
        yield f"{name}: {before} → {after}"


def _entries(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if key in old and key in new and before is not None and after is not None:
            if before != after:
                yield from told(f"{name}.{key}", before, after)
        elif (key in old, before) != (key in new, after):
            shown = [
                _short(value) if value is not None or key not in there else "null"
                for value, there in ((before, old), (after, new))
            ]
            yield f"{name}.{key}: {shown[0]} → {shown[1]}"


def _lines(old: str, new: str) -> Iterator[str]:
    # Not splitlines: to it, other characters that end a line are all the same.
    before, after = old.removesuffix("\n"), new.removesuffix("\n")
    lines = difflib.unified_diff(before.split("\n") if old else [], after.split("\n") if new else [], n=1, lineterm="")
    yield from list(lines)[2:]
    if old and new and old.endswith("\n") != new.endswith("\n"):
        yield "line break at the end: " + ("yes → no" if old.endswith("\n") else "no → yes")


def _items(old: list[Any], new: list[Any]) -> str:
    gone, come = _without(old, new), _without(new, old)
    if not gone and not come:
        return "in another order"
    before, after = _pair(gone, come)
    return f"without {before}, with {after}"


def _without(some: list[Any], others: list[Any]) -> list[Any]:
    """What is in `some` more often than in `others`."""
    left, found = list(others), []
    for each in some:
        if each in left:
            left.remove(each)
        else:
            found.append(each)
    return found


def _pair(old: Any, new: Any) -> tuple[str, str]:
    """Both in short, from where they part if that is further on."""
    if old is None or new is None:
        return _short(old), _short(new)
    before, after = _as_text(old), _as_text(new)
    if max(len(before), len(after)) <= LONGEST:
        return before, after
    pairs = enumerate(zip(before, after, strict=False))
    start = next((n for n, (a, b) in pairs if a != b), min(len(before), len(after))) - BEFORE
    return _cut(before, start), _cut(after, start)


def _cut(text: str, start: int) -> str:
    if start <= 0:
        return _short_text(text)
    rest, lead = text[start:], '"…' if text.startswith('"') else "…"
    return f"{lead}{rest}" if len(rest) <= LONGEST else f"{lead}{rest[: LONGEST - 1]}… ({len(text):,} characters)"


def _short(value: Any) -> str:
    return "–" if value is None else _short_text(_as_text(value))


def _short_text(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}… ({len(text):,} characters)"


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
