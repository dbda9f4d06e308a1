"""Verbs on connectors that are made from an OpenAPI document: look at it, make one, change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import QuerySet

from aster.accounts.access import Actor
from aster.accounts.models import unique_slug
from aster.errors import AsterError, InvalidInput, NotFound
from connectors.models import ApiDocument
from connectors.openapi.document import Document, Operation, tool_name, tool_prefix
from connectors.openapi.documents import (
    MAX_OPERATIONS,
    RESERVED,
    document_of,
    drop_document,
    find_draft,
    kept_operations,
    propose_operations,
    propose_scope,
    read_kept,
)
from connectors.openapi.serving import COMMAND, keep_operations
from connectors.openapi.sign_in import KINDS, NONE, Credentials, apply_credentials, kind_of, new_auth
from connectors.services import Disabled, check_api_url, disable_server
from integrations.models import AuthConfig, McpServer, Transport
from integrations.services import servers
from integrations.services.validation import unique_auth_name


@dataclass(frozen=True)
class Choice:
    """An operation to be a tool. Without a name or scopes it has those it had, or the proposed ones."""

    key: str
    name: str = ""
    scopes: list[str] | None = None


@dataclass(frozen=True)
class ApiSettings:
    """What an admin gives; None leaves a setting as it is. Its repr shows no secrets."""

    name: str | None = None
    url: str | None = None
    is_enabled: bool | None = None
    operations: Sequence[Choice] | None = None
    credentials: Credentials = field(default_factory=Credentials)


def api_connectors(actor: Actor) -> QuerySet[McpServer]:
    """The servers that are connectors from OpenAPI documents."""
    rows = McpServer.objects.visible_to(actor).filter(transport=Transport.CONNECTOR, command=COMMAND)
    return rows.select_related("auth_config", "organization").order_by("name")


def find_api_connector(slug: str, *, actor: Actor) -> McpServer:
    server = api_connectors(actor).filter(slug=slug).first()
    if server is None:
        raise NotFound("There is no such connector.")
    return server


def create_api_connector(document: ApiDocument, given: ApiSettings, *, actor: Actor) -> McpServer:
    """Make a connector of a draft: a server, how to sign in and the tools, or nothing.

    Raises InvalidInput, Conflict (the name is taken), ForbiddenAddress, each with its fields; NotFound for a document
    that is no draft.
    """
    actor.require_admin()
    document = find_draft(document.pk, actor=actor)
    read = read_kept(document)
    name = (given.name or document.title).strip()
    choices = given.operations
    if choices is None:
        choices = [Choice(each.key) for each in propose_operations(read.operations)]
    operations, scopes = _chosen(read, document, choices, {}, {})
    kind = given.credentials.sign_in or NONE
    auth = new_auth(_known_kind(kind), unique_auth_name(name, actor=actor))
    apply_credentials(replace(given.credentials, sign_in=None), auth, kind)
    rows = McpServer.objects.filter(organization=actor.organization)
    is_free = document.slug not in RESERVED and not rows.filter(slug=document.slug).exists()
    server = McpServer(
        name=name, slug=document.slug if is_free else unique_slug(f"{document.slug[:40]}-api", rows),
        description=f"{len(operations)} operation{'' if len(operations) == 1 else 's'} of {document.title}"[:500],
        transport=Transport.CONNECTOR, command=COMMAND,
        url=check_api_url(given.url if given.url is not None else read.url),
        takes_changes=True,  # they change when an admin says so
        tool_scopes=scopes, is_enabled=given.is_enabled is not False,
    )  # fmt: skip
    made = _store(document, document.title, operations, actor)
    server.args = [str(made.pk)]
    try:
        servers.save_server(server, actor=actor, auth=auth, by_connectors=True)
    except AsterError:
        drop_document(made)
        raise
    drop_document(document)
    return server


def change_api_connector(
    server: McpServer, given: ApiSettings, *, actor: Actor, document: ApiDocument | None = None
) -> McpServer:
    """Change a connector, or what it offers. With another `document` and no choice, those operations stay that it has
    as well, under the names they have."""
    actor.require_admin()
    old = document_of(server, actor=actor)
    if document is not None:
        document = find_draft(document.pk, actor=actor)
    if given.name is not None:
        server.name = given.name
    if given.url is not None:
        server.url = check_api_url(given.url)
    if given.is_enabled is not None:
        server.is_enabled = given.is_enabled
    auth = _changed_auth(server, given.credentials, actor)
    made = None
    if document is not None or given.operations is not None:
        operations, server.tool_scopes = _chosen_anew(server, old, document, given.operations)
        made = _store(document or old, old.title, operations, actor, slug=old.slug)
        server.args = [str(made.pk)]
    try:
        servers.save_server(server, actor=actor, auth=auth, by_connectors=True)
    except AsterError:
        if made:
            drop_document(made)
        raise
    if made:
        for gone in filter(None, (old, document)):
            drop_document(gone)
        servers.test_server(server, actor=actor)  # its tools are known at once
    return server


def _changed_auth(server: McpServer, given: Credentials, actor: Actor) -> AuthConfig | None:
    auth = server.auth_config
    kind = kind_of(auth)
    wanted = given.sign_in or kind
    if wanted != kind and kind != NONE:
        words = f"It signs in with “{KINDS[kind]}”. To sign in another way, disable it and add it again."
        raise InvalidInput(words, fields={"sign_in": [words]})
    if auth is None:
        auth = new_auth(_known_kind(wanted), unique_auth_name(server.name, actor=actor))
    apply_credentials(replace(given, sign_in=None), auth, wanted)
    return auth


def disable_api_connector(server: McpServer, *, actor: Actor) -> Disabled:
    """Revoke every person's tokens, then delete the server, its credentials and its document."""
    outcome = disable_server(server, actor=actor)
    ApiDocument.objects.visible_to(actor).filter(pk__in=server.args[:1]).delete()
    return outcome


