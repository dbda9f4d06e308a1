"""The page of one server: state, last test, tools, connections, how it is signed in to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse

from aster.accounts.access import ActorRequest
from aster.pages import hub_page
from integrations.models import AuthConfig, AuthType, Connection, McpServer, Tool, callback_url
from integrations.services import servers
from integrations.services.catalogue import tools_of
from integrations.services.clients import client_of
from integrations.services.drift import waiting_changes
from integrations.services.presets import find_preset
from integrations.services.registry import notice_of
from integrations.views.browser import browser_of
from integrations.views.cards import ServerCard, card_of

TOOLS_PER_PAGE = 40
STEPS = {
    "url": "Checking the address",
    "dial": "Reaching the server",
    "http": "HTTP answer",
    "auth": "Sign-in",
    "initialize": "MCP handshake",
    "tools": "Listing the tools",
    "discovery": "Finding the sign-in provider",
    "registration": "Registering at the provider",
    "token": "Getting a token",
    "call": "Calling a tool",
}
ERAS = {"modern": "2026-07-28 (stateless)", "legacy": "Session (before 2026-07-28)"}


@dataclass(frozen=True)
class Parameter:
    """One input of a tool, as far as its schema can be told in a line."""

    name: str
    kind: str
    required: bool
    description: str


@dataclass(frozen=True)
class ToolRow:
    tool: Tool
    parameters: list[Parameter]

    @property
    def reads_only(self) -> bool:
        return self.tool.annotations.get("readOnlyHint") is True

    @property
    def destroys(self) -> bool:
        return not self.reads_only and self.tool.annotations.get("destructiveHint") is True

    @property
    def idempotent(self) -> bool:
        return not self.reads_only and self.tool.annotations.get("idempotentHint") is True


@hub_page
def show_server(request: ActorRequest, slug: str) -> HttpResponse:
    browser_of(request)
    card = card_of(servers.find_server(slug, actor=request.actor), request.actor)
    server = card.server
    context = {
        "title": server.name,
        "card": card,
        "server": server,
        "test": server.last_test,
        "test_facts": _test_facts(server),
        "agents": list(server.agents.all()[:50]),
        "connections": _connections(request, server),
        "sign_in": _sign_in_facts(server.auth_config, request.actor.is_admin),
        "callback_url": callback_url() if server.needs_person and request.actor.is_admin else "",
        "shared_with": _shared_with(server),
        "menu": _menu(card, request.actor.is_admin),
        "registry_notice": notice_of(server),
        "changed_count": waiting_changes(request.actor).filter(server=server).count() if request.actor.is_admin else 0,
        **_tools(request, server),
    }
    return render(request, "integrations/server.html", context)


def _tools(request: ActorRequest, server: McpServer) -> dict[str, Any]:
    words = request.GET.get("q", "").strip()
    every = tools_of(server).order_by("name")
    total = every.count()
    chosen = every
    for word in words.split():
        chosen = chosen.filter(Q(name__icontains=word) | Q(definition__icontains=word))
    page = Paginator(chosen, TOOLS_PER_PAGE).get_page(request.GET.get("page"))
    rows = [ToolRow(tool, parameters_of(tool.input_schema)) for tool in page]
    query = urlencode({"q": words}) if words else ""
    return {"tools": rows, "page": page, "tool_total": total, "q": words, "q_query": query}


def parameters_of(schema: dict[str, Any]) -> list[Parameter]:
    """The inputs of a tool. The schema was written by a stranger: what is not as expected is left out."""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return []
    needed = set(map(str, required)) if isinstance(required, list) else set()
    return [
        Parameter(name, _kind(spec), name in needed, str(spec.get("description") or ""))
        for name, spec in properties.items()
        if isinstance(spec, dict)
    ]


def _kind(spec: dict[str, Any]) -> str:
    choices, kind = spec.get("enum"), spec.get("type")
    if isinstance(choices, list) and choices:
        return " | ".join(map(str, choices[:8])) + (" | …" if len(choices) > 8 else "")
    if isinstance(kind, list):
        return " | ".join(map(str, kind))
    alternatives = spec.get("anyOf") or spec.get("oneOf")
    if kind is None and isinstance(alternatives, list):
        return " | ".join(dict.fromkeys(_kind(each) for each in alternatives[:8] if isinstance(each, dict)))
    items = spec.get("items")
    if kind == "array" and isinstance(items, dict) and isinstance(items.get("type"), str):
        return f"{items['type']}[]"
    return str(kind or "any")


def _test_facts(server: McpServer) -> list[tuple[str, object]]:
    """What the last test learned; for a failed one, where it stopped."""
    test = server.last_test
    facts: list[tuple[str, object]] = [("Transport", server.get_transport_display().split(" (")[0])]
    if test.get("step"):
        facts.append(("Stopped at", STEPS.get(test["step"], test["step"])))
    if server.era:
        facts.append(("Protocol", f"{server.protocol_version or ERAS.get(server.era, server.era)}"))
    if test.get("latency_ms"):
        facts.append(("Answered in", f"{test['latency_ms']} ms"))
    return facts


def _connections(request: ActorRequest, server: McpServer) -> list[Connection]:
    """One's own connection; for admins everybody's."""
    if server.auth_config is None or not server.auth_config.is_oauth:
        return []
    rows = Connection.objects.visible_to(request.actor).filter(auth_config=server.auth_config)
    return list(rows.select_related("auth_config", "user").order_by("user__email")[:200])


def _shared_with(server: McpServer) -> list[McpServer]:
    auth = server.auth_config
    return list(auth.servers.exclude(pk=server.pk).order_by("name")[:20]) if auth else []


def _sign_in_facts(auth: AuthConfig | None, is_admin: bool) -> list[tuple[str, object]]:
    """What is set, without any secret. Members see the kind and the scopes."""
    if auth is None:
        return [("Kind", "No sign-in")]
    facts: list[tuple[str, object]] = [("Kind", auth.get_auth_type_display()), ("Auth config", auth.name)]
    if auth.is_oauth:
        facts.append(("Scopes", " ".join(auth.scopes) or "What the provider suggests"))
    if not is_admin:
        return facts
    if auth.custom_headers:
        facts.append(("Headers", f"{', '.join(auth.custom_headers)} (values are hidden)"))
    if auth.auth_type in (AuthType.BEARER, AuthType.BASIC):
        named = [("Key", auth.token)] if auth.auth_type == AuthType.BEARER else [("Password", auth.password)]
        facts += [("User name", auth.username)] if auth.username else []
        facts += [(label, "Set") for label, secret in named if secret]
    return facts + _oauth_facts(auth) if auth.is_oauth else facts


def _oauth_facts(auth: AuthConfig) -> list[tuple[str, object]]:
    client = client_of(auth)
    facts: list[tuple[str, object]] = [("Client", auth.get_client_mode_display())]
    facts.append(("Client ID", client.client_id or "Registered at the first sign-in"))
    if auth.client_id:
        facts.append(("Proves itself", client.auth_method if client.auth_method != "none" else "No (public client)"))
    if auth.subject_config:
        facts.append(("Derived from", auth.subject_config.name))
    if preset := find_preset(auth.preset):
        facts.append(("Provider", preset.name))
    facts += [("Issuer", auth.issuer), ("Sign in at", auth.authorization_url), ("Tokens from", auth.token_url)]
    extras = [*auth.extra_authorize_params, *auth.extra_token_params]
    facts += [("PKCE", "Off")] if not auth.use_pkce else []
    facts += [("PKCE", "Vouched for")] if auth.use_pkce and auth.assume_pkce else []
    facts += [("Audience", auth.audience)] if auth.audience else []
    facts += [("Extra parameters", ", ".join(extras))] if extras else []
    return facts


def _menu(card: ServerCard, is_admin: bool) -> list[dict[str, str]]:
    """Everything beyond the buttons, for admins."""
    if not is_admin:
        return []
    slug, pk = [card.server.slug], [card.server.pk]
    switch = "disable" if card.server.is_enabled else "enable"
    return [
        {"label": "Edit", "url": reverse("admin:server-edit", args=slug), "icon": "edit"},
        {"label": "History", "url": reverse("admin:integrations_mcpserver_history", args=pk), "icon": "clock"},
        {
            "label": "Switch off" if switch == "disable" else "Switch on",
            "action": reverse(f"admin:server-{switch}", args=slug),
            "icon": "pause" if switch == "disable" else "play",
        },
    ]
