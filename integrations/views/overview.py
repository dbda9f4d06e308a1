"""The front page: every server as a card."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse

from aster.accounts.access import ActorRequest
from aster.pages import hub_page
from integrations.views.browser import browser_of
from integrations.views.cards import ServerCard, cards_of, server_rows

SEARCH_FROM = 7
STATES = [
    ("", "Any state"),
    ("connected", "Connected or ready"),
    ("connection_error", "Connection error"),
    ("not_connected", "Not connected"),
    ("untested", "Untested"),
    ("disabled", "Disabled"),
]


@hub_page
def integrations(request: ActorRequest) -> HttpResponse:
    browser_of(request)
    every = cards_of(server_rows(request.actor), request.actor)
    words, state = request.GET.get("q", "").strip(), request.GET.get("state", "")
    context = {
        "title": "Integrations",
        "cards": [card for card in every if _matches(card, words.lower(), state)],
        "total": len(every),
        "searchable": len(every) >= SEARCH_FROM,
        "q": words,
        "state": state,
        "states": STATES,
        "menu": _records(),
    }
    return render(request, "integrations/integrations.html", context)


def _records() -> list[dict[str, str]]:
    """The change lists behind the cards: bulk actions, shared auth configs."""
    return [
        {"label": "Servers as a list", "url": reverse("admin:integrations_mcpserver_changelist"), "icon": "server"},
        {"label": "Auth configs", "url": reverse("admin:integrations_authconfig_changelist"), "icon": "key"},
        {"label": "All tools", "url": reverse("admin:integrations_tool_changelist"), "icon": "tool"},
        {"label": "All records", "url": reverse("admin:records"), "icon": "search"},
    ]


def _matches(card: ServerCard, words: str, state: str) -> bool:
    server = card.server
    text = f"{server.name} {server.description} {server.address} {card.auth_label}".lower()
    return all(word in text for word in words.split()) and state in ("", card.state.code)
