"""The base class of the REST API's views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest
from rest_framework import exceptions, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from aster.accounts.access import MANAGE, READ, Actor
from aster.accounts.authentication import actor_of
from aster.api import CursorPages
from aster.api_bodies import JsonBody
from aster.errors import NotFound

Row = TypeVar("Row", bound=Model)
MAX_KEY = 200


class ActorView(APIView):
    """A view that knows who acts. `scopes` maps methods to what an API key needs: reading or managing, by default."""

    scopes: ClassVar[dict[str, str]] = {}
    parser_classes = (JsonBody,)

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        # DRF takes a body without Content-Length for none; a chunked one (RFC 9112 §7.1) is measured by its parser.
        if "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH"):
            request.META["CONTENT_LENGTH"] = "1"
        return super().initialize_request(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Python makes no number of more than 4300 digits, and no key of ours is near as long.
        if any(len(str(key)) > MAX_KEY for key in kwargs.values()):
            raise NotFound("There is nothing at this address.")

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

    def read_change(self, serializer: type[Serializer[Any]], request: Request, **kwargs: Any) -> dict[str, Any]:
        """`read` for what only admins may send: a member hears that, not what is wrong with the body."""
        self.actor.require_admin()
        return self.read(serializer, request, **kwargs)

    def choose(self, rows: QuerySet[Row], *names: str) -> QuerySet[Row]:
        """Keep the rows whose fields are as the query string says; absent or empty means any."""
        given = {name: self.request.query_params.get(name) for name in names}
        return rows.filter(**{name: value for name, value in given.items() if value})

    def page(
        self, rows: QuerySet[Row], show: Callable[[Row], dict[str, Any]], pages: type[CursorPages] = CursorPages
    ) -> Response:
        return self.page_of(rows, lambda chosen: [show(row) for row in chosen], pages)

    def page_of(
        self,
        rows: QuerySet[Row],
        show_all: Callable[[list[Row]], list[dict[str, Any]]],
        pages: type[CursorPages] = CursorPages,
    ) -> Response:
        """A page whose rows are shown together, so that what they need is read once for all."""
        paginator = pages()
        chosen: list[Row] = paginator.paginate_queryset(rows, self.request, view=self) or []
        return paginator.get_paginated_response(show_all(chosen))


def no_content() -> Response:
    return Response(status=status.HTTP_204_NO_CONTENT)
