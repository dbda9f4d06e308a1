"""The end of a connection: revoked at the provider (RFC 7009), then deleted here."""

from __future__ import annotations

import time

from django.db import transaction
from django.db.models import Exists, OuterRef

from aster.accounts import audit
from aster.accounts.access import CONNECT, Actor
from aster.accounts.models import Membership
from aster.errors import Conflict
from integrations.models import Connection, ConnectionStatus
from integrations.oauth import token_requests
from integrations.services import grants, refresh
from integrations.services.connections import find_connection

# How long disconnecting waits for a refresh in flight.
HOLD_SECONDS = 5.0


def disconnect(connection: Connection, *, actor: Actor) -> token_requests.Revocation:
    """Revoke the grant at the provider, then delete it. A provider that fails does not keep the tokens here.

    Revoking comes first: if the process dies in between, the person sees the connection and can disconnect again; the
    other way round a live grant would be forgotten. Only the grant that was revoked is deleted: one that was refreshed
    meanwhile is revoked too.
    """
    if connection.user is None or connection.user != actor.user:
        actor.require_admin()
    actor.require_scope(CONNECT)
    for _ in range(3):
        held = _hold(connection, actor)
        outcome = grants.revoke_tokens(
            held.auth_config, held, access_token=held.access_token, refresh_token=held.refresh_token
        )
        if _delete_grant(held, outcome, actor):
            return outcome
    raise Conflict(f"The connection to {connection.auth_config} keeps changing. Try again.")


def _hold(connection: Connection, actor: Actor) -> Connection:
    """The row as it is once a refresh in flight has finished, claimed against the next one; after a while without."""
    give_up = time.monotonic() + HOLD_SECONDS
    while True:
        row = find_connection(connection.pk, actor=actor)
        if row.status != ConnectionStatus.CONNECTED or refresh.claim_connection(row) or time.monotonic() > give_up:
            return row
        time.sleep(0.1)


def _delete_grant(held: Connection, outcome: token_requests.Revocation, actor: Actor) -> bool:
    with transaction.atomic():
        rows = Connection.objects.select_for_update().filter(pk=held.pk, generation=held.generation)
        if rows.order_by("pk").first() is None:
            return False
        audit.record(actor, "disconnected", held, {"revocation": [None, f"{outcome.outcome}: {outcome.words}"]})
        held.delete()
    return True


def former_members_connections() -> list[Connection]:
    """Grants whose person has left the organization; they are revoked in the background."""
    rows = Connection.objects.exclude(user=None).select_related("auth_config__organization", "user")
    member = Membership.objects.filter(user=OuterRef("user"), organization=OuterRef("auth_config__organization"))
    return list(rows.filter(~Exists(member), user__is_superuser=False)[:100])
