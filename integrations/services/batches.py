"""Many grants at a time in the database: claimed by one statement, stored in one transaction.

What a claim is, what is stored and what a failure means are the rules of `refresh`; these are its bulk forms, for the
background refresh (docs/decisions/0007). A claim of a batch is one id for all of its rows.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from django.db import InterfaceError, OperationalError, transaction
from django.db import connection as database
from django.db.models import Field, Prefetch, prefetch_related_objects
from django.utils import timezone

from aster.errors import AsterError
from integrations.models import AuthConfig, Connection, RefreshAttempt, RefreshOutcome
from integrations.oauth.tokens import TokenSet
from integrations.services import ledger, refresh

logger = logging.getLogger(__name__)

REASON = "background"
# What asking for new tokens and storing them reads. The old access token is not worth decrypting.
_READ = (
    *("auth_config", "user", "refresh_token", "scopes", "client_id", "client_secret", "token_endpoint_auth_method"),
    *("issuer", "token_url", "revocation_url", "resource", "generation", "failures", "claim", "claimed_by"),
)
_NOT_FOR_TOKENS = ("custom_headers", "token", "password")


@dataclass(frozen=True)
class Renewed:
    """The provider's answer for a claimed row: until it is stored, this process alone knows these tokens."""

    held: Connection
    answer: TokenSet = field(repr=False)
    seconds: float


def claim_due(count: int, *, not_at: Collection[str] = (), not_these: Collection[int] = ()) -> list[Connection]:
    """Claim up to `count` due grants, the most urgent first, without these ids and none at these token URLs."""
    claim = uuid.uuid4()
    due = Connection.objects.due(timezone.now()).filter(refresh.is_free())
    due = due.exclude(token_url__in=not_at).exclude(pk__in=not_these)
    with transaction.atomic():
        # Locked, so that what is claimed is what was read; two workers take different rows instead of waiting. SQLite
        # has no row locks and needs none: its transactions write one after the other (settings).
        free = due.select_for_update(skip_locked=True).only(*_READ).order_by("refresh_at")
        rows = list(free[:count])
        if rows:
            Connection.objects.filter(pk__in=[row.pk for row in rows]).update(**refresh.claimed_values(claim))
            died = [ledger.abandoned(row, row.claimed_by) for row in rows if row.claim and row.claimed_by]
            RefreshAttempt.objects.bulk_create(died)
    for row in rows:
        row.claim = claim
    # One instance for all its connections: an auth config has secrets to decrypt too.
    prefetch_related_objects(rows, Prefetch("auth_config", AuthConfig.objects.defer(*_NOT_FOR_TOKENS)))
    return rows


def release(rows: Iterable[Connection]) -> None:
    """Give claimed rows back that nothing was asked for."""
    rows = list(rows)
    for claim in {row.claim for row in rows}:
        pks = [row.pk for row in rows if row.claim == claim]
        Connection.objects.filter(pk__in=pks, claim=claim).update(claim=None, claimed_until=None)


def note_trouble(held: Connection, trouble: AsterError, seconds: float) -> None:
    """The provider gave no tokens for a claimed row."""
    refresh.note_trouble(held, cast(uuid.UUID, held.claim), trouble, REASON, seconds=seconds)


def store_renewed(answers: Sequence[Renewed]) -> None:
    """Store every answer over the generation it came from, all at once or, if that does not fit, one by one."""
    # In one order everywhere, so that two transactions cannot wait for each other.
    answers = sorted(answers, key=lambda one: one.held.pk)
    try:
        updates, lines = _updates(answers), _ledger_lines(answers)
        if refresh.insist(lambda: _write(updates, lines)):
            return
    except (OperationalError, InterfaceError):
        raise  # The database is away: asking it once more for each would take longer than any claim lasts.
    except Exception:
        logger.exception("Renewed grants could not be stored together.")
    for one in answers:
        try:
            refresh.store_refreshed(one.held, one.answer, REASON, seconds=one.seconds)
        except Exception:
            logger.exception("A renewed grant of connection %s could not be stored.", one.held.pk)


def _updates(answers: Sequence[Renewed]) -> dict[str, list[list[Any]]]:
    """UPDATE statements with the rows of parameters for each; secrets are encrypted by their fields."""
    by_columns: dict[tuple[str, ...], list[list[Any]]] = {}
    fields = {field.name: field for field in Connection._meta.concrete_fields}
    settled = {name: _prepared(fields[name], value) for name, value in refresh.SETTLED.items()}
    for one in answers:
        values = refresh.stored_values(one.held, one.answer)
        row = [settled[name] if name in settled else _prepared(fields[name], values[name]) for name in values]
        by_columns.setdefault(tuple(values), []).append([*row, one.held.pk, one.held.generation])
    return {_update_statement([str(fields[name].column) for name in names]): rows for names, rows in by_columns.items()}


# The statements below are put together from the names of tables and columns alone; every value is a parameter.
def _update_statement(columns: Iterable[str]) -> str:
    quote = database.ops.quote_name
    changes = ", ".join(f"{quote(column)} = %s" for column in columns)
    unchanged = f"{quote('id')} = %s AND {quote('generation')} = %s"
    return f"UPDATE {quote(Connection._meta.db_table)} SET {changes} WHERE {unchanged}"  # noqa: S608


def _ledger_lines(answers: Sequence[Renewed]) -> tuple[str, list[list[Any]]]:
    """An INSERT statement with the parameters of a line for each answer: all alike, but for these three columns."""
    line = ledger.entry(answers[0].held, RefreshOutcome.RENEWED, REASON, generation=0)
    fields = [field for field in RefreshAttempt._meta.concrete_fields if not field.primary_key]
    alike = {str(field.column): _prepared(field, field.pre_save(line, add=True)) for field in fields}
    rows = []
    for one in answers:
        milliseconds = ledger.milliseconds(one.seconds)
        own = {"connection_id": one.held.pk, "generation": one.held.generation + 1, "duration_ms": milliseconds}
        rows.append([*(alike | own).values()])
    quote = database.ops.quote_name
    names, places = ", ".join(map(quote, alike)), ", ".join(["%s"] * len(alike))
    return f"INSERT INTO {quote(RefreshAttempt._meta.db_table)} ({names}) VALUES ({places})", rows  # noqa: S608


def _prepared(field: Field[Any, Any], value: Any) -> Any:
    return field.get_db_prep_save(value, connection=database)


def _write(updates: dict[str, list[list[Any]]], lines: tuple[str, list[list[Any]]]) -> bool:
    """False, with nothing written, if a single row is not of the generation its answer came from."""
    with transaction.atomic(), database.cursor() as cursor:
        for sql, rows in updates.items():
            cursor.executemany(sql, rows)
            if cursor.rowcount != len(rows):
                transaction.set_rollback(True)
                return False
        cursor.executemany(*lines)
    return True
