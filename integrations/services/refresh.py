"""Keeping grants alive. The only code that reads or writes tokens after sign-in.

Single-flight by the database alone (docs/decisions/0003): a process claims the row with one conditional UPDATE, talks
to the provider with no transaction open, and stores the answer only over the generation it started from. Whoever does
not get the claim waits, and takes what the row says afterwards. A process that dies leaves a claim that runs out.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, close_old_connections, transaction
from django.db import connection as database
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now
from django.utils import timezone

from aster import egress
from aster.accounts import audit
from aster.accounts.access import Actor
from aster.errors import AsterError, ConnectionRequired, UpstreamError
from integrations.models import AuthType, Connection, ConnectionStatus, RefreshOutcome
from integrations.oauth import token_requests, tokens
from integrations.oauth.tokens import id_token_ran_out
from integrations.services import ledger
from integrations.services.grants import (
    TOKEN_REQUEST_SECONDS,
    Subject,
    forget_client,
    is_pasted_client,
    request_token,
    revoke_tokens,
)

logger = logging.getLogger(__name__)

# Longer than the slowest token request and the waits to store its answer: no claim runs out under a live holder.
LEASE = timedelta(seconds=45)
WAIT_SECONDS = 20.0
# Quick at first: some providers take a spent token again for half a minute, in case their answer was lost.
_BACKOFF = (5, 15, 30, 60, 120, 300, 600)
_LONGEST_BACKOFF = 3600.0
# People who call tools do not wait out a long back-off: after this, a call asks the provider again.
_CALLERS_BACKOFF = timedelta(seconds=60)
# What a renewed grant leaves behind: claims and troubles.
SETTLED: dict[str, Any] = {
    **{"status": ConnectionStatus.CONNECTED, "claim": None, "claimed_until": None},
    **{"failures": 0, "last_error": "", "last_error_at": None},
}
_STORE_PAUSES = (0.2, 1.0, 2.0, 4.0, 8.0)


def fresh_access_token(connection: Connection, *, rejected: str | None = None, just_read: bool = False) -> str:
    """An access token to send now. The row is read again, unless it was `just_read`.

    `rejected` is a token the server just answered 401 to: unless somebody refreshed meanwhile, this forces one refresh.
    Raises ConnectionRequired when only the person can help, UpstreamError(retryable) when the provider is in trouble
    and no usable token is left.
    """
    row = connection if just_read else _load(connection.pk)
    if row.status == ConnectionStatus.ERROR:
        raise needs_reconnect(row)
    forced = rejected is not None and row.access_token == rejected
    if forced or not row.is_fresh(timezone.now()):
        if _is_backing_off(row):
            raise _not_renewed(row)
        row = refresh(row, forced=forced, reason="rejected" if forced else "call")
        if row.access_token == rejected:
            mark_rejected(row, "the provider answers with the same token again.")
            raise needs_reconnect(row)
    _note_use(row)
    token: str = row.access_token
    return token


def refresh(connection: Connection, *, forced: bool = False, reason: str = "call") -> Connection:
    """Refresh one grant, or wait for the process that is already doing it.

    `connection` is the row as it was read last. Returns it as stored afterwards: a newer grant or, unless `forced`, the
    old one while it lasts. Raises as fresh_access_token().
    """
    give_up = time.monotonic() + WAIT_SECONDS
    claim = claim_connection(connection)
    while claim is None and _holder_died(connection, give_up):
        claim = claim_connection(connection)
    if claim:
        _renew(connection, claim, reason)
    row = _load(connection.pk)
    if row.status == ConnectionStatus.ERROR:
        raise needs_reconnect(row)
    if row.generation != connection.generation or (row.is_fresh(timezone.now()) and not forced):
        return row
    raise _not_renewed(row)


def refresh_if_due(pk: int) -> AsterError | None:
    """Refresh one grant in the background if its time has come and nobody is at it. Returns what went wrong, if so."""
    due = Connection.objects.due(timezone.now()).select_related("auth_config__organization", "user")
    row = due.filter(pk=pk).first()
    claim = claim_connection(row) if row else None
    return _renew(row, claim, "background") if row and claim else None


def claim_connection(connection: Connection) -> uuid.UUID | None:
    """Take the row for one exchange with the provider; None if another process has it or it is not as it was read."""
    claim = uuid.uuid4()
    unchanged = Q(
        pk=connection.pk,
        generation=connection.generation,
        failures=connection.failures,
        status=ConnectionStatus.CONNECTED,
    )
    died = _died_holding(connection)
    taken = Connection.objects.filter(is_free(), unchanged).update(**claimed_values(claim))
    if taken and died:
        ledger.keep(ledger.abandoned(connection, died))
    return claim if taken else None


def is_free() -> Q:
    """No process holds the row. The database's clock alone decides when a claim has run out: machines' may differ."""
    return Q(claimed_until=None) | Q(claimed_until__lt=Now())


def claimed_values(claim: uuid.UUID) -> dict[str, Any]:
    return {"claim": claim, "claimed_until": Now() + LEASE, "claimed_by": ledger.this_process()}


def _died_holding(connection: Connection) -> str:
    """The process whose claim ran out before it said how its request ended; empty if there is none."""
    ran_out = Connection.objects.filter(pk=connection.pk, claimed_until__lt=Now()).exclude(claim=None)
    return ran_out.order_by("pk").values_list("claimed_by", flat=True).first() or ""


def release_claim(connection: Connection, claim: uuid.UUID) -> None:
    Connection.objects.filter(pk=connection.pk, claim=claim).update(claim=None, claimed_until=None)


def _holder_died(connection: Connection, give_up: float) -> bool:
    """Wait while another process holds the row. True if its claim ran out, False if it is done or time is up."""
    held = Connection.objects.filter(
        pk=connection.pk, generation=connection.generation, status=ConnectionStatus.CONNECTED
    ).exclude(claim=None)
    ran_out = ExpressionWrapper(Q(claimed_until__lt=Now()), output_field=BooleanField())
    pause = 0.02
    while time.monotonic() < give_up:
        leave_database()
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
        state = held.order_by("pk").values_list(ran_out, flat=True).first()
        if state is None or state:
            return bool(state)
    return False


def _renew(held: Connection, claim: uuid.UUID, reason: str) -> AsterError | None:
    """One exchange with the provider, under a claim. The row says afterwards how it ended; so does the return value."""
    started = time.monotonic()
    try:
        subject = find_subject(held)
        leave_database()
        with egress.deadline(TOKEN_REQUEST_SECONDS):
            answer = request_token(held.auth_config, held, subject)
    except AsterError as trouble:
        note_trouble(held, claim, trouble, reason, seconds=time.monotonic() - started)
        return trouble
    except BaseException:
        release_claim(held, claim)
        raise
    store_refreshed(held, answer, reason, seconds=time.monotonic() - started)
    return None


def note_trouble(held: Connection, claim: uuid.UUID, trouble: AsterError, reason: str, *, seconds: float) -> None:
    """The provider gave no tokens: either the grant is over, or it is kept for another try."""
    if isinstance(trouble, tokens.TokenRefused) and trouble.error == "invalid_client":
        forget_client(held)
    if not _ends_grant(held, trouble):
        lost = isinstance(trouble, tokens.TokenUnavailable) and trouble.lost
        outcome = RefreshOutcome.UNANSWERED if lost else RefreshOutcome.POSTPONED
        ledger.write(held, outcome, reason, generation=held.generation, detail=trouble.message, seconds=seconds)
        _postpone(held, claim, trouble)
        return
    words = trouble.message
    if isinstance(trouble, tokens.TokenRefused) and trouble.error == "invalid_grant" and ledger.lost_answer(held):
        words = f"The answer to an earlier renewal never arrived, and the provider takes no token twice. {words}"
    ledger.write(held, RefreshOutcome.REFUSED, reason, generation=held.generation, detail=words, seconds=seconds)
    _mark_error(held, words, claim=claim)


def find_subject(connection: Connection) -> Subject | None:
    """The token a derived grant is obtained with: what a script handed in, or the person's own sign-in at the source.

    None for grants of their own. Raises ConnectionRequired if the person has to sign in at the source first.
    """
    auth = connection.auth_config
    source = auth.subject_config
    if not auth.is_derived or source is None:
        return None
    if connection.subject_token:
        return Subject(connection.subject_token, connection.subject_token_type, source)
    theirs = Connection.objects.filter(auth_config=source, user=connection.user).first()
    if theirs is None:
        raise ConnectionRequired(f"Connect your account at {source} first.", extra={"auth_config_id": source.pk})
    token = fresh_access_token(theirs)
    if auth.auth_type == AuthType.TOKEN_EXCHANGE:
        return Subject(token, token_requests.ACCESS_TOKEN, source)
    theirs = _load(theirs.pk)
    if theirs.id_token and theirs.can_refresh and id_token_ran_out(theirs.id_token, timezone.now()):
        # It may end before the access token does; the provider gives a new one with the next.
        theirs = refresh(theirs, forced=True)
    id_token = theirs.id_token
    if not id_token:
        raise UpstreamError(
            f"{source} gave no ID token, which {auth} needs.",
            step="token", code="id_token_missing",
            hint=f"An admin can add the scope openid to {source}; then connect there again.",
        )  # fmt: skip
    return Subject(id_token, token_requests.ID_TOKEN, source)


def leave_database() -> None:
    """Give the connection back before waiting: a provider may take long, and a pool has only so many."""
    if not database.in_atomic_block:
        database.close()


def _ends_grant(held: Connection, trouble: AsterError) -> bool:
    """Whether the provider's answer means that this grant is over and the person must sign in again."""
    if isinstance(trouble, ConnectionRequired):  # the sign-in it is derived from is over
        return True
    if not isinstance(trouble, tokens.TokenRefused) or not trouble.permanent:
        return False
    # invalid_client says nothing about the grant (RFC 6749 §5.2): it works again once an admin pastes the right secret.
    # A client that Aster registered itself has nobody to do that.
    return not (trouble.error == "invalid_client" and is_pasted_client(held.auth_config, held))


