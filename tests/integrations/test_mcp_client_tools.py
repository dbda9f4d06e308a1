from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aster.errors import UpstreamError
from integrations.mcp_client import Session, Target, ToolListing, check_target
from integrations.mcp_client.tools import ToolCollector
from tests.fakes.mcp_servers import (
    FakeServer,
    bad_tool_app,
    huge_list_app,
    legacy_only_app,
    modern_and_legacy_app,
    modern_only_app,
    scripted_app,
    serve,
    sse_app,
)
from tests.integrations.test_mcp_client import call, failure, http, sse, text_of, use

# --- tools/list -------------------------------------------------------------------------------------------------------


def listing_of(fake: FakeServer) -> ToolListing:
    with serve(fake) as base:
        return use(http(base), lambda session: session.list_tools())


def test_one_bad_tool_does_not_cost_the_others() -> None:
    listing = listing_of(bad_tool_app())
    assert listing.tools == [
        {"name": name, "inputSchema": {"type": "object"}, "x-unknown": 1} for name in ("first", "last")
    ]
    assert listing.problems == ["'bad' was left out: its inputSchema is not an object."]
    assert not listing.truncated


@pytest.mark.parametrize("value", [float("inf"), "nul \x00", "half \ud800"])
def test_a_tool_that_no_database_takes_does_not_cost_the_others(value: object) -> None:
    """A server writes 1e999, and both eras read infinity: storing that failed the whole server."""
    collector = ToolCollector(checks_headers=False)
    bad = {"name": "bad", "inputSchema": {"properties": {"n": {"maximum": value}}}}
    good = {"name": "good", "inputSchema": {}, "description": r"The text \u0000 is none"}
    assert collector.add_page({"tools": [bad, good]}) is None
    assert collector.listing.tools == [good]
    assert "no database takes" in collector.listing.problems[0]


def test_a_huge_list_is_cut_and_says_so() -> None:
    listing = listing_of(huge_list_app())
    assert (len(listing.tools), listing.truncated) == (2_000, True)
    assert listing.problems == ["The list is cut after 2,000 tools."]


def test_an_empty_cursor_is_a_cursor() -> None:
    fake = huge_list_app(count=30, page_size=10)
    assert len(listing_of(fake).tools) == 30
    assert [seen.body["params"].get("cursor") for seen in fake.requests[1:]] == [None, "", "20"]


@pytest.mark.parametrize(
    ("answer", "kept", "truncated", "problem"),
    [
        ({"tools": [], "nextCursor": "same"}, 0, True, "cursor repeats"),
        ({"tools": [], "nextCursor": 7}, 0, True, "is not a string"),
        ({"tools": [{"name": "t", "inputSchema": {}}] * 2}, 1, False, "there is another tool of this name"),
        ({"tools": [{"name": "t" * 129, "inputSchema": {}}]}, 0, False, "longer than 128"),
        ({"tools": ["t"]}, 0, False, "without a name"),
        ({"tools": [{"name": "t", "inputSchema": {"type": "array"}}]}, 0, False, "does not describe an object"),
        (
            {"tools": [{"name": "t", "inputSchema": {"properties": {"a": {"x-mcp-header": "a b"}}}}]},
            0,
            False,
            "x-mcp-header",
        ),
        (
            {"tools": [{"name": n, "inputSchema": {}, "description": "x" * 1_500_000} for n in "abc"]},
            2,
            True,
            "after 4 MiB",
        ),
    ],
)
def test_what_is_wrong_with_a_list_is_reported(
    answer: dict[str, Any], kept: int, truncated: bool, problem: str
) -> None:
    listing = listing_of(scripted_app(tools_list=answer))
    assert (len(listing.tools), listing.truncated) == (kept, truncated)
    assert len(listing.problems) == 1
    assert problem in listing.problems[0]


def test_a_list_that_is_none_is_an_error() -> None:
    with serve(scripted_app(tools_list={"tools": None})) as base:
        error = failure(http(base))
    assert (error.message, getattr(error, "step", "")) == (
        "The server's tool list does not follow the MCP protocol.",
        "tools",
    )


# --- tools/call -------------------------------------------------------------------------------------------------------


