"""Agents, models and calls as change lists; adding and changing happens on the pages of the hub."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from oauth2_provider.models import AccessToken, Application, Grant, IDToken, RefreshToken

from agents.models import Agent, LlmConfig, ToolCall
from agents.services import agents
from agents.services.calls import visible_calls
from aster.accounts import audit_words
from aster.scoped_admin import OrgScopedAdmin, ViaFilter, actor_of
from aster.templatetags.aster import duration_ms

# The toolkit's own change lists know no organizations: connected apps have a page of ours.
admin.site.unregister([AccessToken, Application, Grant, IDToken, RefreshToken])


@admin.register(Agent)
class AgentAdmin(OrgScopedAdmin[Agent]):
    description = "Agents of your organization. Each opens on its own page."
    can_add = can_change = True
    list_display = ("name", "slug", "is_enabled", "server_count", "llm_config", "updated_at")
    list_filter = ("is_enabled", "servers", "llm_config", "updated_at")
    list_select_related = ("llm_config",)
    search_fields = ("name", "slug", "description")
    actions = ("enable", "disable")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        return super().get_queryset(request).annotate(assigned=Count("assignments", distinct=True))

    @admin.display(description="servers", ordering="assigned")
    def server_count(self, agent: Agent) -> int:
        return int(agent.assigned)  # type: ignore[attr-defined]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return redirect("admin:agent-add")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        agent = self.get_object(request, object_id)
        return redirect("admin:agent", agent.slug) if agent else redirect("admin:agents")

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, chosen: QuerySet[Agent]) -> None:
        self._switch(request, chosen, True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, chosen: QuerySet[Agent]) -> None:
        self._switch(request, chosen, False)

    def _switch(self, request: HttpRequest, chosen: QuerySet[Agent], enabled: bool) -> None:
        actor = actor_of(request)
        done = "enabled" if enabled else "disabled"
        self.run_each(request, chosen, lambda agent: agents.set_enabled(agent, enabled, actor=actor), done)


@admin.register(LlmConfig)
class LlmConfigAdmin(OrgScopedAdmin[LlmConfig]):
    description = "Where agents' models are. API keys are stored encrypted and never shown."
    admins_only = True
    can_add = can_change = True
    list_display = ("name", "model", "base_url", "key_is_set", "updated_at")
    list_filter = ("model", "updated_at")
    search_fields = ("name", "model", "base_url")
    actions = None

    @admin.display(description="API key set", boolean=True)
    def key_is_set(self, config: LlmConfig) -> bool:
        return bool(config.api_key)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return redirect("admin:llm-config-add")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        config = self.get_object(request, object_id)
        return redirect("admin:llm-config", config.pk) if config else redirect("admin:llm-configs")


@admin.register(ToolCall)
class ToolCallAdmin(OrgScopedAdmin[ToolCall]):
    description = "Every tool call. Arguments and results are not kept."
    list_display = ("at", "tool_name", "outcome", "user_label", "agent", "server_label", "duration", "via_words")
    list_filter = ("at", "outcome", "agent", "server", ("via", ViaFilter))
    list_select_related = ("agent",)
    search_fields = ("tool_name", "user_label", "server_label", "request_id")
    date_hierarchy = "at"
    fields = (*list_display, "connection_label", "error_code", "request_id")

    @admin.display(description="time", ordering="duration_ms")
    def duration(self, call: ToolCall) -> str:
        return duration_ms(call.duration_ms)

    @admin.display(description="via", ordering="via")
    def via_words(self, call: ToolCall) -> str:
        return audit_words.via_words(call)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ToolCall]:
        actor = actor_of(request)
        return visible_calls(actor) if actor else ToolCall.objects.none()
