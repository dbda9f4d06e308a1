"""The hub's pages about connectors: the catalogue, one connector's settings, disabling it."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_GET

from aster.accounts.access import ActorRequest
from aster.errors import AsterError
from aster.pages import add_errors, ask_first, hub_page
from connectors import services
from connectors.base import Connector, Kind
from connectors.forms import ConnectorForm
from connectors.openapi.services import api_connectors
from connectors.openapi.views import urlpatterns as openapi_pages
from connectors.registry import find_connector
from integrations.models import McpServer
from integrations.models.auth_configs import callback_url


@require_GET
@hub_page
def list_connectors(request: ActorRequest) -> HttpResponse:
    q = request.GET.get("q", "").strip()
    cards = [card for card in services.catalogue(request.actor) if card[0].matches(q)]
    apis = api_connectors(request.actor).filter(name__icontains=q)
    context = {
        "q": q,
        "own": [card for card in cards if not card[0].is_remote],
        "apis": apis.annotate(known_tools=Count("tools", filter=Q(tools__gone_at=None))),
        "remote": [card for card in cards if card[0].is_remote],
    }
    return render(request, "connectors/connectors.html", context)


@hub_page
def edit_connector(request: ActorRequest, slug: str) -> HttpResponse:
    request.actor.require_admin()
    connector = find_connector(slug)
    server = services.find_server_of(slug, actor=request.actor)
    form = ConnectorForm(request.POST if request.method == "POST" else None, connector=connector, server=server)
    if request.method == "POST" and form.is_valid():
        change = services.update_connector if server else services.enable_connector
        try:
            saved = change(slug, form.settings(), actor=request.actor)
        except AsterError as error:
            add_errors(form, error)
        else:
            follows = (
                ". Assign it to agents, and connect your account" if saved.needs_person else ". Assign it to agents"
            )
            messages.success(request, f"{connector.name} {'was saved' if server else f'is enabled{follows}'}.")
            if connector.is_remote and not server:
                return redirect("admin:server", saved.slug)
            return redirect("admin:connector", slug)
    context = {"connector": connector, "server": server, "form": form, "callback_url": callback_url()}
    return render(request, "connectors/connector.html", context, status=400 if form.errors else 200)


@hub_page
def disable_connector(request: ActorRequest, slug: str) -> HttpResponse:
    request.actor.require_admin()
    connector = find_connector(slug)
    server = services.find_enabled(slug, actor=request.actor)
    if request.method == "POST":
        outcome = services.disable_connector(slug, actor=request.actor)
        messages.success(request, f"{connector.name} is disabled. {outcome}")
        return redirect("admin:connectors")
    words = "Its tools go. It can be enabled again at any time."
    if server.needs_person:
        words = "Everybody's tokens are revoked at the provider and deleted here. To use it again, people connect anew."
    elif connector.kind == Kind.API_KEY:
        words = f"Its key is deleted here; at {connector.name} it stays valid until it is revoked there."
    return ask_first(
        request,
        f"Disable {connector.name}?",
        words,
        parent=(reverse("admin:connector", args=[slug]), connector.name),
        items=_consequences(connector, server),
        confirm_text="Disable",
    )


def _consequences(connector: Connector, server: McpServer) -> list[str]:
    agents = server.assignments.count()
    found = [f"{agents} agent{'' if agents == 1 else 's'} will lose its tools."]
    if server.auth_config and server.needs_person:
        people = server.auth_config.connections.count()
        found.insert(0, f"{people} connected account{'' if people == 1 else 's'} will be disconnected.")
    return [*found, "Its client ID and secret are deleted."] if connector.kind == Kind.OAUTH else found


urlpatterns: list[URLPattern] = [
    path("connectors/", list_connectors, name="connectors"),
    *openapi_pages,
    path("connectors/<slug:slug>/", edit_connector, name="connector"),
    path("connectors/<slug:slug>/disable/", disable_connector, name="connector-disable"),
]
