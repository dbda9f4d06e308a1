"""From whatever went wrong to the one `UpstreamError` that leaves this package."""

from __future__ import annotations

import logging

import anyio
import httpx2
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED
from pydantic import ValidationError

from aster import egress
from aster.errors import AsterError, ForbiddenAddress, UpstreamError
from integrations.mcp_client.target import Target
from integrations.mcp_client.wire import Exchange

log = logging.getLogger(__name__)

MAX_TEXT = 300
_DOING = {"call": "the call", "tools": "to list its tools", "offers": "to list what it offers", "ask": "the request"}
# Only a modern server knows these: header mismatch, missing capability, unsupported version (basic/index §Errors).
MODERN_ERRORS = frozenset({-32020, -32021, -32022})
# Invalid request, unknown method, invalid params: how a server of one era receives a request of the other.
STRANGE_REQUEST = frozenset({-32600, -32601, -32602}) | MODERN_ERRORS
RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
USE_SSE = "This looks like an SSE server: choose the SSE transport."
USE_HTTP = "This looks like a Streamable HTTP server: choose the Streamable HTTP transport."


class AuthChallenge(UpstreamError):
    """The server wants another sign-in. `www_authenticate` has the header's lines as they came (RFC 9110 §11.6.1)."""

    code = "auth_required"

    def __init__(self, status: int, www_authenticate: list[str], *, has_credentials: bool) -> None:
        said = "wants a sign-in" if status == 401 else "refuses access"
        hint = "Set up how to sign in at this server."
        if has_credentials:
            hint = "Its credentials were not accepted: connect again or replace the key."
        super().__init__(f"The server {said} ({status}).", step="auth", hint=hint)
        self.status = status
        self.www_authenticate = list(www_authenticate)


class RefusedRequest(UpstreamError):
    """The server refused a request with an error of JSON-RPC; `rpc_code` and `rpc_data` are its own."""

    def __init__(self, error: UpstreamError, rpc_code: int, rpc_data: object) -> None:
        super().__init__(error.message, step=error.step, retryable=error.retryable, hint=error.hint, code=error.code)
        self.rpc_code = rpc_code
        self.rpc_data = rpc_data


