"""The demo world's two MCP servers: "Acme Notes" behind OAuth and "Acme Weather" open to all.

Both are the SDK's own server, stateless streamable HTTP, and speak 2026-07-28 and the older eras on one URL.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Annotated, Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from aster.demo import weather
from aster.demo.notes import Note, NoteList, NoteShelf, Order

# How long one city takes in compare_cities, in seconds: long enough to see a running call.
COMPARE_SECONDS = 0.35

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
CREATES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
DELETES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False)


class Identity(BaseModel):
    """Who the server thinks is calling."""

    name: str
    client_id: str
    scopes: list[str]


def create_notes_server() -> MCPServer[Any]:
    """Return "Acme Notes". It must be served behind a `BearerGate`: the token says whose notes are meant."""
    with _logging_left_alone():
        server: MCPServer[Any] = MCPServer(
            "acme-notes",
            title="Acme Notes",
            description="Notes of your own, behind a sign-in",
            instructions="Search before you create, so that there are no duplicates. Ask before you delete.",
            version="1.0.0",
        )
    shelves: dict[str, NoteShelf] = {}

    def own_shelf() -> NoteShelf:
        token = get_access_token()
        if token is None:
            raise ToolError("Sign in first.")
        # An organization's own client (client credentials) has no person and gets a shelf of its own.
        owner = token.subject or f"client {token.client_id}"
        if owner not in shelves:
            shelves[owner] = NoteShelf(_today())
        return shelves[owner]

    _add_reading_tools(server, own_shelf)
    _add_writing_tools(server, own_shelf)
    return server


def _add_reading_tools(server: MCPServer[Any], own_shelf: Callable[[], NoteShelf]) -> None:
    @server.tool(title="List notes", description="List your notes.", annotations=READS)
    async def list_notes(
        order: Annotated[Order, Field(description="Which notes come first")] = "newest",
        pinned_only: Annotated[bool, Field(description="Leave out notes that are not pinned")] = False,
        since: Annotated[date | None, Field(description="Only notes written on this day or later")] = None,
    ) -> NoteList:
        found = own_shelf().select(order=order, pinned_only=pinned_only, since=since)
        return NoteList(notes=found, total=len(found))

    @server.tool(
        title="Search notes", description="Find notes whose title, text or tags contain every word.", annotations=READS
    )
    async def search_notes(
        query: Annotated[
            str, Field(min_length=1, max_length=200, description="Words to look for", examples=["northwind renewal"])
        ],
        limit: Annotated[int, Field(ge=1, le=20, description="The most notes to return")] = 5,
    ) -> NoteList:
        found = own_shelf().search(query)
        return NoteList(notes=found[:limit], total=len(found))

    @server.tool(
        title="Who am I", description="Tell which person and app this connection belongs to.", annotations=READS
    )
    async def whoami() -> Identity:
        token = get_access_token()
        if token is None:
            raise ToolError("Sign in first.")
        return Identity(name=token.subject or token.client_id, client_id=token.client_id, scopes=token.scopes)


def _add_writing_tools(server: MCPServer[Any], own_shelf: Callable[[], NoteShelf]) -> None:
    @server.tool(title="Create note", description="Write a new note.", annotations=CREATES)
    async def create_note(
        title: Annotated[str, Field(min_length=1, max_length=120, description="One line that says what it is about")],
        body: Annotated[str, Field(max_length=10_000, description="The text; line breaks are kept")],
        tags: Annotated[
            list[Annotated[str, Field(max_length=40)]], Field(max_length=8, description="Words to find it by")
        ] = [],  # noqa: B006 - the SDK copies it into the schema as the default
        pinned: Annotated[bool, Field(description="Keep it at hand")] = False,
    ) -> Note:
        try:
            return own_shelf().add(title, body, list(tags), pinned=pinned, written_on=_today())
        except ValueError as error:
            raise ToolError(str(error)) from None

    @server.tool(title="Delete note", description="Delete a note for good. There is no way back.", annotations=DELETES)
    async def delete_note(
        id: Annotated[str, Field(pattern=r"^note-\d+$", description="The note's id, as list_notes shows it")],
    ) -> Note:
        try:
            return own_shelf().remove(id)
        except KeyError:
            raise ToolError(f"There is no note {id}. list_notes shows the ids.") from None


def create_weather_server() -> MCPServer[Any]:
    """Return "Acme Weather", which needs no sign-in."""
    with _logging_left_alone():
        server: MCPServer[Any] = MCPServer(
            "acme-weather",
            title="Acme Weather",
            description="Made-up weather for eight cities, open to everybody",
            version="1.0.0",
        )

    @server.tool(title="List cities", description="List the cities there is weather for.", annotations=READS)
    async def list_cities(
        region: Annotated[weather.Region | None, Field(description="Only cities of this part of the world")] = None,
    ) -> weather.CityList:
        return weather.select_cities(region)

    @server.tool(title="Get forecast", description="Forecast the days to come for one city.", annotations=READS)
    async def get_forecast(
        city: Annotated[str, Field(min_length=1, max_length=80, description="A city's name", examples=["Oslo"])],
        days: Annotated[int, Field(ge=1, le=7, description="How many days, from today on")] = 3,
        unit: Annotated[weather.Unit, Field(description="Unit of the temperatures")] = "celsius",
        include_wind: Annotated[bool, Field(description="Add the wind speed")] = False,
    ) -> Annotated[CallToolResult, weather.Forecast]:
        known = weather.find_city(city)
        if known is None:
            raise ToolError(f"There is no weather for {city!r}. list_cities shows which cities there are.")
        forecast = weather.make_forecast(known, start=_today(), days=days, unit=unit, include_wind=include_wind)
        return _as_result(weather.describe_forecast(forecast), forecast)

    _add_compare_tool(server)
    return server


def _add_compare_tool(server: MCPServer[Any]) -> None:
    @server.tool(
        title="Compare cities",
        description="Rank two to five cities by tomorrow's weather. Takes a moment and reports its progress.",
        annotations=READS,
    )
    async def compare_cities(
        cities: Annotated[list[weather.City], Field(min_length=2, max_length=5, description="The cities to compare")],
        ctx: Context[Any, Any],
        measure: Annotated[weather.Measure, Field(description="What to rank by, highest first")] = "high",
    ) -> Annotated[CallToolResult, weather.Comparison]:
        tomorrow = date.fromordinal(_today().toordinal() + 1)
        values: dict[str, float] = {}
        for done, city in enumerate(cities, start=1):
            await asyncio.sleep(COMPARE_SECONDS)
            values[city] = weather.measure_city(city, tomorrow, measure)
            await ctx.report_progress(done, len(cities), f"Looked at {city}")
        ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
        unit = "%" if measure == "rain_chance" else "°C"
        ranking = [weather.RankedCity(rank=n, city=c, value=v) for n, (c, v) in enumerate(ordered, start=1)]
        text = "\n".join(f"{row.rank}. {row.city}: {row.value:g} {unit}" for row in ranking)
        return _as_result(text, weather.Comparison(measure=measure, unit=unit, ranking=ranking))


def _as_result(text: str, structured: BaseModel) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=structured.model_dump(mode="json")
    )


def _today() -> date:
    return datetime.now(UTC).date()


@contextmanager
def _logging_left_alone() -> Iterator[None]:
    """Keep MCPServer off the process's root logger: it calls basicConfig, which does nothing if there is a handler."""
    guard = logging.NullHandler()
    logging.root.addHandler(guard)
    try:
        yield
    finally:
        logging.root.removeHandler(guard)
