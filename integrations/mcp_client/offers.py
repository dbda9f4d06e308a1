"""What servers offer besides tools: prompts, resources, templates; judged item by item, kept as it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aster.errors import UpstreamError
from integrations.mcp_client.failures import bound_text
from integrations.mcp_client.rounds import Rounds, asks_for_input, relayable
from integrations.mcp_client.tools import (
    MAX_LIST_BYTES,
    MAX_PAGES,
    MAX_RESULT_BYTES,
    MAX_TOOLS,
    count_bytes,
    describe_asks,
    result_too_large,
    without_exchange,
)


@dataclass(frozen=True)
class Offer:
    """One kind of thing that servers list: by which method, under which key, and what tells two of them apart."""

    capability: str
    method: str
    key: str
    identity: str


PROMPTS = Offer("prompts", "prompts/list", "prompts", "name")
RESOURCES = Offer("resources", "resources/list", "resources", "uri")
TEMPLATES = Offer("resources", "resources/templates/list", "resourceTemplates", "uriTemplate")


class OfferCollector:
    """Builds the list of one kind from its pages, without what is no item, comes twice or is too much."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.items: dict[str, dict[str, Any]] = {}
        self._cursors: set[str] = set()
        self._bytes = 0

    def add_page(self, page: Mapping[str, Any]) -> str | None:
        """Take one result in; the cursor of the next page out, None at the end. UpstreamError if it is no page."""
        items = page.get(self.offer.key)
        if page.get("resultType", "complete") != "complete" or not isinstance(items, list):
            raise UpstreamError(f"The server's answer to {self.offer.method} is no list.", step="offers")
        for item in items:
            identity = item.get(self.offer.identity) if isinstance(item, dict) else None
            if not isinstance(identity, str) or not identity or identity in self.items:
                continue
            self._bytes += count_bytes(item)
            if len(self.items) >= MAX_TOOLS or self._bytes > MAX_LIST_BYTES:
                return None
            self.items[identity] = item
        return self._next(page.get("nextCursor"))

    def _next(self, cursor: object) -> str | None:
        if not isinstance(cursor, str) or cursor in self._cursors or len(self._cursors) >= MAX_PAGES:
            return None
        self._cursors.add(cursor)
        return cursor


def read_answer(result: Mapping[str, Any], rounds: Rounds, asker: str) -> dict[str, Any]:
    """A result as the server gave it, without what belongs to the exchange with that server.

    Raises UpstreamError: too large, of an unknown kind, or asking for what nobody offered to answer.
    """
    try:
        if count_bytes(result) > MAX_RESULT_BYTES:
            raise result_too_large()
    except ValueError:
        raise UpstreamError("The server's answer holds a number that is none in JSON.", step="ask") from None
    if asks_for_input(result):
        if asked := relayable(result, rounds, asker):
            return asked
        raise UpstreamError(describe_asks(result), step="ask", code="input_required")
    if (kind := result.get("resultType", "complete")) != "complete":
        raise UpstreamError(f"The server answered with a result of unknown type {bound_text(kind, 40)!r}.", step="ask")
    return without_exchange(result)
