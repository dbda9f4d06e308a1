"""Two sides of a difference, as a person reads them."""

from __future__ import annotations

import pytest

from agents.views.side_by_side import MAX_TEXT, MAX_WORDS, Piece, compare, line_of, visible
from integrations.services.definitions import Difference


def test_only_the_words_that_differ_are_marked() -> None:
    old, new = compare("Reads a file.", "Reads and sends a file.")
    assert not any(piece.changed for piece in old)
    assert [piece.text.strip() for piece in new if piece.changed] == ["and sends"]
    assert "".join(piece.text for piece in new) == "Reads and sends a file."


def test_in_long_texts_everything_between_the_first_and_the_last_difference_is_marked() -> None:
    old, new = compare("a " * MAX_WORDS + "end", "b " * MAX_WORDS + "end")
    assert (old[0].changed, old[-1]) == (True, Piece(" end"))
    assert "".join(piece.text for piece in new) == "b " * MAX_WORDS + "end"
    text = "word " * MAX_WORDS
    assert compare(text, f"{text}more")[1] == [Piece(text), Piece("more", True)]


@pytest.mark.parametrize(
    ("path", "label", "inner"),
    [
        (("description",), "Description", ""),
        (("annotations", "readOnlyHint"), "Hints", "readOnlyHint"),
        (("inputSchema", "properties", "city"), "Input “city”", ""),
        (("inputSchema", "properties", "city", "items", "type"), "Input “city”", "items.type"),
        (("inputSchema", "required"), "Input", "required"),
        (("execution", "taskSupport"), "execution", "taskSupport"),
    ],
)
def test_a_difference_is_named_as_people_name_it(path: tuple[str, ...], label: str, inner: str) -> None:
    line = line_of(Difference(path, "changed", "a", "b"))
    assert (line.label, line.path) == (label, inner)


def test_names_are_one_per_line_and_what_is_new_is_marked_whole() -> None:
    line = line_of(Difference(("inputSchema", "required"), "added", None, ["city", "days"]))
    assert (line.old, line.new) == (None, [Piece("city\ndays", True)])
    gone = line_of(Difference(("annotations",), "removed", {"readOnlyHint": True}, None))
    assert (gone.old, gone.new) == ([Piece('{\n  "readOnlyHint": true\n}')], None)


def test_a_text_without_end_is_cut_and_says_so() -> None:
    line = line_of(Difference(("description",), "added", None, "x" * (MAX_TEXT + 5)))
    assert line.new and line.new[0].text.endswith(f"… ({MAX_TEXT + 5:,} characters)")


@pytest.mark.parametrize(
    "character", ["\u200b", "\u00a0", "\u202e", "\u2028", "\ufe0f", "\U000e0041", "\u3164", "\x07"]
)
def test_nothing_stays_invisible(character: str) -> None:
    assert visible(f"a{character}b") == f"a⟨U+{ord(character):04X}⟩b"


def test_what_people_write_stays_as_it_is() -> None:
    text = "Łódź – „Größe“, 東京, 1\u2009000"
    assert visible(text) == text.replace("\u2009", "⟨U+2009⟩")
    assert visible("two\nlines\tand a tab") == "two\nlines\tand a tab"
