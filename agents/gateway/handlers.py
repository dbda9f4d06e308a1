"""What an agent answers as an MCP server: its tools, and calls of them with the caller's own connections.

Prompts and resources are in offering, what servers ask back in asking.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from agents.gateway import approving, asking, connecting, eras, offering
from agents.gateway.listening import Listening
from agents.gateway.offering import caller
from agents.gateway.plain import trace_in
from agents.models import Agent
from agents.runtime.session import Around, call_once, record_refusal
from agents.services import calls
from agents.services.approvals import APPROVAL_DENIED, ApprovalRequired
from agents.services.endpoints import capabilities_of, tools_at
from agents.services.links import connect_link
from agents.services.tool_pages import page_of_tools
from aster import __version__
from aster.accounts.access import Actor, require_still_here
from aster.errors import AsterError, ConnectionRequired, NotFound, bug_words
from aster.threads import in_db_thread, in_waiting_thread
from integrations.mcp_client import asks_for_input

MODERN = "2026-07-28"
Context = ServerRequestContext[Any]
Params = TypeVar("Params")
Answer = TypeVar("Answer")
Handler = Callable[[Context, Params], Awaitable[Answer]]
log = logging.getLogger(__name__)


async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    """The agent's tools for this caller, in stable order, from the catalogue: no server is asked, none can block it.

    In pages of 500, so that clients that read only the first one miss nothing of an agent that people would call large.
    """
    actor, endpoint = caller(ctx)
    offered = await in_db_thread(tools_at, endpoint, actor=actor)
    if any(tool.tool is None for tool in offered):
        # Nobody has listed that server yet; if the caller has just connected, this is the moment.
        await in_waiting_thread(calls.learn_tools, endpoint.agent, actor=actor)
        offered = await in_db_thread(tools_at, endpoint, actor=actor)
    modern = ctx.protocol_version == MODERN
    try:
        page, following = await in_db_thread(page_of_tools, offered, params.cursor if params else None)
    except NotFound as error:  # server/utilities/pagination: an invalid cursor
        raise MCPError(types.INVALID_PARAMS, error.message) from None
    shown = [{**each.definition, "name": endpoint.outward(each)} for each in page]
    readable = [eras.tool_for_client(definition, modern=modern) for definition in shown]
    listed = [types.Tool.model_validate(tool) for tool in readable if tool]
    # What an agent offers depends on the organization's settings, so nobody may cache it for others (Caching, private).
    return types.ListToolsResult(tools=listed, next_cursor=following, ttl_ms=0, cache_scope="private")


async def call_tool(
    ctx: Context, params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult | dict[str, Any]:
    """Call one tool. Trouble comes back as a tool error the model can read; an unknown tool is a protocol error."""
    actor, endpoint = caller(ctx)
    agent, name, arguments = endpoint.agent, endpoint.inward(params.name), params.arguments or {}
    bound = asking.bind(ctx.method, actor, agent, name, arguments)
    around = Around(ctx.session.report_progress, await asking.rounds_of(ctx, bound), _trace(ctx))
    if not asking.is_ours(params.request_state):
        await _take_answers(params, actor, agent, name)
    try:
        result = await call_once(agent, name, arguments, actor=actor, around=around)
    except ConnectionRequired as missing:
        link = await in_db_thread(connect_link, missing, actor)
        return connecting.ask_to_connect(ctx, params, missing, link)
    except ApprovalRequired as refused:
        return approving.ask(ctx, params, refused, actor)
    except AsterError as error:
        asking.require_capability(ctx.protocol_version, asking.declared_by(ctx), error)
        # What a person said about this very call is for the model to hear.
        if error.code in calls.REFUSALS and error.code != APPROVAL_DENIED:
            raise MCPError(types.INVALID_PARAMS, error.message) from None
        return connecting.tool_error(eras.in_words(error))
    if asks_for_input(result):
        return asking.pass_on(ctx.protocol_version, result, bound)
    readable = eras.result_for_client(result, modern=ctx.protocol_version == MODERN)
    return types.CallToolResult.model_validate(readable)


async def _take_answers(params: types.CallToolRequestParams, actor: Actor, agent: Agent, name: str) -> None:
    """What the person said to a question of our own."""
    if connecting.accepted(params):
        # The link was opened: without waiting, the repeated call would only be told the same again.
        await connecting.wait_until(lambda: in_db_thread(calls.is_connected, agent, name, actor=actor))
        try:
            await in_db_thread(require_still_here, actor)
        except AsterError as refusal:  # locked out meanwhile
            await record_refusal(agent, name, refusal, actor=actor)
            raise MCPError(types.INVALID_PARAMS, refusal.message) from None
    if approving.FORM in (params.input_responses or {}):
        await in_db_thread(approving.take_answer, params, actor)


def _trace(ctx: Context) -> dict[str, str]:
    meta = (ctx.params or {}).get("_meta")
    return trace_in(meta) if isinstance(meta, dict) else {}


def _guarded(handler: Handler[Params, Answer]) -> Handler[Params, Answer]:
    """Say nothing of a bug but where to find it: the SDK would send the exception's own words to a legacy client."""

    @wraps(handler)
    async def guarded(ctx: Context, params: Params) -> Answer:
        try:
            return await handler(ctx, params)
        except MCPError:
            raise
        except Exception:
            identifier = caller(ctx)[0].request_id
            log.exception("A gateway request failed (%s)", identifier)
            raise MCPError(types.INTERNAL_ERROR, bug_words(identifier)) from None

    return guarded


