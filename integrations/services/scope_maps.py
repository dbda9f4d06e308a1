"""Maps from a tool's name to the scopes that its callers need: their shape, and how an admin's map becomes ours."""

from __future__ import annotations

import re
from typing import Any

from aster.errors import InvalidInput
from integrations.models import McpServer

ScopeMap = dict[str, list[str]]
MOST_TOOLS, MOST_SCOPES, LONGEST_NAME, LONGEST_SCOPE = 2000, 20, 200, 100
_SCOPE = re.compile(r"[a-z0-9_.:*-]+")


def clean_scope_map(value: Any) -> ScopeMap:
    """The map in a stable order, every list without doubles. Raises InvalidInput that names the tool."""
    if not isinstance(value, dict):
        raise _invalid('Must map tools to lists of scopes, such as {"read_file": ["files:read"]}.')
    if len(value) > MOST_TOOLS:
        raise _invalid(f"Has more than {MOST_TOOLS} tools.")
    return {name: _clean_scopes(name, value[name]) for name in sorted(value)}


def _clean_scopes(name: Any, scopes: Any) -> list[str]:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise _invalid(f"A tool's name has 1 to {LONGEST_NAME} characters.")
    shown = name[:60]
    if not isinstance(scopes, list) or not scopes:
        raise _invalid(
            f'{shown} needs a list of scopes, such as ["files:read"]. To take its scopes away, leave it out.'
        )
    if len(scopes) > MOST_SCOPES:
        raise _invalid(f"{shown} has more than {MOST_SCOPES} scopes.")
    for scope in scopes:
        if not isinstance(scope, str) or len(scope) > LONGEST_SCOPE or not _SCOPE.fullmatch(scope):
            words = "is not a scope: lowercase letters, digits and . : _ - * make one"
            raise _invalid(f"{shown}: “{str(scope)[:60]}” {words}.")
    return sorted(set(scopes))


def merge(merged: ScopeMap, name: str, scopes: list[str]) -> None:
    """Add to what `name` needs: whoever writes a tool in two ways means both."""
    merged[name] = sorted({*merged.get(name, ()), *scopes})


def clean_server_scopes(server: McpServer) -> None:
    """Check a server's map. `github:create_issue` of the server github means its own `create_issue`."""
    own = set() if server._state.adding else set(server.tools.values_list("name", flat=True))
    cleaned: ScopeMap = {}
    for name, scopes in clean_scope_map(server.tool_scopes).items():
        prefix, _, rest = name.partition(":")
        merge(cleaned, rest if rest and prefix == server.slug and name not in own else name, scopes)
    server.tool_scopes = cleaned


def _invalid(problem: str) -> InvalidInput:
    return InvalidInput(problem, fields={"tool_scopes": [problem]})
