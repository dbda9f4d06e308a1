"""The apps that people have let in at the gateway: one's own, and for admins everybody's."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.formats import date_format
from django.views.decorators.http import require_GET

from agents.authorization_server import connected_apps, tokens
from agents.authorization_server.client_documents import host_of_client
from aster.accounts.access import ActorRequest
from aster.pages import ask_first, hub_page
from aster.paging import page_of, query_without


@require_GET
@hub_page
def list_apps(request: ActorRequest) -> HttpResponse:
    visible = connected_apps.visible_apps(request.actor)
    mine = visible.filter(membership__user=request.actor.user)
    all_of_them = request.actor.is_admin and request.GET.get("whose") != "mine"
    page = page_of(request, visible if all_of_them else mine)
    rows = [(app, host_of_client(app.application), tokens.is_in_place(app)) for app in page]
    here = reverse("admin:connected-apps")
    tabs = [
        {"label": "Everybody", "url": here, "active": all_of_them, "count": visible.count()},
        {"label": "Mine", "url": f"{here}?whose=mine", "active": not all_of_them, "count": mine.count()},
    ]
    context = {"page": page, "rows": rows, "tabs": tabs if request.actor.is_admin else [], "owners": all_of_them}
    return render(request, "agents/connected_apps.html", {**context, "query": query_without(request)})


@hub_page
def revoke_app(request: ActorRequest, pk: int) -> HttpResponse:
    app = connected_apps.find_app(pk, actor=request.actor)
    if request.method == "POST":
        connected_apps.revoke(app, actor=request.actor)
        messages.success(request, f"“{app}” was locked out.")
        return redirect("admin:connected-apps")
    return ask_first(
        request,
        f"Revoke “{app}”?",
        "It is signed out at once, on every computer where it uses this address. To use it again, sign in there anew.",
        parent=(reverse("admin:connected-apps"), "Connected apps"),
        items=[
            f"It uses {connected_apps.used_by(app)} as {app.membership.user.email}.",
            f"Last used {date_format(app.last_used_at, 'DATETIME_FORMAT')}.",
        ],
        confirm_text="Revoke",
    )
