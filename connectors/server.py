"""A connector as an in-process MCP server: how `mcp_client` reaches it (`connectors.apps`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mcp_types as types
from mcp.server.lowlevel.server import Server
from pydantic import ValidationError
from pydantic_core import to_json

from aster import __version__
from aster.errors import UpstreamError
from connectors.base import Connector
from connectors.openapi.serving import COMMAND, serve_document
from connectors.registry import find_connector
from connectors.rest import Rest
from integrations.mcp_client.target import Target


def serve_connector(target: Target) -> Server[Any]:
    """The server of the connector that `target.command` names, asking the provider at `target.url` with the target's
    credentials."""
    if target.command == COMMAND:
        return serve_document(target)
    connector = find_connector(target.command)
    api = connector.rest(target.url, credentials=target.headers, token=target.token, timeout=target.timeout)

    async def list_tools(ctx: object, params: object) -> types.ListToolsResult:
        tools = [tool.definition for tool in connector.tools.values()]
        return types.ListToolsResult(tools=tools, ttl_ms=0, cache_scope="private")

    async def call_tool(ctx: object, params: types.CallToolRequestParams) -> types.CallToolResult:
        return await _call(connector, api, params.name, params.arguments or {})

    return Server(connector.slug, version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


async def _call(connector: Connector, api: Rest, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
    tool = connector.tools.get(name)
    if tool is None:
        raise UpstreamError(f"{connector.name} has no tool called {name[:100]}.", step="call", code="tool_call_failed")
    try:
        given = tool.metadata.arg_model.model_validate(arguments)
    except ValidationError as error:
        return _said(_in_words(error), is_error=True)
    try:
        result = await tool.function(replace(api, scopes=tool.scopes), **given.model_dump_one_level())
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        # The provider left out what its documentation promises.
        words = f"{connector.name} answered in a form that Aster does not know."
        raise UpstreamError(words, step="call", code="tool_call_failed") from error
    return _said(to_json(result, indent=2).decode(), structured=result)


def _said(text: str, *, structured: dict[str, Any] | None = None, is_error: bool = False) -> types.CallToolResult:
    content = [types.TextContent(type="text", text=text)]
    return types.CallToolResult(content=[*content], structured_content=structured, is_error=is_error)


def _in_words(error: ValidationError) -> str:
    """What is wrong with which argument; not what was given."""
    told = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)]
    return f"These arguments do not fit. {'; '.join(told)}"
