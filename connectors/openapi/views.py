"""The hub's pages about connectors from OpenAPI documents: give one, choose operations, name them, change it later."""

from __future__ import annotations

from itertools import groupby
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse

from aster.accounts.access import ActorRequest
from aster.errors import AsterError
from aster.pages import add_errors, ask_first, hub_page
from connectors.models import ApiDocument
from connectors.openapi import documents, services
from connectors.openapi.document import Document, Operation
from connectors.openapi.forms import ApiConnectorForm, DocumentForm, make_rows, read_numbers, write_numbers
from connectors.openapi.services import Choice
from connectors.openapi.sign_in import SignIn, propose_sign_in
from integrations.models import McpServer
from integrations.models.auth_configs import callback_url


@hub_page
def give_document(request: ActorRequest, slug: str = "") -> HttpResponse:
    """The first step; of a connector that is there (`slug`), to replace its document."""
    request.actor.require_admin()
    server = services.find_api_connector(slug, actor=request.actor) if slug else None
    form = DocumentForm(request.POST, request.FILES) if request.method == "POST" else DocumentForm()
    if form.is_bound and form.is_valid():
        try:
            draft = _keep(form.cleaned_data, request)
        except AsterError as error:
            add_errors(form, error)
        else:
            return redirect(_address("operations", server, draft))
    context = {"form": form, "server": server}
    return render(request, "connectors/openapi_document.html", context, status=400 if form.errors else 200)


def _keep(given: dict[str, Any], request: ActorRequest) -> ApiDocument:
    if url := given["document_url"].strip():
        text = documents.fetch_document(url, actor=request.actor)
        return documents.keep_document(text, actor=request.actor, source_url=url)
    return documents.keep_document(given["file"] or given["document"], actor=request.actor)


@hub_page
def choose_operations(request: ActorRequest, pk: UUID, slug: str = "") -> HttpResponse:
    request.actor.require_admin()
    server, document, read = _find(request, pk, slug)
    had = _had(server, request) if server else {}
    chosen = {number for number, each in enumerate(read.operations) if each.key in had}
    if not server:
        proposed = {each.key for each in documents.propose_operations(read.operations)}
        chosen = {number for number, each in enumerate(read.operations) if each.key in proposed}
    if "chosen" in request.GET:
        chosen = set(read_numbers(request.GET["chosen"], len(read.operations)))
    problem = ""
    if request.method == "POST":
        chosen = {int(n) for n in request.POST.getlist("operation") if n.isascii() and n.isdigit() and len(n) < 7}
        chosen &= set(range(len(read.operations)))
        if 0 < len(chosen) <= documents.MAX_OPERATIONS:
            return redirect(_address("settings", server, document, chosen=write_numbers(list(chosen))))
        problem = f"Choose 1 to {documents.MAX_OPERATIONS} operations; {len(chosen)} are chosen."
    numbered = sorted(enumerate(read.operations), key=lambda one: one[1].tag == "")
    context = {
        "server": server,
        "document": document,
        "read": read,
        "chosen": chosen,
        "most": documents.MAX_OPERATIONS,
        "problem": problem,
        "groups": [(tag, list(rows)) for tag, rows in groupby(_by_tag(numbered), key=lambda one: one[1].tag)],
        "gone": services.gone_operations(server, document, actor=request.actor) if server else [],
        "back_url": _address("document", server, None),
    }
    return render(request, "connectors/openapi_operations.html", context, status=400 if problem else 200)


def _by_tag(numbered: list[tuple[int, Operation]]) -> list[tuple[int, Operation]]:
    """Operations of a tag together, tags as they first come."""
    tags = {tag: place for place, tag in enumerate(dict.fromkeys(each.tag for _, each in numbered))}
    return sorted(numbered, key=lambda one: tags[one[1].tag])


@hub_page
def make_connector(request: ActorRequest, pk: UUID) -> HttpResponse:
    """The last step: names, scopes and sign-in of the operations in `chosen`."""
    request.actor.require_admin()
    return _settings_page(request, None, documents.find_draft(pk, actor=request.actor))


@hub_page
def edit_connector(request: ActorRequest, slug: str) -> HttpResponse:
    request.actor.require_admin()
    server = services.find_api_connector(slug, actor=request.actor)
    return _settings_page(request, server, documents.document_of(server, actor=request.actor))


@hub_page
def edit_operations(request: ActorRequest, pk: UUID, slug: str) -> HttpResponse:
    """The same page with operations that are chosen anew, perhaps of another document; nothing is stored yet."""
    request.actor.require_admin()
    server = services.find_api_connector(slug, actor=request.actor)
    return _settings_page(request, server, _document_for(server, pk, request))


