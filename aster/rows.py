"""Rows as they are stored: read without making models of them or decrypting a secret, and texts that fit into one."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet


def stored_rows(query: QuerySet[Any, Any]) -> list[dict[str, Any]]:
    """By column, what the database has for each row of `query`; encrypted columns stay encrypted."""
    try:
        sql, params = query.query.sql_with_params()
    except EmptyResultSet:
        return []
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def storable(text: str) -> str:
    """Without the characters that no database takes: NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
