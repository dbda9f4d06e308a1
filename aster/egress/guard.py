"""The guarded transports: vet every request and every dial, dial the vetted address, cap every answer.

The pool keeps connections by origin, so names are vetted when a connection is opened; a pooled connection stays with
the address that was vetted. TLS (SNI, certificate) and the Host header keep the name.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing, contextmanager
from types import TracebackType
from typing import Any, cast

import httpcore2
import httpx2

from aster.egress.addresses import Policy, Resolver, check_target, parse_literal, resolve_with_system, start_lookup, vet
from aster.egress.body import MAX_RESPONSE_BYTES, Intake
from aster.egress.deadline import DeadlineStream, clip, within_deadline
from aster.egress.streams import AsyncioBackend
from aster.errors import ForbiddenAddress, InvalidInput

LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30)
# Event streams hold a connection each, and one slow server must not use up everybody's share.
ASYNC_LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=30)
_tls: dict[str, ssl.SSLContext] = {}


class RequestRefused(ForbiddenAddress, httpx2.TransportError):
    """The guard refused a request. A ForbiddenAddress for our callers, a transport error for httpx2 and the MCP SDK."""


class NameNotFound(httpx2.ConnectError):
    """The host name does not resolve; `is_temporary` if the resolver itself failed."""

    def __init__(self, host: str, *, is_temporary: bool) -> None:
        super().__init__(f"The name {host} does not resolve.")
        self.is_temporary = is_temporary


def tls_context() -> ssl.SSLContext:
    """The process-wide context: reading the trust store costs 20 ms of CPU, so it happens once, on first use.

    SSL_CERT_FILE and SSL_CERT_DIR count here: that is how an operator adds a private certificate authority.
    """
    # setdefault is atomic, so two threads that meet here still share one context, without a lock to break on fork.
    return _tls.get("shared") or _tls.setdefault("shared", httpx2.create_ssl_context())


class EgressTransport(httpx2.BaseTransport):
    """Guarded sync transport. `policy` None means the settings, read on every request."""

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        resolver: Resolver = resolve_with_system,
        connector: httpcore2.NetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
        limits: httpx2.Limits = LIMITS,
    ) -> None:
        self._policy = policy
        self._pool = httpcore2.ConnectionPool(
            ssl_context=tls or tls_context(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_GuardedBackend(policy, resolver, connector or httpcore2.SyncBackend()),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        with translated:
            guarded = _guard_request(request, self._policy)
            guarded.extensions["timeout"] = {key: clip(left) for key, left in guarded.extensions["timeout"].items()}
            response = self._pool.handle_request(guarded)
            try:
                headers, intake = _open_response(request, response)
            except httpx2.TransportError:
                response.close()
                raise
        return httpx2.Response(
            response.status, headers=headers, stream=_Body(response, intake), extensions=response.extensions
        )

    def close(self) -> None:
        self._pool.close()


class AsyncEgressTransport(httpx2.AsyncBaseTransport):
    """Guarded async transport for asyncio; the lookup runs in a thread, so the loop never waits for DNS."""

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        resolver: Resolver = resolve_with_system,
        connector: httpcore2.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
        limits: httpx2.Limits = ASYNC_LIMITS,
    ) -> None:
        self._policy = policy
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls or tls_context(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=AsyncGuardedBackend(policy, resolver, connector or AsyncioBackend()),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        with translated:
            response = await self._pool.handle_async_request(_guard_request(request, self._policy))
            try:
                headers, intake = _open_response(request, response)
            except httpx2.TransportError:
                await response.aclose()
                raise
        return httpx2.Response(
            response.status, headers=headers, stream=_AsyncBody(response, intake), extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _GuardedBackend(httpcore2.NetworkBackend):
    def __init__(self, policy: Policy | None, resolver: Resolver, connector: httpcore2.NetworkBackend) -> None:
        self._policy, self._resolver, self._connector = policy, resolver, connector

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        budget = _Budget(clip(timeout))
        with within_deadline():
            with _lookup_errors(host):
                answers = [host] if parse_literal(host) else self._lookup(host, port, budget)
            addresses = vet(host, answers, port, self._policy or Policy.from_settings())
            for left, address in _countdown(addresses):
                try:
                    stream = self._connector.connect_tcp(
                        address, port, budget.split(left + 1), local_address, socket_options
                    )
                except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                    if not left:
                        raise
                else:
                    return DeadlineStream(stream)
        raise NameNotFound(host, is_temporary=False)

    def _lookup(self, host: str, port: int, budget: _Budget) -> Sequence[str]:
        return start_lookup(self._resolver, host, port).result(budget.split(1))


class AsyncGuardedBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, policy: Policy | None, resolver: Resolver, connector: httpcore2.AsyncNetworkBackend) -> None:
        self._policy, self._resolver, self._connector = policy, resolver, connector

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        budget = _Budget(timeout)
        with _lookup_errors(host):
            answers = [host] if parse_literal(host) else await self._lookup(host, port, budget)
        addresses = vet(host, answers, port, self._policy or Policy.from_settings())
        for left, address in _countdown(addresses):
            try:
                return await self._connector.connect_tcp(
                    address, port, budget.split(left + 1), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if not left:
                    raise
        raise NameNotFound(host, is_temporary=False)

    async def _lookup(self, host: str, port: int, budget: _Budget) -> Sequence[str]:
        future = asyncio.wrap_future(start_lookup(self._resolver, host, port))
        return await asyncio.wait_for(future, budget.split(1))


class _Budget:
    """One connect timeout for the lookup and all addresses together, not for each of them."""

    def __init__(self, timeout: float | None) -> None:
        self._ends = None if timeout is None else time.monotonic() + timeout

    def split(self, parts: int) -> float | None:
        """An even part of what is left, so that one dead address leaves time for the next; ConnectTimeout if none."""
        if self._ends is None:
            return None
        left = self._ends - time.monotonic()
        if left <= 0:
            raise httpcore2.ConnectTimeout()
        return left / parts


def _countdown(addresses: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Each address with the number of those still to come."""
    return zip(range(len(addresses) - 1, -1, -1), addresses, strict=True)


