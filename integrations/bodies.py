"""From a body about a server to its row, and from rows to answers: for the API and the admin MCP server alike."""

from __future__ import annotations

from typing import Any

from aster.accounts.access import Actor
from aster.errors import InvalidInput, NotFound
from integrations.models import AuthConfig, McpServer
from integrations.serializers import fill_auth_config, keep_redacted, show_server
from integrations.services import servers, validation
from integrations.services.state import connections_by_server, server_state, tool_counts


def show_servers(rows: list[McpServer], actor: Actor) -> list[dict[str, Any]]:
    mine, counts = connections_by_server(rows, actor), tool_counts(rows)
    return [show_server(row, server_state(row, mine.get(row.pk)), counts.get(row.pk, 0)) for row in rows]


def fill_server(server: McpServer, values: dict[str, Any], actor: Actor) -> AuthConfig | None:
    """Copy the body onto the row; returns the auth config that came or changed with it."""
    inline, auth_id = values.pop("auth_config", None), values.pop("auth_config_id", ...)
    values.pop("test_connection", None)
    if "env" in values:
        values["env"] = keep_redacted(values["env"], server.env, "env")
    if values.get("slug", server.slug) != server.slug and server.slug:
        raise InvalidInput("The slug cannot be changed.", fields={"slug": ["The slug cannot be changed."]})
    for name, value in values.items():
        setattr(server, name, value)
    if auth_id is None:
        server.auth_config = None
    elif auth_id is not ...:
        server.auth_config = _auth_config(auth_id, actor)
    if not inline:
        return None
    auth = server.auth_config or AuthConfig(organization=actor.organization)
    if auth._state.adding and not inline.get("name"):
        inline["name"] = validation.unique_auth_name(f"{server.name} sign-in", actor=actor)
    return fill_auth_config(auth, inline)


def _auth_config(key: str, actor: Actor) -> AuthConfig:
    try:
        return servers.find_auth_config(key, actor=actor)
    except NotFound as error:
        raise InvalidInput(error.message, fields={"auth_config_id": [error.message]}) from None
