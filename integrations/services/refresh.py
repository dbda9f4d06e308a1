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

from django.db import InterfaceError, OperationalError, close_old_connections, transaction
from django.db import connection as database
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now
from django.utils import timezone

from aster import crypto, egress
from aster.accounts import audit
from aster.accounts.access import Actor
from aster.errors import AsterError, ConnectionRequired, UpstreamError
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, PendingAuthorization, ResourceMode
from integrations.oauth import token_requests, tokens
from integrations.services.clients import known_auth_method

logger = logging.getLogger(__name__)

TOKEN_REQUEST_SECONDS = 15.0
# Longer than the slowest token request and the waits to store its answer: no claim runs out under a live holder.
LEASE = timedelta(seconds=45)
WAIT_SECONDS = 20.0
# Quick at first: some providers take a spent token again for half a minute, in case their answer was lost.
_BACKOFF = (5, 15, 30, 60, 120, 300, 600)
_LONGEST_BACKOFF = 3600.0
# People who call tools do not wait out a long back-off: after this, a call asks the provider again.
_CALLERS_BACKOFF = timedelta(seconds=60)
_STORE_PAUSES = (0.2, 1.0, 2.0, 4.0, 8.0)


def fresh_access_token(connection: Connection, *, rejected: str | None = None) -> str:
    """An access token to send now.

    `rejected` is a token the server just answered 401 to: unless somebody refreshed meanwhile, this forces one refresh.
    Raises ConnectionRequired when only the person can help, UpstreamError(retryable) when the provider is in trouble
    and no usable token is left.
    """
    row = _load(connection.pk)
    if row.status == ConnectionStatus.ERROR:
        raise needs_reconnect(row)
    forced = rejected is not None and row.access_token == rejected
    if forced or not row.is_fresh(timezone.now()):
        if _is_backing_off(row):
            raise _not_renewed(row)
        row = refresh(row, forced=forced)
        if row.access_token == rejected:
            mark_rejected(row, "the provider answers with the same token again.")
            raise needs_reconnect(row)
    _note_use(row)
    token: str = row.access_token
    return token


def refresh(connection: Connection, *, forced: bool = False) -> Connection:
    """Refresh one grant, or wait for the process that is already doing it.

    `connection` is the row as it was read last. Returns it as stored afterwards: a newer grant or, unless `forced`, the
    old one while it lasts. Raises as fresh_access_token().
    """
    give_up = time.monotonic() + WAIT_SECONDS
    claim = claim_connection(connection)
    while claim is None and _holder_died(connection, give_up):
        claim = claim_connection(connection)
    if claim:
        _renew(connection, claim)
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
    return _renew(row, claim) if row and claim else None


def due_connections() -> list[tuple[int, str]]:
    """The ids of the grants to refresh now, the most urgent first, each with the URL of its provider."""
    due = Connection.objects.due(timezone.now()).order_by("refresh_at")
    return list(due.values_list("pk", "token_url"))


def claim_connection(connection: Connection) -> uuid.UUID | None:
    """Take the row for one exchange with the provider; None if another process has it or it is not as it was read.

    The database's clock alone decides when a claim has run out: those of the machines may differ.
    """
    claim = uuid.uuid4()
    free = Q(claimed_until=None) | Q(claimed_until__lt=Now())
    unchanged = Q(
        pk=connection.pk,
        generation=connection.generation,
        failures=connection.failures,
        status=ConnectionStatus.CONNECTED,
    )
    taken = Connection.objects.filter(free, unchanged).update(claim=claim, claimed_until=Now() + LEASE)
    return claim if taken else None


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
        _leave_database()
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
        state = held.order_by("pk").values_list(ran_out, flat=True).first()
        if state is None or state:
            return bool(state)
    return False


def _renew(held: Connection, claim: uuid.UUID) -> AsterError | None:
    """One exchange with the provider, under a claim. The row says afterwards how it ended; so does the return value."""
    try:
        auth = held.auth_config
        _leave_database()
        with egress.deadline(TOKEN_REQUEST_SECONDS):
            answer = request_token(auth, held)
    except AsterError as trouble:
        if isinstance(trouble, tokens.TokenRefused) and trouble.error == "invalid_client":
            forget_client(held)
        if _ends_grant(held, trouble):
            _mark_error(held, trouble.message, claim=claim)
        else:
            _postpone(held, claim, trouble)
        return trouble
    except BaseException:
        release_claim(held, claim)
        raise
    store_refreshed(held, answer)
    return None


def _leave_database() -> None:
    """Give the connection back before waiting: a provider may take long, and a pool has only so many."""
    if not database.in_atomic_block:
        database.close()


