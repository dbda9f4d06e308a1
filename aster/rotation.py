"""Re-encrypting stored secrets with the first key of the ring, while the application runs."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.db import connection, models

from aster import crypto


def encrypted_columns() -> Iterator[tuple[type[models.Model], models.Field[object, object]]]:
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, crypto.EncryptedTextField | crypto.EncryptedJSONField):
                yield model, field


def reencrypt(model: type[models.Model], field: models.Field[object, object]) -> tuple[int, int]:
    """Rewrite every value of one column that another key wrote. Returns (rewritten, unreadable).

    Each value is replaced only if it is still the one that was read, so a token refreshed meanwhile is never undone.
    """
    quote = connection.ops.quote_name
    table, column, key = quote(model._meta.db_table), quote(field.column or ""), quote(model._meta.pk.column or "")
    rewritten = unreadable = 0
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL")  # noqa: S608
        rows = [(pk, bytes(stored)) for pk, stored in cursor.fetchall()]
        for pk, stored in rows:
            if crypto.is_current(stored):
                continue
            try:
                fresh = crypto.encrypt(crypto.decrypt(stored))
            except crypto.DecryptionFailed:
                unreadable += 1
                continue
            sql = f"UPDATE {table} SET {column} = %s WHERE {key} = %s AND {column} = %s"  # noqa: S608
            cursor.execute(sql, [fresh, pk, stored])
            rewritten += cursor.rowcount
    return rewritten, unreadable
