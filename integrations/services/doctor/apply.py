"""What Aster does itself at the press of a button. Every fix goes through the verb that a person would use."""

from __future__ import annotations

from collections.abc import Callable

from aster.accounts.access import Actor
from aster.errors import Conflict, InvalidInput
from integrations.models import AuthConfig, McpServer, ResourceMode
from integrations.services.connections import begin_connection, discover_provider
from integrations.services.servers import save_auth_config, save_server


def apply(server: McpServer, fix_id: str, *, actor: Actor) -> None:
    """Do it. Raises what the verb raises; nothing is stored then."""
    name, _, choice = fix_id.partition(":")
    _VERBS[name](server, choice, actor)


def _auth_of(server: McpServer) -> AuthConfig:
    if server.auth_config is None:
        raise InvalidInput(f"{server} has no sign-in settings.")
    return server.auth_config


def _set(server: McpServer, actor: Actor, name: str, value: object) -> None:
    auth = _auth_of(server)
    setattr(auth, name, value)
    save_auth_config(auth, actor=actor)


def _omit_resource(server: McpServer, choice: str, actor: Actor) -> None:
    _set(server, actor, "resource_mode", ResourceMode.OMIT)


def _assume_pkce(server: McpServer, choice: str, actor: Actor) -> None:
    _set(server, actor, "assume_pkce", True)


def _choose_client_mode(server: McpServer, choice: str, actor: Actor) -> None:
    _set(server, actor, "client_mode", choice)


def _allow_legacy_endpoints(server: McpServer, choice: str, actor: Actor) -> None:
    _set(server, actor, "allow_legacy_endpoints", True)
    discover_provider(_auth_of(server), actor=actor)


def _use_transport(server: McpServer, choice: str, actor: Actor) -> None:
    server.transport = choice
    save_server(server, actor=actor)


def _follow_issuer(server: McpServer, choice: str, actor: Actor) -> None:
    """Sign in at the issuer that was shown, and at no other: it must still be the one that the server names."""
    auth = _auth_of(server)
    if auth.client_id:
        words = "The client that was entered belongs to the old provider. Enter the new issuer and a client made there."
        raise Conflict(words, code="client_of_other_issuer")
    auth.issuer = choice
    for name in ("authorization_url", "token_url", "registration_url", "revocation_url"):
        setattr(auth, name, "")
    save_auth_config(auth, actor=actor)
    discover_provider(auth, actor=actor)


def _reconnect(server: McpServer, choice: str, actor: Actor) -> None:
    begin_connection(_auth_of(server), actor=actor)


_VERBS: dict[str, Callable[[McpServer, str, Actor], None]] = {
    "omit_resource": _omit_resource,
    "assume_pkce": _assume_pkce,
    "choose_client_mode": _choose_client_mode,
    "allow_legacy_endpoints": _allow_legacy_endpoints,
    "use_transport": _use_transport,
    "follow_issuer": _follow_issuer,
    "reconnect": _reconnect,
}
