"""What our own OpenAPI document says about connectors that are made from one."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from aster.api_bodies import StrictSerializer
from aster.openapi import Operation, operation
from connectors.api_docs import TAG, DisabledOut
from connectors.openapi.documents import MAX_OPERATIONS
from connectors.openapi.sign_in import KINDS
from connectors.openapi.text import MAX_BYTES

_WORDS: dict[str, Any] = {"required": False, "max_length": 2000}
_SECRET: dict[str, Any] = {"required": False, "max_length": 5000, "write_only": True, "trim_whitespace": False}


class ChoiceIn(StrictSerializer):
    key = serializers.CharField(max_length=600, help_text="Method and path, such as `GET /pets/{id}`")
    name = serializers.CharField(max_length=200, required=False, allow_blank=True, help_text="Of the tool")
    scopes = serializers.ListField(
        child=serializers.CharField(max_length=100), max_length=20, required=False,
        help_text="What callers must hold. Left out, those it had or a proposed one; empty, none",
    )  # fmt: skip


class DocumentIn(StrictSerializer):
    """One of both. Of a document that is fetched, a relative server address starts where it was."""

    document = serializers.CharField(
        max_length=MAX_BYTES, required=False, trim_whitespace=False, help_text="OpenAPI 3 in JSON or YAML"
    )
    document_url = serializers.CharField(max_length=2000, required=False, help_text="Where it is fetched, once")


class ApiConnectorIn(DocumentIn):
    """Fields that are left out are taken from the document, or stay as they are."""

    name = serializers.CharField(max_length=100, required=False)
    url = serializers.CharField(max_length=2000, required=False, help_text="Where the API is")
    operations = serializers.ListField(
        child=ChoiceIn(), required=False, help_text=f"1 to {MAX_OPERATIONS}; left out, up to 30 that read"
    )
    is_enabled = serializers.BooleanField(required=False)
    sign_in = serializers.ChoiceField(choices=list(KINDS), required=False, help_text="How Aster signs in")
    api_key = serializers.CharField(**_SECRET)
    header = serializers.CharField(required=False, max_length=100, help_text="That carries the key, for `header`")
    username = serializers.CharField(required=False, max_length=200)
    password = serializers.CharField(**_SECRET)
    client_id = serializers.CharField(**_WORDS)
    client_secret = serializers.CharField(**_SECRET)
    authorization_url = serializers.CharField(**_WORDS)
    token_url = serializers.CharField(**_WORDS)
    scopes = serializers.ListField(child=serializers.CharField(max_length=200), max_length=100, required=False)
    allow_end_user_auth = serializers.BooleanField(required=False)
    require_auth = serializers.BooleanField(required=False)


class OperationOut(serializers.Serializer[Any]):
    key = serializers.CharField()
    name = serializers.CharField(help_text="Of its tool")
    scopes = serializers.ListField(child=serializers.CharField(), help_text="What its callers must hold")


class FoundOperationOut(OperationOut):
    title = serializers.CharField()
    description = serializers.CharField()
    tag = serializers.CharField(allow_blank=True)
    is_chosen = serializers.BooleanField(help_text="Whether it is a tool unless you choose otherwise")


class PreviewOut(serializers.Serializer[Any]):
    title = serializers.CharField(allow_blank=True)
    url = serializers.CharField(allow_blank=True, help_text="Where the API is; empty if the document does not say")
    hint = serializers.CharField(allow_blank=True, help_text="What to look at about `url`")
    sign_in = serializers.ChoiceField(choices=list(KINDS), help_text="How the document says one signs in")
    header = serializers.CharField(allow_blank=True, help_text="That carries the key, for `header`")
    authorization_url = serializers.CharField(allow_blank=True)
    token_url = serializers.CharField(allow_blank=True)
    available_scopes = serializers.DictField(
        child=serializers.CharField(allow_blank=True), help_text="What each scope of the sign-in is for"
    )
    sign_in_hint = serializers.CharField(allow_blank=True, help_text="What Aster cannot take over")
    operations = FoundOperationOut(many=True)
    problems = serializers.ListField(child=serializers.CharField(), help_text="Operations that were left out, and why")


class ApiConnectorOut(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    category = serializers.CharField()
    kind = serializers.ChoiceField(choices=["oauth", "api_key"], help_text="Whose credentials calls go out with")
    sign_in = serializers.ChoiceField(choices=list(KINDS))
    tools = serializers.ListField(child=serializers.CharField())
    operations = OperationOut(many=True)
    redirect_uri = serializers.URLField(allow_null=True, help_text="To be entered at the provider")
    server = serializers.CharField(help_text="The slug of its MCP server")
    url = serializers.URLField(help_text="Where the API is")
    document_url = serializers.CharField(allow_blank=True, help_text="Where its document came from")
    is_enabled = serializers.BooleanField()
    client_id = serializers.CharField(allow_blank=True)
    has_secret = serializers.BooleanField()
    scopes = serializers.ListField(child=serializers.CharField())
    allow_end_user_auth = serializers.BooleanField(help_text="Members may connect their accounts")
    require_auth = serializers.BooleanField(help_text="Calls need a connected account")


class ApiConnectorListOut(serializers.Serializer[Any]):
    results = ApiConnectorOut(many=True)


_LISTED = {"key": "GET /pets", "name": "pet_shop_list_pets", "scopes": ["pet-shop:read"]}
PET_SHOP: dict[str, Any] = {
    **{"slug": "pet-shop", "name": "Pet shop", "description": "1 operation of Pet shop", "server": "pet-shop"},
    **{"category": "OpenAPI", "kind": "api_key", "sign_in": "api_key", "tools": ["pet_shop_list_pets"]},
    **{"operations": [_LISTED], "redirect_uri": None, "url": "https://pets.example/v1", "is_enabled": True},
    **{"document_url": "https://pets.example/openapi.json", "client_id": "", "has_secret": True, "scopes": []},
    **{"allow_end_user_auth": True, "require_auth": True},
}
_PREVIEW: dict[str, Any] = {
    "title": "Pet shop", "url": "https://pets.example/v1", "hint": "", "problems": [],
    "sign_in": "api_key", "header": "", "authorization_url": "", "token_url": "", "available_scopes": {},
    "sign_in_hint": "",
    "operations": [
        {**_LISTED, "title": "List pets", "description": "Every pet there is.", "tag": "pets", "is_chosen": True}
    ],
}  # fmt: skip
_FROM = {"document_url": "https://pets.example/openapi.json"}
_KEY = {"sign_in": "api_key", "api_key": "key_…"}
SLUG = (OpenApiParameter("slug", str, OpenApiParameter.PATH, description="The connector, such as `pet-shop`"),)

PREVIEW_DOCUMENT: Operation = operation(
    "preview_api_connector", "Look at an OpenAPI document", tag=TAG, errors=(400, 422, 502),
    words="What a connector from it would be: its operations with proposed names and scopes, where its API is and how "
    "to sign in. Stores nothing. For admins.",
    request=DocumentIn, bodies={"By address": _FROM}, response=PreviewOut, example=_PREVIEW,
)  # fmt: skip
CREATE_API_CONNECTOR: Operation = operation(
    "create_api_connector", "Make a connector from an OpenAPI document", tag=TAG, errors=(400, 409, 422, 502),
    status=201, words="Its operations are tools of an MCP server from then on, which can be assigned to agents.",
    request=ApiConnectorIn, response=ApiConnectorOut, example=PET_SHOP,
    bodies={
        "What reads": {**_FROM, **_KEY},
        "Chosen operations": {**_FROM, **_KEY, "operations": [{"key": "GET /pets", "name": "list", "scopes": []}]},
        "Each person signs in": {**_FROM, "sign_in": "oauth", "client_id": "1c8e8cf6", "client_secret": "secret_…"},
    },
)  # fmt: skip
LIST_API_CONNECTORS: Operation = operation(
    "list_api_connectors", "List connectors from OpenAPI documents", tag=TAG, errors=(),
    words="With their settings, and never their secrets. For admins.",
    response=ApiConnectorListOut, example={"results": [PET_SHOP]},
)  # fmt: skip
GET_API_CONNECTOR: Operation = operation(
    "get_api_connector", "Get a connector from an OpenAPI document", tag=TAG, errors=(404,), parameters=SLUG,
    response=ApiConnectorOut, example=PET_SHOP,
)  # fmt: skip
UPDATE_API_CONNECTOR: Operation = operation(
    "update_api_connector", "Change a connector from an OpenAPI document", tag=TAG,
    errors=(400, 404, 409, 422, 502), parameters=SLUG,
    words="Fields that are left out stay as they are. With another document and without `operations`, those stay that "
    "it has as well, under the names they have. `sign_in` stays, unless it was `none`.",
    request=ApiConnectorIn, bodies={"A newer document": _FROM}, response=ApiConnectorOut, example=PET_SHOP,
)  # fmt: skip
DISABLE_API_CONNECTOR: Operation = operation(
    "disable_api_connector", "Disable a connector from an OpenAPI document", tag=TAG, errors=(404,), parameters=SLUG,
    words="Revokes everybody's tokens at the provider, deletes its credentials, and takes its tools from all agents.",
    response=DisabledOut, example={"revoked": 3, "not_revoked": []},
)  # fmt: skip
