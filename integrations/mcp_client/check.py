"""The test of a server: what guards saving it, and what the doctor repeats."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from integrations.mcp_client.opening import open_target
from integrations.mcp_client.target import Era, Target


@dataclass(frozen=True)
class CheckResult:
    """What a test of a target found. `latency_ms` is the time that listing the tools took."""

    era: Era
    protocol_version: str
    transport: str
    latency_ms: int
    tools: list[dict[str, Any]]
    problems: list[str]
    server_info: dict[str, Any]
    discover: dict[str, Any] | None


async def check_target(target: Target) -> CheckResult:
    """Test a target from scratch, without what is remembered of it: find the era, connect, list tools.

    A server may let everybody shake hands and only ask for a token at tools/list, so the list is part of the test.
    Raises like `open_target`.
    """
    async with open_target(replace(target, era="", discover=None)) as session:
        started = time.perf_counter()
        listing = await session.list_tools()
        return CheckResult(
            era=session.era,
            protocol_version=session.protocol_version,
            transport=target.transport,
            latency_ms=round((time.perf_counter() - started) * 1000),
            tools=listing.tools,
            problems=listing.problems,
            server_info=session.server_info,
            discover=session.discover,
        )
