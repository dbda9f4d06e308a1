"""The tools a server was seen to offer (features S8): kept in the database, so that a dead server blocks no list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from aster.accounts.models import User
from integrations.models import McpServer, Tool


def store_tools(
    server: McpServer, definitions: Sequence[dict[str, Any]], *, seen_by: User | None, now: datetime
) -> None:
    """Bring the catalogue in line with a listing just seen.

    Servers may show each person other tools, so on a server with personal sign-in a tool is gone only when the person
    who saw it last no longer does.
    """
    seen = {str(definition["name"]): definition for definition in definitions}
    with transaction.atomic():
        # Two listings at once must not both insert the same tool.
        McpServer.objects.select_for_update().get(pk=server.pk)
        stored = {tool.name: tool for tool in server.tools.all()}
        common: dict[str, Any] = {"last_seen_at": now, "last_seen_by": seen_by, "gone_at": None}
        new = [
            Tool(server=server, name=name, definition=definition, first_seen_at=now, **common)
            for name, definition in seen.items()
            if name not in stored
        ]
        Tool.objects.bulk_create(new, batch_size=200)
        for name in seen.keys() & stored.keys():
            if stored[name].definition != seen[name]:
                server.tools.filter(name=name).update(definition=seen[name])
        known = [tool.pk for name, tool in stored.items() if name in seen]
        gone = [tool for name, tool in stored.items() if name not in seen and tool.gone_at is None]
        if server.needs_person:
            gone = [tool for tool in gone if tool.last_seen_by_id in (None, seen_by.pk if seen_by else None)]
        server.tools.filter(pk__in=known).update(**common)
        server.tools.filter(pk__in=[tool.pk for tool in gone]).update(gone_at=now)
        McpServer.objects.filter(pk=server.pk).update(tools_synced_at=now)


def tools_of(server: McpServer) -> QuerySet[Tool]:
    """The tools a server offers as far as Aster knows; asks nobody."""
    return server.tools.filter(gone_at=None)