def request_token(auth: AuthConfig, connection: Connection) -> tokens.TokenSet:
    """One request to the token endpoint the grant is bound to: refresh_token, or client_credentials again."""
    endpoint = endpoint_of(auth, connection)
    now = timezone.now()
    if auth.auth_type == AuthType.CLIENT_CREDENTIALS:
        scope = " ".join(auth.scopes) or None
        return token_requests.client_credentials(endpoint, scope=scope, http=egress.client(), now=now)
    if crypto.is_unreadable(connection.refresh_token):
        # Not the provider's no: once the operator has put the key back, the grant is as good as ever.
        raise UpstreamError(
            "Aster cannot decrypt this sign-in. Ask the operator to restore the key in ASTER_ENCRYPTION_KEYS.",
            step="token", code="secret_unreadable",
        )  # fmt: skip
    if not connection.refresh_token:
        words = "The access token no longer works, and the provider gave no refresh token to renew it with."
        raise tokens.TokenRefused(words, error="invalid_grant")
    scope = " ".join(connection.scopes) or None if auth.scope_on_refresh else None
    return token_requests.refresh(
        endpoint, refresh_token=connection.refresh_token, scope=scope, http=egress.client(), now=now
    )


def endpoint_of(auth: AuthConfig, bound: Connection | PendingAuthorization) -> token_requests.TokenEndpoint:
    """The token endpoint and client a grant is bound to, with the provider's quirks from the auth config."""
    secret, method = bound.client_secret, bound.token_endpoint_auth_method
    if _is_pasted_client(auth, bound):
        # The secret belongs to the client, not to the grant: after a new one is pasted, old grants need it too.
        secret, method = auth.client_secret, known_auth_method(auth)
    return token_requests.TokenEndpoint(
        url=bound.token_url,
        client_id=bound.client_id,
        client_secret=secret or None,
        auth_method=method or "none",
        resource=bound.resource if auth.resource_mode == ResourceMode.SEND and bound.resource else None,
        audience=auth.audience or None,
        extra=auth.extra_token_params,
    )


def _is_pasted_client(auth: AuthConfig, bound: Connection | PendingAuthorization) -> bool:
    return bool(auth.client_id) and auth.client_id == bound.client_id and auth.token_url == bound.token_url


def _ends_grant(held: Connection, trouble: AsterError) -> bool:
    """Whether the provider's answer means that this grant is over and the person must sign in again."""
    if not isinstance(trouble, tokens.TokenRefused) or not trouble.permanent:
        return False
    # invalid_client says nothing about the grant (RFC 6749 §5.2): it works again once an admin pastes the right secret.
    # A client that Aster registered itself has nobody to do that.
    return not (trouble.error == "invalid_client" and _is_pasted_client(held.auth_config, held))


def forget_client(bound: Connection | PendingAuthorization) -> None:
    """The provider does not know this client. If Aster registered it, the next sign-in registers a new one."""
    bound.auth_config.registrations.filter(client_id=bound.client_id).delete()


def store_refreshed(held: Connection, answer: tokens.TokenSet) -> None:
    """Store a new grant over the generation it came from; it wins even if the claim ran out meanwhile.

    If the connection was removed while the provider answered, the new grant is revoked instead of orphaned.
    """
    now = timezone.now()
    merged = answer.merged_with(tokens.TokenSet(access_token=held.access_token, refresh_token=held.refresh_token))
    unchanged = Connection.objects.filter(pk=held.pk, generation=held.generation)
    stored = _insist(
        lambda: unchanged.update(
            access_token=merged.access_token,
            refresh_token=merged.refresh_token or "",
            expires_at=merged.expires_at,
            scopes=merged.scope.split() if merged.scope else held.scopes,
            generation=held.generation + 1,
            status=ConnectionStatus.CONNECTED,
            refresh_at=next_refresh(now, merged.expires_at, can_refresh=held.can_refresh),
            refreshed_at=now,
            claim=None,
            claimed_until=None,
            failures=0,
            last_error="",
            last_error_at=None,
        )
    )
    if stored:
        return
    if Connection.objects.filter(auth_config=held.auth_config_id, user=held.user_id).exists():
        # Not revoked: at many providers that would end the newer grant of the same person and client as well.
        logger.warning("A refreshed grant of connection %s came after a newer one and was dropped.", held.pk)
        return
    revoke_tokens(held.auth_config, held, access_token=merged.access_token, refresh_token=merged.refresh_token)


def _insist(write: Callable[[], int]) -> int:
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


def revoke_tokens(
    auth: AuthConfig, bound: Connection, *, access_token: str, refresh_token: str | None
) -> token_requests.Revocation:
    """RFC 7009: tell the provider to forget the grant. The refresh token first: it usually takes the rest with it."""
    endpoint, url = endpoint_of(auth, bound), bound.revocation_url
    outcome = token_requests.Revocation("unsupported", "There was no token to revoke.")
    with egress.deadline(TOKEN_REQUEST_SECONDS):
        if refresh_token:
            outcome = token_requests.revoke(
                endpoint, url=url, token=refresh_token, token_type_hint="refresh_token", http=egress.client()
            )
        if access_token and outcome.outcome != "failed":
            outcome = token_requests.revoke(
                endpoint, url=url, token=access_token, token_type_hint="access_token", http=egress.client()
            )
    return outcome


def _load(pk: int) -> Connection:
    row = Connection.objects.select_related("auth_config__organization", "user").filter(pk=pk).first()
    if row is None:
        raise ConnectionRequired("This connection was removed. Connect again.")
    return row


def _note_use(connection: Connection) -> None:
    now = timezone.now()
    stale = now - timedelta(minutes=1)
    if connection.last_used_at is None or connection.last_used_at < stale:
        Connection.objects.filter(pk=connection.pk).update(last_used_at=now)
