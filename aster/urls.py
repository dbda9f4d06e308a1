"""Every address of Aster but the gateway's, which `aster.asgi` serves before Django."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import URLPattern, URLResolver, include, path, re_path, resolve
from django.utils.http import escape_leading_slashes
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from agents import api as agents_api
from agents import api_apps, api_changes
from agents import api_chat as chat_api
from agents import api_schedules as schedules_api
from agents import api_session as session_api
from agents import api_tickets as tickets_api
from agents.a2a import views as a2a
from agents.authorization_server import views as authorization_views
from agents.views import embedding as embedding_views
from aster.accounts import api as accounts_api
from aster.web import refuse
from connectors import api as connectors_api
from connectors.openapi import api as openapi_api
from integrations import api as integrations_api
from integrations import api_registry
from integrations.views import client_metadata_document


def healthz(request: HttpRequest) -> HttpResponse:
    """The process serves. Asks nothing of database or queue, so that a busy database does not restart the server."""
    return JsonResponse({"status": "ok"})


def not_found(request: HttpRequest) -> HttpResponse:
    """The end of the list: the same pages with DEBUG on or off, and the slash people forget."""
    with_slash = f"{request.path}/"
    if not request.path.endswith("/") and resolve(with_slash).func is not not_found:
        return redirect(escape_leading_slashes(with_slash), permanent=False)
    return refuse(request, 404, "not_found", "There is nothing at this address.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What Django refuses before a view sees it, such as a host name that is not ours."""
    return refuse(request, 400, "bad_request", "The request is malformed.")


handler400 = bad_request


