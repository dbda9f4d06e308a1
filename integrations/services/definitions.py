"""When two definitions of a tool say the same, and where they differ (features S9). Pure functions over JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# What may change without anybody being asked: `_meta` holds notes of servers and hosts (build numbers, times of day),
# and the addresses of `icons` are often signed anew. No model reads them and no call depends on them. Every other field
# counts, also one that no revision of MCP knows yet: models and people read title, description and annotations, and
# the schemas (with their x-mcp-header) and `execution` steer the call. A list of fields that do count would be the
# place to smuggle something past.
VOLATILE = frozenset({"_meta", "icons"})
_FIRST = ("title", "description", "annotations", "inputSchema", "outputSchema")
_DEEPEST = 40


@dataclass(frozen=True)
class Difference:
    """One value that was added, removed or changed. The path leads through nested schemas (inputSchema, properties)."""

    path: tuple[str, ...]
    kind: str
    old: Any = None
    new: Any = None


def is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two definitions say the same to models, people and calls, however they are written down."""
    return _written(one) == _written(other) or _written(_comparable(one)) == _written(_comparable(other))


def digest_of(definition: Mapping[str, Any]) -> str:
    """What tells one definition from another, to be sure that the accepted one is the one that was shown."""
    return hashlib.sha256(_written(_comparable(definition)).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Where two definitions differ, in the order in which people read them."""
    before, after = _comparable(old), _comparable(new)
    names = [*_FIRST, *sorted((before.keys() | after.keys()) - set(_FIRST))]
    return [found for name in names for found in _of_member((name,), before, after)]


def _comparable(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A definition as far as it counts. A field that is null says as much as none."""
    counted = {name: value for name, value in definition.items() if name not in VOLATILE and value is not None}
    read: dict[str, Any] = json.loads(_written(counted), parse_float=_number, object_hook=_in_order)
    return read


def _written(value: object) -> str:
    """JSON with its keys in order. Comparing this tells true from 1, which Python's own == does not."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _number(text: str) -> float:
    """1.0 is the same number as 1 (JSON Schema, §4.2.2)."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _in_order(members: dict[str, Any]) -> dict[str, Any]:
    """`required` is a set (JSON Schema Validation, §6.5.3), which some servers list in another order each time."""
    required = members.get("required")
    if isinstance(required, list) and all(isinstance(name, str) for name in required):
        members["required"] = sorted(required)
    return members


def _of_member(path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    name = path[-1]
    if name in old and name in new:
        yield from _between(path, old[name], new[name])
    elif name in old:
        yield Difference(path, "removed", old=old[name])
    elif name in new:
        yield Difference(path, "added", new=new[name])


def _between(path: tuple[str, ...], old: Any, new: Any) -> Iterator[Difference]:
    if len(path) < _DEEPEST and (both := _members_of(old, new)):
        before, after = both
        for name in dict.fromkeys([*before, *after]):
            yield from _of_member((*path, name), before, after)
    elif _written(old) != _written(new):
        yield Difference(path, "changed", old, new)


def _members_of(old: Any, new: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """What to compare one by one: the members of two objects, or the schemas of two lists of equal length."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old, new
    if not isinstance(old, list) or not isinstance(new, list) or len(old) != len(new):
        return None
    if not all(isinstance(each, dict) for each in (*old, *new)):
        return None
    return {str(at): each for at, each in enumerate(old)}, {str(at): each for at, each in enumerate(new)}
