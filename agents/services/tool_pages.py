"""Pages of an agent's tools for programs: small enough to send, and stable while tools come and go.

A cursor names the last tool of its page, so that nothing is shown twice or left out when others appear or disappear.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable

from agents.services.calls import AgentTool
from aster.errors import NotFound

MOST_ON_PAGE, MOST_BYTES = 500, 1024 * 1024
_LONGEST = 1000
Place = tuple[int, str]


def page_of_tools(
    offered: Iterable[AgentTool], cursor: str | None, most: int = MOST_ON_PAGE
) -> tuple[list[AgentTool], str | None]:
    """The tools after `cursor`, and the cursor of the next page if there is one. Raises NotFound for a made-up cursor.

    A page has at most `most` tools and about a megabyte, but always one tool.
    """
    after = None if cursor is None else _read(cursor)
    rest = [each for each in sorted(offered, key=_place) if after is None or _place(each) > after]
    page: list[AgentTool] = []
    size = 0
    for each in rest[:most]:
        size += len(json.dumps(each.definition))
        if page and size > MOST_BYTES:
            break
        page.append(each)
    return page, _written(_place(page[-1])) if len(page) < len(rest) else None


def _place(each: AgentTool) -> Place:
    return each.server.pk, each.name


def _written(place: Place) -> str:
    return urlsafe_b64encode(json.dumps(place).encode()).decode()


def _read(cursor: str) -> Place:
    try:
        match json.loads(urlsafe_b64decode(cursor[:_LONGEST].encode("ascii"))):
            case [int(server), str(name)]:
                return server, name
    except (ValueError, RecursionError):
        pass
    raise NotFound("There is no such page of tools. Begin again without a cursor.")
