"""What a client of the older eras said about itself, remembered without a session.

Capabilities are declared once, in `initialize`, and the gateway keeps nothing between requests. So the session id in
its answer says what matters, and the client brings it back with every request (2025-11-25, Session Management). It
carries no rights, only the form in which a client wants to be told to connect an account; so it needs no signature.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

MAX_BODY = 256 * 1024
# The one revision with error -32042, which says to open a link
URL_ERROR_VERSION = "2025-11-25"
_OPENS_URLS = "url"
_PLAIN = "plain"


def opens_urls(headers: Mapping[str, str]) -> bool:
    """Whether this request's client has declared URL elicitation in its handshake."""
    return headers.get("mcp-session-id", "").startswith(f"{_OPENS_URLS}.")


def may_be_handshake(headers: Headers) -> bool:
    """Everything after the handshake carries the protocol version or the session id."""
    return "mcp-protocol-version" not in headers and "mcp-session-id" not in headers


class Handshake:
    """One request that may be an `initialize`: reads it first, and gives the answer a session id if it is."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._read: list[Message] = []
        self._session_id = ""

    async def peek(self) -> None:
        body = b""
        while len(body) <= MAX_BODY:
            message = await self._receive()
            self._read.append(message)
            body += message.get("body", b"")
            if message["type"] != "http.request" or not message.get("more_body"):
                break
        if capabilities := _declared_capabilities(body):
            kind = _OPENS_URLS if _has_url_elicitation(capabilities) else _PLAIN
            self._session_id = f"{kind}.{secrets.token_hex(16)}"

    async def receive(self) -> Message:
        return self._read.pop(0) if self._read else await self._receive()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._session_id:
            MutableHeaders(scope=message)["mcp-session-id"] = self._session_id
        await self._send(message)


def _declared_capabilities(body: bytes) -> dict[str, Any] | None:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict) or request.get("method") != "initialize":
        return None
    params = request.get("params")
    capabilities = params.get("capabilities") if isinstance(params, dict) else None
    return {"initialize": True, **capabilities} if isinstance(capabilities, dict) else {"initialize": True}


def _has_url_elicitation(capabilities: dict[str, Any]) -> bool:
    elicitation = capabilities.get("elicitation")
    return isinstance(elicitation, dict) and isinstance(elicitation.get("url"), dict)


async def refuse_method(scope: Scope, send: Send) -> None:
    """GET and DELETE belong to sessions, which the gateway does not keep (405, Streamable HTTP)."""
    start: Message = {"type": "http.response.start", "status": 405, "headers": [(b"allow", b"POST")]}
    await send(start)
    await send({"type": "http.response.body", "body": b""})
