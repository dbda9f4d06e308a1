"""The page of the connection doctor: the last run, another one, and the fixes."""

from __future__ import annotations

from datetime import datetime

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from aster.accounts.access import ActorRequest
from aster.pages import hub_page
from integrations.models import McpServer
from integrations.services import doctor, servers
from integrations.views.actions import server_action
from integrations.views.browser import browser_of


@hub_page
def server_doctor(request: ActorRequest, slug: str) -> HttpResponse:
    """GET shows the last run, POST makes one; the redirect afterwards keeps a reload from starting another."""
    browser_of(request)
    server = servers.find_server(slug, actor=request.actor)
    if request.method == "POST":
        doctor.diagnose(server, actor=request.actor)
        return redirect("admin:server-doctor", server.slug)
    last = doctor.last_diagnosis(server, actor=request.actor)
    context = {
        "title": f"Connection doctor: {server}",
        "server": server,
        "diagnosis": last,
        "ran_at": datetime.fromisoformat(last.at) if last else None,
        "whose": _whose(last, request) if last else "",
        "can_run": server.is_enabled or request.actor.is_admin,
    }
    return render(request, "integrations/doctor.html", context)


def _whose(last: doctor.Diagnosis, request: ActorRequest) -> str:
    if last.by == request.actor.person.email:
        return "as you"
    return f"as {last.by}" if last.by else "by somebody else"


@server_action
def apply_fix(request: ActorRequest, server: McpServer) -> HttpResponse:
    found = doctor.apply_fix(server, request.POST.get("fix", ""), actor=request.actor)
    if found.status == "ok":
        messages.success(request, "Done. Everything works now.")
    else:
        messages.info(request, f"Done, and looked again. {found.summary}")
    return redirect("admin:server-doctor", server.slug)
