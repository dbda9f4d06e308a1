"""What an agent answers as an MCP server: its tools, and calls of them with the caller's own connections."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError

from agents.gateway import approving, connecting, eras
from agents.gateway.auth import ACTOR, AGENT
from agents.models import Agent
from agents.runtime.session import call_once
from agents.services import calls
from agents.services.approvals import APPROVAL_DENIED, ApprovalRequired
from agents.services.links import connect_link
from agents.services.tool_pages import page_of_tools
from aster import __version__
from aster.accounts.access import Actor
from aster.errors import AsterError, ConnectionRequired, NotFound
from aster.threads import in_db_thread, in_waiting_thread

MODERN = "2026-07-28"
Context = ServerRequestContext[Any]
Params = TypeVar("Params")
Answer = TypeVar("Answer")
Handler = Callable[[Context, Params], Awaitable[Answer]]
log = logging.getLogger(__name__)


def _caller(ctx: Context) -> tuple[Actor, Agent]:
    scope = ctx.request.scope  # type: ignore[union-attr]
    return scope[ACTOR], scope[AGENT]


async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    """The agent's tools for this caller, in stable order, from the catalogue: no server is asked, none can block it.

    In pages of 500, so that clients that read only the first one miss nothing of an agent that people would call large.
    """
    actor, agent = _caller(ctx)
    offered = await in_db_thread(calls.agent_tools, agent, actor=actor)
    if any(tool.tool is None for tool in offered):
        # Nobody has listed that server yet; if the caller has just connected, this is the moment.
        await in_waiting_thread(calls.learn_tools, agent, actor=actor)
        offered = await in_db_thread(calls.agent_tools, agent, actor=actor)
    modern = ctx.protocol_version == MODERN
    try:
        page, following = await in_db_thread(page_of_tools, offered, params.cursor if params else None)
    except NotFound as error:  # server/utilities/pagination: an invalid cursor
        raise MCPError(types.INVALID_PARAMS, error.message) from None
    readable = [eras.tool_for_client(each.definition, modern=modern) for each in page]
    listed = [types.Tool.model_validate(tool) for tool in readable if tool]
    # What an agent offers depends on the organization's settings, so nobody may cache it for others (Caching, private).
    return types.ListToolsResult(tools=listed, next_cursor=following, ttl_ms=0, cache_scope="private")


async def call_tool(
    ctx: Context, params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    """Call one tool. Trouble comes back as a tool error the model can read; an unknown tool is a protocol error."""
    actor, agent = _caller(ctx)
    if connecting.accepted(params):
        # The link was opened: without waiting, the repeated call would only be told the same again.
        await connecting.wait_until(lambda: in_db_thread(calls.is_connected, agent, params.name, actor=actor))
    if approving.FORM in (params.input_responses or {}):
        await in_db_thread(approving.take_answer, params, actor)
    try:
        result = await call_once(
            agent, params.name, params.arguments or {}, actor=actor, progress=ctx.session.report_progress
        )
    except ConnectionRequired as missing:
        link = await in_db_thread(connect_link, missing, actor)
        return connecting.ask_to_connect(ctx, params, missing, link)
    except ApprovalRequired as refused:
        return approving.ask(ctx, params, refused, actor)
    except AsterError as error:
        # What a person said about this very call is for the model to hear.
        if error.code in calls.REFUSALS and error.code != APPROVAL_DENIED:
            raise MCPError(types.INVALID_PARAMS, error.message) from None
        return connecting.tool_error(eras.in_words(error))
    readable = eras.result_for_client(result, modern=ctx.protocol_version == MODERN)
    return types.CallToolResult.model_validate(readable)


def _guarded(handler: Handler[Params, Answer]) -> Handler[Params, Answer]:
    """Say nothing of a bug but where to find it: the SDK would send the exception's own words to a legacy client."""

    @wraps(handler)
    async def guarded(ctx: Context, params: Params) -> Answer:
        try:
            return await handler(ctx, params)
        except MCPError:
            raise
        except Exception:
            identifier = _caller(ctx)[0].request_id
            log.exception("A gateway request failed (%s)", identifier)
            raise MCPError(types.INTERNAL_ERROR, eras.bug_words(identifier)) from None

    return guarded


def build_server() -> Server[Any]:
    """The MCP server all agents share; the request says which agent it is."""
    return Server(
        "aster",
        version=__version__,
        on_list_tools=_guarded(list_tools),
        on_call_tool=_guarded(call_tool),
        # Otherwise every modern call lists all tools first, to check headers we do not ask for.
        get_tool_input_schema=lambda name: None,
    )
