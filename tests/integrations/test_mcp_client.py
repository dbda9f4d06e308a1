from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aster.settings")
os.environ.setdefault("DEBUG", "1")

from django.test import override_settings

from aster.errors import AsterError, ConnectionRequired, ForbiddenAddress, UpstreamError
from integrations.mcp_client import (
    AuthChallenge,
    Session,
    Target,
    check_target,
    open_target,
    probe_target,
    register_connector_resolver,
)
from tests.fakes.mcp_servers import (
    CHALLENGE,
    FakeServer,
    bad_tool_app,
    broken_app,
    build_server,
    guarded,
    huge_list_app,
    legacy_only_app,
    modern_and_legacy_app,
    modern_only_app,
    scripted_app,
    serve,
    sse_app,
    stdio_command,
    unused_url,
)

TOOL_NAMES = ["echo", "add", "fail", "refuse", "slow", "big", "whoami", "structured", "regional"]
SECRET = "sk-very-secret"  # noqa: S105


@pytest.fixture(autouse=True)
def _loopback_is_allowed() -> Iterator[None]:
    with override_settings(DEBUG=True):
        yield


def http(base: str, **options: Any) -> Target:
    return Target(transport="streamable_http", url=f"{base}/mcp", **{"timeout": 5.0, **options})


def sse(base: str, **options: Any) -> Target:
    return Target(transport="sse", url=f"{base}/sse", **{"timeout": 5.0, **options})


def stdio(*args: str, **options: Any) -> Target:
    command, arguments = stdio_command()
    return Target(transport="stdio", command=command, args=[*arguments, *args], **{"timeout": 20.0, **options})


def use[T](target: Target, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with open_target(target) as session:
            result = await work(session)
        # Whatever the session started has ended with it.
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(run())


def call(target: Target, name: str, **arguments: Any) -> dict[str, Any]:
    return use(target, lambda session: session.call_tool(name, arguments))


def text_of(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


def failure(target: Target) -> AsterError:
    with pytest.raises(AsterError) as caught:
        asyncio.run(check_target(target))
    return caught.value
