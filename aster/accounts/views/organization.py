"""The organization itself: its settings, and changing to another one."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.formats import date_format
from django.views.decorators.http import require_GET, require_POST

from aster.accounts import services
from aster.accounts.access import SESSION_ORGANIZATION, ActorRequest, organizations_of
from aster.accounts.forms import OrganizationForm
from aster.accounts.gallery import gallery_context
from aster.errors import AsterError, NotFound
from aster.pages import add_errors, back, hub_page


@hub_page
def edit_organization(request: ActorRequest) -> HttpResponse:
    request.actor.require_admin()
    organization = request.actor.organization
    names = ("name", "scope_hierarchy", "keep_calls_days")
    initial = {name: getattr(organization, name) for name in names}
    form = OrganizationForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        for name in names:
            setattr(organization, name, form.cleaned_data[name])
        try:
            services.update_organization(organization, actor=request.actor)
        except AsterError as error:
            add_errors(form, error)
        else:
            messages.success(request, "Settings saved.")
            return redirect("admin:organization")
    facts = [("Slug", organization.slug), ("Created", date_format(organization.created_at))]
    example = {"admin": ["*"], "files:admin": ["files:write"], "files:write": ["files:read"]}
    context = {"form": form, "facts": facts, "example": example}
    return render(request, "accounts/organization.html", context, status=400 if form.errors else 200)


@require_POST
@hub_page
def switch_organization(request: ActorRequest) -> HttpResponse:
    chosen = organizations_of(request.user).filter(slug=request.POST.get("organization", "")).first()
    if chosen is None:
        raise NotFound("You do not belong to that organization.")
    request.session[SESSION_ORGANIZATION] = chosen.pk
    return back(request, "/hub/")


@require_GET
@hub_page
def gallery(request: ActorRequest) -> HttpResponse:
    """Every component in its states, for whoever builds the next page."""
    if not settings.DEBUG:
        raise NotFound("There is no such page.")
    return render(request, "gallery.html", gallery_context())
