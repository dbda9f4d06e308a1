"""What the REST API takes as a body: JSON that can be stored and sent on, with no field it does not know."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema_field
from rest_framework import exceptions, serializers
from rest_framework.parsers import JSONParser

from aster.accounts.models import slug_validator
from aster.errors import InvalidInput

MAX_BODY_BYTES = 1024 * 1024
MAX_DEPTH = 40


class BodyTooLarge(exceptions.APIException):
    status_code = 413
    default_code = "body_too_large"
    default_detail = f"The body is larger than {MAX_BODY_BYTES // 1024} kB."

    def __init__(self, most: int = MAX_BODY_BYTES) -> None:
        super().__init__(f"The body is larger than {most // 1024} kB.")


class JsonBody(JSONParser):
    """JSON in UTF-8 (RFC 8259 §8.1), bounded in size and depth.

    Refuses what the database or an MCP server could not take: NUL, lone surrogates, NaN and infinite numbers.
    """

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        return parse_json(stream, MAX_BODY_BYTES)


def parse_json(stream: IO[bytes], most: int) -> Any:
    raw = stream.read(most + 1)
    if len(raw) > most:
        raise BodyTooLarge(most)
    if not raw:
        return {}
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse_constant)
    except ValueError as error:
        # JSONDecodeError says where, never what.
        raise exceptions.ParseError(f"The body is not JSON: {_why(error)}.") from None
    except RecursionError:
        raise exceptions.ParseError(f"The body is nested more than {MAX_DEPTH} levels deep.") from None
    check_texts(value)
    return value


def _why(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "a number is not finite or too long"


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def check_texts(value: Any, path: str = "", depth: int = 0) -> None:
    """Refuse unstorable texts and numbers anywhere in a JSON value, naming the field that holds one."""
    if depth > MAX_DEPTH:
        raise exceptions.ParseError(f"The body is nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not is_storable(name):
                raise serializers.ValidationError({path or "detail": ["A name holds characters that are not allowed."]})
            check_texts(inner, f"{path}.{name}".strip("."), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check_texts(inner, path, depth + 1)
    elif isinstance(value, str) and not is_storable(value):
        raise serializers.ValidationError({path or "detail": ["Null characters and lone surrogates are not allowed."]})
    elif isinstance(value, float) and not math.isfinite(value):
        raise serializers.ValidationError({path or "detail": ["This number is too large."]})


def is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


@extend_schema_field({"type": ["integer", "string"]})
class IdField(serializers.CharField):
    """An id, which may come as a number or as text."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=100, **kwargs)


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields it does not know: a misspelt name must not be silently dropped.

    `names` maps other names of a field to ours; `ignored` are fields of answers that may come back unchanged.
    """

    names: Mapping[str, str] = {}
    ignored: frozenset[str] = frozenset()

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            data = self._rename(data)
            if unknown := sorted(set(data) - set(self.fields) - self.ignored):
                raise serializers.ValidationError({name: ["Unknown field."] for name in unknown})
        return super().to_internal_value(data)

    def _rename(self, data: Mapping[str, Any]) -> dict[str, Any]:
        renamed: dict[str, Any] = {}
        for given, value in data.items():
            name = self.names.get(given, given)
            if name in renamed:
                raise serializers.ValidationError({given: [f"This is another name for {name}: give one of them."]})
            renamed[name] = value
        return renamed


def check_slug(slug: str) -> None:
    """Refuse an address of a PUT that cannot be the slug of what it would create."""
    try:
        slug_validator(slug)
    except ValidationError as error:
        raise InvalidInput(error.messages[0], fields={"slug": error.messages}) from None
    if len(slug) > 50:
        raise InvalidInput("A slug has at most 50 characters.", fields={"slug": ["At most 50 characters."]})
