"""The audit trail in words: what was done, to what, and which values changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aster.accounts.audit import REDACTED
from aster.accounts.models import AuditEvent

# What people read for what services record; anything else reads as its own name.
ACTIONS = {
    "created": "created",
    "updated": "changed",
    "deleted": "deleted",
    "enabled": "switched on",
    "disabled": "switched off",
    "assigned": "assigned servers to",
    "switched_tools": "switched tools of",
    "set_approver": "set who approves calls of",
    "approved": "approved",
    "denied": "denied",
    "connected": "connected",
    "disconnected": "disconnected",
    "connection_error": "lost the connection",
    "registered": "registered a client for",
    "sign_in_failed": "could not sign in at",
    "revoked": "revoked",
    "allowed": "let in",
    "tools_changed": "saw changed tools at",
    "accepted_change": "accepted the change of",
    "deleted_old_calls": "deleted old tool calls of",
    "deleted_old_changes": "deleted old changes from the activity of",
}
OBJECTS = {
    "agent": "agent",
    "mcpserver": "MCP server",
    "authconfig": "auth config",
    "connection": "connection",
    "llmconfig": "LLM config",
    "membership": "member",
    "apikey": "API key",
    "organization": "organization",
    "sessionticket": "session ticket",
    "connectedapp": "app",
    "tool": "tool",
    "approval": "approval",
    "scheduledtask": "scheduled task",
}
VIAS = {
    **{"page": "Hub", "api": "API", "gateway": "MCP client", "cli": "Command line", "task": "Background"},
    "schedule": "Scheduled task",
    "embed": "Embedded page",
    "a2a": "A2A client",
}
TONES = {
    "created": ("ok", "plus"),
    "connected": ("ok", "link"),
    "allowed": ("ok", "link"),
    "enabled": ("ok", "check"),
    "deleted": ("error", "trash"),
    "revoked": ("error", "close"),
    "connection_error": ("error", "alert"),
    "disconnected": ("warn", "unlink"),
    "sign_in_failed": ("warn", "alert"),
    "disabled": ("warn", "pause"),
    "tools_changed": ("warn", "warning"),
    "accepted_change": ("ok", "check"),
    "deleted_old_calls": ("", "trash"),
    "deleted_old_changes": ("", "trash"),
}
LONGEST = 2000


@dataclass(frozen=True)
class Change:
    """One value before and after, as texts; for lists what was added and removed."""

    field: str
    before: str | None
    after: str | None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def is_long(self) -> bool:
        return any(text and (len(text) > 80 or "\n" in text) for text in (self.before, self.after))


def action_words(event: AuditEvent) -> str:
    return ACTIONS.get(event.action, event.action.replace("_", " "))


def object_words(event: AuditEvent) -> str:
    return OBJECTS.get(event.object_type, event.object_type)


def via_words(row: Any) -> str:
    """How an audited change or a tool call came about."""
    via: str = row.via
    return VIAS.get(via, via)


def describe_changes(event: AuditEvent) -> list[Change]:
    """The changes of an event for people. What a new object simply has not got is left out."""
    if not isinstance(event.changes, dict):
        return []
    return [change for name, pair in event.changes.items() for change in _describe(event.action, str(name), pair)]


def _describe(action: str, name: str, pair: Any) -> Iterator[Change]:
    if not isinstance(pair, list) or len(pair) != 2:
        return
    before, after = pair
    if action in ("created", "deleted") and _is_empty(before) and _is_empty(after):
        return
    label = name.replace("_", " ")
    label = label[:1].upper() + label[1:]
    if isinstance(before, list) and isinstance(after, list) and action not in ("created", "deleted"):
        old, new = [_words(each) or "" for each in before], [_words(each) or "" for each in after]
        added = tuple(each for each in new if each not in old)
        removed = tuple(each for each in old if each not in new)
        if added or removed:
            yield Change(label, None, None, added, removed)
            return
    yield Change(label, _words(before), _words(after))


def _is_empty(value: Any) -> bool:
    return value in (None, "", [], {})


def _words(value: Any) -> str | None:
    if _is_empty(value):
        return None
    if value == REDACTED:
        return "a secret"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        text = ", ".join(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
