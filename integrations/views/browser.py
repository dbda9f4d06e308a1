"""Which browser a sign-in belongs to."""

from __future__ import annotations

import secrets

from django.http import HttpRequest

SESSION_BROWSER = "browser"


def browser_of(request: HttpRequest) -> str:
    """A random value kept in the browser's session.

    Pages with a Connect button ask for it while they are shown, so that two quick presses find the same value.
    """
    known = request.session.get(SESSION_BROWSER)
    if not isinstance(known, str):
        known = request.session[SESSION_BROWSER] = secrets.token_urlsafe(24)
    return known