async def discover(ctx: Context, params: types.RequestParams) -> types.DiscoverResult:
    """What this endpoint can do for this caller."""
    return types.DiscoverResult(
        supported_versions=list(MODERN_PROTOCOL_VERSIONS),
        capabilities=await _capabilities(ctx),
        ttl_ms=0,
        cache_scope="private",
    )


async def _honest_handshake(ctx: Context, call_next: CallNext) -> HandlerResult:
    """`initialize` is answered by the SDK, which does not know the agent."""
    result = await call_next(ctx)
    if ctx.method != "initialize" or not isinstance(result, dict):
        return result
    capabilities = await _capabilities(ctx)
    return {**result, "capabilities": capabilities.model_dump(by_alias=True, mode="json", exclude_none=True)}


async def _capabilities(ctx: Context) -> types.ServerCapabilities:
    """No more than can be passed on. Changes of tools are told where there is a stream for it: to modern clients."""
    actor, endpoint = caller(ctx)
    offered = await in_db_thread(capabilities_of, endpoint, actor=actor)
    tells = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and ctx.method != "initialize"
    return types.ServerCapabilities(
        tools=types.ToolsCapability(list_changed=tells),
        prompts=types.PromptsCapability(list_changed=False) if "prompts" in offered else None,
        resources=types.ResourcesCapability(list_changed=False, subscribe=False) if "resources" in offered else None,
        completions=types.CompletionsCapability() if "completions" in offered else None,
    )


def build_server() -> Server[Any]:
    """The MCP server all agents share; the request says which agent it is."""
    # Without a schema: otherwise every modern call lists all tools first, to check headers we do not ask for.
    server: Server[Any] = Server("aster", version=__version__, get_tool_input_schema=lambda name: None)
    page = types.PaginatedRequestParams
    handlers: list[tuple[str, type[BaseModel], Handler[Any, HandlerResult]]] = [
        ("server/discover", types.RequestParams, discover),
        ("tools/list", page, list_tools),
        ("tools/call", types.CallToolRequestParams, call_tool),
        ("prompts/list", page, offering.list_prompts),
        ("prompts/get", types.GetPromptRequestParams, offering.get_prompt),
        ("resources/list", page, offering.list_resources),
        ("resources/templates/list", page, offering.list_templates),
        ("resources/read", types.ReadResourceRequestParams, offering.read_resource),
        ("completion/complete", types.CompleteRequestParams, offering.complete),
        ("subscriptions/listen", types.SubscriptionsListenRequestParams, Listening()),
    ]
    for method, shape, handler in handlers:
        server.add_request_handler(method, shape, _guarded(handler))
    server.middleware.append(_honest_handshake)
    return server
