"""A call without a connection, answered with a link in the form that the client's era understands (features N8).

2026-07-28, with URL elicitation    the call asks for input: the client opens the link and repeats the call
2025-11-25, with URL elicitation    error -32042 with the link
everybody else                      a tool error whose text holds the link
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agents.gateway import eras
from agents.gateway.handshake import URL_ERROR_VERSION, opens_urls
from aster.errors import ConnectionRequired

ASK = "connect"
# A client that answers “accepted” has opened the page; the person is still on it.
PATIENCE_SECONDS = 25.0
PAUSE_SECONDS = 0.5
Context = ServerRequestContext[Any]


def accepted(params: types.CallToolRequestParams) -> bool | None:
    """What the person said to the link that an earlier answer held; None if this call is the first."""
    answer = (params.input_responses or {}).get(ASK)
    return answer.action == "accept" if isinstance(answer, types.ElicitResult) else None


async def wait_until(connected: Callable[[], Awaitable[bool]]) -> bool:
    """Give the person some time to finish at the provider."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if await connected():
            return True
        await anyio.sleep(PAUSE_SECONDS)
    return False


def ask_to_connect(
    ctx: Context, params: types.CallToolRequestParams, missing: ConnectionRequired, link: str
) -> types.CallToolResult | types.InputRequiredResult:
    """The answer that leads to `link`. Raises UrlElicitationRequiredError for clients of 2025-11-25 that open URLs."""
    led = lead_to(ctx, ASK, missing.message, link) if accepted(params) is None else None
    return led or tool_error(in_words(missing, link))


def in_words(missing: ConnectionRequired, link: str) -> str:
    return f"{missing.message} Open this link to connect: {link}"


def lead_to(ctx: Context, ask: str, message: str, link: str) -> types.InputRequiredResult | None:
    """Have the client open `link`, if it has said that it can; `ask` is the key that its answer comes back under."""
    asked = types.ElicitRequestURLParams(mode="url", message=message, url=link)
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        if _declares_urls(ctx):
            return types.InputRequiredResult(
                result_type="input_required", input_requests={ask: types.ElicitRequest(params=asked)}
            )
    elif ctx.protocol_version == URL_ERROR_VERSION and ctx.request and opens_urls(ctx.request.headers):
        elicitation = asked.model_copy(update={"elicitation_id": hashlib.sha256(link.encode()).hexdigest()[:32]})
        raise UrlElicitationRequiredError([elicitation], message)
    return None


def tool_error(text: str) -> types.CallToolResult:
    """Trouble that the model can read."""
    return types.CallToolResult.model_validate(eras.tool_error(text))


def _declares_urls(ctx: Context) -> bool:
    capabilities = ctx.session.client_capabilities
    return bool(capabilities and capabilities.elicitation and capabilities.elicitation.url is not None)
