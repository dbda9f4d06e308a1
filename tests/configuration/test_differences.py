"""How a change is told: two values that differ never look the same."""

from __future__ import annotations

from typing import Any

import pytest

from aster.configuration.differences import told

LONG = [f"--argument-number-{n}" for n in range(12)]
TEXT = "x" * 150


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("a", "b", ['s: "a" → "b"']),
        (LONG, LONG[::-1], ["s: 12 → 12; in another order"]),
        (LONG, [*LONG, LONG[0]], ['s: 12 → 13; without [], with ["--argument-number-0"]']),
        ({"a": {"l": LONG}}, {"a": {"l": LONG[1:]}}, ['s.a.l: 12 → 11; without ["--argument-number-0"], with []']),
        ({"a": {"deep": {"n": 1}}}, {"a": {"deep": {"n": 2}}}, ["s.a.deep.n: 1 → 2"]),
        ({"a": None, "b": 1}, {"b": None}, ["s.a: null → –", "s.b: 1 → null"]),
        ("a\nb", "a\nb\n", ["s:", "    line break at the end: no → yes"]),
        ("a\nb\n", "a\nb", ["s:", "    line break at the end: yes → no"]),
        ("", "a\nb\n", ["s:", "    @@ -0,0 +1,2 @@", "    +a", "    +b"]),
        ("a\r\nb", "a\nb", ["s:", "    @@ -1,2 +1,2 @@", "    -a\r", "    +a", "     b"]),
        (TEXT, f"{TEXT}y", ['s: "…xxxxxxxxxxxxxxxxxxxx" → "…xxxxxxxxxxxxxxxxxxxxy"']),
    ],
)  # fmt: skip
def test_what_differs_is_seen(old: Any, new: Any, lines: list[str]) -> None:
    assert list(told("s", old, new)) == lines


def test_long_items_are_shown_from_where_they_part() -> None:
    [line] = told("s", [f"{TEXT}1", "b"], [f"{TEXT}2", "b"])
    assert 'xx1"]' in line and 'xx2"]' in line
