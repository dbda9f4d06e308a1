"""tools/list as it is answered every day: a page that was rendered before, from what is held in memory."""

from __future__ import annotations

from typing import Any

from agents.gateway import eras
from agents.gateway.plain import PlainRequest
from agents.gateway.relay import Caller
from agents.gateway.responses import Response, encoded, success
from agents.services import calls
from agents.services.tool_pages import page_of_tools
from aster.errors import NotFound

MOST_PAGES = 64


def list_tools(request: PlainRequest, caller: Caller) -> Response | None:
    """The page of tools as it was rendered last for callers with the same scopes under the same rules.

    None if the request is for the handlers: a cursor that is none, a server that nobody has listed yet.
    """
    page = _page(request, caller)
    return None if page is None else success(request, page)


def _page(request: PlainRequest, caller: Caller) -> bytes | None:
    rules, actor = caller.rules, caller.actor
    endpoint, cursor = caller.endpoint, request.params.get("cursor")
    key = (endpoint.server and endpoint.server.pk, request.is_modern, actor.scopes, bool(actor.origin), cursor)
    known = rules.pages.get(key)
    if known is None:
        offered = calls.offered_of(rules.agent, rules.tools.values(), actor=actor)
        shown = [each for each in offered if endpoint.shows(each.server)]
        if any(each.tool is None for each in shown):
            return None  # a server that nobody has listed yet
        try:
            page, following = page_of_tools(shown, cursor)
        except NotFound:
            return None
        named = [{**each.definition, "name": endpoint.outward(each)} for each in page]
        listed = [tool for each in named if (tool := eras.tool_for_client(each, modern=request.is_modern))]
        result: dict[str, Any] = {"tools": listed, **({"nextCursor": following} if following else {})}
        # What an agent offers hangs on the organization's settings: nobody may keep it for others (Caching, private).
        caching = {"ttlMs": 0, "cacheScope": "private"} if request.is_modern else {}
        known = encoded({**result, **caching}, request)
        if len(rules.pages) < MOST_PAGES:  # anybody can make up a cursor
            rules.pages[key] = known
    return known
