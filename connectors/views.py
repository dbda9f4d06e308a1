"""The hub's pages about connectors: the catalogue, one connector's settings, disabling it."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_GET

from aster.accounts.access import ActorRequest
from aster.errors import AsterError, NotFound
from aster.pages import add_errors, ask_first, hub_page
from connectors import services
from connectors.base import Connector
from connectors.forms import ConnectorForm
from connectors.openapi.services import api_connectors
from connectors.openapi.views import urlpatterns as openapi_pages
from connectors.registry import CONNECTORS, find_connector
from integrations.models import McpServer
from integrations.models.auth_configs import callback_url


@require_GET
@hub_page
def list_connectors(request: ActorRequest) -> HttpResponse:
    request.actor.require_admin()
    enabled = {server.command: server for server in services.enabled_connectors(request.actor)}
    ordered = sorted(CONNECTORS, key=lambda each: each.name)
    cards = [(each, enabled.get(each.slug)) for each in ordered]
    own = api_connectors(request.actor).annotate(known_tools=Count("tools", filter=Q(tools__gone_at=None)))
    return render(request, "connectors/connectors.html", {"cards": cards, "own": own})


@hub_page
def edit_connector(request: ActorRequest, slug: str) -> HttpResponse:
    request.actor.require_admin()
    connector = find_connector(slug)
    server = _enabled(connector, request)
    form = ConnectorForm(request.POST or None, connector=connector, server=server)
    if request.method == "POST" and form.is_valid():
        change = services.update_connector if server else services.enable_connector
        try:
            change(slug, form.settings(), actor=request.actor)
        except AsterError as error:
            add_errors(form, error)
        else:
            done = "was saved" if server else "is enabled. Assign it to agents, and connect your account"
            messages.success(request, f"{connector.name} {done}.")
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
    people = server.auth_config.connections.count() if server.auth_config else 0
    agents = server.assignments.count()
    return ask_first(
        request,
        f"Disable {connector.name}?",
        "Everybody's tokens are revoked at the provider and deleted here. To use it again, people connect anew.",
        parent=(reverse("admin:connector", args=[slug]), connector.name),
        items=[
            f"{people} connected account{'' if people == 1 else 's'} will be disconnected.",
            f"{agents} agent{'' if agents == 1 else 's'} will lose its tools.",
            "Its client ID and secret are deleted.",
        ],
        confirm_text="Disable",
    )


def _enabled(connector: Connector, request: ActorRequest) -> McpServer | None:
    try:
        return services.find_enabled(connector.slug, actor=request.actor)
    except NotFound:
        return None


urlpatterns: list[URLPattern] = [
    path("connectors/", list_connectors, name="connectors"),
    *openapi_pages,
    path("connectors/<slug:slug>/", edit_connector, name="connector"),
    path("connectors/<slug:slug>/disable/", disable_connector, name="connector-disable"),
]
