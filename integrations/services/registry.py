"""Verbs on what MCP registries list: look up, add a server from an entry, and say what became of the entry since."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.conf import settings
from django.db.models import QuerySet

from aster.accounts.access import Actor
from aster.accounts.models import is_row_id
from aster.errors import Conflict, InvalidInput, NotFound
from integrations.models import AuthConfig, AuthType, ClientMode, EntryStatus, McpServer, RegistryEntry, Transport
from integrations.services import servers, validation
from integrations.services.discovery import apply_discovery, client_mode_for, discover_url
from integrations.services.registry_ways import Reached, fill_way, find_way

_SOURCE = re.compile(r"registry:(?P<name>[^@\s]+)@(?P<version>\S+)(?: \((?P<registry>\S+)\))?")
MOST_WORDS = 8


@dataclass(frozen=True)
class SignIn:
    """Credentials that an entry does not ask for, but its server wants all the same. Its repr shows no secrets."""

    token: str = field(default="", repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Draft:
    """A server as it would be stored, and how it is signed in to."""

    server: McpServer
    auth: AuthConfig | None


# --- Looking up -----------------------------------------------------------------------------------------------------


def search_entries(text: str, *, actor: Actor) -> QuerySet[RegistryEntry]:
    """Entries with all of these words in their name, title or description; deleted ones are not found."""
    actor.require_admin()
    rows = RegistryEntry.objects.listed().matching(text.split()[:MOST_WORDS])
    return rows.defer("server", "search_text")


def find_entry(key: str | int, *, actor: Actor) -> RegistryEntry:
    """An entry by id or name, deleted ones included. By name it is that of the first registry that has it."""
    actor.require_admin()
    rows = RegistryEntry.objects.known()
    found = list(rows.filter(pk=int(key)) if is_row_id(key) else rows.filter(name=str(key)[:200]))
    if not found:
        raise NotFound("There is no such entry in the registry.")
    return min(found, key=lambda entry: settings.ASTER_REGISTRIES.index(entry.registry))


def added_entries(entries: Iterable[RegistryEntry], *, actor: Actor) -> dict[int, McpServer]:
    """Which of these entries the organization has a server from. One query."""
    wanted = {(entry.registry, entry.name): entry.pk for entry in entries}
    rows = McpServer.objects.visible_to(actor).filter(source__startswith="registry:")
    found: dict[int, McpServer] = {}
    for server in rows.only("pk", "slug", "name", "source") if wanted else ():
        origin = _origin_of(server)
        if origin and (origin["registry"], origin["name"]) in wanted:
            found.setdefault(wanted[origin["registry"], origin["name"]], server)
    return found


# --- Adding ---------------------------------------------------------------------------------------------------------


def draft_server(
    entry: RegistryEntry,
    way: str,
    values: Mapping[str, str],
    *,
    actor: Actor,
    name: str = "",
    sign_in: SignIn | None = None,
) -> Draft:
    """The server that `entry` describes, with what was filled in; nothing is stored.

    An address that wants OAuth gets an auth config at which each person signs in. Raises InvalidInput, ForbiddenAddress
    (the address that the template came to is vetted before it is dialled), NotFound or Conflict.
    """
    actor.require_admin()
    if entry.status == EntryStatus.DELETED:
        words = entry.status_message or "The registry gives no reason."
        raise Conflict(f"{entry} was deleted from the registry. {words}", code="entry_deleted")
    reached = fill_way(find_way(entry, way), values)
    server = reached.server
    server.name = (name.strip() or entry.title or entry.name.partition("/")[2])[:100]
    server.description, server.source = entry.description, source_of(entry)
    auth = _auth_for(reached, sign_in or SignIn(), actor)
    # Before anything is dialled: the address was put together from a stranger's template.
    server.auth_config = auth
    validation.check_unsaved(server, actor=actor)
    validation.check_name_free(server)
    if auth is None or auth.auth_type == AuthType.NONE:
        auth = _propose_oauth(server, auth, sign_in or SignIn(), actor)
        server.auth_config = auth
    return Draft(server, auth)


def add_from_entry(
    entry: RegistryEntry,
    way: str,
    values: Mapping[str, str],
    *,
    actor: Actor,
    name: str = "",
    sign_in: SignIn | None = None,
) -> servers.Saved:
    """Add the server that `entry` describes: tried first, and stored with its sign-in or not at all."""
    draft = draft_server(entry, way, values, actor=actor, name=name, sign_in=sign_in)
    return servers.save_server(draft.server, actor=actor, auth=draft.auth)


def _auth_for(reached: Reached, sign_in: SignIn, actor: Actor) -> AuthConfig | None:
    """Credentials as an auth config, encrypted there; None if nothing was given."""
    headers = dict(reached.headers)
    if reached.server.transport == Transport.STDIO:
        return None
    auth = AuthConfig(organization=actor.organization, client_mode=ClientMode.KNOWN)
    auth.name = validation.unique_auth_name(f"{reached.server.name} sign-in", actor=actor)
    bearer = next((name for name in headers if name.lower() == "authorization"), "")
    if bearer and headers[bearer][:7].lower() == "bearer " and headers[bearer][7:].strip():
        auth.token = headers.pop(bearer)[7:].strip()
    auth.token = auth.token or sign_in.token
    auth.custom_headers = headers
    has_key = reached.has_credentials or bool(auth.token)
    auth.auth_type = AuthType.BEARER if has_key else AuthType.NONE
    return auth if has_key or headers else None


def _propose_oauth(server: McpServer, auth: AuthConfig | None, sign_in: SignIn, actor: Actor) -> AuthConfig | None:
    """What the address says itself about signing in, where the entry says nothing."""
    found = discover_url(server.url).oauth if server.says_how_to_sign_in else None
    if found is None:
        return auth
    auth = auth or AuthConfig(organization=actor.organization)
    auth.name = validation.unique_auth_name(f"{server.name} sign-in", actor=actor)
    auth.auth_type, auth.client_mode = AuthType.AUTHORIZATION_CODE, client_mode_for(found)
    if sign_in.client_id:
        auth.client_mode, auth.client_id = ClientMode.KNOWN, sign_in.client_id
        auth.client_secret = sign_in.client_secret
    elif auth.client_mode == ClientMode.KNOWN:
        words = "People sign in at a provider that wants an app made there. Make one and enter its client ID."
        raise InvalidInput(words, fields={"client_id": [words]})
    apply_discovery(auth, found)
    return auth


def source_of(entry: RegistryEntry) -> str:
    where = "" if entry.registry == settings.OFFICIAL_REGISTRY else f" ({entry.registry})"
    return f"registry:{entry.name}@{entry.version}{where}"


# --- What became of it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Notice:
    """What the registry says now about the entry that a server was made from."""

    entry: RegistryEntry
    added_version: str

    @property
    def has_newer(self) -> bool:
        return self.entry.status != EntryStatus.DELETED and self.entry.version != self.added_version

    @property
    def can_be_shown(self) -> bool:
        """Whether the entry has a page: those of a registry that was taken off the list have none."""
        return self.entry.registry in settings.ASTER_REGISTRIES


def notice_of(server: McpServer) -> Notice | None:
    """None if it was not made from an entry, or if the entry is as it was."""
    origin = _origin_of(server)
    if origin is None:
        return None
    entry = RegistryEntry.objects.filter(registry=origin["registry"], name=origin["name"]).first()
    if entry is None:
        return None
    notice = Notice(entry, origin["version"])
    return notice if notice.has_newer or entry.status != EntryStatus.ACTIVE else None


def _origin_of(server: McpServer) -> dict[str, str] | None:
    match = _SOURCE.fullmatch(server.source)
    return {**match.groupdict(), "registry": match["registry"] or settings.OFFICIAL_REGISTRY} if match else None
