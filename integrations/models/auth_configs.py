"""How Aster signs in to servers, and the OAuth clients it registered for that."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower

from aster.accounts.access import Actor
from aster.accounts.models import AuditedModel, Organization
from aster.crypto import EncryptedJSONField, EncryptedTextField


class AuthType(models.TextChoices):
    NONE = "NONE", "None"
    BEARER = "BEARER", "API key"
    BASIC = "BASIC", "Username and password"
    CLIENT_CREDENTIALS = "CLIENT_CREDENTIALS", "OAuth, as the organization"
    AUTHORIZATION_CODE = "AUTHORIZATION_CODE", "OAuth, each person signs in"
    TOKEN_EXCHANGE = "TOKEN_EXCHANGE", "OAuth, exchanged for another sign-in (RFC 8693)"
    ID_JAG = "ID_JAG", "OAuth, vouched for by the company's sign-in (ID-JAG)"


class ClientMode(models.TextChoices):
    AUTO = "auto", "Choose automatically"
    KNOWN = "known_credentials", "Pre-created app"
    DYNAMIC = "dynamic", "Register automatically"
    CIMD = "cimd", "Client ID metadata document"


class TokenAuthMethod(models.TextChoices):
    AUTO = "", "Choose from the provider's metadata"
    BASIC = "client_secret_basic", "client_secret_basic"
    POST = "client_secret_post", "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt", "private_key_jwt (RFC 7523)"
    NONE = "none", "none (public client)"


class ResourceMode(models.TextChoices):
    SEND = "send", "Send (RFC 8707)"
    OMIT = "omit", "Leave out"


DERIVED = (AuthType.TOKEN_EXCHANGE, AuthType.ID_JAG)
PERSONAL = (AuthType.AUTHORIZATION_CODE, *DERIVED)


class AuthConfigQuerySet(models.QuerySet["AuthConfig"]):
    def visible_to(self, actor: Actor) -> AuthConfigQuerySet:
        return self.filter(organization=actor.organization)


class AuthConfig(AuditedModel):
    """How Aster signs in to a server: shared headers, or OAuth for the organization or for each person."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="auth_configs")
    name = models.CharField(max_length=100)
    auth_type = models.CharField(max_length=20, choices=AuthType.choices, default=AuthType.NONE)
    # Shared credentials
    custom_headers = EncryptedJSONField(default=dict, blank=True)
    token = EncryptedTextField(blank=True, default="")
    username = models.CharField(max_length=200, blank=True)
    password = EncryptedTextField(blank=True, default="")
    # The OAuth client
    client_mode = models.CharField(max_length=20, choices=ClientMode.choices, default=ClientMode.AUTO, blank=True)
    client_id = models.CharField(max_length=2000, blank=True)
    client_secret = EncryptedTextField(blank=True, default="")
    # PEM or JWK, for private_key_jwt (RFC 7523 §2.2)
    client_private_key = EncryptedTextField(blank=True, default="")
    token_endpoint_auth_method = models.CharField(
        max_length=30, choices=TokenAuthMethod.choices, default=TokenAuthMethod.AUTO, blank=True
    )
    use_pkce = models.BooleanField("use PKCE", default=True)
    # An admin vouches for what the provider's metadata does not say; without it MCP forbids to go on
    assume_pkce = models.BooleanField("provider supports PKCE", default=False)
    allowed_redirect_uris = models.JSONField(default=list, blank=True)
    # The provider; empty fields are filled in by discovery
    issuer = models.CharField(max_length=2000, blank=True)
    authorization_url = models.CharField("authorization URL", max_length=2000, blank=True)
    token_url = models.CharField("token URL", max_length=2000, blank=True)
    registration_url = models.CharField("registration URL", max_length=2000, blank=True)
    revocation_url = models.CharField("revocation URL", max_length=2000, blank=True)
    resource = models.CharField(max_length=2000, blank=True)
    scopes = models.JSONField(default=list, blank=True)
    provider_metadata = models.JSONField(default=dict, blank=True, editable=False)
    discovered_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The sign-in whose tokens are exchanged for this one's (TOKEN_EXCHANGE, ID_JAG)
    subject_config = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="derived_configs"
    )
    # Provider quirks, as fields; integrations/presets.py knows those of common providers
    preset = models.CharField(max_length=30, blank=True)
    allow_legacy_endpoints = models.BooleanField("server of 2025-03-26", default=False)
    resource_mode = models.CharField(max_length=10, choices=ResourceMode.choices, default=ResourceMode.SEND)
    audience = models.CharField(max_length=2000, blank=True)
    extra_authorize_params = models.JSONField(default=dict, blank=True)
    extra_token_params = EncryptedJSONField(default=dict, blank=True)
    scope_on_refresh = models.BooleanField(default=False)
    # Who may sign in, and whether anybody has to (features K3)
    allow_end_user_auth = models.BooleanField("members may connect their accounts", default=True)
    require_auth = models.BooleanField("calls need the caller's connection", default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    AUDITED: ClassVar = (
        *("name", "auth_type", "custom_headers", "token", "username", "password", "client_mode", "client_id"),
        *("client_secret", "client_private_key", "token_endpoint_auth_method", "use_pkce", "assume_pkce"),
        *("allowed_redirect_uris", "issuer", "authorization_url", "token_url", "registration_url", "revocation_url"),
        *("resource", "scopes", "subject_config", "preset", "allow_legacy_endpoints", "resource_mode", "audience"),
        *("extra_authorize_params", "extra_token_params", "scope_on_refresh", "allow_end_user_auth", "require_auth"),
    )
    objects = AuthConfigQuerySet.as_manager()

    class Meta:
        ordering = [Lower("name")]
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="auth_config_name_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def needs_person(self) -> bool:
        """Each person has a connection of their own."""
        return self.auth_type in PERSONAL

    @property
    def is_derived(self) -> bool:
        """Its tokens are obtained with those of another sign-in; nobody is sent to a consent page for it."""
        return self.auth_type in DERIVED

    @property
    def is_oauth(self) -> bool:
        return self.needs_person or self.auth_type == AuthType.CLIENT_CREDENTIALS

    @property
    def iss_required(self) -> bool:
        # RFC 9207 §3: a provider that announces the parameter must send it.
        return bool(self.provider_metadata.get("authorization_response_iss_parameter_supported"))


class ClientRegistration(models.Model):
    """An OAuth client Aster registered by itself (RFC 7591); valid at one issuer only."""

    auth_config = models.ForeignKey(AuthConfig, on_delete=models.CASCADE, related_name="registrations")
    issuer = models.CharField(max_length=2000)
    client_id = models.CharField(max_length=2000)
    client_secret = EncryptedTextField(blank=True, default="")
    token_endpoint_auth_method = models.CharField(max_length=30)
    redirect_uris = models.JSONField(default=list)
    secret_expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["auth_config", "issuer"], name="one_registration_per_issuer")]

    def __str__(self) -> str:
        return f"{self.client_id} at {self.issuer}"


def callback_url() -> str:
    """The one redirect URI to whitelist at every provider."""
    return f"{settings.ASTER_PUBLIC_URL}/api/mcp/oauth/callback"
