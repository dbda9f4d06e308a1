"""What the OpenAPI document says about connected apps."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from aster.openapi import PAGE_PARAMETERS, Operation, id_parameter, operation, page_example, page_of

TAG = "Connected apps"


class ConnectedAppOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField(help_text="What the app calls itself; nobody has checked")
    client_id = serializers.CharField(help_text="A URL if the app is known by a document there")
    redirect_host = serializers.CharField(help_text="Where its person was sent back to")
    user = serializers.EmailField(help_text="Whom it acts for")
    resource = serializers.URLField(help_text="The one address of the gateway that it may use")
    agent = serializers.CharField(allow_null=True, help_text="The agent's slug; null for the administration")
    server = serializers.CharField(allow_null=True, help_text="The server's slug; null for all of the agent's servers")
    scopes = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(help_text="To within some minutes")


APP: dict[str, Any] = {
    **{"id": 12, "name": "Claude Code", "client_id": "https://claude.ai/oauth/claude-code-client-metadata"},
    **{"redirect_host": "localhost:55611", "user": "ben@acme.example", "agent": "helper", "server": None},
    **{"resource": "https://aster.example/mcp/acme/helper", "scopes": ["aster:call"]},
    **{"created_at": "2026-11-21T09:00:00Z", "last_used_at": "2026-11-21T11:30:00Z"},
}
_APP = (id_parameter("connected app"),)

LIST_APPS: Operation = operation(
    "list_connected_apps", "List connected apps", tag=TAG, errors=(400, 404), parameters=PAGE_PARAMETERS,
    words="The apps one has let in; for admins those of everybody. The latest first, and never their tokens.",
    response=page_of("ConnectedAppPage", ConnectedAppOut), example=page_example(APP),
)  # fmt: skip
GET_APP: Operation = operation(
    "get_connected_app", "Get a connected app", tag=TAG, errors=(404,), parameters=_APP,
    response=ConnectedAppOut, example=APP,
)  # fmt: skip
REVOKE_APP: Operation = operation(
    "revoke_connected_app", "Revoke a connected app", tag=TAG, errors=(404,), parameters=_APP, status=204,
    words="Its tokens stop working at once. One's own takes the scope `aster:connect`, another person's an admin with "
    "`aster:manage`.",
)  # fmt: skip
