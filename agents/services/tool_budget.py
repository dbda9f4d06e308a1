"""What tools cost a model: it reads every one that it is offered in each request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

# From here on models choose worse, and people are told so.
MANY_TOOLS = 40
# Beyond either of these a model is offered a search instead of all tools (agents.runtime.finding).
MOST_TOOLS, MOST_TOKENS = 64, 20_000
_READ = ("name", "description", "inputSchema")


def tokens_of(definition: Mapping[str, Any]) -> int:
    """About what a model reads of a tool in each request: four characters make a token."""
    return len(json.dumps({name: definition.get(name) for name in _READ})) // 4


def is_too_much(count: int, tokens: int) -> bool:
    return count > MOST_TOOLS or tokens > MOST_TOKENS


def must_be_searched(definitions: Iterable[Mapping[str, Any]]) -> bool:
    """Whether these tools are more than a model is offered at once. Stops counting when that is clear."""
    count = tokens = 0
    for definition in definitions:
        count, tokens = count + 1, tokens + tokens_of(definition)
        if is_too_much(count, tokens):
            return True
    return False
