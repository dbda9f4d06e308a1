"""Connect and disconnect: the page before the provider's consent page, and the end of a connection."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from aster.accounts.access import ActorRequest
from aster.errors import AsterError
from aster.pages import back, hub_page, local_path
from integrations.models import Connection, McpServer
from integrations.services import connections, disconnection, servers
from integrations.services.links import is_made_for
from integrations.services.state import connections_by_server
from integrations.services.step_up import scopes_to_request
from integrations.views.actions import home_of, server_action
from integrations.views.browser import browser_of
from integrations.views.cards import card_of


@hub_page
def connect_server(request: ActorRequest, slug: str) -> HttpResponse:
    """Says what connecting means (links in chats and tools lead here); the button begins the sign-in."""
    server = servers.find_server(slug, actor=request.actor)
    browser = browser_of(request)
    if not is_made_for(request.GET.get("for", ""), request.actor.person):
        context = {"title": f"Connect to {server}", "server": server}
        return render(request, "integrations/connect_not_yours.html", context, status=403)
    if request.method != "POST":
        return _explain(request, server)
    auth = server.auth_config
    if auth is None or not auth.is_oauth:
        messages.info(request, f"{server} needs no sign-in of yours.")
        return redirect("admin:server", server.slug)
    return_to = _return_path(request, server)
    try:
        servers.require_enabled(server)
        begun = connections.begin_connection(auth, actor=request.actor, browser=browser, return_to=return_to)
    except AsterError as error:
        return _explain(request, server, error)
    if begun.authorization_url is None:
        messages.success(request, f"Connected to {server}.")
        return redirect(return_to)
    # A 200 page instead of a redirect: `form-action 'self'` also forbids a form to be redirected to another site.
    where = {"url": begun.authorization_url, "host": urlsplit(begun.authorization_url).netloc, "server": server}
    response = render(request, "integrations/leaving.html", {"title": f"Signing in to {server}", **where})
    # The URL holds the state of this sign-in.
    response["Cache-Control"] = "no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response


def _explain(request: ActorRequest, server: McpServer, problem: AsterError | None = None) -> HttpResponse:
    card = card_of(server, request.actor)
    auth = server.auth_config
    context = {
        "title": f"Connect to {server}",
        "card": card,
        "scopes": scopes_to_request(auth, card.connection) if auth else [],
        "server": server,
        "auth": auth,
        "problem": problem,
        "hint": getattr(problem, "hint", ""),
        "return_to": local_path(request.POST.get("next") or request.GET.get("next") or ""),
        "others": _other_servers(server),
    }
    status = problem.http_status if problem else 200
    return render(request, "integrations/connect.html", context, status=status)


def _other_servers(server: McpServer) -> list[McpServer]:
    """What the same sign-in opens as well."""
    auth = server.auth_config
    return list(auth.servers.exclude(pk=server.pk).order_by("name")[:20]) if auth and auth.is_oauth else []


def _return_path(request: HttpRequest, server: McpServer) -> str:
    """Where to go after the provider: as the form says, else the page the button was on."""
    default = reverse("admin:server", args=[server.slug])
    came_from = urlsplit(request.headers.get("referer", ""))
    path = f"{came_from.path}?{came_from.query}" if came_from.query else came_from.path
    is_page = path.startswith("/hub/") and not path.startswith(reverse("admin:server-connect", args=[server.slug]))
    wanted = request.POST.get("next") or (path if is_page else "")
    return local_path(wanted, default)


@server_action
def disconnect_server(request: ActorRequest, server: McpServer) -> HttpResponse:
    connection = connections_by_server([server], request.actor).get(server.pk)
    if connection is None:
        messages.info(request, f"You were not connected to {server}.")
    else:
        _disconnect(request, connection, server.name)
    return home_of(request, server)


@hub_page
def disconnect_connection(request: ActorRequest, pk: int) -> HttpResponse:
    if request.method == "POST":
        connection = connections.find_connection(pk, actor=request.actor)
        _disconnect(request, connection, str(connection.auth_config))
    return back(request, reverse("admin:connections"))


def _disconnect(request: ActorRequest, connection: Connection, name: str) -> None:
    """End it, and say whether the provider has forgotten the grant as well."""
    whose = "" if connection.user == request.actor.user else f"{connection.user or 'the organization'} "
    outcome = disconnection.disconnect(connection, actor=request.actor)
    said = f"Disconnected {whose}from {name}."
    if outcome.outcome == "revoked":
        messages.success(request, f"{said} The provider revoked the access.")
    elif outcome.outcome == "unsupported":
        messages.success(request, f"{said} The tokens are deleted here. {outcome.words}")
    else:
        doubt = "The tokens are deleted here, but the provider did not confirm:"
        messages.warning(request, f"{said} {doubt} {outcome.words}")
