"""The base class of the REST API's views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.db.models import Model, QuerySet
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from aster.accounts.access import MANAGE, READ, Actor
from aster.accounts.authentication import ApiKeyAuthentication, actor_of
from aster.api import CursorPages


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key (`ask_…`). `X-API-Key` works too."}


class ActorView(APIView):
    """A view that knows who acts. `scopes` maps methods to what an API key needs: reading or managing, by default."""

    scopes: ClassVar[dict[str, str]] = {}

    def scope_for(self, method: str | None) -> str:
        return self.scopes.get(method or "", READ if method in ("GET", "HEAD", "OPTIONS") else MANAGE)

    @property
    def actor(self) -> Actor:
        actor = actor_of(self.request)
        if actor is None:
            raise exceptions.NotAuthenticated
        return actor

    def read(self, serializer: type[Serializer[Any]], request: Request, **kwargs: Any) -> dict[str, Any]:
        """The request's body as the serializer's values, or a 400 that names the fields."""
        checked = serializer(data=request.data, **kwargs)
        checked.is_valid(raise_exception=True)
        values: dict[str, Any] = checked.validated_data
        return values

    def page(
        self, rows: QuerySet[Any], show: Callable[[Any], dict[str, Any]], pages: type[CursorPages] = CursorPages
    ) -> Response:
        paginator = pages()
        chosen: list[Model] = paginator.paginate_queryset(rows, self.request, view=self) or []
        return paginator.get_paginated_response([show(row) for row in chosen])


def no_content() -> Response:
    return Response(status=status.HTTP_204_NO_CONTENT)
