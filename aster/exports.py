"""Rows of a list page as a file, streamed in batches: CSV for spreadsheets, JSON lines for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeVar

from django.core.handlers.asgi import ASGIRequest
from django.db.models import Model, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from aster.errors import InvalidInput
from aster.threads import in_db_thread

M = TypeVar("M", bound=Model)
Columns = Mapping[str, Callable[[Any], Any]]

BATCH = 500
_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson; charset=utf-8"}
# What a spreadsheet would run as a formula (OWASP, CSV Injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def export_rows(
    request: HttpRequest, rows: QuerySet[M], columns: Columns, *, name: str, words: Columns | None = None
) -> StreamingHttpResponse:
    """Stream `rows`, newest first, as `?format=csv` or `jsonl`; `columns` maps a heading to the value of a row.

    JSON lines hold the codes of the API. In a spreadsheet `words`, what the pages say, take the place of some.
    Under ASGI each batch is read off the event loop, so that a long export holds up nobody.
    """
    kind = request.GET.get("format", "csv")
    if kind not in _TYPES:
        raise InvalidInput("Export as csv or jsonl.")
    columns = {**columns, **(words or {})} if kind == "csv" else columns
    asgi = isinstance(request, ASGIRequest)
    content = _async_content(rows, columns, kind) if asgi else _content(rows, columns, kind)
    filename = f"{name}-{timezone.now():%Y-%m-%d}.{kind}"
    response = StreamingHttpResponse(content, content_type=_TYPES[kind])
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    response["Cache-Control"] = "no-store"
    return response


def _content(rows: QuerySet[M], columns: Columns, kind: str) -> Iterator[str]:
    yield _head(columns, kind)
    last: int | None = None
    while batch := _next_batch(rows, last):
        yield encode_batch(batch, columns, kind)
        last = batch[-1].pk


async def _async_content(rows: QuerySet[M], columns: Columns, kind: str) -> AsyncIterator[str]:
    yield _head(columns, kind)
    last: int | None = None
    while batch := await in_db_thread(_next_batch, rows, last):
        yield encode_batch(batch, columns, kind)
        last = batch[-1].pk


def _next_batch(rows: QuerySet[M], last: int | None) -> list[M]:
    """The rows after `last`: by key, not by offset, so that new rows shift nothing and late pages cost no more."""
    following = rows.order_by("-pk") if last is None else rows.order_by("-pk").filter(pk__lt=last)
    return list(following[:BATCH])


def _head(columns: Columns, kind: str) -> str:
    # A byte order mark makes spreadsheets read UTF-8.
    return "\ufeff" + ",".join(columns) + "\r\n" if kind == "csv" else ""


def encode_batch(rows: list[M], columns: Columns, kind: str) -> str:
    if kind == "jsonl":
        lines = [{name: value_of(row) for name, value_of in columns.items()} for row in rows]
        return "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([_cell(value_of(row)) for value_of in columns.values()] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    words = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
    return f"'{words}" if words.startswith(_FORMULA_STARTS) else words
