"""The bodies of the API of the drift inbox, and what the OpenAPI document says about it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from aster.api_bodies import StrictSerializer
from aster.openapi import (
    PAGE_PARAMETERS,
    ErrorOut,
    Operation,
    id_parameter,
    operation,
    page_example,
    page_of,
    refusal,
)
from integrations.api_docs import SERVERS
from integrations.api_examples import TOOL
from integrations.api_shapes import ToolDefinition


class AcceptChangeIn(StrictSerializer):
    digest = serializers.CharField(max_length=64, help_text="Of the change that was looked at, as it was shown.")


KINDS = ["added", "removed", "changed"]


class DifferenceOut(serializers.Serializer[Any]):
    """One value that is other than in the approved definition."""

    path = serializers.ListField(child=serializers.CharField(), help_text="Where: inputSchema, properties, query, …")
    kind = serializers.ChoiceField(choices=KINDS)
    old = serializers.JSONField(allow_null=True, help_text="Null if it was not there")
    new = serializers.JSONField(allow_null=True, help_text="Null if it is gone")


class AffectedAgentOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    name = serializers.CharField()


class ChangedToolOut(serializers.Serializer[Any]):
    """A tool that is not what was approved, and cannot be called until an admin accepts it."""

    id = serializers.IntegerField()
    name = serializers.CharField(help_text="The server's own name for it")
    server_id = serializers.IntegerField()
    server: Any = serializers.CharField()
    changed_at = serializers.DateTimeField()
    digest = serializers.CharField(help_text="Stands for this change; accepting it names this")
    differences = DifferenceOut(many=True)
    agents = AffectedAgentOut(many=True, help_text="Which have the tool on")
    definition = ToolDefinition(help_text="As it was approved")
    changed_definition = ToolDefinition(help_text="As the server describes it now")


class AcceptedToolOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    definition = ToolDefinition(help_text="As it is offered from now on")


_NOW = {**TOOL, "description": "Find notes that contain every word. Searches archives too."}
_CHANGED: dict[str, Any] = {
    **{"id": 77, "name": "search_notes", "server_id": 12, "server": "Acme Notes"},
    **{"changed_at": "2026-11-20T09:00:00Z", "digest": "9f2c1d0e8b7a6543" * 4},
    "differences": [
        {"path": ["description"], "kind": "changed", "old": TOOL["description"], "new": _NOW["description"]}
    ],
    "agents": [{"id": 5, "slug": "helper", "name": "Helper"}],
    **{"definition": TOOL, "changed_definition": _NOW},
}
_CHANGED_AGAIN = {
    "code": "changed_again", "detail": "search_notes has changed again meanwhile. Look at it as it is now.",
    "fields": {},
}  # fmt: skip

LIST_CHANGED_TOOLS: Operation = operation(
    "list_changed_tools", "List changed tools", tag=SERVERS, errors=(400, 404),
    words="Tools whose definition is not what was approved. Agents are not offered them, and a call is refused "
    "(`tool_quarantined`). One that goes back to what was approved leaves the list by itself. For admins.",
    parameters=(*PAGE_PARAMETERS, OpenApiParameter("server", str, description="Only those of the server: id or slug.")),
    response=page_of("ChangedToolPage", ChangedToolOut), example=page_example(_CHANGED),
)  # fmt: skip
GET_CHANGED_TOOL: Operation = operation(
    "get_changed_tool", "Get a changed tool", tag=SERVERS, errors=(404,), parameters=(id_parameter("tool"),),
    response=ChangedToolOut, example=_CHANGED,
)  # fmt: skip
ACCEPT_CHANGED_TOOL: Operation = operation(
    "accept_changed_tool", "Accept a changed tool", tag=SERVERS, errors=(400, 404), parameters=(id_parameter("tool"),),
    refusals={
        409: refusal(ErrorOut, "It has changed again: look at it as it is now.", {"Changed again": _CHANGED_AGAIN})
    },
    words="From now on agents are offered the tool as it is now. `digest` says which change was looked at.",
    request=AcceptChangeIn, bodies={"Accept": {"digest": _CHANGED["digest"]}}, response=AcceptedToolOut,
    example={"id": 77, "name": "search_notes", "definition": _NOW},
)  # fmt: skip
