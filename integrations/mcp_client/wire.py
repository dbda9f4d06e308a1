"""HTTP below the SDK's transports: credentials on the way out, evidence on the way back.

The SDK turns every HTTP refusal into one generic JSON-RPC error, and an exception inside a request ends the whole
connection with all its other requests. So the client handed to it never raises: it writes what happened into the
`Exchange` of the request and answers with a stand-in response that the SDK knows how to fail.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import httpx2
from pydantic_core import from_json

from aster import egress
from integrations.mcp_client.target import Target, TokenSource

HttpClient = httpx2.AsyncClient  # noqa: TID251 - only as the type of what aster.egress hands out
SESSION_HEADER = "mcp-session-id"
SEND_FAILED = 599  # no such status exists on the wire
CONNECT_SECONDS = 10.0
IDLE_STREAM_SECONDS = 300.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass
class Exchange:
    """What HTTP said to one MCP request. `status` 0 means that no answer came."""

    timeout: float = 30.0
    status: int = 0
    content_type: str = ""
    challenges: list[str] = field(default_factory=list)
    location: str = ""
    in_session: bool = False
    is_protocol_error: bool = False
    names_request: bool = False  # an error about the request itself, so somebody looked at it
    is_foreign: bool = False  # a stream was asked for, and something else came
    error: Exception | None = None
    on_failure: Callable[[], None] | None = None

    @property
    def failed(self) -> bool:
        return self.error is not None or self.status >= 300 or self.is_foreign

    def note(self, response: httpx2.Response, body: bytes = b"") -> None:
        """Keep the evidence of `response`; `body` is given where it is already read."""
        self.status = response.status_code
        self.content_type = _media_type(response.headers.get("content-type", "")[:200])
        self.challenges = response.headers.get_list("www-authenticate")
        self.in_session = SESSION_HEADER in response.request.headers
        self.is_foreign = response.is_success and response.request.method == "GET" and not is_event_stream(response)
        self._note_failure(response.url, response.headers.get("location", ""), body)

    def note_answer(self, answer: egress.Answer, url: str) -> None:
        """The same for what a pooled connection answered to a request of ours without a session."""
        self.status, self.content_type = answer.status, _media_type(answer.header("content-type")[:200])
        if self.status >= 300:
            self.challenges = answer.header_list("www-authenticate")
            self._note_failure(httpx2.URL(url), answer.header("location"), bytes(answer.body))

    def _note_failure(self, url: httpx2.URL, location: str, body: bytes) -> None:
        said = parse_message(body) if self.status >= 400 else {}
        self.is_protocol_error = isinstance(said.get("error"), dict)
        self.names_request = isinstance(said.get("id"), int)  # as ours are
        if self.status in REDIRECTS and location:
            # Query and user name of a redirect may carry secrets: only where it leads is told.
            self.location = str(url.join(location).copy_with(userinfo=b"", query=None, fragment=None))
        if self.failed and self.on_failure:
            self.on_failure()

    def fail(self, error: Exception) -> None:
        self.error = error
        if self.on_failure:
            self.on_failure()


@lru_cache(maxsize=256)
def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


# Set while a request is sent; the SDK's transports carry the sender's context into the task that does the HTTP.
CURRENT: ContextVar[Exchange | None] = ContextVar("mcp_exchange", default=None)


def parse_message(body: bytes | str) -> dict[str, Any]:
    """A JSON object, or an empty dict for anything else: what cannot be stored or sent on again is no JSON either."""
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def is_event_stream(response: httpx2.Response) -> bool:
    return response.is_success and response.headers.get("content-type", "").lower().startswith("text/event-stream")


def _time_limits(timeout: float, read: float) -> httpx2.Timeout:
    return httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), read=read)


class BearerAuth(httpx2.Auth):
    """Puts the current token on each request and asks once for another one when it is rejected."""

    def __init__(self, token: TokenSource) -> None:
        self._token = token

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        token = await self._token(None)
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401 and token:
            other = await self._token(token)
            if other and other != token:
                request.headers["Authorization"] = f"Bearer {other}"
                yield request


class WireClient:
    """The part of `httpx2.AsyncClient` that the SDK's transports use, without exceptions and without redirects."""

    max_redirects = 0

    def __init__(self, http: HttpClient, timeout: float) -> None:
        self._http = http
        self._timeout = timeout

    async def __aenter__(self) -> WireClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Whoever opened the client below closes it."""

    def build_request(self, method: str, url: httpx2.URL | str, **options: Any) -> httpx2.Request:
        exchange = CURRENT.get()
        # The clock of the request decides (it also sees a dripping server); the read timeout only backs it up.
        read = IDLE_STREAM_SECONDS if method == "GET" else (exchange.timeout if exchange else self._timeout) + 5
        return self._http.build_request(method, url, timeout=_time_limits(self._timeout, read), **options)

    async def send(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        exchange = CURRENT.get() or Exchange()
        try:
            response = await self._http.send(request, stream=True, follow_redirects=False)
            body = b"" if is_event_stream(response) else await response.aread()
        except Exception as error:  # kept for the request that it belongs to
            exchange.fail(error)
        else:
            exchange.note(response, body)
            if not exchange.failed:
                return response
        if exchange.on_failure:
            # Whoever waited has been told; to the SDK's SSE transport a failing status would end all other requests.
            return httpx2.Response(202, request=request)
        if exchange.error or exchange.is_foreign:
            return httpx2.Response(SEND_FAILED, request=request)
        return response


@asynccontextmanager
async def open_http(target: Target) -> AsyncIterator[HttpClient]:
    """A guarded client that carries the target's credentials."""
    auth = BearerAuth(target.token) if target.token else None
    limits = _time_limits(target.timeout, target.timeout)
    async with egress.async_client(headers=target.headers, auth=auth, timeout=limits) as http:
        yield http


@asynccontextmanager
async def open_wire(target: Target) -> AsyncIterator[HttpClient]:
    """The same client in the shape the SDK's transports may have."""
    async with open_http(target) as http:
        yield cast("HttpClient", WireClient(http, target.timeout))