def _settings_page(request: ActorRequest, server: McpServer | None, document: ApiDocument) -> HttpResponse:
    had = _had(server, request) if server else {}
    is_chosen = "chosen" in request.GET or server is None
    read = documents.read_kept(document) if is_chosen else _as_stored(document)
    proposed = SignIn() if server and server.auth_config else propose_sign_in(read.raw, document.source_url)
    every = range(len(read.operations))
    chosen = read_numbers(request.GET.get("chosen", ""), len(read.operations)) if is_chosen else list(every)
    if not chosen:
        return redirect(_address("operations", server, document))
    data = request.POST if request.method == "POST" else None
    form = ApiConnectorForm(data, read=read, name=document.title, proposed=proposed, server=server)
    rows = make_rows(read, chosen, server.slug if server else document.slug, data, had)
    if request.method == "POST" and form.is_valid():
        choices: list[Choice] | None = [Choice(row.operation.key, row.name, row.scopes.split()) for row in rows]
        if not is_chosen and had == {row.operation.key: (row.name, row.scopes.split()) for row in rows}:
            choices = None
        try:
            saved = _save(request, form, server, document, choices)
        except AsterError as error:
            add_errors(form, error)
        else:
            done = "was saved" if server else "is enabled. Assign it to agents"
            messages.success(request, f"{saved.name} {done}.")
            return redirect("admin:connector-openapi-edit", saved.slug)
    context = {
        "server": server, "document": document, "form": form, "rows": rows, "sign_in": proposed,
        "callback_url": callback_url(), "is_unsaved": bool(server) and is_chosen,
        "operations_url": _address("operations", server, document, chosen=write_numbers(chosen) if is_chosen else ""),
        "document_url": _address("document", server, None),
    }  # fmt: skip
    return render(request, "connectors/openapi_settings.html", context, status=400 if form.errors else 200)


def _save(
    request: ActorRequest, form: ApiConnectorForm, server: McpServer | None, document: ApiDocument,
    choices: list[Choice] | None,
) -> McpServer:  # fmt: skip
    settings = form.settings(choices)
    if server is None:
        return services.create_api_connector(document, settings, actor=request.actor)
    is_other = [str(document.pk)] != server.args
    return services.change_api_connector(server, settings, document=document if is_other else None, actor=request.actor)


def _as_stored(document: ApiDocument) -> Document:
    """The chosen operations alone, without reading all of the document again."""
    return Document(document.title, "", tuple(documents.kept_operations(document)))


def _had(server: McpServer, request: ActorRequest) -> dict[str, tuple[str, list[str]]]:
    """Names and scopes of a connector's operations, by key."""
    kept = documents.kept_operations(documents.document_of(server, actor=request.actor))
    return {each.key: (each.name, server.tool_scopes.get(each.name, [])) for each in kept}


def _find(request: ActorRequest, pk: UUID, slug: str) -> tuple[McpServer | None, ApiDocument, Document]:
    server = services.find_api_connector(slug, actor=request.actor) if slug else None
    document = _document_for(server, pk, request)
    return server, document, documents.read_kept(document)


def _document_for(server: McpServer | None, pk: UUID, request: ActorRequest) -> ApiDocument:
    """A draft, or what the connector has."""
    kept = documents.document_of(server, actor=request.actor) if server else None
    if kept and kept.pk == pk:
        return kept
    document = documents.find_draft(pk, actor=request.actor)
    if kept:  # names of its tools go on beginning as they do
        document.slug = kept.slug
    return document


def _address(step: str, server: McpServer | None, document: ApiDocument | None, **query: str) -> str:
    at: list[Any] = [*([server.slug] if server else []), *([document.pk] if document else [])]
    url = reverse(f"admin:connector-openapi-{step}{'-of' if server else ''}", args=at)
    query = {name: value for name, value in query.items() if value}
    return f"{url}?{urlencode(query, safe=',')}" if query else url


@hub_page
def disable_connector(request: ActorRequest, slug: str) -> HttpResponse:
    request.actor.require_admin()
    server = services.find_api_connector(slug, actor=request.actor)
    if request.method == "POST":
        outcome = services.disable_api_connector(server, actor=request.actor)
        messages.success(request, f"{server.name} is disabled. {outcome}")
        return redirect("admin:connectors")
    people = server.auth_config.connections.count() if server.auth_config else 0
    agents = server.assignments.count()
    return ask_first(
        request,
        f"Disable {server.name}?",
        "Everybody's tokens are revoked at the provider and deleted here, and so are its document and its operations.",
        parent=(reverse("admin:connector-openapi-edit", args=[slug]), server.name),
        items=[
            f"{people} connected account{'' if people == 1 else 's'} will be disconnected.",
            f"{agents} agent{'' if agents == 1 else 's'} will lose its tools.",
            "Its credentials are deleted.",
        ],
        confirm_text="Disable",
    )


urlpatterns: list[URLPattern] = [
    path("connectors/openapi/", give_document, name="connector-openapi-document"),
    path("connectors/openapi/drafts/<uuid:pk>/", choose_operations, name="connector-openapi-operations"),
    path("connectors/openapi/drafts/<uuid:pk>/settings/", make_connector, name="connector-openapi-settings"),
    path("connectors/openapi/<slug:slug>/", edit_connector, name="connector-openapi-edit"),
    path("connectors/openapi/<slug:slug>/document/", give_document, name="connector-openapi-document-of"),
    path("connectors/openapi/<slug:slug>/disable/", disable_connector, name="connector-openapi-disable"),
    path("connectors/openapi/<slug:slug>/<uuid:pk>/", choose_operations, name="connector-openapi-operations-of"),
    path("connectors/openapi/<slug:slug>/<uuid:pk>/settings/", edit_operations, name="connector-openapi-settings-of"),
]
