"""The one place of this package that touches the network: one request, one bounded answer, no redirects.

`send` waits in a thread, `send_async` on the event loop; both keep the same rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import httpx2

from aster import egress
from aster.errors import UpstreamError

# What every function that talks to a provider takes: `aster.egress.client()`, or a plain client in tests.
Http: TypeAlias = httpx2.Client

MAX_BODY = 1024 * 1024
TOTAL_SECONDS = 15.0


class NoAnswer(UpstreamError):
    """The request went out, and nothing came back: the other side may have acted on it."""


# Before these a request may have arrived; failing to connect is something else.
_PERHAPS_RECEIVED = (
    httpx2.ReadTimeout,
    httpx2.ReadError,
    httpx2.WriteTimeout,
    httpx2.WriteError,
    httpx2.RemoteProtocolError,
    egress.DeadlineExceeded,
)


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer. It may hold tokens, so a repr shows neither headers nor body."""

    url: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def send(
    http: Http,
    method: str,
    url: str,
    *,
    step: str,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    seconds: float = TOTAL_SECONDS,
) -> Answer:
    """Send one request and read the answer, all within `seconds`.

    A redirect is an answer like any other: following it would carry codes and secrets to an address nobody vetted.
    Raises UpstreamError (with this `step`) when there is no answer (NoAnswer if the request may have arrived), it is
    too long, or the address is refused.
    """
    with (
        _in_our_words(url, step),
        egress.deadline(seconds),
        http.stream(method, _parse(url), headers=_asking(headers), content=content, follow_redirects=False) as response,
    ):
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_BODY:
                raise egress.ResponseTooLarge(MAX_BODY)
        return Answer(url, response.status_code, response.headers, bytes(body))


async def send_async(
    line: egress.AsyncLine,
    method: str,
    url: str,
    *,
    step: str,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    seconds: float = TOTAL_SECONDS,
) -> Answer:
    """As `send()`, without holding a thread while the other side takes its time."""
    with _in_our_words(url, step):
        reply = await line.exchange(
            method,
            _parse(url),
            headers=_asking(headers),
            content=content or b"",
            limit=MAX_BODY,
            seconds=seconds,
        )
    return Answer(url, reply.status, reply.headers, reply.body)


@lru_cache(maxsize=512)  # the same few token endpoints, over and over
def _parse(url: str) -> httpx2.URL:
    return httpx2.URL(url)


def _asking(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {"accept": "application/json", **(headers or {})}


@contextmanager
def _in_our_words(url: str, step: str) -> Iterator[None]:
    try:
        yield
    except egress.ResponseTooLarge:
        raise UpstreamError(f"{_parse(url).host} sent more than {MAX_BODY // 1024} KiB.", step=step) from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        error = egress.explain(exc, url)
        error.step = step
        if isinstance(exc, _PERHAPS_RECEIVED):
            error = NoAnswer(error.message, step=step, code=error.code, retryable=error.retryable, hint=error.hint)
        # The cause carries the request, and with it the client's secret: not into a traceback.
        raise error from None


def read_json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in `body`, or None. The content type is not asked: many servers get it wrong.

    Refuses what PostgreSQL cannot store (NaN, infinity, NUL, half surrogates), because these documents are kept.
    """
    try:
        value = json.loads(body)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and "\\u0000" not in text else None