def store_refreshed(held: Connection, answer: tokens.TokenSet, reason: str = "call", *, seconds: float = 0.0) -> None:
    """Store a new grant over the generation it came from; it wins even if the claim ran out meanwhile.

    If the connection was removed while the provider answered, the new grant is revoked instead of orphaned.
    """
    values = stored_values(held, answer)
    unchanged = Connection.objects.filter(pk=held.pk, generation=held.generation)

    def write() -> int:
        with transaction.atomic():
            stored = unchanged.update(**values)
            if stored:
                generation = held.generation + 1
                ledger.write(held, RefreshOutcome.RENEWED, reason, generation=generation, seconds=seconds)
        return stored

    if insist(write):
        return
    if Connection.objects.filter(auth_config=held.auth_config_id, user=held.user_id).exists():
        # Not revoked: at many providers that would end the newer grant of the same person and client as well.
        logger.warning("A refreshed grant of connection %s came after a newer one and was dropped.", held.pk)
        if Connection.objects.filter(pk=held.pk).exists():
            words = "A newer grant was stored meanwhile."
            ledger.write(held, RefreshOutcome.DROPPED, reason, generation=held.generation, detail=words)
        return
    revoke_tokens(
        held.auth_config, held, access_token=values["access_token"], refresh_token=values["refresh_token"] or None
    )


