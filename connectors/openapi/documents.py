"""Verbs on OpenAPI documents: fetch, keep, look at, drop. `connectors.openapi.services` makes connectors of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urljoin
from uuid import UUID

import httpx2
from django.db.models import Exists, QuerySet
from django.utils import timezone

from aster import egress
from aster.accounts.access import Actor
from aster.accounts.models import unique_slug
from aster.errors import NotFound, UpstreamError
from connectors.models import ApiDocument
from connectors.openapi.addresses import without_secrets
from connectors.openapi.document import Document, Operation, read_document, tool_prefix
from connectors.openapi.serving import COMMAND
from connectors.registry import CONNECTORS
from integrations.models import McpServer, Transport
from integrations.services.validation import check_field_url

MAX_OPERATIONS = 100  # in one connector: more tools than that help no model
MOST_PROPOSED = 30
FETCH_SECONDS = 20.0
MOST_REDIRECTS = 3
DRAFT_AGE = timedelta(days=1)
MOST_DRAFTS = 5  # of an organization
RESERVED = {COMMAND, "preview", *(each.slug for each in CONNECTORS)}  # what /connectors/… means already


def fetch_document(url: str, *, actor: Actor) -> str:
    """The text at an address. Raises InvalidInput, ForbiddenAddress or UpstreamError, each beside `document_url`."""
    actor.require_admin()
    url = url.strip()
    for _ in range(MOST_REDIRECTS + 1):
        check_field_url(url, "document_url")
        try:
            with egress.deadline(FETCH_SECONDS):
                answer = egress.client().get(url, headers={"Accept": "application/json, application/yaml, */*;q=0.5"})
        except httpx2.TransportError as error:
            raise _not_fetched(egress.explain(error, url)) from None
        if not answer.has_redirect_location:
            break
        try:
            url = urljoin(url, answer.headers["location"]).partition("#")[0]
        except ValueError:
            words = "The address answered with a redirect to what is no address."
            raise _not_fetched(UpstreamError(words, step="http")) from None
    if answer.status_code != 200:
        words = f"The address answered with HTTP status {answer.status_code} instead of a document."
        raise _not_fetched(UpstreamError(words, step="http", retryable=answer.status_code >= 500))
    if "html" in answer.headers.get("content-type", ""):
        words = "The address answered with a web page. Give the address of the document itself, often …/openapi.json."
        raise _not_fetched(UpstreamError(words, step="http"))
    return answer.content.decode("utf-8", "replace")


def _not_fetched(error: UpstreamError) -> UpstreamError:
    error.fields.setdefault("document_url", [f"{error.message} {error.hint}".strip()])
    return error


def keep_document(text: str, *, actor: Actor, source_url: str = "", name: str = "") -> ApiDocument:
    """Store a document as a draft, for an admin to choose from. Raises InvalidInput that says what is wrong with it."""
    actor.require_admin()
    source_url = without_secrets(source_url)
    read = read_document(text, prefix="api", source_url=source_url)
    title = " ".join(name.split())[:100] or read.title or "API"
    drop_drafts(actor)
    return ApiDocument.objects.create(
        organization=actor.organization, created_by=actor.user, title=title, slug=free_slug(title, actor),
        source_url=source_url, text=json.dumps(read.raw, separators=(",", ":")),
    )  # fmt: skip


def free_slug(title: str, actor: Actor) -> str:
    rows = McpServer.objects.filter(organization=actor.organization)
    slug = unique_slug(title[:40], rows)
    return slug if slug not in RESERVED else unique_slug(f"{slug}-api", rows)


def find_draft(pk: UUID | str, *, actor: Actor) -> ApiDocument:
    """One to make a connector of. Another organization's does not exist, nor does one that is a connector's."""
    return _find(ApiDocument.objects.visible_to(actor).drafts(), pk)


def _find(rows: QuerySet[ApiDocument], pk: UUID | str) -> ApiDocument:
    document = rows.defer("text").filter(pk=pk).first()
    if document is None:
        raise NotFound("This document is not kept any more. Give it again.")
    return document


def document_of(server: McpServer, *, actor: Actor) -> ApiDocument:
    return _find(ApiDocument.objects.visible_to(actor), server.args[0])


def read_kept(document: ApiDocument) -> Document:
    return read_document(document.text, prefix=tool_prefix(document.slug), source_url=document.source_url)


def kept_operations(document: ApiDocument) -> list[Operation]:
    return [Operation.from_json(each) for each in document.operations]


def propose_operations(operations: Sequence[Operation]) -> list[Operation]:
    """What is chosen unless an admin chooses: the reading ones, as they come first."""
    return [each for each in operations if each.only_reads][:MOST_PROPOSED] or list(operations[:1])


def propose_scope(slug: str, operation: Operation) -> str:
    right = {"get": "read", "delete": "delete"}.get(operation.method, "write")
    return f"{slug}:{right}"


def drop_document(document: ApiDocument) -> None:
    """Delete one that no server points to."""
    users = _users().filter(args=[str(document.pk)])
    ApiDocument.objects.filter(~Exists(users), pk=document.pk).delete()


def drop_drafts(actor: Actor) -> None:
    """Make room before one more: an admin who tries documents keeps the last few."""
    rows = ApiDocument.objects.visible_to(actor).drafts().order_by("-created_at")
    gone = list(rows.values_list("pk", flat=True)[MOST_DRAFTS - 1 :])  # by these: one more may be kept meanwhile
    ApiDocument.objects.filter(pk__in=gone).delete()
    delete_old()


def delete_old() -> None:
    """Drop drafts that nobody came back to, and what a process that died left. Servers are pointed to new rows only."""
    old = ApiDocument.objects.filter(created_at__lt=timezone.now() - DRAFT_AGE)
    old.exclude(pk__in=[args[0] for args in _users().values_list("args", flat=True) if args]).delete()


def _users() -> QuerySet[McpServer]:
    return McpServer.objects.filter(transport=Transport.CONNECTOR, command=COMMAND)
