"""The organization's people, keys and audit trail as change lists. What changes them are services and the pages."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from aster.accounts import audit_words, services
from aster.accounts.models import ApiKey, ApiKeyQuerySet, AuditEvent, Membership, User
from aster.audited_admin import AuditedAdmin
from aster.scoped_admin import OrgScopedAdmin, ViaFilter, WordsFilter, actor_of
from aster.templatetags.aster import json_block


@admin.register(User)
class UserAdmin(OrgScopedAdmin[User]):
    description = "People of your organization. Add and remove them under Members."
    organization_path = "memberships__organization"
    admins_only = True
    list_display = ("email", "name", "is_active", "last_login", "date_joined")
    list_filter = ("is_active", "last_login")
    search_fields = ("email", "name")
    fields = list_display
    ordering = ("email",)


@admin.register(Membership)
class MembershipAdmin(AuditedAdmin[Membership]):
    description = "Who belongs to your organization, and in which role."
    list_display = ("user", "email", "role", "created_at")
    list_filter = ("role", "created_at")
    list_select_related = ("user", "organization")
    search_fields = ("user__email", "user__name")
    fields = ("user", "role", "created_at")
    actions = ("remove",)

    @admin.display(ordering="user__email")
    def email(self, membership: Membership) -> str:
        return membership.user.email

    @admin.action(description="Remove from the organization", permissions=["change"])
    def remove(self, request: HttpRequest, chosen: QuerySet[Membership]) -> None:
        actor = actor_of(request)
        self.run_each(request, chosen, lambda row: services.remove_member(row, actor=actor), "removed")

    def has_change_permission(self, request: HttpRequest, obj: Membership | None = None) -> bool:
        # Only for the action: a single membership is changed on the members page.
        return obj is None and self._may_change(request)


class KeyStateFilter(admin.SimpleListFilter):
    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        wanted = self.value()
        known = dict(self.lookup_choices)
        return cast(ApiKeyQuerySet, queryset).in_state(wanted) if wanted in known else queryset


@admin.register(ApiKey)
class ApiKeyAdmin(AuditedAdmin[ApiKey]):
    description = "Keys of scripts and MCP clients. Create them under API keys; their text is never stored."
    list_display = ("name", "hint", "user", "scope_words", "state_word", "expires_at", "last_used_at", "created_at")
    list_filter = (KeyStateFilter, "user", "created_at", "last_used_at")
    search_fields = ("name", "user__email", "user__name")
    fields = list_display
    actions = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        actor = actor_of(request)
        return services.visible_api_keys(actor) if actor else ApiKey.objects.none()

    @admin.display(description="scopes")
    def scope_words(self, key: ApiKey) -> str:
        return ", ".join("everything" if scope == "*" else scope for scope in key.scopes)

    @admin.display(description="state")
    def state_word(self, key: ApiKey) -> str:
        return key.state().capitalize()

    @admin.action(description="Revoke", permissions=["view"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        actor = actor_of(request)
        self.run_each(request, chosen, lambda row: services.revoke_api_key(row, actor=actor), "revoked")


class ActionFilter(WordsFilter):
    words = audit_words.ACTIONS


class ObjectFilter(WordsFilter):
    words = audit_words.OBJECTS


@admin.register(AuditEvent)
class AuditEventAdmin(OrgScopedAdmin[AuditEvent]):
    description = "Who did what. The same rows, in words and with an export, are under Activity."
    list_display = ("at", "actor_label", "action_words", "object_words", "object_label", "via_words", "request_id")
    list_filter = ("at", ("action", ActionFilter), ("object_type", ObjectFilter), ("via", ViaFilter))
    search_fields = ("actor_label", "object_label", "request_id")
    date_hierarchy = "at"
    fields = (*list_display, "object_id", "api_key", "change_text")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        actor = actor_of(request)
        return services.visible_events(actor) if actor else AuditEvent.objects.none()

    @admin.display(description="action", ordering="action")
    def action_words(self, event: AuditEvent) -> str:
        return audit_words.action_words(event).capitalize()

    @admin.display(description="object type", ordering="object_type")
    def object_words(self, event: AuditEvent) -> str:
        words = audit_words.object_words(event)
        return words[:1].upper() + words[1:]

    @admin.display(description="via", ordering="via")
    def via_words(self, event: AuditEvent) -> str:
        return audit_words.via_words(event)

    @admin.display(description="changes")
    def change_text(self, event: AuditEvent) -> SafeString:
        return json_block(event.changes, "Changes")
