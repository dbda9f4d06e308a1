"""What applying a file would change: objects to create, change and delete, setting by setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from agents.services.consequences import lost_with as lost_with_agent
from aster.configuration.current import Current
from aster.configuration.differences import told
from aster.configuration.document import Document
from aster.configuration.kinds import (
    AGENTS,
    AUTH_CONFIGS,
    CONNECTOR_KIND,
    KINDS,
    SECRET,
    SECRETS,
    SERVERS,
    Kind,
    Values,
    own_names,
)
from aster.configuration.reading import Problems
from aster.configuration.secrets import HOW, NONE, Secret
from integrations.services.consequences import lost_with as lost_with_server

CREATE, CHANGE, DELETE = "create", "change", "delete"
MARKS = {CREATE: "+", CHANGE: "~", DELETE: "-"}
_DONE = {CREATE: "to create", CHANGE: "to change", DELETE: "to delete"}


@dataclass(frozen=True)
class Setting:
    """One setting before and after; of a secret only that there is one: stored, set, changes.

    `secret` is the stored one, so that a plan in which it was another is no longer the same.
    """

    name: str
    old: Any
    new: Any
    secret: Any = field(default=None, repr=False)

    def lines(self) -> Iterator[str]:
        return told(self.name, self.old, self.new)


@dataclass(frozen=True)
class Change:
    """`values` are what the file wants of the object, secrets included; no part of what is shown or compared."""

    action: str
    kind: Kind = field(compare=False, repr=False)
    section: str
    key: str
    settings: tuple[Setting, ...] = ()
    values: Values = field(default_factory=dict, compare=False, repr=False)
    # What goes with a deleted object, in words. It may be more by the time of the yes, as with any other deletion.
    lost: tuple[str, ...] = field(default=(), compare=False)

    @property
    def title(self) -> str:
        return f"{self.kind.word} {self.key}".strip()

    def as_json(self) -> dict[str, Any]:
        told = {each.name: {"old": each.old, "new": each.new} for each in self.settings}
        found = {"action": self.action, "section": self.section, "key": self.key, "settings": told}
        return found | ({"lost": list(self.lost)} if self.action == DELETE else {})


@dataclass(frozen=True)
class Plan:
    changes: tuple[Change, ...]
    # What is there and not in a section that the file has: (word, key)
    left: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    def lines(self) -> Iterator[str]:
        yield from (f"note: {each}" for each in self.notes)
        for change in self.changes:
            yield f"{MARKS[change.action]} {change.title}"
            yield from (f"    {line}" for each in change.settings for line in each.lines())
            yield from (f"    {line}" for line in change.lost)
        yield from (f"  {word} {key}: not in the file, stays (--prune deletes it)" for word, key in self.left)
        yield self.summary

    @property
    def summary(self) -> str:
        if not self.changes:
            return "Nothing to change."
        counts = {action: sum(each.action == action for each in self.changes) for action in MARKS}
        return ", ".join(f"{count} {_DONE[action]}" for action, count in counts.items() if count) + "."

    def as_json(self) -> dict[str, Any]:
        left = [{"kind": word, "key": key} for word, key in self.left]
        changes = [each.as_json() for each in self.changes]
        return {"changes": changes, "not_in_file": left, "notes": list(self.notes), "summary": self.summary}


def compare(document: Document, current: Current, *, prune: bool = False) -> Plan:
    """Raises Problems if a secret is to be kept and none is stored."""
    changes: list[Change] = []
    problems: list[str] = []
    for kind in KINDS:
        for key, given in _in_order(kind, document.wanted.get(kind.section, {})):
            stored = current.values[kind.section].get(key)
            named = _named_as_stored(kind, key, given, current)
            if kind is SERVERS and document.is_mcp_shape and stored and stored["auth_config"] == given["name"]:
                named.setdefault("auth_config", None)  # which was made of headers that are gone
            values = _filled(kind, key, named, stored or {}, document, problems)
            settings = tuple(_settings(kind, values, stored))
            if stored is None or settings:
                action = CREATE if stored is None else CHANGE
                changes.append(Change(action, kind, kind.section, key, settings, values))
    if problems:
        raise Problems(problems)
    gone = [
        (kind, key)
        for kind in reversed(KINDS)
        if kind.key and kind.section in document.wanted
        for key in current.values[kind.section]
        if key not in document.wanted[kind.section]
    ]
    if prune:
        ended = [_deletion(kind, key, document, current) for kind, key in gone]
        # Another one may get its name; what others refer to can only go after they were changed.
        first = [each for each in ended if each.kind in (AGENTS, SERVERS)]
        changes = [*first, *changes, *(each for each in ended if each not in first)]
    left = () if prune else tuple((kind.word, key) for kind, key in gone)
    return Plan(tuple(changes), left, tuple(document.notes))


def _deletion(kind: Kind, key: str, document: Document, current: Current) -> Change:
    row = current.rows[kind.section][key]
    settings: tuple[Setting, ...] = ()
    lost: list[str] = []
    if kind is CONNECTOR_KIND and row.auth_config and (count := row.auth_config.connections.count()):
        settings = (Setting("connected people", count, 0),)
    elif kind is SERVERS:
        server = copy(row)
        if server.auth_config and document.keeps_auth_config(server.auth_config.name):
            server.auth_config = None
        lost = lost_with_server(server)
    elif kind is AGENTS:
        lost = lost_with_agent(row)
    return Change(DELETE, kind, kind.section, key, settings, lost=tuple(lost))


def _in_order(kind: Kind, objects: Mapping[str, Values]) -> list[tuple[str, Values]]:
    """Sign-ins that are derived from others come after them."""
    return sorted(objects.items(), key=lambda one: kind is AUTH_CONFIGS and bool(one[1].get("subject_config")))


def _named_as_stored(kind: Kind, key: str, given: Values, current: Current) -> Values:
    if "tool_scopes" not in given:
        return dict(given)
    scopes: dict[str, list[str]] = given["tool_scopes"]
    if kind is AGENTS:
        return {**given, "tool_scopes": {current.file_name(name): each for name, each in scopes.items()}}
    return {**given, "tool_scopes": own_names(scopes, key, but=current.tools_of(kind.section, key))}


def _filled(kind: Kind, key: str, given: Values, stored: Values, document: Document, problems: list[str]) -> Values:
    """The secrets to keep in the places where the file says so."""

    def kept(value: Secret | None, old: Secret | None, place: str) -> Secret | None:
        if value is None and old is None:
            problems.append(document.say(kind, key, f"{place}: nothing is stored yet; {HOW}"))
        return old if value is None else value

    for name, value in given.items():
        shape = kind.settings[name].shape
        if shape == SECRET:
            given[name] = kept(value, stored.get(name), name)
        elif shape == SECRETS:
            old = stored.get(name) or {}
            given[name] = {each: kept(text, old.get(each), f"{name}.{each}") for each, text in value.items()}
    return given


def _settings(kind: Kind, values: Values, stored: Values | None) -> Iterator[Setting]:
    for name, value in values.items():
        old = (stored or {}).get(name)
        if stored is not None and old == value:
            continue
        shape = kind.settings[name].shape
        if shape == SECRET:
            if old or value != NONE:
                new = None if value == NONE else "changes" if old else "set"
                yield Setting(name, "stored" if old else None, new, secret=old)
        elif shape == SECRETS:
            said = {each: _told(text, (old or {}).get(each)) for each, text in value.items()}
            yield Setting(name, dict.fromkeys(old, "stored") if old is not None else None, said, secret=old)
        else:
            yield Setting(name, old, value)


def _told(value: Secret, old: Secret | None) -> str:
    return "set" if old is None else "stored" if value == old else "changes"
