"""The hub's pages about MCP registries: looking up entries, and adding a server from one. For admins."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from aster.accounts.access import ActorRequest
from aster.errors import AsterError, ConnectionTestFailed
from aster.pages import hub_page
from integrations.models import EntryStatus, RegistryEntry
from integrations.registry_forms import AddFromEntryForm
from integrations.services import registry, registry_sync
from integrations.services.registry_ways import KINDS, ways_of

PER_PAGE = 30
LONGEST_SEARCH = 200


@require_GET
@hub_page
def search(request: ActorRequest) -> HttpResponse:
    text = request.GET.get("q", "").strip()[:LONGEST_SEARCH]
    page = Paginator(registry.search_entries(text, actor=request.actor), PER_PAGE).get_page(request.GET.get("page"))
    added = registry.added_entries(page, actor=request.actor)
    states = registry_sync.states()
    context = {
        "title": "Registry",
        "rows": [(entry, labels_of(entry), added.get(entry.pk)) for entry in page],
        "page": page,
        "q": text,
        "q_query": urlencode({"q": text}) if text else "",
        "states": states,
        "never_read": not any(state.succeeded_at for state in states),
        "is_asked_for": any(state.pk for state in states),
        "hosts": {each: urlsplit(each).netloc for each in settings.ASTER_REGISTRIES},
        "is_official": settings.ASTER_REGISTRIES == [settings.OFFICIAL_REGISTRY],
    }
    return render(request, "integrations/registry.html", context)


def labels_of(entry: RegistryEntry) -> list[str]:
    return [KINDS.get(kind, kind) for kind in entry.ways]


@require_POST
@hub_page
def sync(request: ActorRequest) -> HttpResponse:
    registry_sync.request_sync(actor=request.actor)
    messages.success(request, "The registry is being read. New entries appear here within a minute or two.")
    return redirect("admin:registry")


@hub_page
def entry(request: ActorRequest, pk: int) -> HttpResponse:
    found = registry.find_entry(pk, actor=request.actor)
    ways = ways_of(found)
    able = [way for way in ways if not way.problem] if found.status != EntryStatus.DELETED else []
    wanted = request.POST.get("way") or request.GET.get("way", "")
    way = next((each for each in able if each.key == wanted), able[0] if able else None)
    form, failed = None, None
    # Fields count through what an entry asks for: what was typed for another version would end up in the wrong place.
    is_current = way is not None and (request.POST.get("way"), request.POST.get("seen")) == (way.key, _digest(found))
    if way:
        name = (found.title or found.name.partition("/")[2])[:100]
        form = AddFromEntryForm(request.POST if request.method == "POST" and is_current else None, way=way, name=name)
    if request.method == "POST" and not is_current:
        messages.error(request, "The entry has changed meanwhile. Look at it again, and fill it in once more.")
    if form and form.is_bound and form.is_valid():
        try:
            return _add(request, found, form)
        except ConnectionTestFailed as error:
            failed = error
            form.refuse(error)
        except AsterError as error:
            form.refuse(error)
    if form and form.is_bound:
        form.ask_again()
    context: dict[str, Any] = {
        "title": str(found),
        "entry": found,
        "ways": ways,
        "way": way,
        "form": form,
        "failed": failed,
        "added": registry.added_entries([found], actor=request.actor).get(found.pk),
        "host": urlsplit(found.registry).netloc,
        "seen": _digest(found),
    }
    status = failed.http_status if failed else 400 if form and form.errors else 200
    return render(request, "integrations/registry_entry.html", context, status=status)


def _digest(found: RegistryEntry) -> str:
    text = json.dumps([found.status, found.server], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _add(request: ActorRequest, found: RegistryEntry, form: AddFromEntryForm) -> HttpResponse:
    saved = registry.add_from_entry(
        found, form.way.key, form.values(), actor=request.actor, name=form.cleaned_data["name"], sign_in=form.sign_in()
    )
    server = saved.server
    if server.needs_person:
        messages.success(request, f"{server} is saved. Connect your account to see its tools.")
        return redirect("admin:server-connect", server.slug)
    messages.success(request, f"{server} is saved. {saved.test.message if saved.test else ''}".strip())
    return redirect("admin:server", server.slug)
