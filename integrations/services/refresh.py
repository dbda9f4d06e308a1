"""Keeping grants alive. The only code that reads or writes tokens after sign-in.

Single-flight by the database alone (docs/decisions/0003): a process claims the row with one conditional UPDATE, talks to
the provider with no transaction open, and stores the answer only over the generation it started from. Whoever does not
get the claim waits for the winner's token. A process that dies leaves a claim that runs out.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from aster import egress
from aster.accounts import audit
from aster.accounts.access import Actor
from aster.errors import AsterError, ConnectionRequired, ForbiddenAddress, UpstreamError
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus
from integrations.models import PendingAuthorization, ResourceMode
from integrations.oauth import token_requests, tokens

logger = logging.getLogger(__name__)

TOKEN_REQUEST_SECONDS = 15.0
# Longer than the slowest token request, so that a live holder's claim never runs out under it.
LEASE = timedelta(seconds=45)
WAIT_SECONDS = 20.0
_BACKOFF = (15, 30, 60, 120, 300, 600)


def fresh_access_token(connection: Connection, *, rejected: str | None = None) -> str:
    """An access token to send now.

    `rejected` is a token the server just answered 401 to: unless somebody refreshed meanwhile, this forces one refresh.
    Raises ConnectionRequired when only the person can help, UpstreamError(retryable) when the provider is in trouble
    and no usable token is left.
    """
    connection = Connection.objects.select_related("auth_config__organization", "user").get(pk=connection.pk)
    if connection.status == ConnectionStatus.ERROR:
        raise needs_reconnect(connection)
    usable = connection.is_fresh(timezone.now()) and connection.access_token != rejected
    if not usable:
        connection = refresh(connection, forced=rejected is not None)
        if connection.access_token == rejected:
            raise needs_reconnect(connection)
    _note_use(connection)
    return connection.access_token


def refresh(connection: Connection, *, forced: bool = False) -> Connection:
    """Refresh one grant, or wait for the process that is already doing it. Returns the row as stored afterwards."""
    if not connection.can_refresh:
        _mark_error(connection, None, "The access token ran out and the provider gave no refresh token.")
        raise needs_reconnect(connection)
    claim = claim_connection(connection)
    if claim is None:
        return _wait_for_winner(connection)
    held = Connection.objects.select_related("auth_config__organization", "user").filter(claim=claim).first()
    if held is None:
        return _wait_for_winner(connection)
    if held.generation != connection.generation and held.is_fresh(timezone.now()):
        release_claim(held, claim)
        return held
    return _ask_provider(held, claim, forced=forced)


def claim_connection(connection: Connection) -> uuid.UUID | None:
    """Take the row for one exchange with the provider, or None if another process has it."""
    now = timezone.now()
    claim = uuid.uuid4()
    free = Q(claimed_until=None) | Q(claimed_until__lt=now)
    taken = Connection.objects.filter(free, pk=connection.pk, status=ConnectionStatus.CONNECTED).update(
        claim=claim, claimed_until=now + LEASE
    )
    return claim if taken else None


def release_claim(connection: Connection, claim: uuid.UUID) -> None:
    Connection.objects.filter(pk=connection.pk, claim=claim).update(claim=None, claimed_until=None)


def _wait_for_winner(connection: Connection) -> Connection:
    """Poll until the claim holder stored a new generation, gave up, or its claim ran out."""
    deadline, pause = time.monotonic() + WAIT_SECONDS, 0.02
    while time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
        row = Connection.objects.select_related("auth_config__organization", "user").filter(pk=connection.pk).first()
        if row is None:
            raise ConnectionRequired("This connection was removed. Connect again.")
        if row.status == ConnectionStatus.ERROR:
            raise needs_reconnect(row)
        if row.generation != connection.generation:
            return row
        if row.claim is None:
            if row.is_fresh(timezone.now()):
                return row
            break
    raise UpstreamError(
        f"Another process is refreshing the sign-in at {connection.auth_config} and has not finished.",
        step="token", retryable=True, hint="Try again in a few seconds.",
    )  # fmt: skip


def _ask_provider(held: Connection, claim: uuid.UUID, *, forced: bool) -> Connection:
    try:
        with egress.deadline(TOKEN_REQUEST_SECONDS):
            answer = request_token(held.auth_config, held)
    except tokens.TokenRefused as refused:
        if not refused.permanent:
            return _keep_and_retry(held, claim, refused, forced=forced)
        _mark_error(held, claim, refused.message)
        raise needs_reconnect(held) from None
    except (UpstreamError, ForbiddenAddress) as trouble:
        return _keep_and_retry(held, claim, trouble, forced=forced)
    except BaseException:
        release_claim(held, claim)
        raise
    return store_refreshed(held, answer)


def request_token(auth: AuthConfig, connection: Connection) -> tokens.TokenSet:
    """One request to the token endpoint the grant is bound to: refresh_token, or client_credentials again."""
    endpoint = endpoint_of(auth, connection)
    now = timezone.now()
    if auth.auth_type == AuthType.CLIENT_CREDENTIALS:
        scope = " ".join(auth.scopes) or None
        return token_requests.client_credentials(endpoint, scope=scope, http=egress.client(), now=now)
    scope = " ".join(connection.scopes) or None if auth.scope_on_refresh else None
    return token_requests.refresh(
        endpoint, refresh_token=connection.refresh_token, scope=scope, http=egress.client(), now=now
    )


def endpoint_of(auth: AuthConfig, bound: Connection | PendingAuthorization) -> token_requests.TokenEndpoint:
    """The token endpoint and client a grant is bound to, with the provider's quirks from the auth config."""
    return token_requests.TokenEndpoint(
        url=bound.token_url,
        client_id=bound.client_id,
        client_secret=bound.client_secret or None,
        auth_method=bound.token_endpoint_auth_method or "none",
        resource=bound.resource if auth.resource_mode == ResourceMode.SEND and bound.resource else None,
        audience=auth.audience or None,
        extra=auth.extra_token_params,
    )


