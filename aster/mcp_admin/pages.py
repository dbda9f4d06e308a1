"""Lists that fit into a model's context: a few rows, a cursor for the next ones, and texts that end somewhere."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from rest_framework import serializers

from aster.accounts.models import is_row_id
from aster.api_bodies import StrictSerializer
from aster.errors import InvalidInput
from aster.mcp_admin.tools import Answer

Row = TypeVar("Row", bound=Model)
DEFAULT_LIMIT, MAX_LIMIT = 25, 100
LONGEST_TEXT = 500


class PageIn(StrictSerializer):
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT, required=False, help_text="How many rows at most."
    )
    cursor = serializers.CharField(
        max_length=2000, required=False, help_text="next_cursor of the answer before, for the rows after it."
    )


class PartIn(StrictSerializer):
    """Those of the API's fields that a tool takes. The rest are for scripts: fewer are easier to choose from.

    A change leaves everything as it is that is not named, but for what it is about.
    """

    part: tuple[str, ...] = ()
    is_change = False

    def get_fields(self) -> Any:
        fields = {name: field for name, field in super().get_fields().items() if name in self.part}
        for name, field in fields.items():
            if self.is_change and name != self.part[0]:
                field.required, field.default = False, serializers.empty
        return fields


class PageOut(serializers.Serializer[Any]):
    """The rows come as `results` in each tool's own shape."""

    next_cursor = serializers.CharField(
        allow_null=True, help_text="There are more rows: call again with this as cursor. Null: these were the last."
    )


def page_shape(rows: type[serializers.Serializer[Any]]) -> Any:
    return type(f"{rows.__name__}Page", (PageOut,), {"results": rows(many=True)})


def page(
    rows: QuerySet[Row],
    values: Mapping[str, Any],
    show_all: Callable[[list[Row]], list[dict[str, Any]]],
    noun: str,
    *,
    newest_first: bool = False,
) -> Answer:
    """Some of the rows, by id."""
    if cursor := values.get("cursor"):
        at = _read(cursor)
        rows = rows.filter(pk__lt=at) if newest_first else rows.filter(pk__gt=at)
    limit = values["limit"]
    found = list(rows.order_by("-pk" if newest_first else "pk")[: limit + 1])
    chosen = found[:limit]
    following = _written(chosen[-1].pk) if len(found) > limit else None
    return page_answer(show_all(chosen), following, noun)


def page_answer(results: list[dict[str, Any]], following: str | None, noun: str) -> Answer:
    words = f"{len(results)} {noun}{'' if len(results) == 1 else 's'}."
    if following:
        words += " There are more: call again with next_cursor as cursor."
    return Answer({"results": results, "next_cursor": following}, words)


def chosen(shown: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The part of an answer of the API that a tool gives."""
    return {name: shown[name] for name in names}


def cut(text: object, longest: int = LONGEST_TEXT) -> str:
    words = str(text or "")
    return words if len(words) <= longest else f"{words[:longest]}… ({len(words) - longest} characters left out)"


def _written(pk: int) -> str:
    return urlsafe_b64encode(str(pk).encode()).decode()


def _read(cursor: str) -> int:
    try:
        text = urlsafe_b64decode(cursor.encode("ascii")).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    if not is_row_id(text):
        words = "This is no cursor that Aster gave. Leave it out to begin again."
        raise InvalidInput(words, fields={"cursor": [words]})
    return int(text)
