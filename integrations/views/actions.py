"""What is done to one server at the press of a button: test, list tools, switch on and off, delete."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse

from aster.accounts.access import ActorRequest
from aster.pages import ask_first, back, hub_page, is_htmx
from integrations.models import McpServer, TestStatus
from integrations.services import servers
from integrations.services.catalogue import tools_of
from integrations.services.consequences import lost_with
from integrations.services.validation import refuse_connector
from integrations.views.cards import card_of

Action = Callable[[ActorRequest, McpServer], HttpResponse]


def server_action(action: Action) -> Callable[[HttpRequest, str], HttpResponseBase]:
    """A POST to one of the organization's servers. Opened as a link (after a sign-in, say) it shows the server."""

    @wraps(action)
    def act(request: ActorRequest, slug: str) -> HttpResponse:
        server = servers.find_server(slug, actor=request.actor)
        if request.method != "POST":
            return redirect("admin:server", slug)
        return action(request, server)

    return hub_page(act)


def home_of(request: HttpRequest, server: McpServer) -> HttpResponseRedirect:
    """Back to where the button was."""
    return back(request, reverse("admin:server", args=[server.slug]))


@server_action
def test_server(request: ActorRequest, server: McpServer) -> HttpResponse:
    result = servers.test_server(server, actor=request.actor)
    if is_htmx(request):
        context = {"card": card_of(server, request.actor), "result": result}
        return render(request, "integrations/_server_card.html", context)
    flash_result(request, server, result)
    return home_of(request, server)


def flash_result(request: HttpRequest, server: McpServer, result: servers.TestResult) -> None:
    words = f"{server}: {result.message} {result.hint}".strip()
    if result.ok:
        messages.success(request, f"{server} works. {result.message}")
    elif result.status == TestStatus.SIGN_IN:
        messages.warning(request, words)
    else:
        messages.error(request, words)


@server_action
def refresh_tools(request: ActorRequest, server: McpServer) -> HttpResponse:
    servers.require_enabled(server)
    result = servers.test_server(server, actor=request.actor)
    if result.ok:
        count = tools_of(server).count()
        messages.success(request, f"{server} offers {count} tool{'' if count == 1 else 's'}.")
    else:
        flash_result(request, server, result)
    return home_of(request, server)


@server_action
def enable_server(request: ActorRequest, server: McpServer) -> HttpResponse:
    servers.set_enabled(server, True, actor=request.actor)
    messages.success(request, f"{server} is on again.")
    return home_of(request, server)


@server_action
def disable_server(request: ActorRequest, server: McpServer) -> HttpResponse:
    servers.set_enabled(server, False, actor=request.actor)
    messages.success(request, f"{server} is switched off. Agents no longer see its tools.")
    return home_of(request, server)


@hub_page
def delete_server(request: ActorRequest, slug: str) -> HttpResponse:
    """Asks first; everything the server takes with it is named."""
    request.actor.require_admin()
    server = servers.find_server(slug, actor=request.actor)
    refuse_connector(server)
    if request.method == "POST":
        servers.delete_server(server, actor=request.actor)
        messages.success(request, f"{server} is deleted.")
        return redirect("admin:integrations")
    return ask_first(
        request,
        f"Delete {server}?",
        "This cannot be undone.",
        parent=(reverse("admin:server", args=[server.slug]), server.name),
        items=lost_with(server),
        confirm_text="Delete server",
    )
