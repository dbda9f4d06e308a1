"""Namespaced tool names: readable, within limits, never colliding, always the same."""

from __future__ import annotations

import re

import pytest

from agents.runtime.naming import MAX_LENGTH, name_tools, server_prefix

SAFE = re.compile(r"^[A-Za-z0-9_-]{1,60}$")


def test_a_plain_name_reads_like_the_server_and_the_tool() -> None:
    assert list(name_tools(server_prefix("hubspot", 12), ["create_contact"])) == ["hubspot_12__create_contact"]


@pytest.mark.parametrize(
    "tool",
    ["a.b.c", "näme", "with space", "x" * 128, "a/b", "emoji 🙂", "_", "-", "CON", "create_contact" * 8],
)
def test_odd_names_become_safe_and_keep_their_target(tool: str) -> None:
    named = name_tools(server_prefix("a-very-long-server-name-indeed", 123456), [tool])
    (name,) = named
    assert SAFE.match(name)
    assert named[name] == tool


def test_names_that_look_alike_after_cleaning_stay_apart() -> None:
    tools = ["a.b", "a b", "a_b", "a/b", "A_b", "x" * 100 + "1", "x" * 100 + "2"]
    named = name_tools("s_1", tools)
    assert len(named) == len(tools)
    assert set(named.values()) == set(tools)


def test_the_same_tool_has_the_same_name_whatever_stands_beside_it() -> None:
    alone = name_tools("s_1", ["a.b"])
    among = name_tools("s_1", ["z", "a.b", "q"])
    assert next(iter(alone)) in among


def test_servers_with_the_same_slug_start_differ_by_id() -> None:
    assert server_prefix("crm-production-europe-one", 1) != server_prefix("crm-production-europe-two", 2)
    assert max(len(server_prefix("x" * 50, 10**9)), 0) < MAX_LENGTH - 20
