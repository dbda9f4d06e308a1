"""Connections as a hot path holds them: read in one go for everybody who calls, and again only where a row changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q

from aster.rows import stored_rows
from integrations.mcp_client import Target
from integrations.mcp_client.target import TokenSource
from integrations.models import Connection, McpServer
from integrations.services.access import held_token
from integrations.services.targets import build_target

# Auth config and person; None: the organization's
Holder = tuple[int, int | None]


@dataclass
class Held:
    """A connection as it was stored when it was read. Holds a token; its repr shows none."""

    connection: Connection
    row: dict[str, Any] = field(repr=False)
    used: object = None
    _targets: dict[int, tuple[McpServer, Target]] = field(default_factory=dict, repr=False)
    _token: TokenSource = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # One for all its targets: those of a server that has not changed are equal, and what is open stays open.
        self._token = held_token(self.connection)

    def target(self, server: McpServer) -> Target:
        """What reaches `server` with this connection, put together once for the same row of it."""
        known = self._targets.get(server.pk)
        if known is None or known[0] is not server:
            target = build_target(server, token_of=self._token, connection=self.connection)
            known = self._targets[server.pk] = (server, target)
        return known[1]


def load_held(wanted: Mapping[Holder, Held | None]) -> dict[Holder, Held]:
    """The connections of these holders, those there are; one query if none has changed.

    That a connection was used again makes it no other one: what is open with it stays open.
    """
    people = {user for _, user in wanted} - {None}
    whose = Q(user__in=people) | Q(user=None)
    found = Connection.objects.filter(whose, auth_config__in={auth for auth, _ in wanted}).order_by("pk")
    rows = {(row["auth_config_id"], row["user_id"]): row for row in stored_rows(found)}
    used = {holder: row.pop("last_used_at") for holder, row in rows.items()}
    held = {holder: known for holder, known in wanted.items() if known and rows.get(holder) == known.row}
    changed = {rows[holder]["id"] for holder in wanted if holder in rows and holder not in held}
    stale = {rows[holder]["id"] for holder, known in held.items() if known.used != used[holder]}
    if not changed | stale:
        return held
    for connection in found.filter(pk__in=changed | stale).select_related("auth_config__organization", "user"):
        holder = (connection.auth_config_id, connection.user_id)
        if known := held.get(holder):
            known.connection.last_used_at, known.used = connection.last_used_at, used[holder]
        else:
            held[holder] = Held(connection, rows[holder], used[holder])
    return held