def gone_operations(server: McpServer, document: ApiDocument, *, actor: Actor) -> list[Operation]:
    """Those of the connector that another document does not have any more."""
    there = read_kept(document).by_key
    return [each for each in kept_operations(document_of(server, actor=actor)) if each.key not in there]


def _chosen_anew(
    server: McpServer, old: ApiDocument, document: ApiDocument | None, choices: Sequence[Choice] | None
) -> tuple[list[Operation], dict[str, list[str]]]:
    source = document or old
    source.slug = old.slug  # names go on beginning as they do
    read = read_kept(source)
    had = {each.key: each for each in kept_operations(old)}
    if choices is None:
        choices = [Choice(key) for key in had if key in read.by_key]
        if not choices:
            words = "The new document has none of the connector's operations. Choose others."
            raise InvalidInput(words, fields={"operations": [words]})
    names = {key: each.name for key, each in had.items()}
    return _chosen(read, source, choices, names, server.tool_scopes)


def _chosen(
    read: Document,
    document: ApiDocument,
    choices: Sequence[Choice],
    names: Mapping[str, str],
    scopes: Mapping[str, list[str]],
) -> tuple[list[Operation], dict[str, list[str]]]:
    """The operations under their names, and the scopes of each. `names` are those they had, `scopes` by those."""
    if not choices or len(choices) > MAX_OPERATIONS:
        words = (
            f"Choose 1 to {MAX_OPERATIONS} operations; {len(choices)} are chosen. Further ones make a connector more."
        )
        raise InvalidInput(words, fields={"operations": [words]})
    found = dict[str, Operation]()
    needed = dict[str, list[str]]()
    for choice in choices:
        operation = read.by_key.get(choice.key)
        if operation is None:
            words = f"The document has no operation {choice.key[:200]}."
            raise InvalidInput(words, fields={"operations": [words]})
        had = names.get(choice.key, "")
        name = tool_name(tool_prefix(document.slug), choice.name) if choice.name else had or operation.name
        if name in found:
            words = f"Two operations are called {name}: {found[name].key} and {choice.key}. Give one another name."
            raise InvalidInput(words, fields={"operations": [words]})
        found[name] = replace(operation, name=name)
        if choice.scopes is not None:
            wanted = choice.scopes
        else:
            wanted = list(scopes.get(had, ())) if had else [propose_scope(document.slug, operation)]
        if wanted:
            needed[name] = wanted
    return list(found.values()), needed


def _store(
    source: ApiDocument, title: str, operations: Sequence[Operation], actor: Actor, slug: str = ""
) -> ApiDocument:
    kept: list[dict[str, Any]] = [each.as_json() for each in operations]
    made = ApiDocument.objects.create(
        organization=actor.organization, created_by=actor.user, title=title, slug=slug or source.slug,
        source_url=source.source_url, text=source.text, operations=kept,
    )  # fmt: skip
    keep_operations(made.pk, operations)
    return made


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        words = f"Choose one of {', '.join(KINDS)}."
        raise InvalidInput(words, fields={"sign_in": [words]})
    return kind