api_v1: list[URLPattern | URLResolver] = [
    path("auth_configs", integrations_api.AuthConfigList.as_view()),
    path("auth_configs/<str:key>", integrations_api.AuthConfigDetail.as_view()),
    path("oauth/callback", integrations_api.OAuthCallback.as_view()),
    path("oauth/<str:key>/authorize", integrations_api.Authorize.as_view()),
    path("config/mcp-server", integrations_api.ServerList.as_view()),
    path("config/mcp-server/discover", integrations_api.ServerDiscover.as_view()),
    path("config/mcp-server/test", integrations_api.ServerTestUnsaved.as_view()),
    path("config/mcp-server/<str:key>", integrations_api.ServerDetail.as_view()),
    path("config/mcp-server/<str:key>/test", integrations_api.ServerTest.as_view()),
    path("config/mcp-server/<str:key>/diagnose", integrations_api.ServerDiagnose.as_view()),
    path("config/mcp-server/<str:key>/diagnosis", integrations_api.ServerDiagnosis.as_view()),
    path("config/mcp-server/<str:key>/fix", integrations_api.ServerFix.as_view()),
    path("config/mcp-server/<str:key>/connect", integrations_api.ServerConnect.as_view()),
    path("config/mcp-server/<str:key>/connection", integrations_api.ServerConnection.as_view()),
    path("config/mcp-server/<str:key>/disconnect", integrations_api.ServerDisconnect.as_view()),
    path("config/mcp-server/<str:key>/tools", integrations_api.ServerTools.as_view()),
    path("config/mcp-server/<str:key>/tools/refresh", integrations_api.ServerToolsRefresh.as_view()),
    path("config/mcp-server/<str:key>/tools/call", agents_api.ServerToolCall.as_view()),
    path("registry", api_registry.EntryList.as_view()),
    path("registry/<int:pk>", api_registry.EntryDetail.as_view()),
    path("registry/<int:pk>/add", api_registry.EntryAdd.as_view()),
    path("connectors", connectors_api.ConnectorList.as_view()),
    path("connectors/openapi", openapi_api.ApiConnectorList.as_view()),
    path("connectors/openapi/preview", openapi_api.ApiConnectorPreview.as_view()),
    path("connectors/openapi/<str:slug>", openapi_api.ApiConnectorDetail.as_view()),
    path("connectors/<str:slug>", connectors_api.ConnectorDetail.as_view()),
    path("changed_tools", api_changes.ChangedToolList.as_view()),
    path("changed_tools/<int:pk>", api_changes.ChangedToolDetail.as_view()),
    path("changed_tools/<int:pk>/accept", api_changes.ChangedToolAccept.as_view()),
    path("connections", integrations_api.ConnectionList.as_view()),
    path("connections/<int:pk>", integrations_api.ConnectionDetail.as_view()),
    path("connections/<int:pk>/refreshes", integrations_api.ConnectionLedger.as_view()),
    path("config/agent", agents_api.AgentList.as_view()),
    path("config/agent/<str:key>", agents_api.AgentDetail.as_view()),
    path("config/agent/<str:key>/tools", agents_api.AgentTools.as_view()),
    path("config/agent/<str:key>/tool_scopes", agents_api.AgentScopes.as_view()),
    path("config/agent/<str:key>/explain_access", agents_api.AgentExplain.as_view()),
    path("config/agent/<str:key>/tools/call", agents_api.AgentToolCall.as_view()),
    path("agents/<str:key>/messages", chat_api.AgentMessages.as_view()),
    path("agents/<str:key>/conversations", chat_api.AgentConversations.as_view()),
    path("conversations", chat_api.ConversationList.as_view()),
    path("conversations/<str:key>", chat_api.ConversationDetail.as_view()),
    path("conversations/<str:key>/messages", chat_api.ConversationMessages.as_view()),
    path("conversations/<str:key>/stop", chat_api.ConversationStop.as_view()),
    path("config/llm", agents_api.LlmConfigList.as_view()),
    path("config/llm/<str:key>", agents_api.LlmConfigDetail.as_view()),
    path("schedules", schedules_api.ScheduleList.as_view()),
    path("schedules/<str:key>", schedules_api.ScheduleDetail.as_view()),
    path("schedules/<str:key>/run", schedules_api.ScheduleRun.as_view()),
    path("schedules/<str:key>/runs", schedules_api.ScheduleRuns.as_view()),
    path("organization", accounts_api.OrganizationView.as_view()),
    path("members", accounts_api.MemberList.as_view()),
    path("members/<int:pk>", accounts_api.MemberDetail.as_view()),
    path("api_keys", accounts_api.ApiKeyList.as_view()),
    path("api_keys/<int:pk>", accounts_api.ApiKeyDetail.as_view()),
    path("audit_events", accounts_api.AuditEventList.as_view()),
    path("connected_apps", api_apps.AppList.as_view()),
    path("connected_apps/<int:pk>", api_apps.AppDetail.as_view()),
    path("approvals", agents_api.ApprovalList.as_view()),
    path("approvals/<int:pk>", agents_api.ApprovalDetail.as_view()),
    path("approvals/<int:pk>/approve", agents_api.ApprovalApprove.as_view()),
    path("approvals/<int:pk>/deny", agents_api.ApprovalDeny.as_view()),
    path("tool_calls", agents_api.ToolCallList.as_view()),
    path("session-tickets", tickets_api.TicketList.as_view()),
    path("session-tickets/<int:pk>", tickets_api.TicketDetail.as_view()),
    path("session", session_api.Session.as_view()),
    path("session/agents/<str:key>/servers", session_api.SessionServers.as_view()),
    path("session/agents/<str:key>/servers/<str:server>/connect", session_api.SessionConnect.as_view()),
    path("session/agents/<str:key>/servers/<str:server>/disconnect", session_api.SessionDisconnect.as_view()),
    path("session/agents/<str:key>/messages", session_api.SessionMessages.as_view()),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(url="/hub/")),
    path("admin/", RedirectView.as_view(url="/hub/")),
    path("healthz", healthz),
    path("hub/", admin.site.urls),
    path("api/mcp/oauth/callback", embedding_views.oauth_callback, name="oauth-callback"),
    path("embed/aster.js", embedding_views.embed_script, name="embed-script"),
    path("embed/connect/", embedding_views.connect, name="embed-connect"),
    path("oauth/client-metadata.json", client_metadata_document, name="client-metadata"),
    path(".well-known/agent-card.json", a2a.no_single_card),
    path("a2a/<str:organization>/.well-known/ai-catalog.json", a2a.AgentCatalog.as_view(), name="a2a-catalog"),
    path("a2a/<str:organization>/<str:agent>/.well-known/agent-card.json", a2a.AgentCard.as_view(), name="a2a-card"),
    re_path(r"^a2a/(?P<organization>[^/]+)/(?P<agent>[^/]+)/?$", a2a.AgentEndpoint.as_view(), name="a2a"),
    path(".well-known/oauth-authorization-server", authorization_views.authorization_server),
    path(".well-known/oauth-protected-resource/<path:path>", authorization_views.protected_resource),
    path("oauth/authorize", authorization_views.authorize, name="oauth-authorize"),
    path("oauth/token", authorization_views.token, name="oauth-token"),
    path("oauth/register", authorization_views.register, name="oauth-register"),
    path("oauth/revoke", authorization_views.revoke, name="oauth-revoke"),
    path("api/v1/", include(api_v1)),
    path("api/openapi.json", SpectacularAPIView.as_view(urlconf="aster.urls"), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="api-docs"),
    re_path(r"", not_found),
]
