"""What may be stored: every rule about a server or auth config that can be checked without asking anybody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.conf import settings
from django.core.exceptions import ValidationError

from aster import egress
from aster.accounts import audit
from aster.accounts.access import Actor
from aster.accounts.models import unique_slug
from aster.errors import AsterError, Conflict, InvalidInput
from integrations.models import AuthConfig, AuthType, ClientMode, McpServer, TokenAuthMethod, Transport
from integrations.oauth.client_assertion import read_private_key
from integrations.services import targets
from integrations.services.presets import apply_chosen_preset
from integrations.services.scope_maps import clean_server_scopes


def prepare_server(server: McpServer, auth: AuthConfig | None, actor: Actor, *, by_connectors: bool = False) -> None:
    """Complete and check a server before it is stored. Raises InvalidInput or ForbiddenAddress with the fields.

    With `by_connectors` it may become a connector, or call something else.
    """
    if not by_connectors:
        check_connector(server)
    if server._state.adding:
        server.organization = actor.organization
        server.created_by = actor.user
    server.name = server.name.strip()
    siblings = McpServer.objects.filter(organization=actor.organization).exclude(pk=server.pk)
    if not server.slug:
        server.slug = unique_slug(server.name, siblings)
    if server.transport == Transport.STDIO:
        _check_command(server)
    else:
        server.url = server.url.strip()
        if not server.url:
            message = "Enter the server's address, for example https://mcp.example.com/mcp."
            raise InvalidInput(message, fields={"url": [message]})
        check_field_url(server.url, "url")
        if server.transport != Transport.CONNECTOR:
            server.command, server.args = "", []
        server.env, server.working_dir = {}, ""
    if auth is not None and auth.organization_id != actor.organization.pk:
        raise InvalidInput(
            "There is no such auth config.", fields={"auth_config_id": ["There is no such auth config."]}
        )
    if server._state.adding or "tool_scopes" in server.changed_fields():
        clean_server_scopes(server)
    try:
        server.full_clean(exclude=["auth_config"])
    except ValidationError as error:
        raise audit.invalid_input(error) from None


def check_connector(server: McpServer) -> None:
    """What makes a server a connector, and which, is for `connectors` to say; the rest is as with any server."""
    adding = server._state.adding
    if Transport.CONNECTOR not in (server.transport, None if adding else server.loaded_value("transport")):
        return
    message = "Connectors are enabled under Connectors, and not added as servers."
    wrong = {"transport"}
    if not adding:
        message = "This is a connector: what it calls is set under Connectors, and it stays one until it is disabled."
        wrong = {"transport", "command", "args"} & set(server.changed_fields())
    if wrong:
        raise InvalidInput(message, code="is_connector", fields={name: [message] for name in sorted(wrong)})


def refuse_connector(server: McpServer) -> None:
    if server.transport == Transport.CONNECTOR:
        words = f"{server} is a connector. Disable it under Connectors: that revokes everybody's tokens as well."
        raise Conflict(words, code="is_connector")


def unique_server_name(name: str, *, actor: Actor) -> str:
    """A free name like `name`, for servers whose name nobody chooses."""
    taken = {each.casefold() for each in McpServer.objects.visible_to(actor).values_list("name", flat=True)}
    numbered = (f"{name[:90]} {number}" for number in range(2, len(taken) + 3))
    return next(each for each in (name, *numbered) if each.casefold() not in taken)


def check_name_free(server: McpServer) -> None:
    """Refuse a new name that another server of the organization has: people tell servers apart by it.

    A stored server keeps the name it has, whoever else has it.
    """
    if "name" not in server.changed_fields():
        return
    # Compared here, because SQLite ignores the case of ASCII letters only.
    siblings = McpServer.objects.filter(organization=server.organization).exclude(pk=server.pk)
    for taken in siblings.values_list("name", flat=True):
        if taken.casefold() == server.name.casefold():
            message = f"There is an MCP server called {taken} already. Choose another name."
            raise Conflict(message, fields={"name": [message]})


def _check_command(server: McpServer) -> None:
    """Running programs is for the operator to allow, by exact command (features S1)."""
    if server.command not in settings.ASTER_STDIO_COMMANDS:
        allowed = ", ".join(settings.ASTER_STDIO_COMMANDS)
        message = (
            f"This command is not allowed. Allowed: {allowed}."
            if allowed
            else "Local commands are off. The operator can allow some with ASTER_STDIO_COMMANDS."
        )
        raise InvalidInput(message, code="command_not_allowed", fields={"command": [message]})
    if not isinstance(server.args, list) or not all(isinstance(arg, str) for arg in server.args):
        raise InvalidInput("Arguments must be a list of texts.", fields={"args": ["Must be a list of texts."]})
    env = server.env
    if not isinstance(env, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in env.items()):
        raise InvalidInput("Environment must map names to texts.", fields={"env": ["Must map names to texts."]})
    server.url = ""
    for field, values in (("env", env.values()), ("args", server.args)):
        for value in values:
            targets.expand_variables(value, field)


_vetted: ContextVar[frozenset[str]] = ContextVar("vetted", default=frozenset())


@contextmanager
def vetted_urls(urls: Iterable[str]) -> Iterator[None]:
    """Look up these addresses now and not again inside, where a transaction would wait for name servers."""

    def is_fine(url: str) -> bool:
        try:
            egress.check_url(url)
        except AsterError:
            return False  # said again where it is known whose address it is
        return True

    token = _vetted.set(frozenset(filter(is_fine, set(urls))))
    try:
        yield
    finally:
        _vetted.reset(token)


def check_field_url(url: str, field_name: str) -> None:
    """egress.check_url with the message beside the field."""
    if url in _vetted.get():
        return
    try:
        egress.check_url(url)
    except AsterError as error:
        error.fields.setdefault(field_name, [error.message])
        raise


def unique_auth_name(name: str, *, actor: Actor) -> str:
    """A free auth config name like `name`, for those that come inline with a server."""
    name = name[:90].strip()
    rows = AuthConfig.objects.filter(organization=actor.organization)
    taken = set(rows.filter(name__startswith=name).values_list("name", flat=True))
    if name not in taken:
        return name
    return next(f"{name} {number}" for number in range(2, len(taken) + 3) if f"{name} {number}" not in taken)


def prepare_auth(auth: AuthConfig, actor: Actor) -> None:
    """Everything about an auth config that can be refused without asking anybody."""
    if auth._state.adding:
        auth.organization = actor.organization
    elif {"issuer", "authorization_url", "token_url"} & set(auth.changed_fields()):
        # What another provider's metadata said (RFC 9207 §2.3, auth methods) says nothing about this one.
        auth.provider_metadata, auth.discovered_at = {}, None
    auth.name = auth.name.strip()
    if auth._state.adding or "preset" in auth.changed_fields():
        apply_chosen_preset(auth)
    targets.check_headers(auth.custom_headers)
    targets.static_headers(auth)
    for name in ("issuer", "authorization_url", "token_url", "registration_url", "revocation_url"):
        if url := getattr(auth, name):
            check_field_url(url, name)
    _check_needed(auth)
    _check_lists(auth)
    _check_redirect_uris(auth)
    if auth.client_private_key:
        read_private_key(auth.client_private_key)
    _check_subject(auth)
    try:
        auth.full_clean(exclude=["provider_metadata"])
    except ValidationError as error:
        raise audit.invalid_input(error) from None


def _check_lists(auth: AuthConfig) -> None:
    for name in ("scopes", "allowed_redirect_uris"):
        values = getattr(auth, name)
        if not isinstance(values, list) or not all(isinstance(v, str) and v and " " not in v for v in values):
            raise InvalidInput(f"{name} must be a list of texts.", fields={name: ["Must be a list of texts."]})


def _check_needed(auth: AuthConfig) -> None:
    if needed := missing_in(auth):
        raise InvalidInput(next(iter(needed.values())), fields={name: [text] for name, text in needed.items()})


def missing_in(auth: AuthConfig) -> dict[str, str]:
    """What an auth config of its kind has to have and this one has not: by field, in words."""
    needed: dict[str, str] = {}
    if auth.auth_type == AuthType.BEARER and not (auth.token or auth.custom_headers):
        needed["token"] = "Enter the key, or add a header that carries it."
    if auth.auth_type == AuthType.BASIC and not auth.username:
        needed["username"] = "Enter the user name."
    known = auth.auth_type == AuthType.AUTHORIZATION_CODE and auth.client_mode == ClientMode.KNOWN
    if (known or auth.is_derived or auth.auth_type == AuthType.CLIENT_CREDENTIALS) and not auth.client_id:
        needed["client_id"] = "Paste the client ID from the provider's app."
    if auth.auth_type == AuthType.CLIENT_CREDENTIALS and not (auth.client_secret or auth.client_private_key):
        needed["client_secret"] = "Paste the client secret (or private key) from the provider's app."
    if auth.token_endpoint_auth_method == TokenAuthMethod.PRIVATE_KEY_JWT and not auth.client_private_key:
        needed["client_private_key"] = "Paste the private key whose public half the provider has."
    if auth.is_derived and auth.subject_config_id is None:
        needed["subject_config_id"] = "Choose whose sign-in this one is derived from."
    return needed


def _check_subject(auth: AuthConfig) -> None:
    """A sign-in is derived from one at which people consent themselves, in the same organization."""
    if auth.subject_config_id is None:
        return
    sources = AuthConfig.objects.filter(organization=auth.organization, auth_type=AuthType.AUTHORIZATION_CODE)
    if not sources.filter(pk=auth.subject_config_id).exists():
        message = "Choose an auth config of this organization at which each person signs in."
        raise InvalidInput(message, fields={"subject_config_id": [message]})


def _check_redirect_uris(auth: AuthConfig) -> None:
    for uri in auth.allowed_redirect_uris:
        if not uri.startswith(("https://", "http://127.0.0.1", "http://localhost", "http://[::1]")) or "#" in uri:
            message = f"{uri[:100]} cannot be a redirect URI: use https (or http on this machine) without a fragment."
            raise InvalidInput(message, fields={"allowed_redirect_uris": [message]})


def check_unsaved(server: McpServer, *, actor: Actor) -> None:
    """What saving would refuse, without saving: for testing a config that is not stored (admins only).

    But for a name that is taken: another configuration of a stored server may be tried under its name.
    """
    actor.require_admin()
    prepare_server(server, server.auth_config, actor)
    if server.auth_config and (server.auth_config._state.adding or server.auth_config.changed_fields()):
        prepare_auth(server.auth_config, actor)
