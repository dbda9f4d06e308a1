"""The REST API of connectors: the catalogue, enabling, settings, disabling."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from aster.api_views import ActorView
from aster.errors import InvalidInput
from connectors import api_docs as docs
from connectors import services
from connectors.api_docs import ConnectorIn
from connectors.base import Connector, Kind
from connectors.registry import find_connector
from connectors.services import Settings
from integrations.models import McpServer
from integrations.models.auth_configs import callback_url

# What connectors of a kind have no use for
_FOREIGN: dict[Kind, tuple[str, ...]] = {
    Kind.OAUTH: ("api_key",),
    Kind.API_KEY: services.AUTH_SETTINGS,
    Kind.REMOTE_MCP: ("api_key", "client_id", "client_secret", "scopes", "url", *services.ADDRESSES),
}


def show_connector(connector: Connector, server: McpServer | None) -> dict[str, Any]:
    auth = server.auth_config if server else None
    return {
        **{name: getattr(connector, name) for name in ("slug", "name", "description")},
        "category": connector.category.value,
        "kind": connector.kind.value,
        "tools": list(connector.tools),
        "available_scopes": dict(connector.scopes),
        "redirect_uri": callback_url() if connector.kind == Kind.OAUTH else None,
        "server": server.slug if server else None,
        "url": server.url if server else connector.url,
        **{name: getattr(auth, name, "") or connector.auth.get(name, "") for name in services.ADDRESSES},
        "is_enabled": bool(server and server.is_enabled),
        "client_id": auth.client_id if auth else "",
        "has_secret": bool(auth and (auth.client_secret or auth.token)),
        "scopes": auth.scopes if auth else [],
        "allow_end_user_auth": auth.allow_end_user_auth if auth else True,
        "require_auth": auth.require_auth if auth else True,
    }


def read_settings(slug: str, given: dict[str, Any]) -> Settings:
    """What was sent, as settings of this connector. Raises InvalidInput for what it does not have."""
    connector = find_connector(slug)
    if wrong := [name for name in _FOREIGN[connector.kind] if name in given]:
        words = f"{connector.name} takes none."
        raise InvalidInput(f"{connector.name} has no {wrong[0]}.", fields={name: [words] for name in wrong})
    return Settings(**given)


class ConnectorList(ActorView):
    @extend_schema(**docs.LIST_CONNECTORS)
    def get(self, request: Request) -> Response:
        return Response({"results": [show_connector(*each) for each in services.catalogue(self.actor)]})


class ConnectorDetail(ActorView):
    @extend_schema(**docs.GET_CONNECTOR)
    def get(self, request: Request, slug: str) -> Response:
        self.actor.require_admin()
        connector = find_connector(slug)
        return Response(show_connector(connector, services.find_server_of(slug, actor=self.actor)))

    @extend_schema(**docs.ENABLE_CONNECTOR)
    def post(self, request: Request, slug: str) -> Response:
        server = services.enable_connector(slug, self._settings(slug, request), actor=self.actor)
        return Response(show_connector(find_connector(slug), server), status=status.HTTP_201_CREATED)

    @extend_schema(**docs.UPDATE_CONNECTOR)
    def patch(self, request: Request, slug: str) -> Response:
        server = services.update_connector(slug, self._settings(slug, request), actor=self.actor)
        return Response(show_connector(find_connector(slug), server))

    @extend_schema(**docs.DISABLE_CONNECTOR)
    def delete(self, request: Request, slug: str) -> Response:
        outcome = services.disable_connector(slug, actor=self.actor)
        return Response({"revoked": outcome.revoked, "not_revoked": outcome.not_revoked})

    def _settings(self, slug: str, request: Request) -> Settings:
        self.actor.require_admin()
        return read_settings(slug, self.read(ConnectorIn, request))
