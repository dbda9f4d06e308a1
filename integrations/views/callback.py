"""The one redirect URI: a provider sends people (and scripts that follow redirects) back here."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from aster.accounts.access import CONNECT, SESSION_ORGANIZATION, Actor, find_actor
from aster.accounts.authentication import UNKNOWN_KEY, presented_key
from aster.accounts.services import authenticate_key
from aster.api import error_body, refusal_body
from aster.errors import AsterError, NotAllowed
from aster.pages import local_path
from integrations.models import AuthConfig, PendingAuthorization
from integrations.serializers import show_connection
from integrations.services import connections
from integrations.views.browser import SESSION_BROWSER


@require_GET
def oauth_callback(request: HttpRequest) -> HttpResponse:
    """Finish a sign-in as whoever calls: the person at the browser, or the owner of an API key."""
    key = presented_key(request.headers)
    response = _finish_for_script(request, key) if key else _finish_for_person(request)
    # The address holds a code: it goes into no cache and no Referer header.
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "no-store"
    return response


def _finish_for_script(request: HttpRequest, key: str) -> HttpResponse:
    actor = authenticate_key(key, via="api", request_id=getattr(request, "request_id", ""))
    if actor is None:
        body = error_body("authentication_failed", UNKNOWN_KEY)
        return JsonResponse(body, status=401, headers={"WWW-Authenticate": 'Bearer realm="aster"'})
    try:
        actor.require_scope(CONNECT)
        connection = connections.complete_connection(request.GET.dict(), actor=actor)
    except AsterError as error:
        return JsonResponse(refusal_body(error), status=error.http_status)
    return JsonResponse({"status": "connected", "connection": show_connection(connection)})


def _finish_for_person(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return HttpResponseRedirect(f"{settings.LOGIN_URL}?next={quote(request.get_full_path())}")
    pending = connections.peek_pending(request.GET.get("state", ""))
    browser = str(request.session.get(SESSION_BROWSER, ""))
    try:
        actor = _acting(request, pending)
        connection = connections.complete_connection(request.GET.dict(), actor=actor, browser=browser)
    except AsterError as error:
        return _show_failure(request, error, pending)
    messages.success(request, f"Connected to {_name_of(connection.auth_config)}.")
    return HttpResponseRedirect(local_path(pending.return_to if pending else "", reverse("admin:integrations")))


def _acting(request: HttpRequest, pending: PendingAuthorization | None) -> Actor:
    """The person, in the organization where the sign-in was started if they still belong there."""
    actor = cast(Actor, cast(Any, request).actor)
    if not actor:
        raise NotAllowed("You do not belong to an organization any more. Ask an admin to add you.")
    if pending and pending.user == request.user and pending.organization_id != actor.organization.pk:
        there = find_actor(actor.person, pending.organization_id, via="page", request_id=actor.request_id)
        if there and there.organization.pk == pending.organization_id:
            request.session[SESSION_ORGANIZATION] = pending.organization_id
            return there
    return actor


def _name_of(auth: AuthConfig) -> str:
    names = list(auth.servers.order_by("name").values_list("name", flat=True)[:4])
    return ", ".join(names) if 0 < len(names) < 4 else auth.name


def _show_failure(request: HttpRequest, error: AsterError, pending: PendingAuthorization | None) -> HttpResponse:
    """What happened, and the way to try again for the person whose sign-in it was."""
    own = pending if pending and pending.user == request.user else None
    server = own.auth_config.servers.order_by("name").first() if own else None
    context = {
        "title": "Not connected",
        "problem": error,
        "hint": getattr(error, "hint", ""),
        "server": server,
        "organization": own.organization if own else None,
    }
    return render(request, "integrations/callback_failed.html", context, status=error.http_status)
