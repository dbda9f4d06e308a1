"""The shapes of the answers about servers, auth configs and connections, for the OpenAPI document.

The functions in `integrations.serializers` make the answers; the tests hold every answer against its shape here.
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from aster.openapi import ErrorOut
from integrations.models import (
    AuthType,
    ClientMode,
    ConnectionStatus,
    RefreshOutcome,
    ResourceMode,
    TokenAuthMethod,
    Transport,
)
from integrations.services.doctor import FIX_KINDS, STATUSES, TITLES

TEST_STATUS = ["ok", "failed", "sign_in"]
SERVER_STATUS = ["connected", "connection_error", "not_connected", "untested", "disabled"]
BEGUN_STATUS = ["authorization_required", "connected", "connection_error"]
DIAGNOSIS_STATUS = ["ok", "warning", "failed"]
STATE = ["connected", "connection_error", "not_connected"]
REQUIRED_STATUS = ["not_connected", "connection_error"]
REDACTED_HELP = "`[REDACTED]` if set. Sent back, it keeps the stored value."


def _texts(help_text: str = "") -> serializers.ListField:
    return serializers.ListField(child=serializers.CharField(), help_text=help_text)


def _mapping(help_text: str = "") -> serializers.DictField:
    return serializers.DictField(child=serializers.CharField(), help_text=help_text)


def _text(help_text: str = "") -> serializers.CharField:
    return serializers.CharField(allow_blank=True, help_text=help_text)


def _maybe_text(help_text: str = "") -> serializers.CharField:
    return serializers.CharField(allow_null=True, help_text=help_text)


class AuthConfigOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    auth_type = serializers.ChoiceField(choices=AuthType.choices)
    custom_headers = _mapping(f"Sent with every request. {REDACTED_HELP}")
    token = _text(REDACTED_HELP)
    username = _text()
    password = _text(REDACTED_HELP)
    client_mode = serializers.ChoiceField(choices=ClientMode.choices)
    client_id = _text()
    client_secret = _text(REDACTED_HELP)
    token_endpoint_auth_method = serializers.ChoiceField(choices=TokenAuthMethod.choices, allow_blank=True)
    use_pkce = serializers.BooleanField()
    allowed_redirect_uris = _texts("Besides Aster's own callback")
    issuer = _text()
    authorization_url = _text()
    token_url = _text()
    registration_url = _text()
    revocation_url = _text()
    resource = _text("The RFC 8707 resource that tokens are asked for")
    scopes = _texts()
    resource_mode = serializers.ChoiceField(choices=ResourceMode.choices)
    audience = _text()
    extra_authorize_params = _mapping()
    extra_token_params = _mapping(REDACTED_HELP)
    scope_on_refresh = serializers.BooleanField()
    client_private_key = _text(REDACTED_HELP)
    assume_pkce = serializers.BooleanField(help_text="An admin vouches for PKCE that the metadata does not promise")
    allow_legacy_endpoints = serializers.BooleanField(
        help_text="Take a server that names no provider for its own (2025-03-26)"
    )
    preset = _text("The provider whose known quirks were filled in")
    subject_config_id = serializers.IntegerField(allow_null=True, help_text="Whose tokens are exchanged (RFC 8693)")
    callback_url = serializers.URLField(help_text="The redirect URI to allow at the provider")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    discovered_at = serializers.DateTimeField(allow_null=True, help_text="When the provider's metadata was read")


class ConnectionOut(serializers.Serializer[Any]):
    """A grant without its tokens."""

    id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=ConnectionStatus.choices)
    scopes = _texts("What the provider granted")
    wanted_scopes = _texts("What a server has asked for since; the next consent asks for them too")
    issuer = _text()
    expires_at = serializers.DateTimeField(allow_null=True, help_text="When the access token ends; null: unknown")
    refresh_at = serializers.DateTimeField(allow_null=True, help_text="When Aster renews it; null: it cannot")
    refreshed_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    auth_config_id = serializers.IntegerField()
    auth_config = serializers.CharField(help_text="The auth config's name")
    user = serializers.EmailField(allow_null=True, help_text="Null: it is the organization's (client credentials)")
    error = _maybe_text("Why the last renewal failed")
    connected_at = serializers.DateTimeField()
    generation = serializers.IntegerField(help_text="Counts the grants stored so far")


class RefreshAttemptOut(serializers.Serializer[Any]):
    """A line of a connection's ledger."""

    at = serializers.DateTimeField()
    outcome = serializers.ChoiceField(choices=RefreshOutcome.choices)
    reason = _text("background, call, rejected (a server refused the token) or sign-in")
    process = _text("Who asked: host and process id")
    generation = serializers.IntegerField(help_text="The grant's number after the attempt")
    detail = _text("What the provider said")
    duration_ms = serializers.IntegerField()


