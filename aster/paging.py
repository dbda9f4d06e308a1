"""Pages of a long list, and addresses that keep its filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from django.core.paginator import Page, Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest

M = TypeVar("M", bound=Model)
T = TypeVar("T")

PAGE_SIZE = 50


def page_of(request: HttpRequest, rows: QuerySet[M], size: int = PAGE_SIZE) -> Page[M]:
    """The page `?page=` asks for; a number out of range is the nearest page."""
    return Paginator(rows, size).get_page(request.GET.get("page"))


def page_of_list(request: HttpRequest, rows: Sequence[T], size: int = PAGE_SIZE) -> Page[T]:
    """The same of what has been read already."""
    return Paginator(rows, size).get_page(request.GET.get("page"))


def query_without(request: HttpRequest, *names: str) -> str:
    """The current query, encoded, without `page` and these parameters."""
    query = request.GET.copy()
    for name in ("page", *names):
        query.pop(name, None)
    for name in [name for name, value in query.items() if value == ""]:
        del query[name]
    return query.urlencode()