def test_structured_content_is_relayed_even_if_it_breaks_its_schema() -> None:
    fake = modern_only_app()
    with serve(fake) as base:
        assert call(http(base), "structured", broken=True)["structuredContent"] == {"total": "seven"}
    # Neither we nor the SDK's client ask for the schema (the SDK's server does not count: it asks itself).
    assert fake.methods() == ["server/discover", "tools/call"]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"content": []}, {"content": []}),
        ({"resultType": "complete", "content": [], "x": None}, {"content": [], "x": None}),
        (
            {"content": [], "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s"}, "a/b": 1}},
            {"content": [], "_meta": {"a/b": 1}},
        ),
        ({"content": [], "_meta": {"io.modelcontextprotocol/serverInfo": {}}}, {"content": []}),
    ],
)
def test_only_what_belongs_to_the_exchange_is_taken_off(result: dict[str, Any], expected: dict[str, Any]) -> None:
    with serve(scripted_app(tools_call=result)) as base:
        assert call(http(base), "any") == expected


def test_a_wish_for_input_becomes_an_error_the_model_can_read() -> None:
    ask = {"method": "elicitation/create", "params": {"message": "Your name?", "url": "https://ask.example/1"}}
    asking = {"resultType": "input_required", "inputRequests": {"one": ask}, "requestState": "opaque"}
    with serve(scripted_app(tools_call=asking)) as base:
        result = call(http(base), "any")
    assert result["isError"] is True
    assert "asks for input (Your name?; https://ask.example/1)" in text_of(result)


@pytest.mark.parametrize("size", [2_500_000, 9_000_000])
def test_a_result_that_is_too_large_is_refused(size: int) -> None:
    with serve(modern_and_legacy_app(json_response=True)) as base, pytest.raises(UpstreamError) as caught:
        call(http(base), "big", size=size)
    assert (caught.value.code, caught.value.step, caught.value.retryable) == ("result_too_large", "call", False)


def test_a_refusal_is_shown_in_bounded_words() -> None:
    refusing = scripted_app(tools_call=RuntimeError("no\n\x1b[31m" + "x" * 5_000))
    with serve(refusing) as base, pytest.raises(UpstreamError) as caught:
        call(http(base), "any")
    assert caught.value.code == "tool_call_failed"
    assert caught.value.message.startswith("The server refused the call: no [31mxxx")
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("build", "at"), [(modern_only_app, http), (legacy_only_app, http), (sse_app, sse)], ids=["modern", "legacy", "sse"]
)
def test_a_slow_tool_is_given_up_and_the_session_goes_on(
    build: Callable[[], FakeServer], at: Callable[[str], Target]
) -> None:
    async def work(session: Session) -> str:
        with pytest.raises(UpstreamError, match=r"did not answer within 0\.2 seconds") as caught:
            await session.call_tool("slow", {"seconds": 60}, timeout=0.2)
        assert (caught.value.step, caught.value.code, caught.value.retryable) == ("call", "timeout", True)
        return text_of(await session.call_tool("echo", {"text": "next"}))

    with serve(build()) as base:
        assert use(at(base), work) == "next"


def test_progress_and_meta_are_relayed() -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async def work(session: Session) -> None:
        meta = {"com.aster/run": "42", "io.modelcontextprotocol/protocolVersion": "1999-01-01"}
        await session.call_tool("slow", {"seconds": 0.05}, progress=note, meta=meta)

    fake = modern_only_app()
    with serve(fake) as base:
        use(http(base), work)
    assert seen == [(0.5, 1.0, "half way")]
    sent = fake.requests[-1].body["params"]["_meta"]
    assert sent["com.aster/run"] == "42"
    assert sent["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"


def test_an_argument_is_mirrored_into_its_header_without_listing_tools() -> None:
    fake = modern_only_app()
    with serve(fake) as base:
        found = asyncio.run(check_target(http(base)))
        regional = next(tool for tool in found.tools if tool["name"] == "regional")
        target = http(base, era="modern", discover=found.discover)
        fake.requests.clear()
        result = use(target, lambda session: session.call_tool("regional", {"region": "eu"}, tool=regional))
    assert text_of(result) == "in eu"
    assert fake.methods() == ["tools/call"]
    assert fake.requests[0].headers["mcp-param-region"] == "eu"


def test_a_call_whose_schema_is_not_known_learns_it_from_the_refusal() -> None:
    fake = modern_only_app()
    with serve(fake) as base:
        assert text_of(call(http(base), "regional", region="eu")) == "in eu"
    assert fake.methods() == ["server/discover", "tools/call", "tools/list", "tools/call"]
