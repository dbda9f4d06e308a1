"""The stages of the tests of sign-ins: two providers, each with the MCP server it protects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.provider import Ground, Site


@pytest.fixture(scope="session")
def grounds() -> Iterator[tuple[Ground, Ground]]:
    pair = Ground(), Ground()
    for ground in pair:
        ground.start()
    yield pair
    for ground in pair:
        ground.stop()


@pytest.fixture
def place(grounds: tuple[Ground, Ground]) -> Site:
    """A provider and the MCP server it protects, new for each test."""
    return grounds[0].build()


@pytest.fixture
def elsewhere(grounds: tuple[Ground, Ground]) -> Site:
    """Another provider, with a server of its own."""
    return grounds[1].build()
