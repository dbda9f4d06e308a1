"""API keys: everybody's own, and for admins those of the organization."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET

from aster.accounts import services
from aster.accounts.access import ActorRequest
from aster.accounts.forms import ApiKeyForm
from aster.accounts.models import User
from aster.errors import AsterError, NotFound
from aster.mcp_admin.clients import admin_mcp_url, claude_code_command, client_json
from aster.pages import add_errors, ask_first, hub_page
from aster.paging import page_of, query_without


@require_GET
@hub_page
def show_keys(request: ActorRequest) -> HttpResponse:
    page, now = page_of(request, services.visible_api_keys(request.actor)), timezone.now()
    keys = [(key, key.state(now)) for key in page]
    url = admin_mcp_url(request.actor.organization)
    context = {
        "page": page,
        "keys": keys,
        "query": query_without(request),
        "admin_mcp": {"url": url, "command": claude_code_command(url), "json": client_json(url)},
    }
    return render(request, "accounts/api_keys.html", context)


@sensitive_variables("text")
@hub_page
def add_key(request: ActorRequest) -> HttpResponse:
    form = ApiKeyForm(request.POST or None, actor=request.actor)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            key, text = services.create_api_key(
                _owner(request, given.get("owner")),
                name=given["name"],
                scopes=form.chosen_scopes,
                expires_at=form.expires_at,
                actor=request.actor,
            )
        except AsterError as error:
            add_errors(form, error)
        else:
            # The text is in this answer only: nothing keeps it.
            context = {"key": key, "text": text, "api_url": f"{settings.ASTER_PUBLIC_URL}/api/v1/config/agent"}
            response = render(request, "accounts/api_key_created.html", context)
            response["Cache-Control"] = "no-store"
            return response
    status = 400 if form.errors else 200
    return render(request, "accounts/api_key_add.html", {"form": form}, status=status)


def _owner(request: ActorRequest, user_id: str | None) -> User:
    if not user_id or user_id == str(request.user.pk):
        return request.actor.person
    membership = request.actor.organization.memberships.select_related("user").filter(user_id=user_id).first()
    if membership is None:
        raise NotFound("There is no such member.", fields={"owner": ["There is no such member."]})
    return membership.user


@hub_page
def revoke_key(request: ActorRequest, pk: int) -> HttpResponse:
    key = services.find_api_key(pk, actor=request.actor)
    if request.method == "POST":
        services.revoke_api_key(key, actor=request.actor)
        messages.success(request, f"“{key}” was revoked.")
        return redirect("admin:api-keys")
    used = f"Last used {date_format(key.last_used_at, 'DATETIME_FORMAT')}." if key.last_used_at else "Never used."
    return ask_first(
        request,
        f"Revoke “{key}”?",
        "Scripts and MCP clients that use this key stop working at once. A revoked key cannot be brought back.",
        parent=(reverse("admin:api-keys"), "API keys"),
        items=[f"Key {key.hint}, owned by {key.user.email}.", used],
        confirm_text="Revoke",
    )
