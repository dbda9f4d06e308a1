"""The shapes of API bodies about servers, auth configs and connections. Shape only: rules live in the services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from aster.accounts.audit import REDACTED
from aster.accounts.models import is_row_id, slug_validator
from aster.api_bodies import IdField, StrictSerializer
from aster.errors import InvalidInput
from integrations.models import (
    AuthConfig,
    AuthType,
    ClientMode,
    Connection,
    McpServer,
    RefreshAttempt,
    ResourceMode,
    TokenAuthMethod,
    Tool,
    Transport,
    callback_url,
)

AUTH_SECRETS = ("token", "password", "client_secret", "client_private_key")
AUTH_MAPPINGS = ("custom_headers", "extra_token_params")
AUTH_PLAIN = (
    *("name", "auth_type", "username", "client_mode", "client_id", "token_endpoint_auth_method", "use_pkce"),
    *("allowed_redirect_uris", "issuer", "authorization_url", "token_url", "registration_url", "revocation_url"),
    *("resource", "scopes", "resource_mode", "audience", "extra_authorize_params", "scope_on_refresh"),
    *("assume_pkce", "allow_legacy_endpoints", "preset", "subject_config_id"),
)
SLUG_HELP = "Chosen once: lowercase letters, digits and hyphens. Made from the name if left out."

# Other names for the same thing, as clients written for the APIs that Aster unites send them.
_SERVER_NAMES = {"endpoint": "url", "auth": "auth_config", "enabled": "is_enabled", "timeout": "timeout_seconds"}
_VARIABLE_HELP = "`${NAME}` takes an environment variable that the operator allows."
_AUTH_TYPE_HELP = (
    "NONE: nothing, or custom_headers alone. BEARER: a key everybody shares (token). BASIC: username and password. "
    "CLIENT_CREDENTIALS: OAuth as the organization (client_id, client_secret). AUTHORIZATION_CODE: OAuth, each person "
    "signs in. TOKEN_EXCHANGE, ID_JAG: OAuth, derived from another sign-in."
)
_AUTH_NAMES = {
    **{"type": "auth_type", "auth_url": "authorization_url", "register_url": "registration_url"},
    **{"headers": "custom_headers", "auth_token": "token", "api_key": "token", "scope": "scopes"},
}


class ChoiceField(serializers.ChoiceField):
    """A choice in any case."""

    def to_internal_value(self, data: Any) -> Any:
        by_case = {str(key).lower(): key for key in self.choices}
        return super().to_internal_value(by_case.get(str(data).lower(), data))


class AuthTypeField(ChoiceField):
    """Our auth types, and the words other products use for them."""

    def to_internal_value(self, data: Any) -> Any:
        word = data.lower() if isinstance(data, str) else ""
        if word in ("token", "api_key", "bearer_token"):
            return AuthType.BEARER
        if "client_credentials" in word:
            return AuthType.CLIENT_CREDENTIALS
        if "token_exchange" in word or "token-exchange" in word:
            return AuthType.TOKEN_EXCHANGE
        if "authorization_code" in word or word == "oauth":
            return AuthType.AUTHORIZATION_CODE
        return super().to_internal_value(data)


class TextsField(serializers.ListField):
    """A list of texts, or one text with spaces between (as OAuth writes scopes)."""

    child = serializers.CharField(max_length=2000)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data.split() if isinstance(data, str) else data)


class ScopeMapField(serializers.DictField):
    """Tools and the scopes that a call of them takes."""

    child = serializers.ListField(child=serializers.CharField())


class AuthConfigIn(StrictSerializer):
    names = _AUTH_NAMES
    ignored = frozenset({"created_at", "updated_at", "callback_url", "discovered_at"})

    id = IdField(required=False, help_text="Only to send an answer back as it came.")
    name = serializers.CharField(max_length=100, required=False, help_text="Made from the server's name if left out.")
    auth_type = AuthTypeField(choices=AuthType.choices, help_text=_AUTH_TYPE_HELP)
    custom_headers = serializers.DictField(
        child=serializers.CharField(allow_blank=True), required=False,
        help_text=f"Sent with every request. {_VARIABLE_HELP}",
    )  # fmt: skip
    token = serializers.CharField(
        required=False, allow_blank=True, trim_whitespace=True,
        help_text=f"Sent as Authorization: Bearer. {_VARIABLE_HELP}",
    )  # fmt: skip
    username = serializers.CharField(max_length=200, required=False, allow_blank=True)
    password = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False, help_text=_VARIABLE_HELP)
    client_mode = ChoiceField(choices=ClientMode.choices, required=False)
    client_id = serializers.CharField(
        max_length=2000, required=False, allow_blank=True,
        help_text="Of an app made at the provider. Left out, Aster registers itself where the provider lets it.",
    )  # fmt: skip
    client_secret = serializers.CharField(required=False, allow_blank=True, trim_whitespace=True)
    client_private_key = serializers.CharField(required=False, allow_blank=True, help_text="PEM or JWK")
    token_endpoint_auth_method = ChoiceField(choices=TokenAuthMethod.choices, required=False, allow_blank=True)
    use_pkce = serializers.BooleanField(required=False)
    assume_pkce = serializers.BooleanField(required=False)
    allow_legacy_endpoints = serializers.BooleanField(required=False)
    preset = serializers.CharField(
        max_length=30, required=False, allow_blank=True, help_text="A provider whose quirks are filled in."
    )
    subject_config_id = IdField(required=False, allow_null=True)
    allowed_redirect_uris = TextsField(required=False)
    issuer = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    authorization_url = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    token_url = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    registration_url = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    revocation_url = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    resource = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    scopes = TextsField(required=False, help_text="What is asked for at the provider; left out: what it recommends.")
    resource_mode = ChoiceField(choices=ResourceMode.choices, required=False)
    audience = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    extra_authorize_params = serializers.DictField(child=serializers.CharField(allow_blank=True), required=False)
    extra_token_params = serializers.DictField(child=serializers.CharField(allow_blank=True), required=False)
    scope_on_refresh = serializers.BooleanField(required=False)

    def validate_subject_config_id(self, value: str | None) -> int | None:
        if value is not None and not is_row_id(value):
            raise serializers.ValidationError("There is no such auth config.")
        return int(value) if value else None


class ServerIn(StrictSerializer):
    names = _SERVER_NAMES
    ignored = frozenset(
        {"id", "status", "error", "tool_count", "era", "protocol_version", "last_test", "tested_at", "auth_type"}
        | {"created_at", "updated_at", "connection_test_result", "discovery_result"}
    )

    name = serializers.CharField(max_length=100)
    slug = serializers.CharField(max_length=50, validators=[slug_validator], required=False, help_text=SLUG_HELP)
    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    transport = ChoiceField(
        choices=Transport.choices, required=False,
        help_text="streamable_http if left out. A connector is enabled in the catalogue and stays one.",
    )  # fmt: skip
    url = serializers.CharField(
        max_length=2000, required=False, allow_blank=True,
        help_text="The address of its MCP endpoint, such as https://mcp.example.com/mcp.",
    )  # fmt: skip
    command = serializers.CharField(
        max_length=500, required=False, allow_blank=True, help_text="With stdio: one of those the operator allows."
    )
    args = serializers.ListField(child=serializers.CharField(max_length=2000, allow_blank=True), required=False)
    env = serializers.DictField(
        child=serializers.CharField(allow_blank=True), required=False, help_text=f"With stdio. {_VARIABLE_HELP}"
    )
    working_dir = serializers.CharField(max_length=500, required=False, allow_blank=True)
    auth_config_id = IdField(required=False, allow_null=True, help_text="Of one that is stored; null: none.")
    auth_config = AuthConfigIn(required=False, allow_null=True)
    timeout_seconds = serializers.IntegerField(min_value=1, max_value=600, required=False, help_text="For one call.")
    retry_attempts = serializers.IntegerField(
        min_value=0, max_value=5, required=False, help_text="For what failed in transit and may safely be sent again."
    )
    is_enabled = serializers.BooleanField(required=False)
    takes_changes = serializers.BooleanField(
        required=False, help_text="Take in tools that changed without asking, instead of quarantining them."
    )
    expose_as_skills = serializers.BooleanField(
        required=False, help_text="Name the tools as skills in the A2A cards of the agents that have them."
    )
    tool_scopes = ScopeMapField(
        required=False, help_text="The server's own name of a tool → the scopes that a call of it takes, anywhere."
    )
    test_connection = serializers.BooleanField(
        required=False, default=True, help_text="False stores a new server without trying it."
    )

    def to_internal_value(self, data: Any) -> Any:
        # {"name": …, "config": {"endpoint": …, "auth": {…}}} is the same server written the other way.
        if isinstance(data, Mapping) and isinstance(data.get("config"), Mapping):
            data = {**{key: value for key, value in data.items() if key != "config"}, **data["config"]}
        if isinstance(data, Mapping):
            # An empty auth says that there is none.
            data = {
                key: None if key in ("auth", "auth_config") and value == {} else value for key, value in data.items()
            }
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """An inline auth config with an `id` is a stored one sent back; without, it belongs to this server."""
        inline, chosen = attrs.get("auth_config"), attrs.get("auth_config_id")
        own_id = inline.pop("id", None) if inline else None
        if inline and chosen and own_id != chosen:
            raise serializers.ValidationError({"auth_config": ["Give either auth_config or auth_config_id."]})
        if own_id:
            attrs["auth_config_id"] = own_id
        elif "auth_config" in attrs and inline is None:
            attrs.setdefault("auth_config_id", None)
        return attrs


class ServerTestIn(ServerIn):
    """A server that is only tried needs no name."""

    name = serializers.CharField(max_length=100, required=False, default="Unnamed")


class DiscoverIn(StrictSerializer):
    names = {"endpoint": "url"}
    url = serializers.CharField(max_length=2000)


class FixIn(StrictSerializer):
    fix = serializers.CharField(max_length=2100, help_text="The id of a fix with the kind `apply`.")


class BeginIn(StrictSerializer):
    redirect_uri = serializers.CharField(
        max_length=2000, required=False, allow_blank=True, default="",
        help_text="Where the provider sends the person; one of the auth config's allowed_redirect_uris.",
    )  # fmt: skip


class ConnectIn(BeginIn):
    subject_token = serializers.CharField(
        max_length=20_000, required=False, allow_blank=True, default="",
        help_text="For derived sign-ins: the person's token to exchange, instead of their sign-in at the source.",
    )  # fmt: skip
    subject_token_type = serializers.CharField(
        max_length=100, required=False, allow_blank=True, default="",
        help_text="Its RFC 8693 type, for example urn:ietf:params:oauth:token-type:id_token.",
    )  # fmt: skip


class CallIn(StrictSerializer):
    name = serializers.CharField(max_length=200)
    arguments = serializers.DictField(required=False, allow_empty=True, default=dict)


def redacted(secret: Any) -> Any:
    if isinstance(secret, dict):
        return dict.fromkeys(secret, REDACTED)
    return REDACTED if secret else ""


def keep_redacted(sent: dict[str, str], stored: dict[str, str], field: str) -> dict[str, str]:
    """A mapping where every `[REDACTED]` stands for the value stored under that name."""
    for name, value in sent.items():
        if value == REDACTED and name not in stored:
            raise nothing_stored(field)
    return {name: stored[name] if value == REDACTED else value for name, value in sent.items()}


def nothing_stored(field: str) -> InvalidInput:
    message = f"{REDACTED} stands for a stored value, and there is none. Send the value itself."
    return InvalidInput(message, fields={field: [message]})


def fill_auth_config(auth: AuthConfig, values: Mapping[str, Any]) -> AuthConfig:
    """Copy a body onto a row, keeping every secret that came back as `[REDACTED]`."""
    for name, value in values.items():
        if name == "id":
            continue
        if name in AUTH_SECRETS and value == REDACTED:
            if not getattr(auth, name):
                raise nothing_stored(name)
            continue
        setattr(auth, name, keep_redacted(value, getattr(auth, name), name) if name in AUTH_MAPPINGS else value)
    if "client_mode" not in values and values.get("client_id"):
        auth.client_mode = ClientMode.KNOWN
    return auth


def show_auth_config(auth: AuthConfig) -> dict[str, Any]:
    plain = {name: getattr(auth, name) for name in AUTH_PLAIN}
    secrets = {name: redacted(getattr(auth, name)) for name in (*AUTH_SECRETS, *AUTH_MAPPINGS)}
    times = {"created_at": auth.created_at, "updated_at": auth.updated_at, "discovered_at": auth.discovered_at}
    return {"id": auth.pk, **plain, **secrets, "callback_url": callback_url(), **times}


def show_connection(connection: Connection) -> dict[str, Any]:
    """A connection without its tokens."""
    names = ("id", "status", "scopes", "wanted_scopes", "issuer", "expires_at", "refresh_at", "refreshed_at")
    return {
        **{name: getattr(connection, name) for name in names},
        "auth_config_id": connection.auth_config_id,
        "auth_config": connection.auth_config.name,
        "user": connection.user.email if connection.user else None,
        "error": connection.last_error or None,
        "last_used_at": connection.last_used_at,
        "connected_at": connection.connected_at,
        "generation": connection.generation,
    }


def show_attempt(attempt: RefreshAttempt) -> dict[str, Any]:
    """A line of a connection's ledger."""
    names = ("at", "outcome", "reason", "process", "generation", "detail", "duration_ms")
    return {name: getattr(attempt, name) for name in names}


