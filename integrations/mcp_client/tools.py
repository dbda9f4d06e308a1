"""What servers say about their tools, and what tools answer: judged piece by piece, kept as it came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mcp.shared.inbound import find_invalid_x_mcp_header, mcp_param_headers, x_mcp_header_map
from mcp_types import SERVER_INFO_META_KEY, URL_ELICITATION_REQUIRED
from pydantic_core import PydanticSerializationError, to_json

from aster.errors import UpstreamError
from integrations.mcp_client.failures import Refusal, RefusedRequest, bound_text
from integrations.mcp_client.rounds import Rounds, from_links, relayable

MAX_TOOLS = 2_000
MAX_LIST_BYTES = 4 * 1024 * 1024
MAX_PAGES = 100
MAX_PROBLEMS = 50
MAX_NAME = 128
MAX_RESULT_BYTES = 2 * 1024 * 1024


@dataclass
class ToolListing:
    """The tools of a server as wire JSON, untouched; `problems` has a line for each tool or page left out."""

    tools: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    truncated: bool = False


class ToolCollector:
    """Builds a `ToolListing` from the pages of tools/list. One bad tool never costs the others."""

    def __init__(self, *, checks_headers: bool) -> None:
        self.listing = ToolListing()
        self._checks_headers = checks_headers
        self._names: set[str] = set()
        self._cursors: set[str] = set()
        self._bytes = 0
        self._pages = 0

    def add_page(self, page: Mapping[str, Any]) -> str | None:
        """Take one result in; the cursor of the next page out, None at the end. UpstreamError if it is no page."""
        if page.get("resultType", "complete") != "complete" or not isinstance(page.get("tools"), list):
            raise UpstreamError("The server's tool list does not follow the MCP protocol.", step="tools")
        self._pages += 1
        for tool in page["tools"]:
            if not self._add_tool(tool):
                return None
        return self._next_cursor(page.get("nextCursor"))

    def _add_tool(self, tool: object) -> bool:
        """False once the list is full."""
        problem = self._find_problem(tool)
        if problem or not isinstance(tool, dict):
            self._report(problem)
            return True
        self._bytes += count_bytes(tool)
        if len(self.listing.tools) >= MAX_TOOLS:
            return self._cut(f"The list is cut after {MAX_TOOLS:,} tools.")
        if self._bytes > MAX_LIST_BYTES:
            return self._cut(f"The list is cut after {MAX_LIST_BYTES // 1048576} MiB.")
        self._names.add(tool["name"])
        self.listing.tools.append(tool)
        return True

    def _find_problem(self, tool: object) -> str:
        if not isinstance(tool, dict) or not isinstance(name := tool.get("name"), str) or not name:
            return "A tool without a name was left out."
        label = f"{bound_text(name, 80)!r} was left out:"
        if len(name) > MAX_NAME:
            return f"{label} its name is longer than {MAX_NAME} characters."
        if name in self._names:
            return f"{label} there is another tool of this name."
        schema = tool.get("inputSchema")
        if not isinstance(schema, dict):
            return f"{label} its inputSchema is not an object."
        if schema.get("type", "object") != "object":
            return f"{label} its inputSchema does not describe an object."
        if not _can_be_stored(tool):
            return f"{label} it holds a number or a character that no database takes."
        if self._checks_headers and (reason := find_header_problem(schema)):
            # 2026-07-28, Streamable HTTP §Custom Headers: clients must drop these.
            return f"{label} {reason}"
        return ""

    def _next_cursor(self, cursor: object) -> str | None:
        """An empty cursor is a cursor; only null or none ends the list (server/utilities/pagination)."""
        if cursor is None:
            return None
        if not isinstance(cursor, str) or cursor in self._cursors:
            self._cut("The list is cut: the server's page cursor repeats or is not a string.")
            return None
        if self._pages >= MAX_PAGES:
            self._cut(f"The list is cut after {MAX_PAGES} pages.")
            return None
        self._cursors.add(cursor)
        return cursor

    def _cut(self, problem: str) -> bool:
        self.listing.truncated = True
        self.listing.problems.append(problem)
        return False

    def _report(self, problem: str) -> None:
        if len(self.listing.problems) < MAX_PROBLEMS:
            self.listing.problems.append(problem)


def find_header_problem(schema: Mapping[str, Any]) -> str:
    try:
        reason = find_invalid_x_mcp_header(schema)
    except RecursionError:
        return "its inputSchema is nested too deeply."
    return bound_text(reason, 160) if reason else ""


class KnownTool:
    """What of a stored wire tool steers its calls, worked out once. Give the same one to each call of the tool."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self.definition = definition

    @cached_property
    def may_be_repeated(self) -> bool:
        """Whether it says that calling it twice does no more than once (2026-07-28, Tools §Annotations)."""
        hints = self.definition.get("annotations")
        return isinstance(hints, Mapping) and (hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True)

    @cached_property
    def _header_map(self) -> Mapping[tuple[str, ...], str]:
        schema = self.definition.get("inputSchema")
        return x_mcp_header_map(schema) if schema and not find_header_problem(schema) else {}

    def param_headers(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """The arguments that a modern server wants to see in headers as well (x-mcp-header)."""
        return mcp_param_headers(self._header_map, arguments) if self._header_map else {}


def _can_be_stored(tool: Mapping[str, Any]) -> bool:
    """Not so: 1e999, which is read as infinity, NUL, and half of a surrogate pair."""
    try:
        text = json.dumps(tool, ensure_ascii=False, allow_nan=False)
        text.encode()
    except RecursionError:
        return True  # told apart as what it is
    except ValueError:
        return False
    return "\\u0000" not in text.replace("\\\\", "")


def count_bytes(value: object) -> int:
    """Raises ValueError for what cannot be sent on: JSON knows no infinity, though 1e999 is read as it."""
    try:
        text = to_json(value, inf_nan_mode="constants")
        if b"Infinity" not in text and b"NaN" not in text:
            return len(text)
    except (PydanticSerializationError, ValueError):
        pass  # nested too deeply, or half of a surrogate pair
    try:
        written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return len(written.encode("utf-8", "surrogatepass"))
    except RecursionError:
        return MAX_LIST_BYTES


def read_call_result(result: dict[str, Any], rounds: Rounds, asker: str) -> dict[str, Any]:
    """The CallToolResult on the wire as the server gave it, without what belongs to the exchange with that server.

    One that asks for input is passed on if it asks for what `rounds` offers; otherwise the asking becomes an error the
    model can read. Raises UpstreamError (step call; code `result_too_large` above 2 MiB).
    """
    try:
        size = count_bytes(result)
    except ValueError:
        raise UpstreamError("The tool's answer holds a number that is none in JSON.", step="call") from None
    if size > MAX_RESULT_BYTES:
        raise result_too_large()
    match result.get("resultType", "complete"):
        case "complete":
            pass
        case "input_required":
            return relayable(result, rounds, asker) or describe_input_required(result)
        case other:
            kind = bound_text(other, 40)
            raise UpstreamError(f"The tool answered with a result of unknown type {kind!r}.", step="call")
    kept = without_exchange(result)
    if not isinstance(kept.setdefault("content", []), list):
        raise UpstreamError("The tool's answer does not follow the MCP protocol.", step="call")
    return kept


def read_refused_call(refusal: Refusal, rounds: Rounds, asker: str) -> dict[str, Any]:
    """A refusal as the error it is; only a legacy server's wish for input is a result."""
    if refusal.code == URL_ELICITATION_REQUIRED and isinstance(refusal.data, dict):
        return asked_by_links(refusal, rounds, asker) or describe_input_required(from_links(refusal.data))
    raise RefusedRequest(refusal.error, refusal.code, refusal.data) from None


def asked_by_links(refusal: Refusal, rounds: Rounds, asker: str) -> dict[str, Any] | None:
    """What a server of 2025-11-25 asks for with its -32042, if it may be passed on."""
    return relayable(from_links(refusal.data), rounds, asker) if refusal.code == URL_ELICITATION_REQUIRED else None


def without_exchange(result: Mapping[str, Any]) -> dict[str, Any]:
    """Without `resultType` and the server's stamp: whoever passes the result on adds its own."""
    kept = {key: value for key, value in result.items() if key != "resultType"}
    if isinstance(meta := kept.get("_meta"), dict) and SERVER_INFO_META_KEY in meta:
        kept["_meta"] = {key: value for key, value in meta.items() if key != SERVER_INFO_META_KEY}
        if not kept["_meta"]:
            del kept["_meta"]
    return kept


def describe_input_required(result: Mapping[str, Any]) -> dict[str, Any]:
    """The questions of a server as an error result."""
    return {"isError": True, "content": [{"type": "text", "text": describe_asks(result)}]}


def describe_asks(result: Mapping[str, Any]) -> str:
    requests = result.get("inputRequests")
    asks = [ask for ask in requests.values() if isinstance(ask, dict)] if isinstance(requests, dict) else []
    known = [params for ask in asks if isinstance(params := ask.get("params"), dict)]
    said = [bound_text(ask[key]) for ask in known for key in ("message", "url") if key in ask]
    wish = "; ".join(said) or "without saying what for"
    return f"The server asks for input ({wish}), which cannot be asked for here."


def result_too_large() -> UpstreamError:
    hint = "Ask the tool for less: a smaller page, fewer fields, a narrower search."
    message = f"The tool's result is larger than {MAX_RESULT_BYTES // 1048576} MiB."
    return UpstreamError(message, step="call", code="result_too_large", hint=hint)
