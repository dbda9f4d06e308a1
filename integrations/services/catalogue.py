"""The tools a server was seen to offer (features S8): kept in the database, so that a dead server blocks no list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from aster.accounts.models import User
from aster.errors import NotFound
from integrations.models import McpServer, Tool
from integrations.models.servers import ToolQuerySet
from integrations.services.definitions import is_same


@dataclass(frozen=True)
class Drift:
    """The names of a server's quarantined tools before and after a listing."""

    before: list[str]
    after: list[str]


def store_tools(
    server: McpServer, definitions: Sequence[dict[str, Any]], *, seen_by: User | None, now: datetime
) -> Drift:
    """Bring the catalogue in line with a listing just seen. Known tools keep their approved definition (features S9).

    Servers may show each person other tools, so on a server with personal sign-in a tool is gone only when the person
    who saw it last no longer does.
    """
    seen = {str(definition["name"]): definition for definition in definitions}
    with transaction.atomic():
        # Two listings at once must not both insert the same tool.
        locked = McpServer.objects.select_for_update().filter(pk=server.pk)
        takes_changes = locked.values_list("takes_changes", flat=True).get()
        stored = {tool.name: tool for tool in server.tools.all()}
        before = _quarantined(stored.values())
        common: dict[str, Any] = {"last_seen_at": now, "last_seen_by": seen_by, "gone_at": None}
        new = [
            Tool(server=server, name=name, definition=definition, first_seen_at=now, **common)
            for name, definition in seen.items()
            if name not in stored
        ]
        Tool.objects.bulk_create(new, batch_size=200)
        for name in seen.keys() & stored.keys():
            if _place(stored[name], seen[name], takes_changes=takes_changes, now=now):
                stored[name].save(update_fields=["definition", "changed_definition", "changed_at"])
        known = [tool.pk for name, tool in stored.items() if name in seen]
        gone = [tool for name, tool in stored.items() if name not in seen and tool.gone_at is None]
        if not server.lists_to_anybody:
            gone = [tool for tool in gone if tool.last_seen_by_id in (None, seen_by.pk if seen_by else None)]
        server.tools.filter(pk__in=known).update(**common)
        # A tool that is not offered has no change to look at. If it comes back, it is held against what was approved.
        for tool in gone:
            tool.gone_at, tool.changed_definition, tool.changed_at = now, None, None
        Tool.objects.bulk_update(gone, ["gone_at", "changed_definition", "changed_at"], batch_size=200)
        McpServer.objects.filter(pk=server.pk).update(tools_synced_at=now)
    return Drift(before, _quarantined(stored.values()))


def _place(tool: Tool, seen: dict[str, Any], *, takes_changes: bool, now: datetime) -> bool:
    """Put what a server says now where it belongs: approved or waiting. Returns whether the row is another one then."""
    waiting = tool.changed_definition
    if takes_changes or is_same(tool.definition, seen):
        # The server went back to what was approved, or only what nobody reads is new.
        is_new = waiting is not None or tool.definition != seen or not is_same(tool.definition, seen)
        tool.definition, tool.changed_definition, tool.changed_at = seen, None, None
        return is_new
    is_new = waiting is None or not is_same(waiting, seen)
    tool.changed_definition, tool.changed_at = seen, now if is_new else tool.changed_at
    return is_new or waiting != seen


def _quarantined(tools: Iterable[Tool]) -> list[str]:
    return sorted(tool.name for tool in tools if tool.is_quarantined)


def tools_of(server: McpServer) -> ToolQuerySet:
    """The tools a server offers as far as Aster knows; asks nobody."""
    return Tool.objects.filter(server=server, gone_at=None)


def find_tool(server: McpServer, name: str) -> Tool:
    tool = tools_of(server).filter(name=name).first()
    if tool is None:
        raise NotFound(f"{server} has no tool {name[:100]}.", code="unknown_tool")
    return tool
