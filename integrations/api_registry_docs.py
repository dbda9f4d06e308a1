"""What the OpenAPI document says about MCP registries."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter

from aster.openapi import PAGE_PARAMETERS, Operation, id_parameter, operation, page_example, page_of
from integrations import api_examples as examples
from integrations import api_shapes as shapes
from integrations.api_docs import TEST_FAILED
from integrations.registry_bodies import AddEntryIn, EntryDetailOut, EntryOut

TAG = "Registry"

_ENTRY: dict[str, Any] = {
    **{"id": 12, "registry": "https://registry.modelcontextprotocol.io", "name": "com.example/weather"},
    **{"version": "1.2.0", "title": "Example Weather", "description": "Forecasts for any place.", "status": "active"},
    **{"status_message": "", "website": "https://weather.example.com", "repository": "", "server": None},
    **{"updated_at": "2026-11-20T09:00:00Z", "reached_by": ["streamable-http", "npm"]},
}
_ASK = {
    **{"key": "api_key", "kind": "header", "description": "From your account page", "is_required": True},
    **{"is_secret": True, "format": "string", "default": "", "placeholder": "", "choices": []},
}
_WAY = {
    **{"key": "remote-0", "kind": "streamable-http", "address": "https://weather.example.com/mcp", "problem": None},
    **{"asks": [_ASK], "fixed": [{"name": "X-Client", "value": "aster"}]},
}

SEARCH_REGISTRY: Operation = operation(
    "search_registry", "Look up servers in the registry", tag=TAG, errors=(400, 404),
    words="Entries of the MCP registries that this installation reads every hour, for admins. Each word has to be in "
    "the name, the title or the description. Deleted entries are left out.",
    parameters=(OpenApiParameter("search", str, description="Words, all of which have to be found."), *PAGE_PARAMETERS),
    response=page_of("RegistryPage", EntryOut), example=page_example(_ENTRY),
)  # fmt: skip
GET_REGISTRY_ENTRY: Operation = operation(
    "get_registry_entry", "Get an entry of the registry", tag=TAG, errors=(404,),
    parameters=(id_parameter("entry"),),
    words="With each way to reach the server, what it asks for or sends unasked, and why it cannot be added if so.",
    response=EntryDetailOut, example={**_ENTRY, "ways": [_WAY]},
)  # fmt: skip
ADD_FROM_REGISTRY: Operation = operation(
    "add_from_registry", "Add a server from an entry", tag=TAG, errors=(400, 404, 409), status=201,
    refusals={422: TEST_FAILED}, parameters=(id_parameter("entry"),),
    words="Fills in the entry's templates and stores the server as `create_server` does: tested first, or not at all. "
    "Keys go into an auth config and are encrypted. An address that wants OAuth gets an auth config at which each "
    "person signs in.",
    request=AddEntryIn, bodies={"A key": {"values": {"api_key": "ek_…"}}, "The second remote": {"remote": 1}},
    response=shapes.ServerSavedOut, example=examples.SAVED_SERVER,
)  # fmt: skip
