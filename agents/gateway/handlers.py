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
from pydantic import ValidationError

from agents.gateway import approving, connecting
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
    listed = [tool for each in page if (tool := _for_client(each.definition, modern=modern))]
    # What an agent offers depends on the organization's settings, so nobody may cache it for others (Caching, private).
    return types.ListToolsResult(tools=listed, next_cursor=following, ttl_ms=0, cache_scope="private")


def _for_client(definition: dict[str, Any], *, modern: bool) -> types.Tool | None:
    """A definition the client's era can read: one it cannot would make it drop the whole list.

    A tool with nonsense in an optional field is passed on without its optional fields.
    """
    cleaned = _cleaned(definition, modern=modern)
    bare = {name: cleaned[name] for name in ("name", "inputSchema")}
    for candidate in (cleaned, bare):
        try:
            return types.Tool.model_validate(candidate)
        except ValidationError:
            continue
    return None


def _cleaned(definition: dict[str, Any], *, modern: bool) -> dict[str, Any]:
    definition = {name: value for name, value in definition.items() if value is not None}
    schema = definition.get("outputSchema")
    if not modern and isinstance(schema, dict) and schema.get("type") != "object":
        definition.pop("outputSchema")
    # Clients need not mirror arguments into headers towards us (x-mcp-header); our own client does it upstream.
    properties = definition["inputSchema"].get("properties")
    if isinstance(properties, dict):
        cleaned = {
            name: {k: v for k, v in schema.items() if k != "x-mcp-header"} if isinstance(schema, dict) else schema
            for name, schema in properties.items()
        }
        definition["inputSchema"] = {**definition["inputSchema"], "properties": cleaned}
    return definition


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
        hint = getattr(error, "hint", "")
        return connecting.tool_error(f"{error.message} {hint}".strip())
    return _relayed(result, modern=ctx.protocol_version == MODERN)


def _relayed(result: dict[str, Any], *, modern: bool) -> types.CallToolResult:
    if not modern and not isinstance(result.get("structuredContent"), dict | None):
        result = {name: value for name, value in result.items() if name != "structuredContent"}
    try:
        return types.CallToolResult.model_validate(result)
    except ValidationError:
        return connecting.tool_error("The server's answer is not a tool result that can be passed on.")


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
            words = f"Aster failed; this is a bug. Its log has the reason under the request id {identifier}."
            raise MCPError(types.INTERNAL_ERROR, words) from None

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
