"""A server that asks something in the middle of a request, and what whoever made the request answers.

2026-07-28 has no requests from the server: it answers `input_required`, and is sent the same request again with the
answers and its own state (basic/patterns/mrtr). A server of 2025-11-25 says with error -32042 which links to open; what
it says becomes the same kind of result here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MODES = frozenset({"form", "url"})
MAX_ASKS = 20
MAX_STATE = 128 * 1024
MAX_KEY = 256
INPUT_REQUIRED = "input_required"


@dataclass(frozen=True)
class Rounds:
    """What the one who asks can be asked back (`modes` of elicitation), and the answers to an earlier round.

    The state is the server's own, byte by byte. Without modes a server is told that nobody is there to answer.
    """

    modes: frozenset[str] = frozenset()
    answers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    state: str | None = field(default=None, repr=False)

    @property
    def capabilities(self) -> dict[str, Any]:
        return {"elicitation": {mode: {} for mode in sorted(self.modes)}} if self.modes else {}

    @property
    def params(self) -> dict[str, Any]:
        """What the repeated request carries besides its own params."""
        answers = {"inputResponses": dict(self.answers)} if self.answers else {}
        return answers if self.state is None else {**answers, "requestState": self.state}


def asks_for_input(result: Mapping[str, Any]) -> bool:
    return result.get("resultType") == INPUT_REQUIRED


def relayable(result: Mapping[str, Any], rounds: Rounds, asker: str) -> dict[str, Any] | None:
    """An `input_required` result as it may be passed on, with the asker's name in every question.

    None if it asks for anything that was not offered: another kind of input, a link that is no web address, too much.
    """
    state, asks = result.get("requestState"), result.get("inputRequests") or {}
    if not isinstance(asks, dict) or len(asks) > MAX_ASKS or not (asks or isinstance(state, str)):
        return None
    if state is not None and (not isinstance(state, str) or len(state) > MAX_STATE):
        return None
    passed = {key: _passed(ask, rounds.modes, asker) for key, ask in asks.items()}
    if None in passed.values() or any(len(key) > MAX_KEY for key in passed):
        return None
    kept = {"resultType": INPUT_REQUIRED, "inputRequests": passed}
    return kept if state is None else {**kept, "requestState": state}


def from_links(data: object) -> dict[str, Any]:
    """What a server of 2025-11-25 says in the data of its -32042, as an `input_required` result."""
    said = data.get("elicitations") if isinstance(data, dict) else None
    links = [each for each in said if isinstance(each, dict)] if isinstance(said, list) else []
    asks = {
        f"link_{number}": {
            "method": "elicitation/create",
            "params": {"mode": "url", "message": str(link.get("message", "")), "url": link.get("url")},
        }
        for number, link in enumerate(links, 1)
    }
    return {"resultType": INPUT_REQUIRED, "inputRequests": asks}


def _passed(ask: object, modes: frozenset[str], asker: str) -> dict[str, Any] | None:
    params = ask.get("params") if isinstance(ask, dict) and ask.get("method") == "elicitation/create" else None
    if not isinstance(params, dict) or not isinstance(message := params.get("message"), str):
        return None
    mode = params.get("mode", "form")
    if mode not in modes or (mode == "url" and not _is_web_address(params.get("url"))):
        return None
    # The client shows it as Aster's question: who wants to know must be in it.
    told = message if message.startswith(asker) else f"{asker} asks: {message}"
    return {"method": "elicitation/create", "params": {**params, "message": told}}


def _is_web_address(url: object) -> bool:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        return bool(parts and parts.scheme in ("https", "http") and parts.hostname)
    except ValueError:
        return False