class Refusal(Exception):
    """The server answered, but not with a result. For `Session` to judge; leaves as `error`."""

    def __init__(self, error: UpstreamError, exchange: Exchange, code: int = 0, data: object = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = exchange.status
        self.in_session = exchange.in_session
        self.names_request = exchange.names_request
        self.code = code
        self.data = data


def bound_text(text: object, limit: int = MAX_TEXT) -> str:
    """Words of the other side, fit to be shown: one line, printable, cut."""
    line = " ".join("".join(char if char.isprintable() else " " for char in str(text)[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def timed_out(step: str, seconds: float) -> UpstreamError:
    said = "The tool" if step == "call" else "The server"
    message = f"{said} did not answer within {round(seconds, 1):g} seconds."
    return UpstreamError(message, step=step, retryable=True, code="timeout", hint="Try again, or raise the timeout.")


def explain_status(exchange: Exchange, target: Target, step: str) -> UpstreamError:
    """An HTTP answer that is no MCP answer."""
    status = exchange.status
    if status in (401, 403):
        return AuthChallenge(status, exchange.challenges, has_credentials=target.has_credentials)
    if exchange.location:
        message = f"The server redirects to {bound_text(exchange.location)}: use that address."
        return UpstreamError(message, step=step, hint="Redirects are not followed.")
    if status == 404:
        hint = "Check the path: many servers answer at /mcp."
        return UpstreamError("The server has no MCP endpoint at this path (404).", step=step, hint=hint)
    if status == 429:
        return UpstreamError("The server is asked too often (429).", step=step, retryable=True, hint="Try again later.")
    if status >= 500:
        message = f"The server failed ({status})."
        return UpstreamError(message, step=step, retryable=status in RETRYABLE_STATUS, hint="Look at its own logs.")
    if status >= 400:
        return UpstreamError(f"The server refused the request ({status}).", step=step, hint="Check the address.")
    if exchange.content_type in ("text/html", "application/xhtml+xml"):
        hint = "Use the address of the MCP endpoint: many servers answer at /mcp."
        return UpstreamError("The address answered with a web page, not MCP.", step=step, hint=hint)
    hint = "Check that the address is that of an MCP endpoint."
    return UpstreamError("The address answered, but not with MCP.", step=step, hint=hint)


def was_never_sent(error: AsterError) -> bool:
    """Whether a call that ended so surely never reached its server: no connection to it came about."""
    if isinstance(error, UpstreamError):
        return error.step == "dial" or error.code == ForbiddenAddress.code
    return isinstance(error, ForbiddenAddress)


def is_strange(refusal: Refusal) -> bool:
    """Whether a server of the other era could have said this."""
    return refusal.code in STRANGE_REQUEST or (400 <= refusal.status < 500 and refusal.status != 429)


def lost_session(refusal: Refusal, target: Target) -> bool:
    """A session that the server no longer knows; some say so with 400 and words. SSE has its session in the URL.

    What is said about the request by its id is no such words: it was looked at, and may have run.
    """
    said_so = refusal.status == 400 and not refusal.names_request and "session" in refusal.error.message.lower()
    return (refusal.in_session or target.transport == "sse") and (refusal.status == 404 or said_so)


def explain(error: BaseException, exchange: Exchange, target: Target, step: str) -> AsterError | Refusal:
    """What to raise for `error`, in the light of what HTTP said to the same request."""
    if exchange.error is not None and exchange.status:
        # The request had arrived. What failed was getting the rest of its answer, perhaps over a new connection.
        return connection_ended(target, step)
    if exchange.error is not None:
        return explain_exception(exchange.error, target, step)
    if exchange.status in (401, 403):
        return explain_status(exchange, target, step)
    if exchange.failed and not exchange.is_protocol_error:
        return Refusal(explain_status(exchange, target, step), exchange)
    if isinstance(error, MCPError):
        return _explain_protocol_error(error, exchange, target, step)
    return explain_exception(error, target, step)


def _explain_protocol_error(error: MCPError, exchange: Exchange, target: Target, step: str) -> AsterError | Refusal:
    if target.transport == "connector" and (cause := error.__cause__) and not isinstance(cause, ValidationError):
        return cause if isinstance(cause, AsterError) else _report_connector(cause, target, step)
    # The SDK speaks of its own troubles in the server's voice: these words are its own.
    if error.code == CONNECTION_CLOSED and error.message.startswith(("Connection closed", "SSE stream")):
        return connection_ended(target, step)
    if error.message.startswith(("Unexpected content type", "Failed to parse JSON response", "Failed to parse SSE")):
        return Refusal(explain_status(exchange, target, step), exchange)
    doing = _DOING.get(step, "the handshake")
    message = f"The server refused {doing}: {bound_text(error.message) or error.code}"
    code = "tool_call_failed" if step == "call" else None
    return Refusal(UpstreamError(message, step=step, code=code), exchange, error.code, error.data)


def _report_connector(error: BaseException, target: Target, step: str) -> UpstreamError:
    log.error("Connector %s failed", target.key or target.url, exc_info=error)
    return UpstreamError("The connector failed.", step=step, hint="The reason is in Aster's log.")


def connection_ended(target: Target, step: str) -> UpstreamError:
    if target.transport == "stdio":
        # What it wrote to stderr may hold secrets and is not shown.
        hint = "Run the command by hand to see why; check its arguments and environment."
        return UpstreamError("The command ended before it answered.", step=step, hint=hint)
    return UpstreamError("The connection ended before the answer came.", step=step, retryable=True, hint="Try again.")


def first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def explain_exception(error: BaseException, target: Target, step: str) -> AsterError:
    """An exception that is no answer: of the network, of starting a command, of the SDK."""
    error = first_cause(error)
    if isinstance(error, AsterError):
        return error
    if isinstance(error, OSError | httpx2.StreamError) and step in ("call", "ask"):
        return connection_ended(target, step)  # what could not be dialled is a ConnectError
    if target.transport == "stdio" and isinstance(error, OSError):
        reason = "was not found" if isinstance(error, FileNotFoundError) else "could not be started"
        hint = "Check the command and its working directory on the machine that runs Aster."
        return UpstreamError(f"The command {reason}.", step="dial", hint=hint)
    if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | httpx2.StreamError | OSError):
        return egress.explain(error, target.url)
    if isinstance(error, ValidationError | RuntimeError | MCPError):
        hint = "It may speak a protocol version that Aster does not know."
        return UpstreamError("The server's answer does not follow the MCP protocol.", step=step, hint=hint)
    if isinstance(error, anyio.BrokenResourceError | anyio.ClosedResourceError | anyio.EndOfStream):
        return connection_ended(target, step)
    log.error("Unexpected failure while talking to %s", target.key or target.transport, exc_info=error)
    return UpstreamError("Aster could not talk to the server.", step=step, hint="The reason is in Aster's log.")
