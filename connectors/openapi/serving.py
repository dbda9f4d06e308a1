"""A connector from an OpenAPI document as an in-process MCP server; its operations are found by the document's id."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import mcp_types as types
from mcp.server.lowlevel.server import Server

from aster import __version__
from aster.errors import UpstreamError
from aster.threads import in_db_thread
from connectors.models import ApiDocument
from connectors.openapi.calls import Unfit, call_operation, read_problem, said, show_answer
from connectors.openapi.document import Operation
from connectors.rest import Rest
from integrations.mcp_client.target import Target

COMMAND = "openapi"  # of the servers that are such connectors
MOST_KEPT = 50

Operations = Mapping[str, Operation]  # by the name of the tool
_kept: OrderedDict[str, Operations] = OrderedDict()


def keep_operations(pk: UUID | str, operations: Iterable[Operation]) -> Operations:
    """Remember a document's operations: its row never changes, and its id is never another's."""
    found = _kept[str(pk)] = {each.name: each for each in operations}
    _kept.move_to_end(str(pk))
    while len(_kept) > MOST_KEPT:
        _kept.popitem(last=False)
    return found


def serve_document(target: Target) -> Server[Any]:
    """The server of the document that `target.args` names, asking the API at `target.url`."""
    name = target.key or "The API"
    api = Rest(
        name, target.url, headers={"Accept": "application/json, */*;q=0.5"}, credentials=target.headers,
        token=target.token, problem=read_problem, timeout=target.timeout,
    )  # fmt: skip

    async def list_tools(ctx: object, params: object) -> types.ListToolsResult:
        tools = [_definition(each) for each in (await _operations(target)).values()]
        return types.ListToolsResult(tools=tools, ttl_ms=0, cache_scope="private")

    async def call_tool(ctx: object, params: types.CallToolRequestParams) -> types.CallToolResult:
        operation = (await _operations(target)).get(params.name)
        if operation is None:
            words = f"{name} has no tool called {params.name[:100]}."
            raise UpstreamError(words, step="call", code="tool_call_failed")
        try:
            return show_answer(await call_operation(api, operation, params.arguments or {}))
        except Unfit as error:
            return said(f"These arguments do not fit. {error}.", is_error=True)

    return Server(COMMAND, version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


async def _operations(target: Target) -> Operations:
    pk = str(target.args[0]) if target.args else ""
    if (found := _kept.get(pk)) is not None:
        _kept.move_to_end(pk)
        return found
    return keep_operations(pk, await in_db_thread(_stored, pk))


def _stored(pk: str) -> list[Operation]:
    try:
        kept = ApiDocument.objects.filter(pk=UUID(pk)).values_list("operations", flat=True).first()
    except ValueError:
        kept = None
    if kept is None:
        raise UpstreamError("The connector was changed just now.", step="call", retryable=True, hint="Try again.")
    return [Operation.from_json(each) for each in kept]


def _definition(operation: Operation) -> types.Tool:
    hints = types.ToolAnnotations(
        title=operation.title,
        read_only_hint=operation.only_reads,
        # RFC 9110 §9.2.2: what PUT and DELETE did is what there is, however often they come.
        destructive_hint=None if operation.only_reads else operation.method in ("delete", "put"),
        idempotent_hint=None if operation.only_reads else operation.method in ("delete", "put"),
        open_world_hint=True,
    )
    return types.Tool(
        name=operation.name, title=operation.title, description=operation.description,
        input_schema=dict(operation.schema), annotations=hints,
    )  # fmt: skip