def stored_values(held: Connection, answer: tokens.TokenSet) -> dict[str, Any]:
    """The columns of a renewed grant: the next generation, with nothing left of claims and troubles."""
    now, merged = timezone.now(), answer.merged_with(tokens.TokenSet("", refresh_token=held.refresh_token))
    return {
        "access_token": merged.access_token,
        "refresh_token": merged.refresh_token or "",
        **({"id_token": merged.id_token} if merged.id_token else {}),
        "expires_at": merged.expires_at,
        "scopes": merged.scopes or held.scopes,
        "generation": held.generation + 1,
        "refresh_at": next_refresh(now, merged.expires_at, can_refresh=held.can_refresh),
        "refreshed_at": now,
        **SETTLED,
    }


def insist(write: Callable[[], int]) -> int:
    """Write even if the database fails over or is locked: nobody else knows these tokens, the old ones are spent."""
    for pause in _STORE_PAUSES:
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            logger.warning("A new grant could not be stored yet: %s", type(error).__name__)
            close_old_connections()
            time.sleep(pause)
    return write()


def next_refresh(now: datetime, expires_at: datetime | None, *, can_refresh: bool) -> datetime | None:
    """When to refresh in the background: well before the end, never all at once (jitter), not at all if it cannot."""
    if expires_at is None or not can_refresh:
        return None
    lifetime = (expires_at - now).total_seconds()
    lead = min(max(lifetime * 0.2, 20.0), 300.0, lifetime * 0.5)
    return max(now + timedelta(seconds=1), expires_at - timedelta(seconds=lead * random.uniform(1.0, 1.25)))  # noqa: S311


