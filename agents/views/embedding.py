"""What Aster shows to people who come from a page of another app: the script, and the window that connects a server.

Nobody is signed in here. See `agents.services.embedding` for what keeps the walk to one browser.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import condition, require_GET, require_http_methods, require_safe

from agents.models import EmbeddedSignIn
from agents.services import embedding
from aster.errors import AsterError, NotAllowed, NotFound
from integrations.models import PendingAuthorization
from integrations.views import oauth_callback as finish_in_hub

_SCRIPT_SECONDS = 3600


@cache
def _script() -> bytes:
    return Path(str(finders.find("aster/embed.js"))).read_bytes()


def _script_tag(request: HttpRequest) -> str:
    return f'"{hashlib.sha256(_script()).hexdigest()[:20]}"'


@require_safe
@condition(etag_func=_script_tag)
def embed_script(request: HttpRequest) -> HttpResponse:
    """The same for everyone, so every page may load it."""
    return HttpResponse(_script(), content_type="text/javascript; charset=utf-8", headers={
        "Cache-Control": f"public, max-age={_SCRIPT_SECONDS}",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Access-Control-Allow-Origin": "*",
    })  # fmt: skip


def _private(response: HttpResponse, referrer: str = "same-origin") -> HttpResponse:
    """A page of a sign-in under way: kept nowhere, and not cut off from the window that opened it."""
    response["Cache-Control"] = "no-store"
    response["Cross-Origin-Opener-Policy"] = "unsafe-none"
    response["Referrer-Policy"] = referrer
    return response


def _cookie_of(row: EmbeddedSignIn) -> str:
    """One for each sign-in, so that two windows do not take each other's."""
    return f"{'__Secure-' if settings.SESSION_COOKIE_SECURE else ''}aster-sign-in-{row.pk}"


@require_http_methods(["GET", "POST"])
def connect(request: HttpRequest) -> HttpResponse:
    """Says who is about to connect what, and for which page; Continue begins the sign-in in this browser."""
    code = request.POST.get("code", "") if request.method == "POST" else request.GET.get("code", "")
    try:
        row = embedding.find_invitation(code, request.user if request.user.is_authenticated else None)
    except AsterError as error:
        return _private(_show_failure(request, error))
    if request.method != "POST":
        return _private(render(request, "embed/connect.html", {**_facts(row), "code": code}))
    browser = secrets.token_urlsafe(32)
    try:
        begun = embedding.begin(row, proof=request.POST.get("proof", ""), browser=browser)
    except AsterError as error:
        return _private(_show_failure(request, error, row))
    if begun.authorization_url is None:
        return _private(_show_connected(request, row))
    # A page instead of a redirect: `form-action 'self'` forbids the latter (docs/decisions/0005).
    where = {"url": begun.authorization_url, "host": urlsplit(begun.authorization_url).netloc, "server": row.server}
    response = render(request, "embed/leaving.html", {"title": f"Signing in to {row.server}", **where})
    response.set_cookie(
        _cookie_of(row), browser, max_age=PendingAuthorization.LIFETIME, path=reverse("oauth-callback"),
        secure=settings.SESSION_COOKIE_SECURE, httponly=True, samesite="Lax",
    )  # fmt: skip
    # The page holds the state of this sign-in.
    return _private(response, "no-referrer")


@require_GET
def oauth_callback(request: HttpRequest) -> HttpResponse:
    """The one redirect URI: what was begun on a page of another app ends here, everything else in the hub."""
    row = embedding.find_begun(request.GET.get("state", ""))
    if row is None:
        return finish_in_hub(request)
    try:
        embedding.finish(row, request.GET.dict(), browser=request.COOKIES.get(_cookie_of(row), ""))
    except AsterError as error:
        response = _show_failure(request, error, row)
    else:
        response = _show_connected(request, row)
    response.delete_cookie(_cookie_of(row), path=reverse("oauth-callback"), samesite="Lax")
    # The address holds a code: it goes into no Referer header.
    return _private(response, "no-referrer")


def _facts(row: EmbeddedSignIn) -> dict[str, object]:
    ticket = row.ticket
    return {
        "title": f"Connect {row.server}",
        "server": row.server,
        "email": ticket.user.email,
        "organization": ticket.organization,
        "origin": ticket.origin,
        "host": urlsplit(ticket.origin).netloc,
    }


def _show_connected(request: HttpRequest, row: EmbeddedSignIn) -> HttpResponse:
    return render(request, "embed/connected.html", {**_facts(row), "title": "Connected"})


def _show_failure(request: HttpRequest, error: AsterError, row: EmbeddedSignIn | None = None) -> HttpResponse:
    ended = isinstance(error, NotFound | NotAllowed)
    facts = _facts(row) if row else {}
    context = {**facts, "title": "Not connected", "problem": error, "hint": getattr(error, "hint", ""), "ended": ended}
    return render(request, "embed/failed.html", context, status=error.http_status)
