"""Find out what a URL is, before the SDK talks to it: era, transport, or why it is neither.

Asked in the order of the specification (2026-07-28, Streamable HTTP §Backward Compatibility): `server/discover`, then
`initialize`, then a GET that an SSE server answers with an `endpoint` event. The verdict hangs on what the answers
say, never on one error code.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS

from aster.errors import UpstreamError
from integrations.mcp_client.failures import MODERN_ERRORS, USE_SSE, explain_exception, explain_status, timed_out
from integrations.mcp_client.target import Era, Target
from integrations.mcp_client.wire import SESSION_HEADER, Exchange, HttpClient, is_event_stream, open_http, parse_message

CLIENT_INFO = {"name": "aster", "version": "1"}
UNSUPPORTED_VERSION = -32022
MAX_EVENT_BYTES = 6 * 1024 * 1024
MAX_EVENTS = 50
ENDPOINT_SECONDS = 5.0


@dataclass(frozen=True)
class Probe:
    """What answers at a URL. An empty `era` means no MCP server, or one that wants a sign-in first (`status` 401/403).

    `transport` is `streamable_http`, `sse` or empty. `discover` is the modern server's own description, to be stored.
    """

    era: Era = ""
    transport: str = ""
    status: int = 0
    protocol_version: str = ""
    www_authenticate: list[str] = field(default_factory=list)
    discover: dict[str, Any] | None = None
    answer: Exchange = field(default_factory=Exchange, repr=False)


async def probe_target(target: Target) -> Probe:
    """Probe `target.url` with the target's credentials, within `target.timeout` seconds altogether.

    Raises UpstreamError (step dial, http) or ForbiddenAddress if there is no answer; any answer is a `Probe`.
    """
    try:
        with anyio.fail_after(target.timeout):
            async with open_http(target) as http:
                return await probe_url(target.url, http)
    except TimeoutError:
        raise timed_out("http", target.timeout) from None
    except Exception as error:  # whatever it is, it leaves as one error
        raise explain_exception(error, target, "http") from None


async def probe_url(url: str, http: HttpClient) -> Probe:
    """Probe `url` through a client of `aster.egress`; the caller bounds the time and maps httpx2's exceptions."""
    answer, message = await _post(http, url, "server/discover", _modern_params(), LATEST_MODERN_VERSION)
    if found := _judge_discover(answer, message):
        return found
    answer, message = await _post(http, url, "initialize", _initialize_params())
    if answer.status in (401, 403):
        return _not_found(answer)
    if isinstance(result := message.get("result"), dict):
        version = str(result.get("protocolVersion", ""))
        return Probe("legacy", "streamable_http", answer.status, version, answer=answer)
    if _error_code(message) in MODERN_ERRORS:
        return Probe("modern", "streamable_http", answer.status, LATEST_MODERN_VERSION, answer=answer)
    if answer.status in (400, 404, 405):
        return await _probe_sse(url, http, answer)
    return _not_found(answer)


def require_streamable(probe: Probe, target: Target) -> None:
    """Raise what `probe` found instead of a Streamable HTTP server: AuthChallenge or UpstreamError."""
    if probe.transport == "sse":
        raise UpstreamError("The address does not speak Streamable HTTP.", step="initialize", hint=USE_SSE)
    if not probe.era:
        raise explain_status(probe.answer, target, "http")


def _judge_discover(answer: Exchange, message: Mapping[str, Any]) -> Probe | None:
    """The verdict after the first question; None if the second one must be asked."""
    is_page = answer.status < 400 and answer.content_type == "text/html"
    if answer.status in (401, 403) or answer.location or is_page:
        return _not_found(answer)
    result = message.get("result")
    if isinstance(result, dict) and (version := best_version(result.get("supportedVersions"))):
        return Probe("modern", "streamable_http", answer.status, version, discover=result, answer=answer)
    error = message.get("error")
    if _error_code(message) not in MODERN_ERRORS or not isinstance(error, dict):
        return None
    data = error.get("data")
    supported = data.get("supported") if isinstance(data, dict) else None
    if _error_code(message) == UNSUPPORTED_VERSION and not (version := best_version(supported)):
        return None  # It knows the modern error, but serves only versions with a handshake.
    return Probe("modern", "streamable_http", answer.status, LATEST_MODERN_VERSION, answer=answer)


def _not_found(answer: Exchange) -> Probe:
    return Probe(status=answer.status, www_authenticate=answer.challenges, answer=answer)


def best_version(supported: object) -> str:
    """The newest modern version that Aster and the server both know; empty if there is none."""
    if isinstance(supported, list):
        for version in reversed(MODERN_PROTOCOL_VERSIONS):
            if version in supported:
                return version
    return ""


def _error_code(message: Mapping[str, Any]) -> int:
    error = message.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 0


def modern_meta(capabilities: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What every request of 2026-07-28 carries in `_meta`. Aster itself answers no questions: `capabilities` are
    those of the client that it passes answers on for."""
    return {
        PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION,
        CLIENT_INFO_META_KEY: CLIENT_INFO,
        CLIENT_CAPABILITIES_META_KEY: dict(capabilities or {}),
    }


def _modern_params() -> dict[str, Any]:
    return {"_meta": modern_meta()}


def _initialize_params() -> dict[str, Any]:
    return {"protocolVersion": LATEST_HANDSHAKE_VERSION, "capabilities": {}, "clientInfo": CLIENT_INFO}


async def _post(
    http: HttpClient, url: str, method: str, params: dict[str, Any], version: str = ""
) -> tuple[Exchange, dict[str, Any]]:
    headers = {"accept": "application/json, text/event-stream"}
    if version:
        headers |= {"mcp-protocol-version": version, "mcp-method": method}
    payload = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer, message = Exchange(), dict[str, Any]()
    async with http.stream("POST", url, json=payload, headers=headers, follow_redirects=False) as response:
        if is_event_stream(response):
            answer.note(response)
            message = await _read_reply(response)
        else:
            body = await response.aread()
            answer.note(response, body)
            message = parse_message(body)
        session = response.headers.get(SESSION_HEADER, "")
    if session:
        # The session was opened only to ask: a server that keeps count of them gets it back.
        with anyio.move_on_after(ENDPOINT_SECONDS):
            await http.request("DELETE", url, headers={SESSION_HEADER: session}, follow_redirects=False)
    return answer, message


async def _read_reply(response: httpx2.Response) -> dict[str, Any]:
    """The first message of an event stream that answers, not waiting for the stream to end."""
    events = httpx2.EventSource(response, max_event_size=MAX_EVENT_BYTES)
    seen = itertools.count(1)
    async for event in events:
        message = parse_message(event.data)
        if "result" in message or "error" in message:
            return message
        if next(seen) >= MAX_EVENTS:
            break
    return {}


async def _probe_sse(url: str, http: HttpClient, answer: Exchange) -> Probe:
    """Whether a GET is answered with an `endpoint` event (2024-11-05); else the earlier `answer` stays the verdict."""
    found, challenge = False, Exchange()
    with anyio.move_on_after(ENDPOINT_SECONDS):
        headers = {"accept": "text/event-stream"}
        async with http.stream("GET", url, headers=headers, follow_redirects=False) as response:
            challenge.note(response)
            if is_event_stream(response):
                async for event in httpx2.EventSource(response, max_event_size=MAX_EVENT_BYTES):
                    found = event.event == "endpoint"
                    break
    if found:
        return Probe("legacy", "sse", challenge.status, answer=challenge)
    return _not_found(challenge if challenge.status in (401, 403) else answer)
