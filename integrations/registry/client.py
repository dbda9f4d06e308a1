"""Asking a registry for its list (registry API v0.1), page by page. It is a stranger: every answer is bounded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2

from aster import egress
from aster.errors import UpstreamError
from integrations.registry.entries import Listed, OddEntry, read_listed

PAGE_SIZE = 100
MOST_BYTES, SECONDS = 4 * 1024 * 1024, 30.0
LONGEST_CURSOR = 2000


class CursorRefused(UpstreamError):
    """The registry does not take the cursor that it gave; the list has to be read from its beginning."""


@dataclass(frozen=True)
class Page:
    entries: list[Listed]
    odd: int
    cursor: str
    """Empty: it was the last page."""


def fetch_page(registry: str, *, cursor: str = "", updated_since: datetime | None = None) -> Page:
    """One page of the newest versions of all servers at `registry`, its base URL. Raises UpstreamError.

    With `updated_since` only what has changed, deleted servers included.
    """
    params = {"version": "latest", "limit": str(PAGE_SIZE)}
    if cursor:
        params["cursor"] = cursor
    if updated_since is not None:
        params["updated_since"] = (
            updated_since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
    url = f"{registry}/v0.1/servers"
    status, body = _get(url, params)
    host = httpx2.URL(registry).host
    if status in (400, 422) and cursor:
        raise CursorRefused(f"{host} does not take the cursor that it gave.", step="http", retryable=True)
    if status != 200:
        retryable = status == 429 or status >= 500
        raise UpstreamError(f"{host} answered with HTTP status {status}.", step="http", retryable=retryable)
    return _read_page(body, host)


def _get(url: str, params: dict[str, str]) -> tuple[int, bytes]:
    try:
        with (
            egress.deadline(SECONDS),
            egress.client().stream("GET", url, params=params, headers={"accept": "application/json"}) as response,
        ):
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise egress.ResponseTooLarge(MOST_BYTES)
            return response.status_code, bytes(body)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise egress.explain(error, url) from None


def _read_page(body: bytes, host: str) -> Page:
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    listed = answer.get("servers") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        hint = "Check its address: the list is expected at /v0.1/servers below it."
        raise UpstreamError(f"What {host} answers is no list of servers.", step="http", hint=hint)
    entries, odd = [], 0
    for raw in listed:
        try:
            entries.append(read_listed(raw))
        except OddEntry:
            odd += 1
    return Page(entries, odd, _next_cursor(answer.get("metadata"), host))


def _next_cursor(metadata: Any, host: str) -> str:
    """Where the next page begins, or nothing. A list must not seem to end where it only cannot be followed."""
    cursor = metadata.get("nextCursor") if isinstance(metadata, dict) else None
    if cursor is None:
        return ""
    if not isinstance(cursor, str) or len(cursor) > LONGEST_CURSOR or not cursor.isprintable():
        raise UpstreamError(f"{host} gives a cursor that cannot be used.", step="http")
    return cursor
