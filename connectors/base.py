"""What a connector is: a provider as data, and a few typed functions that call its REST API.

Each function becomes a tool of an in-process MCP server (`connectors.server`). Its name, docstring and annotated
arguments are what a model reads; its return type is the output schema.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import mcp_types as types
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata, func_metadata
from pydantic import Field

from connectors.rest import Answer, Problem, Rest
from integrations.models import Transport

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])
# Arguments that many tools take: how many, and where to go on, by number or by what the page before said.
Limit = Annotated[int, Field(ge=1, le=100, description="How many to return")]
Page = Annotated[int, Field(ge=1, description="1 is the first")]
Cursor = Annotated[str | None, Field(description="The next_cursor of the page before")]
Offset = Annotated[int, Field(ge=0, description="The next_offset of the part before")]


class Kind(StrEnum):
    """Whose credentials calls go out with: a person's own, the organization's key, or what an MCP server asks."""

    OAUTH = "oauth"
    API_KEY = "api_key"
    REMOTE_MCP = "remote_mcp"  # hosted by its maker: enabled with one click (connectors.remote)


class Category(StrEnum):
    COMMUNICATION = "Communication"
    PRODUCTIVITY = "Productivity"
    DEVELOPMENT = "Development"
    SALES = "Sales"
    FINANCE = "Finance"
    DESIGN = "Design"
    KNOWLEDGE = "Knowledge"


@dataclass(frozen=True)
class ConnectorTool:
    """`scopes` are the provider's, which a token needs for this tool."""

    function: Callable[..., Awaitable[Any]]
    title: str
    scopes: tuple[str, ...]
    only_reads: bool
    metadata: FuncMetadata

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def definition(self) -> types.Tool:
        hints = types.ToolAnnotations(
            title=self.title, read_only_hint=self.only_reads, destructive_hint=False, open_world_hint=True
        )
        return types.Tool(
            name=self.name,
            title=self.title,
            description=" ".join((self.function.__doc__ or "").split()),
            input_schema=self.metadata.arg_model.model_json_schema(by_alias=True),
            output_schema=self.metadata.output_schema,
            annotations=hints,
        )


@dataclass(frozen=True)
class Connector:
    """One provider. `url` is the base of its REST API (of a remote MCP server its endpoint), `auth` fields of the auth
    config that it is enabled with, `scopes` what each scope is for, `steps` what to do at the provider, and `problem`
    reads its refusals."""

    slug: str
    name: str
    category: Category
    kind: Kind
    description: str
    url: str
    docs: str
    steps: tuple[str, ...] = ()
    scopes: Mapping[str, str] = field(default_factory=dict)
    auth: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    problem: Callable[[Answer], Problem | None] | None = None
    transport: str = Transport.CONNECTOR
    tools: dict[str, ConnectorTool] = field(default_factory=dict)

    def matches(self, words: str) -> bool:
        """Whether all of these words are in what people see of it."""
        shown = f"{self.name} {self.description} {self.category}".casefold()
        return all(word in shown for word in words.casefold().split())

    @property
    def is_remote(self) -> bool:
        return self.kind == Kind.REMOTE_MCP

    def tool(self, title: str, *scopes: str, only_reads: bool = True) -> Callable[[Function], Function]:
        """Make an async function, whose first argument is the `Rest` of the caller, a tool of this connector."""

        def register(function: Function) -> Function:
            metadata = func_metadata(function, skip_names=["api"], structured_output=True)
            self.tools[function.__name__] = ConnectorTool(function, title, scopes, only_reads, metadata)
            return function

        return register

    def rest(self, url: str, **how: Any) -> Rest:
        return Rest(self.name, url or self.url, headers=self.headers, problem=self.problem, **how)
