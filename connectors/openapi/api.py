"""The REST API of connectors from OpenAPI documents: look at one, make one, change it."""

from __future__ import annotations

from dataclasses import fields
from typing import IO, Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from aster.api_bodies import parse_json
from aster.api_views import ActorView
from aster.errors import InvalidInput
from connectors.models import ApiDocument
from connectors.openapi import api_docs as docs
from connectors.openapi import documents, services
from connectors.openapi.addresses import without_secrets
from connectors.openapi.api_docs import ApiConnectorIn, DocumentIn
from connectors.openapi.document import Document, read_parsed, title_of, tool_prefix
from connectors.openapi.services import ApiSettings, Choice
from connectors.openapi.sign_in import OAUTH, Credentials, as_catalogue_kind, kind_of, propose_sign_in
from connectors.openapi.text import MAX_BYTES, parse_text
from integrations.models import McpServer
from integrations.models.auth_configs import callback_url


class DocumentBody(BaseParser):
    """JSON with room for a document, written as a text. No JSONParser: of those the framework lets Django read all of
    the body, and Django takes no more than of a form."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        return parse_json(stream, MAX_BYTES + MAX_BYTES // 5)


def show_api_connector(server: McpServer, document: ApiDocument) -> dict[str, Any]:
    auth = server.auth_config
    kind = kind_of(auth)
    chosen = documents.kept_operations(document)
    return {
        **{name: getattr(server, name) for name in ("slug", "name", "description", "url", "is_enabled")},
        "category": "OpenAPI",
        "kind": as_catalogue_kind(kind).value,
        "sign_in": kind,
        "tools": [each.name for each in chosen],
        "operations": [
            {"key": each.key, "name": each.name, "scopes": server.tool_scopes.get(each.name, [])} for each in chosen
        ],
        "redirect_uri": callback_url() if kind == OAUTH else None,
        "server": server.slug,
        "document_url": document.source_url,
        "client_id": auth.client_id if auth else "",
        "has_secret": bool(auth and (auth.client_secret or auth.token or auth.password or auth.custom_headers)),
        "scopes": auth.scopes if auth else [],
        "allow_end_user_auth": auth.allow_end_user_auth if auth else True,
        "require_auth": auth.require_auth if auth else True,
    }


def read_api_settings(given: dict[str, Any]) -> ApiSettings:
    chosen = given.get("operations")
    return ApiSettings(
        name=given.get("name"),
        url=given.get("url"),
        is_enabled=given.get("is_enabled"),
        operations=None if chosen is None else [Choice(**each) for each in chosen],
        credentials=Credentials(**{each.name: given[each.name] for each in fields(Credentials) if each.name in given}),
    )


class ApiView(ActorView):
    parser_classes = (DocumentBody,)  # type: ignore[assignment]

    def text_of(self, given: dict[str, Any]) -> tuple[str, str]:
        """The document that was sent, or that is where was said, and where it is from; raises InvalidInput for none."""
        text, url = given.get("document"), given.get("document_url")
        if (text is None) == (url is None):
            words = "Give document or document_url, one of them."
            raise InvalidInput(words, fields={"document": [words]})
        if url is not None:
            return documents.fetch_document(url, actor=self.actor), without_secrets(url)
        return text or "", ""


class ApiConnectorPreview(ApiView):
    @extend_schema(**docs.PREVIEW_DOCUMENT)
    def post(self, request: Request) -> Response:
        text, source_url = self.text_of(self.read_change(DocumentIn, request))
        raw = parse_text(text)
        slug = documents.free_slug(title_of(raw) or "API", self.actor)
        read = read_parsed(raw, prefix=tool_prefix(slug), source_url=source_url)
        return Response(_show_preview(read, slug, source_url))


def _show_preview(read: Document, slug: str, source_url: str) -> dict[str, Any]:
    sign_in = propose_sign_in(read.raw, source_url)
    chosen = {each.key for each in documents.propose_operations(read.operations)}
    return {
        "title": read.title,
        "url": read.url,
        "hint": read.hint,
        "sign_in": sign_in.kind,
        **{name: getattr(sign_in, name) for name in ("header", "authorization_url", "token_url")},
        "available_scopes": sign_in.scopes,
        "sign_in_hint": sign_in.words,
        "operations": [
            {
                **{name: getattr(each, name) for name in ("key", "name", "title", "description", "tag")},
                "scopes": [documents.propose_scope(slug, each)],
                "is_chosen": each.key in chosen,
            }
            for each in read.operations
        ],
        "problems": list(read.problems),
    }


class ApiConnectorList(ApiView):
    @extend_schema(**docs.LIST_API_CONNECTORS)
    def get(self, request: Request) -> Response:
        self.actor.require_admin()
        found = list(services.api_connectors(self.actor))
        kept = ApiDocument.objects.visible_to(self.actor).defer("text").in_bulk([each.args[0] for each in found])
        documents_by_pk = {str(pk): document for pk, document in kept.items()}
        shown = [show_api_connector(e, documents_by_pk[e.args[0]]) for e in found if e.args[0] in documents_by_pk]
        return Response({"results": shown})

    @extend_schema(**docs.CREATE_API_CONNECTOR)
    def post(self, request: Request) -> Response:
        given = self.read_change(ApiConnectorIn, request)
        text, source_url = self.text_of(given)
        name = given.get("name", "")
        draft = documents.keep_document(text, actor=self.actor, source_url=source_url, name=name)
        try:
            server = services.create_api_connector(draft, read_api_settings(given), actor=self.actor)
        except Exception:
            documents.drop_document(draft)  # it comes again with the next try
            raise
        shown = show_api_connector(server, documents.document_of(server, actor=self.actor))
        return Response(shown, status=status.HTTP_201_CREATED)


class ApiConnectorDetail(ApiView):
    @extend_schema(**docs.GET_API_CONNECTOR)
    def get(self, request: Request, slug: str) -> Response:
        self.actor.require_admin()
        return self._shown(services.find_api_connector(slug, actor=self.actor))

    @extend_schema(**docs.UPDATE_API_CONNECTOR)
    def patch(self, request: Request, slug: str) -> Response:
        self.actor.require_admin()
        server = services.find_api_connector(slug, actor=self.actor)
        given = self.read_change(ApiConnectorIn, request)
        draft = None
        if "document" in given or "document_url" in given:
            text, source_url = self.text_of(given)
            draft = documents.keep_document(text, actor=self.actor, source_url=source_url)
        try:
            services.change_api_connector(server, read_api_settings(given), document=draft, actor=self.actor)
        except Exception:
            if draft:
                documents.drop_document(draft)
            raise
        return self._shown(server)

    @extend_schema(**docs.DISABLE_API_CONNECTOR)
    def delete(self, request: Request, slug: str) -> Response:
        self.actor.require_admin()
        server = services.find_api_connector(slug, actor=self.actor)
        outcome = services.disable_api_connector(server, actor=self.actor)
        return Response({"revoked": outcome.revoked, "not_revoked": outcome.not_revoked})

    def _shown(self, server: McpServer) -> Response:
        return Response(show_api_connector(server, documents.document_of(server, actor=self.actor)))
