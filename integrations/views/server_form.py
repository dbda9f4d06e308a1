"""Adding and editing a server: one form with its sign-in, a look-up of how to sign in, and a test before saving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django_htmx.http import trigger_client_event

from aster.accounts.access import Actor, ActorRequest
from aster.errors import AsterError, ConnectionTestFailed
from aster.pages import hub_page, is_htmx
from integrations.forms import (
    AUTH_WORDS,
    CLIENT_WORDS,
    ENTER_AGAIN,
    EXISTING,
    TRANSPORT_WORDS,
    AuthForm,
    ServerForm,
    place_errors,
)
from integrations.models import AuthConfig, AuthType, McpServer, TestStatus, callback_url
from integrations.services import servers, validation
from integrations.services.discovery import Discovered, client_mode_for, discover_server
from integrations.views.server import STEPS


@dataclass
class Draft:
    """A server that is being added or edited: one form for it and one for its sign-in, shown as one."""

    form: ServerForm
    auth: AuthForm
    stored_name: str
    """The name before anything was typed; empty while a server is added."""

    @classmethod
    def of(cls, server: McpServer, actor: Actor, data: QueryDict | None = None) -> Draft:
        kind = data.get("auth_type", "") if data is not None else ""
        config = server.auth_config or AuthConfig(organization=actor.organization)
        form = ServerForm(data, instance=server, actor=actor)
        return cls(form, AuthForm(data, instance=config, auth_type=kind), server.name)

    @classmethod
    def filled(cls, server: McpServer, actor: Actor, data: QueryDict, found: dict[str, Any]) -> Draft:
        """What was typed with what was `found`, shown without judging it."""
        sent = cls.of(server, actor, data)
        fresh = cls.of(server, actor)
        for typed, shown in ((sent.form, fresh.form), (sent.auth, fresh.auth)):
            for name in shown.fields:
                shown.initial[name] = found.get(name, typed[name].value())
            for name in typed.lost_secrets():
                shown.fields[name].help_text = ENTER_AGAIN
        return fresh

    def is_valid(self) -> bool:
        # Both are asked, so that all mistakes show at once.
        return all([self.form.is_valid(), self.auth.is_valid()])

    def rows(self, actor: Actor) -> tuple[McpServer, AuthConfig | None]:
        """The server to save, and the auth config to save with it (None: it has none, or one that stays as it is)."""
        server, kind = self.form.instance, self.form.cleaned_data["auth_type"]
        if kind in (EXISTING, AuthType.NONE):
            server.auth_config = self.form.cleaned_data["auth_config"] if kind == EXISTING else None
            return server, None
        auth = self.auth.instance
        auth.auth_type = kind
        if not auth.name:
            auth.name = validation.unique_auth_name(f"{server.name} sign-in", actor=actor)
        return server, auth

    def refuse(self, error: AsterError) -> None:
        place_errors(error, self.form, self.auth)

    def ask_again(self) -> None:
        self.form.ask_again()
        self.auth.ask_again()


def _new(actor: Actor) -> McpServer:
    return McpServer(organization=actor.organization)


def _from_hidden_field(request: ActorRequest) -> McpServer:
    """The server that the form is about: the `server` field is empty while one is added."""
    slug = request.POST.get("server", "")
    return servers.find_server(slug, actor=request.actor) if slug else _new(request.actor)


@hub_page
def add_server(request: ActorRequest) -> HttpResponse:
    request.actor.require_admin()
    return _edit(request, _new(request.actor))


@hub_page
def edit_server(request: ActorRequest, slug: str) -> HttpResponse:
    request.actor.require_admin()
    return _edit(request, servers.find_server(slug, actor=request.actor))


def _edit(request: ActorRequest, server: McpServer) -> HttpResponse:
    if request.method != "POST":
        return _show(request, Draft.of(server, request.actor))
    draft = Draft.of(server, request.actor, request.POST)
    failed: ConnectionTestFailed | None = None
    if draft.is_valid():
        try:
            return _save(request, draft)
        except ConnectionTestFailed as error:
            failed = error
            draft.refuse(error)
        except AsterError as error:
            draft.refuse(error)
    draft.ask_again()
    result = failed.extra.get("connection_test_result") if failed else None
    status = failed.http_status if failed else 400
    return _show(request, draft, status=status, result=result, offer_untested=failed is not None)


def _save(request: ActorRequest, draft: Draft) -> HttpResponse:
    creating = draft.form.instance._state.adding
    server, auth = draft.rows(request.actor)
    saved = servers.save_server(server, actor=request.actor, auth=auth, test=request.POST.get("test") != "skip")
    if creating and server.needs_person:
        messages.success(request, f"{server} is saved. Connect your account to see its tools.")
        return redirect("admin:server-connect", server.slug)
    words = f"{server} is saved."
    if saved.test:
        words = f"{words} {saved.test.message}"
    messages.success(request, words)
    return redirect("admin:server", server.slug)


@hub_page
def discover(request: ActorRequest) -> HttpResponseBase:
    """Ask the URL how to sign in, and fill the form with the answer."""
    if request.method != "POST":
        return redirect("admin:server-add")
    request.actor.require_admin()
    server = _from_hidden_field(request)
    found: Discovered | None = None
    problem = ""
    try:
        found = discover_server(request.POST.get("url", "").strip(), actor=request.actor)
    except AsterError as error:
        problem = " ".join(filter(None, (error.message, getattr(error, "hint", ""))))
    draft = Draft.filled(server, request.actor, request.POST, _found_values(found))
    context: dict[str, Any] = {"found": found, "provider": _provider_of(found), "lookup_problem": problem}
    if not is_htmx(request):
        return _show(request, draft, **context)
    response = render(request, "integrations/_discovered.html", {**_context(draft), **context})
    # The choice cards were replaced: hub.js shows and hides the groups that depend on them when something changes.
    return trigger_client_event(response, "change", after="settle")


def _found_values(found: Discovered | None) -> dict[str, Any]:
    """Form values for what was found. Nothing typed is replaced by nothing."""
    if found is None:
        return {}
    values: dict[str, Any] = {"auth_type": found.as_json()["recommended_auth_mode"]}
    if provider := found.oauth:
        values |= {
            "client_mode": client_mode_for(provider),
            "issuer": provider.issuer,
            "authorization_url": provider.authorization_endpoint,
            "token_url": provider.token_endpoint,
            "registration_url": provider.registration_endpoint,
            "revocation_url": provider.revocation_endpoint,
            "resource": provider.resource,
            "scopes": list(provider.scopes),
        }
    return {name: value for name, value in values.items() if value}


def _provider_of(found: Discovered | None) -> str:
    return urlsplit(found.oauth.issuer).netloc if found and found.oauth else ""


@hub_page
def try_unsaved(request: ActorRequest) -> HttpResponseBase:
    """Test what is typed, store nothing."""
    if request.method != "POST":
        return redirect("admin:server-add")
    request.actor.require_admin()
    draft = Draft.of(_from_hidden_field(request), request.actor, request.POST)
    result: servers.TestResult | None = None
    if draft.is_valid():
        try:
            result = _try(draft, request.actor)
        except AsterError as error:
            draft.refuse(error)
    if is_htmx(request):
        mistakes = [*_mistakes(draft.form), *_mistakes(draft.auth)]
        return render(request, "integrations/_test_result.html", {"result": _shown(result), "mistakes": mistakes})
    draft.ask_again()
    return _show(request, draft, result=_shown(result))


def _try(draft: Draft, actor: Actor) -> servers.TestResult:
    server, auth = draft.rows(actor)
    if auth is not None:
        server.auth_config = auth
    validation.check_unsaved(server, actor=actor)
    return servers.try_server(server, actor=actor)


def _mistakes(form: ServerForm | AuthForm) -> list[str]:
    labels = {name: f"{field.label or name.replace('_', ' ').capitalize()}: " for name, field in form.fields.items()}
    return [f"{labels.get(name, '')}{word}" for name, words in form.errors.items() for word in words]


def _shown(result: servers.TestResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    shown = result.as_json()
    if result.status == TestStatus.SIGN_IN:
        shown |= {"message": "It answers, and asks for a sign-in.", "hint": "Save it, then connect your account."}
    return shown


def _show(request: ActorRequest, draft: Draft, *, status: int = 200, **extra: Any) -> HttpResponse:
    return render(request, "integrations/server_form.html", {**_context(draft), **extra}, status=status)


def _context(draft: Draft) -> dict[str, Any]:
    server = draft.form.instance
    adding = server._state.adding
    auth = draft.auth.instance
    sharing = [] if adding or auth._state.adding else list(auth.servers.exclude(pk=server.pk)[:20])
    page = reverse("admin:integrations") if adding else reverse("admin:server", args=[server.slug])
    return {
        # Said outright: after a look-up or a test without JavaScript the page is at another address.
        "save_url": reverse("admin:server-add") if adding else reverse("admin:server-edit", args=[server.slug]),
        "title": "Add an MCP server" if adding else f"Edit {draft.stored_name}",
        "adding": adding,
        "server": server,
        "form": draft.form,
        "auth": draft.auth,
        "sharing": sharing,
        "callback_url": callback_url(),
        "cancel_url": page,
        "parent_label": "Integrations" if adding else draft.stored_name,
        "auth_words": AUTH_WORDS,
        "client_words": CLIENT_WORDS,
        "transport_words": TRANSPORT_WORDS,
        "steps": STEPS,
    }
