"""The REST API of the drift inbox: which tools changed, how, and letting them in."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agents import api_changes_docs as docs
from agents.api_changes_docs import AcceptChangeIn
from agents.models import Agent
from agents.services.agents import agents_by_tool
from aster.accounts.access import MANAGE
from aster.api_views import ActorView
from integrations.models import Tool
from integrations.services import drift
from integrations.services.definitions import differences
from integrations.services.servers import find_server


def show_all(tools: list[Tool]) -> list[dict[str, Any]]:
    affected = agents_by_tool(tools)
    return [_show(tool, affected[tool.pk]) for tool in tools]


def _show(tool: Tool, agents: list[Agent]) -> dict[str, Any]:
    now = tool.changed_definition or {}
    found = differences(tool.definition, now)
    return {
        **{"id": tool.pk, "name": tool.name, "server_id": tool.server_id, "server": tool.server.name},
        "changed_at": tool.changed_at,
        "digest": drift.shown_digest(tool),
        "differences": [{"path": [*at.path], "kind": at.kind, "old": at.old, "new": at.new} for at in found],
        "agents": [{"id": agent.pk, "slug": agent.slug, "name": agent.name} for agent in agents],
        "definition": tool.definition,
        "changed_definition": now,
    }


class ChangedToolList(ActorView):
    @extend_schema(**docs.LIST_CHANGED_TOOLS)
    def get(self, request: Request) -> Response:
        rows = drift.waiting_changes(self.actor)
        if key := request.query_params.get("server"):
            rows = rows.filter(server=find_server(key, actor=self.actor))
        return self.page_of(rows, show_all)


class ChangedToolDetail(ActorView):
    @extend_schema(**docs.GET_CHANGED_TOOL)
    def get(self, request: Request, pk: int) -> Response:
        return Response(show_all([drift.find_change(pk, actor=self.actor)])[0])


class ChangedToolAccept(ActorView):
    scopes: ClassVar = {"POST": MANAGE}

    @extend_schema(**docs.ACCEPT_CHANGED_TOOL)
    def post(self, request: Request, pk: int) -> Response:
        digest = self.read_change(AcceptChangeIn, request)["digest"]
        tool = drift.accept_change(drift.find_change(pk, actor=self.actor), actor=self.actor, seen=digest)
        return Response({"id": tool.pk, "name": tool.name, "definition": tool.definition})
