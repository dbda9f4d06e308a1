"""JSON Schemas for tools, made from the serializers that the REST API reads and answers with: a shape has one home."""

from __future__ import annotations

from typing import Any, cast

from rest_framework import serializers
from rest_framework.fields import Field as AnyField
from rest_framework.fields import empty

Schema = dict[str, Any]
Field = AnyField[Any, Any, Any, Any]
Shape = type[serializers.Serializer[Any]]

_SCALARS: tuple[tuple[type[AnyField[Any, Any, Any, Any]], Schema], ...] = (
    (serializers.BooleanField, {"type": "boolean"}),
    (serializers.IntegerField, {"type": "integer"}),
    (serializers.FloatField, {"type": "number"}),
    (serializers.DateTimeField, {"type": "string", "format": "date-time"}),
    (serializers.CharField, {"type": "string"}),
)
_BOUNDS = {"min_value": "minimum", "max_value": "maximum", "max_length": "maxLength"}


def input_schema(shape: Shape) -> Schema:
    """What a tool takes. Names that it does not know are refused, as the API refuses them."""
    return {**_object(shape()), "additionalProperties": False}


def output_schema(shape: Shape) -> Schema:
    return _object(shape())


def part_of(name: str, shape: Shape, *fields: str, **more: Field) -> Any:
    """A shape with these fields of another one, and some of its own."""
    declared = shape().fields
    return type(name, (serializers.Serializer,), {**{field: declared[field] for field in fields}, **more})


def _object(serializer: serializers.Serializer[Any]) -> Schema:
    fields = serializer.fields
    schema: Schema = {"type": "object", "properties": {name: _schema(field) for name, field in fields.items()}}
    if required := [name for name, field in fields.items() if field.required]:
        schema["required"] = required
    return schema


def _schema(field: Field) -> Schema:
    schema = _kind(field)
    if field.allow_null:
        schema = _or_null(schema)
    if field.help_text:
        schema["description"] = str(field.help_text)
    if field.default is not empty and not callable(field.default) and field.default not in ("", None):
        schema["default"] = field.default
    return schema


def _or_null(schema: Schema) -> Schema:
    kind = schema.get("type")
    if kind is None:
        return schema
    nullable = {**schema, "type": [*(kind if isinstance(kind, list) else [kind]), "null"]}
    return {**nullable, "enum": [*schema["enum"], None]} if "enum" in schema else nullable


def _kind(field: Field) -> Schema:
    own = getattr(field, "_spectacular_annotation", {}).get("field")
    if isinstance(own, dict):  # the same word that the OpenAPI document has
        return dict(own)
    if isinstance(field, serializers.Serializer):
        return _object(field)
    if isinstance(field, serializers.ListSerializer | serializers.ListField):
        return {"type": "array", "items": _schema(cast(Field, field.child))}
    if isinstance(field, serializers.DictField):
        inner = _schema(field.child)
        return {"type": "object", **({"additionalProperties": inner} if inner else {})}
    if isinstance(field, serializers.ChoiceField):
        return {"type": "string", "enum": [str(choice) for choice in field.choices] + [""] * field.allow_blank}
    return _scalar(field)


def _scalar(field: Field) -> Schema:
    """A text, a number, a truth or a time; any JSON value where nothing more is known."""
    found = next((schema for kind, schema in _SCALARS if isinstance(field, kind)), {})
    bounds = {theirs: getattr(field, ours, None) for ours, theirs in _BOUNDS.items()}
    return {**found, **{name: bound for name, bound in bounds.items() if bound is not None}}