def store_refreshed(held: Connection, answer: tokens.TokenSet) -> Connection:
    """Store a new grant over the generation it came from; it wins even if the claim ran out meanwhile.

    If the connection was removed while the provider answered, the new grant is revoked instead of orphaned.
    """
    now = timezone.now()
    merged = answer.merged_with(tokens.TokenSet(access_token=held.access_token, refresh_token=held.refresh_token))
    stored = Connection.objects.filter(pk=held.pk, generation=held.generation).update(
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
    current = Connection.objects.select_related("auth_config__organization", "user").filter(pk=held.pk).first()
    if current is None:
        revoke_tokens(held.auth_config, held, access_token=merged.access_token, refresh_token=merged.refresh_token)
        raise ConnectionRequired("This connection was removed. Connect again.")
    if not stored:
        logger.warning("A refreshed grant of connection %s came after a newer one and was dropped.", held.pk)
    return current


def next_refresh(now: datetime, expires_at: datetime | None, *, can_refresh: bool) -> datetime | None:
    """When to refresh in the background: well before the end, never all at once (jitter), not at all if it cannot."""
    if expires_at is None or not can_refresh:
        return None
    lifetime = (expires_at - now).total_seconds()
    lead = min(max(lifetime * 0.2, 20.0), 300.0)
    return max(now + timedelta(seconds=1), expires_at - timedelta(seconds=lead * random.uniform(1.0, 1.25)))  # noqa: S311


def _keep_and_retry(held: Connection, claim: uuid.UUID, trouble: AsterError, *, forced: bool) -> Connection:
    """The provider is in trouble: keep the grant, come back later, and go on with the old token while it lasts."""
    now = timezone.now()
    wait = getattr(trouble, "retry_after", None) or _BACKOFF[min(held.failures, len(_BACKOFF) - 1)]
    wait = min(float(wait), 3600.0) * random.uniform(1.0, 1.2)  # noqa: S311
    Connection.objects.filter(pk=held.pk, claim=claim, generation=held.generation).update(
        claim=None,
        claimed_until=None,
        failures=held.failures + 1,
        refresh_at=now + timedelta(seconds=wait),
        last_error=trouble.message[:500],
        last_error_at=now,
    )
    if held.is_fresh(now) and not forced:
        return held
    raise UpstreamError(
        f"{held.auth_config} could not renew the sign-in: {trouble.message}",
        step="token", retryable=True, hint="The connection is kept. Try again in a minute.",
    ) from None  # fmt: skip


def _mark_error(held: Connection, claim: uuid.UUID | None, message: str) -> None:
    """The provider refused for good. A grant that somebody renewed meanwhile (newer generation) is left alone."""
    now = timezone.now()
    rows = Connection.objects.filter(pk=held.pk, generation=held.generation, status=ConnectionStatus.CONNECTED)
    rows = rows.filter(claim=claim) if claim else rows
    with transaction.atomic():
        marked = rows.update(
            status=ConnectionStatus.ERROR,
            claim=None,
            claimed_until=None,
            refresh_at=None,
            last_error=message[:500],
            last_error_at=now,
        )
        if marked:
            actor = Actor.system(held.auth_config.organization)
            audit.record(actor, "connection_error", held, {"status": ["connected", "connection_error"]})


def needs_reconnect(connection: Connection) -> ConnectionRequired:
    return ConnectionRequired(
        f"Your connection to {connection.auth_config} needs to be reconnected before this can be used.",
        extra={"auth_config_id": connection.auth_config_id, "status": ConnectionStatus.ERROR},
    )


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


def due_connections(limit: int = 200) -> Iterable[int]:
    now = timezone.now()
    return list(Connection.objects.due(now).order_by("refresh_at").values_list("pk", flat=True)[:limit])


def _note_use(connection: Connection) -> None:
    now = timezone.now()
    stale = now - timedelta(minutes=1)
    if connection.last_used_at is None or connection.last_used_at < stale:
        Connection.objects.filter(pk=connection.pk).update(last_used_at=now)


def mark_rejected(connection: Connection, message: str) -> None:
    """The server refuses a token the provider has just renewed: flag the connection instead of failing silently."""
    current = Connection.objects.select_related("auth_config__organization", "user").filter(pk=connection.pk).first()
    if current is not None and current.status == ConnectionStatus.CONNECTED:
        _mark_error(current, None, f"The server does not accept your sign-in: {message}")