class _Body(httpx2.SyncByteStream):
    def __init__(self, response: httpcore2.Response, intake: Intake) -> None:
        self._response, self._intake = response, intake

    def __iter__(self) -> Iterator[bytes]:
        with translated:
            with closing(cast("Generator[bytes]", iter(cast("Iterable[bytes]", self._response.stream)))) as chunks:
                for chunk in chunks:
                    yield from self._intake.feed(chunk)
            self._intake.finish()

    def close(self) -> None:
        self._response.close()


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response, intake: Intake) -> None:
        self._response, self._intake = response, intake

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with translated:
            async with aclosing(
                cast("AsyncGenerator[bytes]", aiter(cast("AsyncIterable[bytes]", self._response.stream)))
            ) as chunks:
                async for chunk in chunks:
                    for piece in self._intake.feed(chunk):
                        yield piece
            self._intake.finish()

    async def aclose(self) -> None:
        await self._response.aclose()


def _guard_request(request: httpx2.Request, policy: Policy | None) -> httpcore2.Request:
    """The request as it goes out. Runs for every request, so also for redirects and pooled connections."""
    check_target(request.url, policy or Policy.from_settings())
    headers = httpx2.Headers(request.headers)
    headers["Host"] = request.url.netloc.decode("ascii")
    headers["Accept-Encoding"] = "identity"
    return httpcore2.Request(
        method=request.method,
        url=httpcore2.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        ),
        headers=headers.raw,
        content=cast("Iterable[bytes] | AsyncIterable[bytes]", request.stream),
        # Nothing else: `sni_hostname` or `target` would undo what was just checked.
        extensions={"timeout": dict(request.extensions.get("timeout", {}))},
    )


def _open_response(request: httpx2.Request, response: httpcore2.Response) -> tuple[httpx2.Headers, Intake]:
    headers = httpx2.Headers(response.headers)
    # Only who asked for an event stream gets an uncapped one: a token endpoint could call its answer that as well.
    is_event_stream = (
        response.status < 300
        and headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream"
        and "text/event-stream" in request.headers.get("accept", "")
    )
    intake = Intake(headers, limit=None if is_event_stream else MAX_RESPONSE_BYTES)
    if intake.is_encoded:
        for name in ("content-encoding", "content-length"):
            headers.pop(name, None)
    return headers, intake


@contextmanager
def _lookup_errors(host: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise httpcore2.ConnectTimeout(f"Looking up {host} took too long.") from None
    except (OSError, UnicodeError) as error:
        # EAI_AGAIN: the resolver did not answer. The other codes and UnicodeError (the idna codec) are about the name.
        raise NameNotFound(host, is_temporary=error.args[:1] == (socket.EAI_AGAIN,)) from None


class _Translate:
    """Our refusals and httpcore2's errors as what httpx2 promises: an httpx2.TransportError."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None or isinstance(error, httpx2.TransportError):
            return
        if isinstance(error, ForbiddenAddress | InvalidInput):
            raise RequestRefused(error.message, code=error.code) from None
        if isinstance(error, httpcore2.LocalProtocolError):
            # Its text quotes the header that is wrong, and that may be a credential.
            raise httpx2.LocalProtocolError("A header or the path of the request is not valid in HTTP.") from None
        # Both libraries name their errors alike; the nearest common ancestor is the most specific match.
        for ancestor in type(error).__mro__:
            if ancestor.__module__.startswith("httpcore2") and issubclass(
                mapped := getattr(httpx2, ancestor.__name__, Exception), httpx2.TransportError
            ):
                raise mapped(str(error)) from error


translated = _Translate()
