"""The drift inbox (features S9): tools whose definition changed since it was approved, and letting them in.

`Tool.definition` is what was approved and is offered, `Tool.changed_definition` what the server says now. Whoever wants
to change what a model is told by changing a tool's description later has to get past a person here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Lower

from aster.accounts import audit
from aster.accounts.access import Actor
from aster.errors import Conflict, NotFound
from integrations.models import McpServer, Tool
from integrations.services.definitions import differences, digest_of

# The audit row of an accepted change tells this many differences; more are counted.
MAX_AUDITED = 50


@dataclass(frozen=True)
class Accepted:
    """What came of accepting several changes: those let in, and those that had changed again and wait on."""

    tools: list[Tool]
    left: list[Tool]


def waiting_changes(actor: Actor) -> QuerySet[Tool]:
    """The tools that wait for an admin to look at them."""
    actor.require_admin()
    rows = Tool.objects.filter(server__organization=actor.organization, changed_definition__isnull=False)
    return rows.select_related("server").order_by(Lower("server__name"), "server_id", "name")


def find_change(pk: int, *, actor: Actor) -> Tool:
    tool = waiting_changes(actor).filter(pk=pk).first()
    if tool is None:
        raise NotFound("No change of this tool waits. Somebody accepted it, or the server took it back.")
    return tool


def require_settled(tool: Tool) -> None:
    """Refuse a tool that changed. Asked of the database: a turn reads its tools once, and may go on for minutes."""
    if Tool.objects.filter(pk=tool.pk, changed_definition__isnull=False).exists():
        raise quarantined(tool)


def quarantined(tool: Tool) -> Conflict:
    words = f"{tool} has changed at {tool.server}. It can be called again once an admin accepts the change"
    return Conflict(f"{words}, on the hub's page “Changed tools”.", code="tool_quarantined")


def shown_digest(tool: Tool) -> str:
    """What stands for the change of a quarantined tool as it is now; accepting it names this."""
    return digest_of(tool.changed_definition or {})


def accept_change(tool: Tool, *, actor: Actor, seen: str) -> Tool:
    """Let in the changed definition whose digest is `seen`: another one than was looked at is refused."""
    actor.require_admin()
    with _waiting_at(tool.server) as waiting:
        current = waiting.get(tool.pk)
        if current is None:
            raise Conflict(f"No change of {tool} waits any more.", code="nothing_waits")
        if shown_digest(current) != seen:
            raise Conflict(f"{tool} has changed again meanwhile. Look at it as it is now.", code="changed_again")
        _take(current, actor)
    return current


def accept_all(server: McpServer, *, actor: Actor, seen: Mapping[int, str]) -> Accepted:
    """Let in every change of `server` that was looked at: `seen` is tool id → digest. What changed again is left."""
    actor.require_admin()
    with _waiting_at(server) as waiting:
        shown = {pk: tool for pk, tool in waiting.items() if pk in seen}
        taken = [tool for pk, tool in shown.items() if shown_digest(tool) == seen[pk]]
        for tool in taken:
            _take(tool, actor)
    return Accepted(taken, [tool for tool in shown.values() if tool not in taken])


def take_waiting(server: McpServer, *, actor: Actor) -> None:
    """Let in whatever waits, for an admin who has the server's changes taken in without asking."""
    actor.require_admin()
    with _waiting_at(server) as waiting:
        for tool in waiting.values():
            _take(tool, actor)


@contextmanager
def _waiting_at(server: McpServer) -> Iterator[dict[int, Tool]]:
    """What waits at a server, while no listing can change it: catalogue.store_tools takes the lock too."""
    with transaction.atomic():
        locked = McpServer.objects.select_for_update().filter(pk=server.pk)
        # An unevaluated query locks nothing.
        pks = list(locked.values_list("pk", flat=True))
        yield {tool.pk: tool for tool in Tool.objects.filter(server__in=pks, changed_definition__isnull=False)}


def _take(tool: Tool, actor: Actor) -> None:
    approved, definition = tool.definition, tool.changed_definition or {}
    tool.definition, tool.changed_definition, tool.changed_at = definition, None, None
    tool.save(update_fields=["definition", "changed_definition", "changed_at"])
    audit.record(actor, "accepted_change", tool, _told(approved, definition))


def _told(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What was accepted, for the audit trail."""
    found = differences(old, new)
    told: dict[str, Any] = {".".join(each.path): [each.old, each.new] for each in found[:MAX_AUDITED]}
    if len(found) > MAX_AUDITED:
        told["further differences"] = [None, len(found) - MAX_AUDITED]
    return told
