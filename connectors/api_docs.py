"""What the OpenAPI document says about connectors."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from aster.api_bodies import StrictSerializer
from aster.openapi import Operation, operation

TAG = "Connectors"


class ConnectorIn(StrictSerializer):
    """Fields that are left out stay as they are."""

    client_id = serializers.CharField(max_length=2000, required=False)
    client_secret = serializers.CharField(max_length=5000, required=False, write_only=True)
    api_key = serializers.CharField(max_length=5000, required=False, write_only=True)
    scopes = serializers.ListField(child=serializers.CharField(max_length=200), max_length=100, required=False)
    url = serializers.CharField(max_length=2000, required=False)
    authorization_url = serializers.CharField(max_length=2000, required=False)
    token_url = serializers.CharField(max_length=2000, required=False)
    revocation_url = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    is_enabled = serializers.BooleanField(required=False)
    allow_end_user_auth = serializers.BooleanField(required=False)
    require_auth = serializers.BooleanField(required=False)


class ConnectorOut(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    category = serializers.CharField()
    kind = serializers.ChoiceField(
        choices=["oauth", "api_key", "remote_mcp"], help_text="Whose credentials calls go out with"
    )
    tools = serializers.ListField(
        child=serializers.CharField(),
        help_text="Those of Aster's own; what a remote server has is known once it is enabled",
    )
    available_scopes = serializers.DictField(child=serializers.CharField(), help_text="What each scope is for")
    redirect_uri = serializers.URLField(allow_null=True, help_text="To be entered at the provider")
    server = serializers.CharField(
        allow_null=True, help_text="The slug of its MCP server; null while it is not enabled"
    )
    url = serializers.URLField(help_text="Where the provider's API is")
    authorization_url = serializers.CharField()
    token_url = serializers.CharField()
    revocation_url = serializers.CharField()
    is_enabled = serializers.BooleanField()
    client_id = serializers.CharField()
    has_secret = serializers.BooleanField()
    scopes = serializers.ListField(child=serializers.CharField())
    allow_end_user_auth = serializers.BooleanField(help_text="Members may connect their accounts")
    require_auth = serializers.BooleanField(help_text="Calls need a connected account")


class ConnectorListOut(serializers.Serializer[Any]):
    results = ConnectorOut(many=True)


class DisabledOut(serializers.Serializer[Any]):
    revoked = serializers.IntegerField(help_text="Connections that were revoked at the provider")
    not_revoked = serializers.ListField(child=serializers.CharField(), help_text="Why others were deleted here alone")


NOTION: dict[str, Any] = {
    **{"slug": "notion", "name": "Notion", "category": "Productivity", "kind": "oauth", "available_scopes": {}},
    **{"description": "Pages that the person who signed in has shared: search, read, create."},
    **{"tools": ["notion_search", "notion_get_page", "notion_create_page"], "server": "notion", "scopes": []},
    **{"redirect_uri": "https://aster.example/api/mcp/oauth/callback", "url": "https://api.notion.com/v1"},
    **{
        "authorization_url": "https://api.notion.com/v1/oauth/authorize",
        "token_url": "https://api.notion.com/v1/oauth/token",
    },
    **{"revocation_url": "https://api.notion.com/v1/oauth/revoke"},
    **{"is_enabled": True, "client_id": "1c8e8cf6-0b7f", "has_secret": True},
    **{"allow_end_user_auth": True, "require_auth": True},
}
_SLUG = (OpenApiParameter("slug", str, OpenApiParameter.PATH, description="The connector, such as `notion`"),)
_BODY = {"App": {"client_id": "1c8e8cf6-0b7f", "client_secret": "secret_…"}}


LIST_CONNECTORS: Operation = operation(
    "list_connectors", "List the catalogue of connectors", tag=TAG, errors=(),
    words="Each with its settings if it is enabled, and never its secrets. For admins.",
    response=ConnectorListOut, example={"results": [NOTION]},
)  # fmt: skip
GET_CONNECTOR: Operation = operation(
    "get_connector", "Get a connector", tag=TAG, errors=(404,), parameters=_SLUG, response=ConnectorOut, example=NOTION,
)  # fmt: skip
ENABLE_CONNECTOR: Operation = operation(
    "enable_connector", "Enable a connector", tag=TAG, errors=(400, 404, 409), status=201, parameters=_SLUG,
    words="With the client ID and secret of an app made at the provider, or with an API key; one of the kind "
    "`remote_mcp` takes nothing. Its tools are those of an "
    "MCP server from then on, which can be assigned to agents.",
    request=ConnectorIn, bodies=_BODY, response=ConnectorOut, example=NOTION,
)  # fmt: skip
UPDATE_CONNECTOR: Operation = operation(
    "update_connector", "Change a connector", tag=TAG, errors=(400, 404), parameters=_SLUG,
    words="Fields that are left out stay as they are.",
    request=ConnectorIn, bodies={"Scopes": {"scopes": []}}, response=ConnectorOut, example=NOTION,
)  # fmt: skip
DISABLE_CONNECTOR: Operation = operation(
    "disable_connector", "Disable a connector", tag=TAG, errors=(404,), parameters=_SLUG,
    words="Revokes everybody's tokens at the provider, and takes its tools from all agents.",
    response=DisabledOut, example={"revoked": 3, "not_revoked": []},
)  # fmt: skip