class TestOut(serializers.Serializer[Any]):
    """What one test of a server found."""

    __test__ = False

    status = serializers.ChoiceField(choices=TEST_STATUS, help_text="sign_in: connect first, then test")
    message = serializers.CharField()
    step = _text("Where it failed: url, dial, http, auth, initialize, tools, discovery, token")
    hint = _text("How to fix it")
    era = _text("modern (2026-07-28) or legacy (2024-11-05 to 2025-11-25)")
    protocol_version = _text()
    latency_ms = serializers.IntegerField()
    tool_count = serializers.IntegerField()
    tool_names = _texts()
    problems = _texts("Tools that were left out, and why")


class ToolDefinition(serializers.DictField):
    """A tool exactly as its server described it: name, description, inputSchema, annotations, …"""


class TestWithToolsOut(TestOut):
    tools = serializers.ListField(child=ToolDefinition(), help_text="As the server described them")


class DiscoveryOut(serializers.Serializer[Any]):
    """What a server's address says about signing in."""

    requires_auth = serializers.BooleanField()
    recommended_auth_mode = serializers.ChoiceField(choices=AuthType.choices)
    auth_url = _maybe_text()
    token_url = _maybe_text()
    register_url = _maybe_text("For registering a client (RFC 7591)")
    resource = _maybe_text()
    scopes = _texts()
    token_endpoint_auth_methods_supported = _texts()
    authorization_servers = _texts()
    resource_metadata_url = _maybe_text("RFC 9728")


class EvidenceOut(serializers.Serializer[Any]):
    """What was asked or read, and the exact words that came back."""

    url = _text("What was asked; empty if nothing was")
    status = serializers.IntegerField(allow_null=True, help_text="The HTTP status; null: no answer, or nothing asked")
    words = _text("Never a secret")


class FixOut(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="For `fix`, if the kind is apply")
    kind = serializers.ChoiceField(
        choices=list(FIX_KINDS),
        help_text="apply: by Aster, with `fix`. copy: carry `value` to where the text says. connect: the caller "
        "connects. edit: in the settings. ask: an admin can do it",
    )
    text = _text()
    label: Any = _text()
    value = _text("What to copy")


class StepOut(serializers.Serializer[Any]):
    name = serializers.ChoiceField(choices=list(TITLES.items()))
    title = _text()
    status = serializers.ChoiceField(choices=list(STATUSES), help_text="skipped: needless, or what it needs failed")
    found = _text("One sentence")
    advice = _text("What it means, or what to do")
    evidence = EvidenceOut(many=True)
    fixes = FixOut(many=True)


class DiagnosisOut(serializers.Serializer[Any]):
    """One run of the connection doctor."""

    status = serializers.ChoiceField(choices=DIAGNOSIS_STATUS, help_text="The worst that a step found")
    summary = _text("The first thing that is wrong")
    at = serializers.DateTimeField()
    by = serializers.EmailField(allow_null=True, help_text="Whose sign-in was looked at; null: nobody's you may see")
    seconds = serializers.FloatField()
    steps = StepOut(many=True)


class ServerOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    name = serializers.CharField()
    description = _text()
    transport = serializers.ChoiceField(choices=Transport.choices)
    url = _text()
    command = _text()
    args = _texts()
    working_dir = _text()
    timeout_seconds = serializers.IntegerField()
    retry_attempts = serializers.IntegerField()
    is_enabled = serializers.BooleanField()
    takes_changes = serializers.BooleanField(help_text="Changed tools are taken in instead of quarantined")
    expose_as_skills = serializers.BooleanField(help_text="The tools are skills in the A2A cards of its agents")
    tool_scopes = serializers.DictField(
        child=_texts(), help_text="The server's own name of a tool → the scopes that a call of it takes, anywhere"
    )
    era = _text()
    protocol_version = _text()
    tested_at = serializers.DateTimeField(allow_null=True)
    env = _mapping(REDACTED_HELP)
    auth_config_id = serializers.IntegerField(allow_null=True)
    auth_type = serializers.ChoiceField(choices=AuthType.choices)
    auth_config = AuthConfigOut(allow_null=True)
    status = serializers.ChoiceField(
        choices=SERVER_STATUS,
        help_text="As it is for the caller: another person may be connected",
    )
    error = _maybe_text()
    tool_count = serializers.IntegerField()
    last_test = TestOut(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class ServerSavedOut(ServerOut):
    connection_test_result = TestWithToolsOut(allow_null=True, help_text="Null if nothing was tested")
    discovery_result = DiscoveryOut(allow_null=True, help_text="Null if nothing had to be found out")


class ToolOut(serializers.Serializer[Any]):
    """A tool as its server described it, with every field it had; these are always there."""

    name = serializers.CharField()
    inputSchema = serializers.DictField()
    first_seen_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    is_quarantined = serializers.BooleanField(help_text="It has changed since; nobody may call it (`changed_tools`)")


class RefreshedOut(TestOut):
    results = ToolOut(many=True)


class BegunOut(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=BEGUN_STATUS)
    authorization_url = serializers.URLField(allow_null=True, help_text="Open it in the person's browser")
    connection = ConnectionOut(allow_null=True)


class CompletedOut(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=ConnectionStatus.choices)
    connection = ConnectionOut()


class ConnectionStateOut(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=STATE)
    error = _maybe_text()
    expires_at = serializers.DateTimeField(allow_null=True, help_text="When the access token ends")
    connection = ConnectionOut(allow_null=True, help_text="Null: none yet, or the server needs none")


class RevocationOut(serializers.Serializer[Any]):
    outcome = serializers.ChoiceField(choices=["revoked", "unsupported", "failed"])
    detail = serializers.CharField()


class DisconnectedOut(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["not_connected"])
    revocation = RevocationOut(allow_null=True, help_text="What the provider said; null if nobody was connected")


class CallResultOut(serializers.Serializer[Any]):
    result = serializers.DictField(help_text="The MCP CallToolResult, untouched. A tool's own failure has isError")


class ConnectionRequiredOut(ErrorOut):
    """The caller's own sign-in at the provider is missing or has ended."""

    status = serializers.ChoiceField(choices=REQUIRED_STATUS, required=False)
    server_id = serializers.IntegerField(required=False)
    auth_config_id = serializers.IntegerField(allow_null=True, required=False)
    missing_scopes = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="What a server wants beyond what was granted"
    )
    connect_url = serializers.URLField(required=False, help_text="The hub's page that connects the person")
    authorization_url = serializers.URLField(
        allow_null=True, required=False, help_text="The provider's consent page; null if the key may not connect"
    )


class ConnectionTestFailedOut(ErrorOut):
    """Nothing was stored. A refused address (`forbidden_address`) comes without a result: it was not tried."""

    connection_test_result = TestOut(required=False)
    discovery_result = DiscoveryOut(required=False)
