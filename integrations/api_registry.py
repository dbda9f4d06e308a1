"""The REST API of MCP registries: look up an entry, and add a server from one. For admins."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from aster.api_views import ActorView
from integrations import api_registry_docs as docs
from integrations.api import ServerView
from integrations.registry_bodies import AddEntryIn, add_entry, show_entries, show_entry
from integrations.services import registry


class EntryList(ActorView):
    @extend_schema(**docs.SEARCH_REGISTRY)
    def get(self, request: Request) -> Response:
        rows = registry.search_entries(request.query_params.get("search", "")[:200], actor=self.actor)
        return self.page_of(rows, lambda chosen: show_entries(chosen, self.actor))


class EntryDetail(ActorView):
    @extend_schema(**docs.GET_REGISTRY_ENTRY)
    def get(self, request: Request, pk: int) -> Response:
        return Response(show_entry(registry.find_entry(pk, actor=self.actor), self.actor))


class EntryAdd(ServerView):
    @extend_schema(**docs.ADD_FROM_REGISTRY)
    def post(self, request: Request, pk: int) -> Response:
        self.actor.require_admin()
        row = registry.find_entry(pk, actor=self.actor)
        return self.answer(add_entry(row, self.read_change(AddEntryIn, request), self.actor), 201)
