"""Tool names as clients see them: `hubspot_12__create_contact`.

MCP allows 128 characters and dots (2026-07-28, Tools), but models and clients do not: at most 60 of `[A-Za-z0-9_-]`
passes everywhere. The server's id makes prefixes unique; whatever had to be changed or cut carries a hash of the
original name, so that two tools never share one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

MAX_LENGTH = 60
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def server_prefix(slug: str, pk: int) -> str:
    return f"{slug.replace('-', '_')[:20].rstrip('_')}_{pk}"


def name_tools(prefix: str, tool_names: Iterable[str]) -> dict[str, str]:
    """Map each namespaced name to the server's own, in the given order; deterministic for the same set of names."""
    named: dict[str, str] = {}
    for original in tool_names:
        safe = _UNSAFE.sub("_", original)
        name = f"{prefix}__{safe}"
        if safe != original or len(name) > MAX_LENGTH or name in named:
            digest = hashlib.sha256(original.encode()).hexdigest()[:10]
            name = f"{name[: MAX_LENGTH - 11]}_{digest}"
        named[name] = original
    return named
