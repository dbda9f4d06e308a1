"""Facts about the browser that asks: which one a sign-in belongs to, where to go back to, whether htmx is there."""

from __future__ import annotations

import secrets

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

SESSION_BROWSER = "browser"


def browser_of(request: HttpRequest) -> str:
    """A random value kept in the browser's session.

    Pages with a Connect button ask for it while they are shown, so that two quick presses find the same value.
    """
    known = request.session.get(SESSION_BROWSER)
    if not isinstance(known, str):
        known = request.session[SESSION_BROWSER] = secrets.token_urlsafe(24)
    return known


def local_path(wanted: str, default: str = "") -> str:
    """`wanted` if it is a path of this site, else `default`: a sign-in must not end on somebody else's page."""
    is_ours = wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if is_ours and len(wanted) <= 500 else default


def is_htmx(request: HttpRequest) -> bool:
    """Whether htmx asks, and wants a part of the page instead of all of it."""
    return bool(getattr(request, "htmx", False))
