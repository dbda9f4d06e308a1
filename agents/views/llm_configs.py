"""Where models are: LLM configs, for admins. A key goes in and never comes out."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Count
from django.db.models.functions import Lower
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from agents.forms import LlmConfigForm
from agents.models import LlmConfig
from agents.services import agents
from aster.accounts.access import ActorRequest
from aster.errors import AsterError
from aster.pages import add_errors, ask_first, hub_page
from aster.paging import page_of, query_without


@require_GET
@hub_page
def list_configs(request: ActorRequest) -> HttpResponse:
    request.actor.require_admin()
    rows = agents.visible_llm_configs(request.actor).annotate(agent_count=Count("agents")).order_by(Lower("name"), "pk")
    context = {"page": page_of(request, rows), "query": query_without(request)}
    return render(request, "agents/llm_configs.html", context)


@hub_page
def add_config(request: ActorRequest) -> HttpResponse:
    request.actor.require_admin()
    return _edit(request, LlmConfig(organization=request.actor.organization))


@hub_page
def edit_config(request: ActorRequest, pk: int) -> HttpResponse:
    request.actor.require_admin()
    return _edit(request, agents.find_llm_config(pk, actor=request.actor))


def _edit(request: ActorRequest, config: LlmConfig) -> HttpResponse:
    name = config.name
    form = LlmConfigForm(request.POST or None, instance=config)
    if request.method == "POST" and form.is_valid():
        try:
            agents.save_llm_config(form.filled(), actor=request.actor)
        except AsterError as error:
            add_errors(form, error)
        else:
            messages.success(request, f"{config} was saved.")
            return redirect("admin:llm-configs")
    context = {"form": form, "config": config, "name": name}
    return render(request, "agents/llm_config.html", context, status=400 if form.errors else 200)


@hub_page
def delete_config(request: ActorRequest, pk: int) -> HttpResponse:
    request.actor.require_admin()
    config = agents.find_llm_config(pk, actor=request.actor)
    if request.method == "POST":
        agents.delete_llm_config(config, actor=request.actor)
        messages.success(request, f"{config} was deleted.")
        return redirect("admin:llm-configs")
    text = "Its API key is deleted with it. This cannot be undone."
    return ask_first(request, f"Delete {config}?", text, parent=(reverse("admin:llm-configs"), "LLM configs"))
