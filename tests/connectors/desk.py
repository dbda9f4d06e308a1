"""A connector in front of a fake provider, as the tests of the catalogue call it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aster.errors import AsterError
from integrations.mcp_client import Target, open_target
from tests.fakes.mcp_servers import serve
from tests.fakes.rest_providers import TOKEN, RestProvider


class Desk:
    """One connector in front of its fake provider. `tokens` are given out one by one; a `key` is one for all."""

    def __init__(self, slug: str, api: RestProvider, url: str, key: str = "") -> None:
        self.slug, self.api, self.url, self.key = slug, api, url, key
        self.tokens = [TOKEN]
        self.rejected: list[str | None] = []

    async def _token(self, rejected: str | None) -> str | None:
        self.rejected.append(rejected)
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]

    def _target(self) -> Target:
        sign_in: dict[str, Any] = {"token": self._token}
        if self.key:
            sign_in = {"headers": {"Authorization": f"Bearer {self.key}"}}
        return Target(transport="connector", command=self.slug, url=self.url, timeout=10.0, **sign_in)

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        async def run() -> dict[str, Any]:
            async with open_target(self._target()) as session:
                return await session.call_tool(f"{self.slug}_{name}", arguments)

        result = asyncio.run(run())
        if result.get("isError"):
            raise ValueError(result["content"][0]["text"])
        return dict(result["structuredContent"])

    def error(self, name: str, **arguments: Any) -> AsterError:
        with pytest.raises(AsterError) as caught:
            self.call(name, **arguments)
        return caught.value


@contextmanager
def desk_of(slug: str, make: Callable[[], RestProvider], path: str = "", key: str = "") -> Iterator[Desk]:
    api = make()
    with serve(api) as base:
        yield Desk(slug, api, f"{base}{path}", key)
