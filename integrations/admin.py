"""Change lists of servers, auth configs, connections and tools: search, filters, bulk actions and history."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString

from aster.audited_admin import AuditedAdmin
from aster.errors import AsterError
from aster.scoped_admin import OrgScopedAdmin, actor_of
from aster.templatetags.aster import icon, json_block, relative_time
from integrations.forms import AUTH_WORDS, CLIENT_WORDS, AuthConfigForm, place_errors
from integrations.models import (
    AuthConfig,
    ClientRegistration,
    Connection,
    ConnectionStatus,
    McpServer,
    TestStatus,
    Tool,
    Transport,
    callback_url,
)
from integrations.services import disconnection, servers

MAX_TESTS = 20


def badge(tone: str, symbol: str, words: str) -> SafeString:
    return format_html('<span class="badge {}">{}{}</span>', tone, icon(symbol), words)


# --- Servers --------------------------------------------------------------------------------------------------------


@admin.register(McpServer)
class McpServerAdmin(AuditedAdmin[McpServer]):
    """The list; adding and changing happen on the hub's own pages."""

    description = "Every MCP server of the organization."
    list_display = ("name", "state", "address_line", "auth_config", "tools_seen", "tested")
    list_filter = ("is_enabled", "transport", "expose_as_skills", "test_status", "auth_config__auth_type")
    search_fields = ("name", "slug", "description", "url")
    list_select_related = ("auth_config",)
    actions = ("test_chosen", "enable_chosen", "disable_chosen")
    can_add = can_change = can_delete = True
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[McpServer]:
        return super().get_queryset(request).annotate(seen=Count("tools", filter=Q(tools__gone_at=None)))

    @admin.display(description="State", ordering="test_status")
    def state(self, server: McpServer) -> SafeString:
        if not server.is_enabled:
            return badge("neutral", "pause", "Disabled")
        if server.test_status == TestStatus.OK:
            return badge("ok", "check-circle", "Works")
        if server.test_status == TestStatus.FAILED:
            return badge("error", "alert", "Failed")
        return badge("neutral", "help", "Sign-in per person" if server.needs_person else "Untested")

    @admin.display(description="Address", ordering="transport")
    def address_line(self, server: McpServer) -> SafeString:
        transport = server.get_transport_display().split(" (")[0]
        line = '<span class="mono">{}</span><br><span class="faint small">{}</span>'
        return format_html(line, server.address[:80], transport)

    @admin.display(description="Tools", ordering="seen")
    def tools_seen(self, server: McpServer) -> int:
        return int(getattr(server, "seen", 0))

    @admin.display(description="Tested", ordering="tested_at")
    def tested(self, server: McpServer) -> SafeString | str:
        return relative_time(server.tested_at)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return redirect("admin:server-add")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        server = self.get_object(request, object_id)
        if server is None:
            raise Http404
        page = "admin:server-edit" if actor_of(request).is_admin else "admin:server"
        return redirect(page, server.slug)

    def has_delete_permission(self, request: HttpRequest, obj: McpServer | None = None) -> bool:
        # A connector is disabled, on its own page.
        is_connector = obj is not None and obj.transport == Transport.CONNECTOR
        return super().has_delete_permission(request, obj) and not is_connector

    def delete_with_service(self, request: HttpRequest, obj: McpServer) -> None:
        servers.delete_server(obj, actor=actor_of(request))

    @admin.action(description="Test", permissions=["change"])
    def test_chosen(self, request: HttpRequest, rows: QuerySet[McpServer]) -> None:
        actor = actor_of(request)
        if rows.count() > MAX_TESTS:
            messages.error(request, f"Choose up to {MAX_TESTS} servers at a time: each test asks the server itself.")
            return
        for server in rows:
            result = servers.test_server(server, actor=actor)
            level = messages.SUCCESS if result.ok else messages.WARNING
            messages.add_message(request, level, f"{server}: {result.message} {result.hint}".strip())

    @admin.action(description="Switch on", permissions=["change"])
    def enable_chosen(self, request: HttpRequest, rows: QuerySet[McpServer]) -> None:
        actor = actor_of(request)
        self.run_each(request, rows, lambda row: servers.set_enabled(row, True, actor=actor), "switched on")

    @admin.action(description="Switch off", permissions=["change"])
    def disable_chosen(self, request: HttpRequest, rows: QuerySet[McpServer]) -> None:
        actor = actor_of(request)
        self.run_each(request, rows, lambda row: servers.set_enabled(row, False, actor=actor), "switched off")


# --- Auth configs ---------------------------------------------------------------------------------------------------


