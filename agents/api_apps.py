"""The REST API of connected apps: see them, lock them out."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agents import api_apps_docs as docs
from agents.authorization_server import connected_apps
from agents.models import ConnectedApp
from aster.accounts.access import READ
from aster.api import LatestFirst
from aster.api_views import ActorView, no_content


def show_app(app: ConnectedApp) -> dict[str, Any]:
    names = ("id", "redirect_host", "resource", "scopes", "created_at", "last_used_at")
    return {
        **{name: getattr(app, name) for name in names},
        "name": app.application.name,
        "client_id": app.application.client_id,
        "user": app.membership.user.email,
        "agent": app.agent.slug if app.agent else None,
        "server": app.server.slug if app.server else None,
    }


class AppList(ActorView):
    @extend_schema(**docs.LIST_APPS)
    def get(self, request: Request) -> Response:
        return self.page(connected_apps.visible_apps(self.actor), show_app, LatestFirst)


class AppDetail(ActorView):
    # What revoking takes depends on whose app it is; the service asks.
    scopes: ClassVar = {"DELETE": READ}

    @extend_schema(**docs.GET_APP)
    def get(self, request: Request, pk: int) -> Response:
        return Response(show_app(connected_apps.find_app(pk, actor=self.actor)))

    @extend_schema(**docs.REVOKE_APP)
    def delete(self, request: Request, pk: int) -> Response:
        connected_apps.revoke(connected_apps.find_app(pk, actor=self.actor), actor=self.actor)
        return no_content()
