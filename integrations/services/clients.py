"""Which OAuth client Aster is at a provider: pasted by an admin, a metadata document, or registered (RFC 7591)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from aster import egress
from aster.accounts import audit
from aster.accounts.access import Actor
from aster.errors import InvalidInput, UpstreamError
from integrations.models import AuthConfig, ClientMode, ClientRegistration, callback_url
from integrations.oauth import registration


@dataclass(frozen=True)
class OAuthClient:
    client_id: str
    client_secret: str = field(default="", repr=False)
    auth_method: str = "none"


@dataclass(frozen=True)
class ClientPlan:
    """Which client a sign-in would use: `kind` is pasted, document, registered, register (a new one) or missing."""

    kind: str
    client: OAuthClient | None = None
    stored: ClientRegistration | None = None


def plan_client(auth: AuthConfig) -> ClientPlan:
    """The choice in the order of the MCP specification: a pasted client, the client metadata document, one that was
    registered, a new registration. Asks nobody. Raises InvalidInput if the document is chosen and there is none.
    """
    if auth.client_id:
        return ClientPlan("pasted", _pasted(auth))
    if _uses_metadata_document(auth):
        return ClientPlan("document", OAuthClient(settings.ASTER_CLIENT_METADATA_URL))
    if auth.client_mode not in (ClientMode.AUTO, ClientMode.DYNAMIC):
        return ClientPlan("missing")
    stored = auth.registrations.filter(issuer=_issuer_key(auth)).first()
    if stored and set(_redirect_uris(auth)) <= set(stored.redirect_uris) and not _expired(stored, timezone.now()):
        return ClientPlan("registered", _registered(stored), stored)
    return ClientPlan("register", stored=stored)


def client_for(auth: AuthConfig, *, actor: Actor) -> OAuthClient:
    """The planned client, registered now if need be. Raises InvalidInput when an admin has to paste one."""
    plan = plan_client(auth)
    if plan.client:
        return plan.client
    if plan.kind == "register":
        return _register(auth, plan.stored, actor=actor)
    raise InvalidInput(
        f"{auth} has no client ID yet. Create an OAuth app at the provider, allow the callback URL "
        f"{callback_url()} there, and have an admin paste the client ID here.",
        code="client_missing",
        fields={"client_id": ["Paste the provider's client ID."]},
    )


def client_of(auth: AuthConfig) -> OAuthClient:
    """The client `auth` has already; asks nobody. One without an id if there is none."""
    if auth.client_id:
        return _pasted(auth)
    stored = auth.registrations.filter(issuer=_issuer_key(auth)).first()
    if stored:
        return _registered(stored)
    return OAuthClient(settings.ASTER_CLIENT_METADATA_URL if _uses_metadata_document(auth) else "")


def _pasted(auth: AuthConfig) -> OAuthClient:
    return OAuthClient(auth.client_id, auth.client_secret, known_auth_method(auth))


def _registered(stored: ClientRegistration) -> OAuthClient:
    return OAuthClient(stored.client_id, stored.client_secret, stored.token_endpoint_auth_method)


def _uses_metadata_document(auth: AuthConfig) -> bool:
    """A Client ID Metadata Document: a URL of ours that providers fetch, so they must be able to reach it."""
    if auth.client_mode == ClientMode.CIMD:
        if not settings.ASTER_CLIENT_METADATA_URL:
            raise InvalidInput(
                "Client metadata documents need Aster at an https address that the provider can reach. "
                "Ask the operator to set ASTER_PUBLIC_URL or ASTER_CLIENT_METADATA_URL, or choose another client mode.",
                code="client_metadata_unreachable",
            )
        return True
    supported = auth.provider_metadata.get("client_id_metadata_document_supported") is True
    # The document lists one callback; a client with further ones has to be registered.
    possible = bool(settings.ASTER_CLIENT_METADATA_URL) and not auth.allowed_redirect_uris
    return auth.client_mode == ClientMode.AUTO and supported and possible


def client_metadata() -> dict[str, Any]:
    """The document at ASTER_CLIENT_METADATA_URL: who Aster is to providers that never met it."""
    document = registration.registration_request(redirect_uris=[callback_url()], token_endpoint_auth_method="none")
    return {"client_id": settings.ASTER_CLIENT_METADATA_URL, **document, "client_uri": settings.ASTER_PUBLIC_URL}


def known_auth_method(auth: AuthConfig) -> str:
    """How a pasted client proves itself: as the admin chose, else by what the provider supports."""
    if auth.token_endpoint_auth_method:
        return auth.token_endpoint_auth_method
    if auth.client_private_key:
        return "private_key_jwt"
    if not auth.client_secret:
        return "none"
    supported = auth.provider_metadata.get("token_endpoint_auth_methods_supported")
    if isinstance(supported, list) and "client_secret_basic" not in supported and "client_secret_post" in supported:
        return "client_secret_post"
    return "client_secret_basic"


def _redirect_uris(auth: AuthConfig) -> list[str]:
    return [callback_url(), *auth.allowed_redirect_uris]


def _issuer_key(auth: AuthConfig) -> str:
    return auth.issuer or auth.registration_url


def _expired(stored: ClientRegistration, now: datetime) -> bool:
    return bool(stored.secret_expires_at and stored.secret_expires_at <= now)


def _register(auth: AuthConfig, outdated: ClientRegistration | None, *, actor: Actor) -> OAuthClient:
    if not auth.registration_url:
        raise UpstreamError(
            "The provider does not register clients automatically.",
            step="registration",
            code="registration_unsupported",
            hint=f"Create an OAuth app at the provider with the callback URL {callback_url()} and paste its client ID.",
        )
    uris = _redirect_uris(auth)
    made = _ask_for_client(auth, uris)
    row = ClientRegistration(
        auth_config=auth,
        issuer=_issuer_key(auth),
        client_id=made.client_id,
        client_secret=made.client_secret or "",
        token_endpoint_auth_method=made.token_endpoint_auth_method,
        redirect_uris=uris,
        secret_expires_at=made.client_secret_expires_at,
    )
    try:
        with transaction.atomic():
            if outdated:
                outdated.delete()
            row.save()
            audit.record(actor, "registered", auth, {"client_id": [None, made.client_id], "issuer": [None, row.issuer]})
    except IntegrityError:
        # Two people clicked Connect at once; both registrations work, the first stored one is kept.
        row = auth.registrations.get(issuer=row.issuer)
    return _registered(row)


def _ask_for_client(auth: AuthConfig, uris: list[str]) -> registration.RegisteredClient:
    """Register with the admin's method, else the provider's best; a refused method falls back to the next one."""
    supported = auth.provider_metadata.get("token_endpoint_auth_methods_supported")
    offered = [method for method in supported if isinstance(method, str)] if isinstance(supported, list) else []
    chosen = auth.token_endpoint_auth_method or registration.choose_auth_method(offered, prefer_public=True)
    others = [method for method in registration.AUTH_METHODS if method != chosen and (not offered or method in offered)]
    methods = [chosen] if auth.token_endpoint_auth_method else [chosen, *others]
    refusal: UpstreamError | None = None
    with egress.deadline(30):
        for method in methods:
            body = registration.registration_request(redirect_uris=uris, token_endpoint_auth_method=method)
            try:
                return registration.register_client(auth.registration_url, body, http=egress.client())
            except UpstreamError as error:
                # The first refusal is about the method the provider itself named, so its words are the ones to show.
                refusal = refusal or error
                if error.retryable or error.code != "registration_failed":
                    break
    raise refusal or UpstreamError("The provider offers no way to register.", step="registration")