def show_tool(tool: Tool) -> dict[str, Any]:
    """A tool as its server described it when it was approved, with when it was seen."""
    seen = {"first_seen_at": tool.first_seen_at, "last_seen_at": tool.last_seen_at}
    return {**tool.definition, "name": tool.name, **seen, "is_quarantined": tool.is_quarantined}


def show_server(server: McpServer, state: Any, tool_count: int) -> dict[str, Any]:
    """A server as the caller sees it: `status` is the caller's own."""
    names = ("id", "slug", "name", "description", "transport", "url", "command", "args", "working_dir")
    learned = (
        "timeout_seconds",
        "retry_attempts",
        "is_enabled",
        "takes_changes",
        "expose_as_skills",
        "era",
        "protocol_version",
        "tested_at",
    )
    return {
        **{name: getattr(server, name) for name in (*names, *learned)},
        "env": redacted(server.env),
        "tool_scopes": server.tool_scopes,
        "auth_config_id": server.auth_config_id,
        "auth_type": server.auth_type,
        "auth_config": show_auth_config(server.auth_config) if server.auth_config else None,
        "status": state.code,
        "error": state.message or None,
        "tool_count": tool_count,
        "last_test": server.last_test or None,
        "created_at": server.created_at,
        "updated_at": server.updated_at,
    }
