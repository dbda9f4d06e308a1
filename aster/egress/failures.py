"""What went wrong on the way out, in words for the person who typed the URL."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator

import httpx2

from aster.egress.deadline import DeadlineExceeded
from aster.egress.guard import NameNotFound
from aster.errors import ForbiddenAddress, InvalidInput, UpstreamError

_MAX_CHAIN = 50
_HINT_URL = "Check the host name and the port in the URL."
_HINT_TLS = "Install a valid certificate on the server, or add its certificate authority with SSL_CERT_FILE."
_HINT_WAIT = "Try again. If it keeps happening, look at the server's own logs."


def explain(exc: BaseException, url: str) -> UpstreamError:
    """What `exc`, raised while talking to `url`, means: an UpstreamError with step, hint and `retryable`.

    Looks into exception groups and causes. Only host and port of `url` are shown, never the exception's own text,
    since both may hold secrets. What is not about the network comes back as a plain "could not be reached".
    """
    for error in _walk(exc):
        if isinstance(error, UpstreamError):
            return error
        if isinstance(error, (ForbiddenAddress, InvalidInput)):
            return UpstreamError(error.message, step="url", code=error.code)
        if isinstance(error, (httpx2.HTTPError, httpx2.InvalidURL)):
            return _explain_http(error, _place(url))
    return UpstreamError(f"{_place(url)} could not be reached.", step="dial", hint=_HINT_WAIT)


def _explain_http(error: httpx2.HTTPError | httpx2.InvalidURL, place: str) -> UpstreamError:
    match error:
        case NameNotFound():
            host = place.rpartition(":")[0]
            return UpstreamError(
                f"The name {host} does not resolve.", step="dial", retryable=error.is_temporary, hint=_HINT_URL
            )
        case httpx2.ConnectError():
            return _explain_connect(error, place)
        case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
            return UpstreamError(
                f"No connection to {place} within {_seconds(error, 'connect')}.",
                step="dial",
                code=UpstreamError.TIMEOUT,
                retryable=True,
                hint="Check that a firewall lets Aster through to the server.",
            )
        case httpx2.TimeoutException():
            words = f"The server did not answer within {_seconds(error, 'read')}."
            return UpstreamError(words, step="http", code=UpstreamError.TIMEOUT, retryable=True, hint=_HINT_WAIT)
        case httpx2.HTTPStatusError():
            status = error.response.status_code
            return UpstreamError(
                f"{place} answered with HTTP status {status}.", step="http", retryable=status >= 500 or status == 429
            )
        case httpx2.NetworkError() | httpx2.RemoteProtocolError() if _is_hang_up(error):
            words = f"{place} closed the connection without a complete answer."
            return UpstreamError(words, step="http", retryable=True, hint=_HINT_WAIT)
        case httpx2.LocalProtocolError() | httpx2.InvalidURL():
            words = "The request could not be sent: a header or the URL is not valid in HTTP."
            return UpstreamError(words, step="url", hint="Check the server's URL and headers for stray characters.")
        case _:
            return UpstreamError(f"What {place} answers is not proper HTTP.", step="http", hint=_HINT_URL)


def _explain_connect(error: httpx2.ConnectError, place: str) -> UpstreamError:
    # The nearest cause counts: further out there may be an older failure that was being handled. anyio puts an
    # OSError without errno around the real one.
    cause = next((e for e in _walk(error) if isinstance(e, OSError) and e.errno), None)
    host = place.rpartition(":")[0]
    match cause:
        case ssl.SSLCertVerificationError():
            reason = (cause.verify_message or "it could not be verified").rstrip(".")
            return UpstreamError(f"The TLS certificate of {host} is not valid: {reason}.", step="dial", hint=_HINT_TLS)
        case ssl.SSLError():
            hint = "The server may speak plain http on this port, or only outdated versions of TLS."
            return UpstreamError(f"No secure connection to {place} could be made.", step="dial", hint=hint)
        case ConnectionRefusedError():
            return UpstreamError(
                f"Nobody answers at {place}. Is the server running?", step="dial", retryable=True, hint=_HINT_URL
            )
        case OSError() if cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            words = f"There is no route from Aster to {place}."
            return UpstreamError(words, step="dial", retryable=True, hint="Check the network between Aster and it.")
        case _:
            words = f"No connection to {place} could be made."
            return UpstreamError(words, step="dial", retryable=True, hint=_HINT_URL)


def _walk(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and what is behind it, nearest first: members of groups, explicit causes, then implicit ones."""
    queue, seen = [exc], set[int]()
    while queue and len(seen) < _MAX_CHAIN:
        error = queue.pop(0)
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        queue += [e for e in (*members, error.__cause__, error.__context__) if e is not None]


def _place(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return "The server"
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    return f"{host}:{parsed.port or (443 if parsed.scheme == 'https' else 80)}"


def _seconds(error: httpx2.HTTPError, step: str) -> str:
    if isinstance(error, DeadlineExceeded):
        return f"{error.seconds:g} s"
    try:
        return f"{error.request.extensions['timeout'][step]:g} s"
    except (RuntimeError, KeyError, TypeError, ValueError):  # no request, no timeouts, no limit
        return "the time allowed"


def _is_hang_up(error: httpx2.HTTPError) -> bool:
    if isinstance(error, httpx2.NetworkError):
        return True
    # httpcore2 and h11 say it only in words: "Server disconnected …", "peer closed connection without …".
    return any(word in str(error) for word in ("disconnected", "closed connection"))