@admin.register(AuthConfig)
class AuthConfigAdmin(AuditedAdmin[AuthConfig]):
    description = "How Aster signs in to servers. Several servers may share one."
    form = AuthConfigForm
    change_form_template = "integrations/auth_config_form.html"
    list_display = ("name", "auth_type", "client_mode_shown", "used_by", "connected", "updated_at")
    list_filter = ("auth_type", "client_mode")
    search_fields = ("name", "issuer", "client_id", "servers__name")
    can_add = can_change = can_delete = True
    admins_only = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuthConfig]:
        rows = super().get_queryset(request).prefetch_related("servers")
        return rows.annotate(people=Count("connections", distinct=True))

    @admin.display(description="OAuth client")
    def client_mode_shown(self, auth: AuthConfig) -> str:
        return auth.get_client_mode_display() if auth.needs_person else "–"

    @admin.display(description="Used by")
    def used_by(self, auth: AuthConfig) -> str:
        return ", ".join(server.name for server in auth.servers.all()) or "–"

    @admin.display(description="Connections", ordering="people")
    def connected(self, auth: AuthConfig) -> int:
        return int(getattr(auth, "people", 0))

    def get_form(
        self, request: HttpRequest, obj: AuthConfig | None = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm[AuthConfig]]:
        # Django would build a new form from the model's fields, secrets included; this one knows how to hide them.
        refusal: AsterError | None = getattr(request, "refusal", None)

        class Form(AuthConfigForm):
            def _post_clean(self) -> None:
                super()._post_clean()
                if refusal:
                    place_errors(refusal, self)
                if self.errors:
                    self.ask_again()

        return Form

    def get_fieldsets(self, request: HttpRequest, obj: AuthConfig | None = None) -> Any:
        return [(None, {"fields": list(AuthConfigForm.base_fields)})]

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        words = {"auth_words": AUTH_WORDS, "client_words": CLIENT_WORDS, "callback_url": callback_url()}
        context = {**(extra_context or {}), **words}
        try:
            return super().changeform_view(request, object_id, form_url, context)
        except AsterError as error:
            # Nothing was stored; the same form comes again and says why.
            cast(Any, request).refusal = error
            return super().changeform_view(request, object_id, form_url, context)

    def save_model(self, request: HttpRequest, obj: AuthConfig, form: Any, change: bool) -> None:
        servers.save_auth_config(obj, actor=actor_of(request))

    def delete_with_service(self, request: HttpRequest, obj: AuthConfig) -> None:
        servers.delete_auth_config(obj, actor=actor_of(request))


# --- What Aster writes itself: to be looked at ----------------------------------------------------------------------


@admin.register(Connection)
class ConnectionAdmin(AuditedAdmin[Connection]):
    """Members see their own, admins everybody's; nobody sees a token."""

    description = "People's grants at providers. Nobody sees the tokens."
    organization_path = "auth_config__organization"
    list_display = ("__str__", "person", "state", "granted", "expires", "used", "last_error")
    list_filter = ("status", "auth_config")
    search_fields = ("auth_config__name", "user__email", "user__name")
    list_select_related = ("auth_config", "user", "auth_config__organization")
    actions = ("disconnect_chosen",)
    fields = readonly_fields = (
        *("auth_config", "user", "state", "granted", "issuer", "client_id", "token_url", "revocation_url", "resource"),
        *("generation", "connected_at", "expires_at", "refresh_at", "refreshed_at", "failures", "last_used_at"),
        *("last_error", "last_error_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Connection]:
        actor = actor_of(request)
        return Connection.objects.visible_to(actor) if actor else Connection.objects.none()

    @admin.display(description="Person", ordering="user__email")
    def person(self, connection: Connection) -> str:
        return str(connection.user or "The organization")

    @admin.display(description="Status", ordering="status")
    def state(self, connection: Connection) -> SafeString:
        if connection.status == ConnectionStatus.CONNECTED:
            return badge("ok", "check-circle", "Connected")
        return badge("error", "alert", "Connection error")

    @admin.display(description="Scopes")
    def granted(self, connection: Connection) -> str:
        return " ".join(connection.scopes) or "–"

    @admin.display(description="Token expires", ordering="expires_at")
    def expires(self, connection: Connection) -> SafeString | str:
        return relative_time(connection.expires_at, "–")

    @admin.display(description="Last used", ordering="last_used_at")
    def used(self, connection: Connection) -> SafeString | str:
        return relative_time(connection.last_used_at)

    @admin.action(description="Disconnect")
    def disconnect_chosen(self, request: HttpRequest, rows: QuerySet[Connection]) -> None:
        actor = actor_of(request)
        self.run_each(request, rows, lambda row: disconnection.disconnect(row, actor=actor), "disconnected")


@admin.register(Tool)
class ToolAdmin(OrgScopedAdmin[Tool]):
    description = "Every tool that a server was seen to offer."
    organization_path = "server__organization"
    list_display = ("name", "server", "kind", "seen", "present")
    list_filter = (("gone_at", admin.EmptyFieldListFilter), "server")
    search_fields = ("name", "server__name", "definition")
    list_select_related = ("server",)
    fields = readonly_fields = ("server", "name", "definition_text", "first_seen_at", "last_seen_at", "gone_at")

    @admin.display(description="Effect")
    def kind(self, tool: Tool) -> SafeString | str:
        if tool.annotations.get("readOnlyHint") is True:
            return badge("neutral", "eye", "Read-only")
        return badge("warn", "warning", "Destructive") if tool.annotations.get("destructiveHint") is True else "–"

    @admin.display(description="Definition")
    def definition_text(self, tool: Tool) -> SafeString:
        return json_block(tool.definition, "Definition")

    @admin.display(description="Last seen", ordering="last_seen_at")
    def seen(self, tool: Tool) -> SafeString | str:
        return relative_time(tool.last_seen_at)

    @admin.display(description="Offered", boolean=True, ordering="gone_at")
    def present(self, tool: Tool) -> bool:
        return tool.gone_at is None and not tool.is_quarantined


@admin.register(ClientRegistration)
class ClientRegistrationAdmin(OrgScopedAdmin[ClientRegistration]):
    description = "OAuth clients that Aster registered by itself, one per issuer."
    organization_path = "auth_config__organization"
    admins_only = True
    list_display = ("client_id", "auth_config", "issuer", "token_endpoint_auth_method", "created_at")
    list_select_related = ("auth_config",)
    search_fields = ("client_id", "issuer", "auth_config__name")
    fields = readonly_fields = (
        *("auth_config", "issuer", "client_id", "token_endpoint_auth_method", "redirect_uris"),
        *("secret_expires_at", "created_at"),
    )
