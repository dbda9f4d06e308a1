"""The fixes a step may offer."""

from __future__ import annotations

import httpx2

from integrations.models import AuthConfig, McpServer, Transport, callback_url
from integrations.services.doctor.report import APPLY, CONNECT, COPY, EDIT, Fix

CLIENT_MODES = {
    "dynamic": ("Register automatically", "Let Aster register itself at the provider (RFC 7591)."),
    "cimd": ("Use the metadata document", "Let Aster introduce itself with its client metadata document."),
}


def set_callback_url() -> Fix:
    words = "Allow this callback URL in the OAuth app at the provider, exactly as it is written here."
    return Fix("set_callback_url", COPY, words, "Callback URL", callback_url())


def omit_resource(auth: AuthConfig) -> Fix:
    words = "Leave out the parameter “resource” (RFC 8707), which this provider refuses."
    return Fix("omit_resource", APPLY, words + _also(auth), "Leave out “resource”")


def assume_pkce(auth: AuthConfig) -> Fix:
    words = "If you know that the provider checks PKCE with S256 although it does not announce it, say so."
    return Fix("assume_pkce", APPLY, words + _also(auth), "The provider supports PKCE")


def choose_client_mode(auth: AuthConfig, mode: str) -> Fix:
    label, words = CLIENT_MODES[mode]
    return Fix(f"choose_client_mode:{mode}", APPLY, words + _also(auth), label)


def paste_client() -> Fix:
    words = "Create an OAuth app at the provider, and enter its client ID (and secret) in the sign-in settings."
    return Fix("choose_client_mode:known", EDIT, words, "Enter a client ID")


def allow_legacy_endpoints(auth: AuthConfig, origin: str) -> Fix:
    words = f"Use the default endpoints of the protocol of 2025-03-26: {origin}/authorize, /token and /register."
    return Fix("allow_legacy_endpoints", APPLY, words + _also(auth), "Use the default endpoints")


def use_transport(transport: Transport) -> Fix:
    name = transport.label.split(" (")[0]
    return Fix(f"use_transport:{transport.value}", APPLY, f"Talk to this server with {name}.", f"Use {name}")


def follow_issuer(auth: AuthConfig, issuer: str) -> Fix:
    words = f"If this move is right, sign in at {issuer} from now on. Everybody has to connect again."
    return Fix(f"follow_issuer:{issuer}", APPLY, words + _also(auth), "Follow to the new provider")


def reconnect(auth: AuthConfig | None = None, words: str = "Sign in again.", label: str = "Connect") -> Fix:
    """By the person; the organization's own connection is made anew by an admin's press of a button."""
    kind = CONNECT if auth is None or auth.needs_person else APPLY
    return Fix("reconnect", kind, words, label)


def edit_settings(words: str) -> Fix:
    return Fix("edit_settings", EDIT, words, "Edit settings")


def ask_operator_allow_host(url: str) -> Fix:
    words = "Ask the operator of Aster to add this entry to ASTER_ALLOWED_HOSTS_PRIVATE, and to restart Aster."
    return Fix("ask_operator_allow_host", COPY, words, "Entry for ASTER_ALLOWED_HOSTS_PRIVATE", _entry_for(url))


def _entry_for(url: str) -> str:
    """The narrowest entry: this host and this port."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return ""
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    return f"{host}:{parsed.port or (443 if parsed.scheme == 'https' else 80)}"


def allow_host(message: str, url: str) -> list[Fix]:
    """The fix for a refused address, if the operator's list can help at all."""
    return [ask_operator_allow_host(url)] if "ASTER_ALLOWED_HOSTS_PRIVATE" in message else []


def _also(auth: AuthConfig) -> str:
    """Which other servers a change of the sign-in reaches."""
    shared: list[McpServer] = list(auth.servers.order_by("name")[:6]) if auth.pk else []
    return f" It counts for {', '.join(map(str, shared))}." if len(shared) > 1 else ""
