"""The admin MCP server's tools about connectors."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from aster.accounts.access import MANAGE, Actor
from aster.api_bodies import StrictSerializer
from aster.mcp_admin.schemas import part_of
from aster.mcp_admin.tools import ADDS, CHANGES, REMOVES, Answer, Question, admin_tool
from connectors import services
from connectors.api import read_settings, show_connector
from connectors.api_docs import ConnectorIn, ConnectorListOut, ConnectorOut, DisabledOut
from connectors.registry import find_connector

NAME_HELP = "The connector's slug, as list_connectors gives it."


class NothingIn(StrictSerializer):
    pass


class ConnectorChangeIn(ConnectorIn):
    connector = serializers.CharField(max_length=50, help_text=NAME_HELP)


class DisableConnectorIn(StrictSerializer):
    connector = serializers.CharField(max_length=50, help_text=NAME_HELP)
    confirm = serializers.CharField(
        max_length=100, required=False, allow_blank=True,
        help_text="The slug once more, after your person agreed; only for clients that cannot ask them.",
    )  # fmt: skip


DisabledFacts = part_of("DisabledFacts", DisabledOut, *DisabledOut().fields)


@admin_tool("List connectors", takes=NothingIn, gives=ConnectorListOut, scope=MANAGE)
def list_connectors(actor: Actor, values: dict[str, Any]) -> Answer:
    """List the well-known services that can be enabled: those whose API Aster calls itself (Slack, Notion, GitHub …)
    and MCP servers that their makers host. Whether each is enabled, its tools, the scopes there are and the redirect
    URI to enter at the provider."""
    cards = services.catalogue(actor)
    enabled = sum(server is not None for _, server in cards)
    shown = [show_connector(*each) for each in cards]
    return Answer({"results": shown}, f"{enabled} of {len(cards)} connectors are enabled.")


@admin_tool("Enable a connector", takes=ConnectorChangeIn, gives=ConnectorOut, effect=ADDS, scope=MANAGE)
def enable_connector(actor: Actor, values: dict[str, Any]) -> Answer:
    """Enable a connector with the client ID and secret of an app that your person makes at the provider
    (list_connectors has the redirect URI to enter there), with an API key, or, of the kind remote_mcp, with nothing.
    Have your person enter secrets in the hub, on the connector's page, rather than in this chat. Its server is then
    assigned with assign_server, and people connect their own accounts."""
    slug = values.pop("connector")
    server = services.enable_connector(slug, read_settings(slug, values), actor=actor)
    return Answer(
        show_connector(find_connector(slug), server), f"{server} is enabled: assign_server with {server.slug}."
    )


@admin_tool("Change a connector", takes=ConnectorChangeIn, gives=ConnectorOut, effect=CHANGES, scope=MANAGE)
def update_connector(actor: Actor, values: dict[str, Any]) -> Answer:
    """Change a connector's credentials, scopes or settings; what you leave out stays as it is. is_enabled=false takes
    its tools from agents and disconnects nobody."""
    slug = values.pop("connector")
    server = services.update_connector(slug, read_settings(slug, values), actor=actor)
    return Answer(show_connector(find_connector(slug), server), f"{server} was saved.")


def _ask_to_disable(actor: Actor, values: dict[str, Any]) -> Question:
    server = services.find_enabled(values["connector"], actor=actor)
    people = server.auth_config.connections.count() if server.auth_config else 0
    words = f"Disable {server}? {people} connected accounts are revoked at the provider. This cannot be undone."
    return Question(words, values["connector"], server.pk)


@admin_tool(
    "Disable a connector", takes=DisableConnectorIn, gives=DisabledFacts, effect=REMOVES, scope=MANAGE,
    ask=_ask_to_disable, asks_outside=True,
)  # fmt: skip
def disable_connector(actor: Actor, values: dict[str, Any]) -> Answer:
    """Disable a connector: everybody's tokens are revoked at the provider, its credentials deleted, its tools taken
    from all agents. Your person is asked first."""
    outcome = services.disable_connector(values["connector"], actor=actor)
    return Answer({"revoked": outcome.revoked, "not_revoked": outcome.not_revoked}, str(outcome))
