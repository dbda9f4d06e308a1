"""The notes behind "Acme Notes": a shelf per person, kept in memory, with something on it from the start."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from pydantic import BaseModel, Field

MAX_NOTES_EACH = 200

_SEEDS = (
    (
        "Onboarding checklist for Priya",
        "Laptop ordered, badge on Monday. Still open: payroll form, access to the data warehouse, buddy for week one.",
        ["people", "todo"],
        True,
    ),
    (
        "Quarterly review, what to say",
        "Churn went from 4.1 to 3.2 percent after the new onboarding mails. Support tickets are flat. Ask for one more "
        "engineer for the import team before talking about new markets.",
        ["planning"],
        True,
    ),
    (
        "Call with Northwind about renewal",
        "They want single sign-on and a longer audit log. Budget is agreed. Send the order form by Thursday and loop "
        "in legal for the data processing addendum.",
        ["sales", "northwind"],
        False,
    ),
    (
        "Incident: slow search on Tuesday",
        "Index rebuild ran at noon. Moved it to 03:00 and added an alert at 800 ms. Follow-up: page the owner, not the "
        "whole team.",
        ["incident", "search"],
        False,
    ),
    ("Books people recommended", "Thinking in Systems, The Mom Test, An Elegant Puzzle.", ["reading"], False),
    (
        "Offsite ideas",
        "Two days, one hour by train, rooms with daylight. Walk on the first afternoon, planning on the second day.",
        ["team", "planning"],
        False,
    ),
)

Order = Literal["newest", "oldest", "title"]


class Note(BaseModel):
    """One note as tools return it."""

    id: str = Field(description="Identifier, as delete_note takes it")
    title: str
    body: str
    tags: list[str]
    pinned: bool
    written_on: date


class NoteList(BaseModel):
    """Notes and how many there would have been without a limit."""

    notes: list[Note]
    total: int = Field(ge=0, description="How many notes fit, before any limit")


class NoteShelf:
    """All notes of one person; ids are never given out twice."""

    def __init__(self, today: date) -> None:
        self._notes: dict[str, Note] = {}
        self._last = 0
        for age, (title, body, tags, pinned) in enumerate(_SEEDS):
            self.add(title, body, tags, pinned=pinned, written_on=today - timedelta(days=1 + 3 * age))

    def add(self, title: str, body: str, tags: list[str], *, pinned: bool, written_on: date) -> Note:
        """Store a note and return it. Raises ValueError when the shelf is full."""
        if len(self._notes) >= MAX_NOTES_EACH:
            raise ValueError(f"There is room for {MAX_NOTES_EACH} notes. Delete one first.")
        self._last += 1
        note = Note(id=f"note-{self._last}", title=title, body=body, tags=tags, pinned=pinned, written_on=written_on)
        self._notes[note.id] = note
        return note

    def remove(self, note_id: str) -> Note:
        """Delete a note and return it. Raises KeyError if there is none of that id."""
        return self._notes.pop(note_id)

    def select(self, *, order: Order, pinned_only: bool, since: date | None) -> list[Note]:
        """Return the notes that fit, in that order."""
        fitting = [
            note
            for note in self._notes.values()
            if (note.pinned or not pinned_only) and (since is None or note.written_on >= since)
        ]
        if order == "title":
            return sorted(fitting, key=lambda note: note.title.casefold())
        return sorted(fitting, key=lambda note: note.written_on, reverse=order == "newest")

    def search(self, query: str) -> list[Note]:
        """Return the notes that contain every word of the query, newest first."""
        words = query.casefold().split()
        return [note for note in self.select(order="newest", pinned_only=False, since=None) if _contains(note, words)]


def _contains(note: Note, words: list[str]) -> bool:
    text = " ".join([note.title, note.body, *note.tags]).casefold()
    return all(word in text for word in words)