def _postpone(held: Connection, claim: uuid.UUID, trouble: AsterError) -> None:
    """The provider is in trouble: keep the grant and come back later, when it said or ever less often."""
    now = timezone.now()
    wait = getattr(trouble, "retry_after", None) or _BACKOFF[min(held.failures, len(_BACKOFF) - 1)]
    wait = min(float(wait), _LONGEST_BACKOFF) * random.uniform(1.0, 1.2)  # noqa: S311
    Connection.objects.filter(pk=held.pk, claim=claim, generation=held.generation).update(
        claim=None,
        claimed_until=None,
        failures=held.failures + 1,
        refresh_at=now + timedelta(seconds=wait),
        last_error=trouble.message[:500],
        last_error_at=now,
    )


def _is_backing_off(row: Connection) -> bool:
    if not row.failures or row.refresh_at is None or row.last_error_at is None:
        return False
    return timezone.now() < min(row.refresh_at, row.last_error_at + _CALLERS_BACKOFF)


def _mark_error(held: Connection, message: str, *, claim: uuid.UUID | None = None) -> None:
    """The grant is over. One that somebody renewed meanwhile (newer generation) is left alone; nothing is deleted."""
    rows = Connection.objects.filter(pk=held.pk, generation=held.generation, status=ConnectionStatus.CONNECTED)
    rows = rows.filter(claim=claim) if claim else rows
    with transaction.atomic():
        marked = rows.update(
            status=ConnectionStatus.ERROR,
            claim=None,
            claimed_until=None,
            refresh_at=None,
            last_error=message[:500],
            last_error_at=timezone.now(),
        )
        if marked:
            changes = {"status": ["connected", "connection_error"], "reason": [None, message[:500]]}
            audit.record(Actor.system(held.auth_config.organization), "connection_error", held, changes)


def mark_rejected(connection: Connection, message: str) -> None:
    """The server refuses a token the provider has just renewed: flag the connection instead of failing silently.

    Not if the person has signed in again since `connection` was read, and not the organization's own connection, which
    nobody can sign in to.
    """
    rows = Connection.objects.select_related("auth_config__organization", "user")
    current = rows.filter(pk=connection.pk, connected_at=connection.connected_at).exclude(user=None).first()
    if current is not None:
        _mark_error(current, f"The server does not accept your sign-in: {message}")


def needs_reconnect(connection: Connection) -> ConnectionRequired:
    whose = "Your connection" if connection.user_id else "The organization's connection"
    return ConnectionRequired(
        f"{whose} to {connection.auth_config} needs to be reconnected before this can be used.",
        extra={"auth_config_id": connection.auth_config_id, "status": ConnectionStatus.ERROR},
    )


def _not_renewed(row: Connection) -> UpstreamError:
    reason = row.last_error or "another process is still waiting for the provider."
    return UpstreamError(
        f"{row.auth_config} could not renew the sign-in: {reason}",
        step="token", retryable=True, hint="The connection is kept. Try again in a minute.",
    )  # fmt: skip


def _load(pk: int) -> Connection:
    row = Connection.objects.select_related("auth_config__organization", "user").filter(pk=pk).first()
    if row is None:
        raise ConnectionRequired("This connection was removed. Connect again.")
    return row


def is_use_noted(connection: Connection, now: datetime) -> bool:
    """Whether the row tells of a use within the last minute, which is as exact as it gets."""
    return connection.last_used_at is not None and connection.last_used_at >= now - timedelta(minutes=1)


def _note_use(connection: Connection) -> None:
    now = timezone.now()
    if not is_use_noted(connection, now):
        Connection.objects.filter(pk=connection.pk).update(last_used_at=now)
