"""Which fields a tool's JSON Schema asks for: a bounded reading of the parts that tools use in practice.

Pure. The schema comes from a server nobody vouches for: references outside it are never followed, and what is too deep,
too large or too odd becomes a JSON textarea.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

MAX_FIELDS = 100
MAX_DEPTH = 3
SCALARS = ("string", "integer", "number")

Schema = dict[str, Any]


class Omit:
    """Nothing was entered: leave the property out."""


OMIT = Omit()


@dataclass
class Slot:
    """One property: a field of the form, or with `children` a group of them."""

    path: tuple[str, ...]
    schema: Schema
    kind: str
    required: bool
    nullable: bool = False
    children: list[Slot] = field(default_factory=list)

    @property
    def field_name(self) -> str:
        # Property names may be anything ("a.b", "class", 200 characters), and their order may change: hash the path.
        return "a" + hashlib.sha256(json.dumps(self.path).encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        title = self.schema.get("title")
        return title[:200] if isinstance(title, str) and title.strip() else self.path[-1] or "(no name)"

    @property
    def description(self) -> str:
        text = self.schema.get("description")
        return text.strip()[:2000] if isinstance(text, str) else ""

    @property
    def default(self) -> Any:
        return self.schema.get("default", OMIT)


def _local_target(root: Schema, ref: str) -> Any:
    """What a `#/…` pointer names (RFC 6901); None for anything else, remote references above all."""
    if not ref.startswith("#/"):
        return root if ref == "#" else None
    found: Any = root
    for part in ref[2:].split("/"):
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found


def resolve(schema: Any, root: Schema) -> tuple[Schema, bool] | None:
    """`schema` with local references, single-entry `allOf` and "or null" folded in, and whether null is allowed.

    None when it has no plain form.
    """
    nullable = False
    for _ in range(10):
        if not isinstance(schema, dict):
            return None
        rest = {name: value for name, value in schema.items() if name not in ("$ref", "allOf", "anyOf", "oneOf")}
        if isinstance(schema.get("$ref"), str):
            target: Any = _local_target(root, schema["$ref"])
        elif isinstance(schema.get("allOf"), list) and len(schema["allOf"]) == 1:
            target = schema["allOf"][0]
        else:
            options = schema.get("anyOf", schema.get("oneOf"))
            others = [option for option in options if not _is_null(option)] if isinstance(options, list) else []
            nullable = nullable or (isinstance(options, list) and len(others) < len(options))
            if len(others) != 1:
                return _without_null_type(schema, nullable)
            target = others[0]
        if not isinstance(target, dict):
            return None
        schema = {**target, **rest}
    return None


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and (
        schema.get("type") == "null" or ("const" in schema and schema["const"] is None)
    )


def _without_null_type(schema: Schema, nullable: bool) -> tuple[Schema, bool]:
    kinds = schema.get("type")
    if isinstance(kinds, list):
        named = [kind for kind in kinds if kind != "null"]
        nullable = nullable or len(named) < len(kinds)
        schema = {**schema, "type": named[0] if len(named) == 1 else named}
    return schema, nullable


def options_of(schema: Schema) -> list[tuple[Any, str]] | None:
    """(value, words) of an enumeration, also of one written as alternatives of constants."""
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return [(value, _words(value)) for value in schema["enum"][:500]]
    if "const" in schema:
        return [(schema["const"], _words(schema["const"]))]
    options = schema.get("oneOf", schema.get("anyOf"))
    if isinstance(options, list) and options:
        constants = [option for option in options if isinstance(option, dict) and "const" in option]
        if len(constants) == len(options):
            return [(each["const"], str(each.get("title") or _words(each["const"]))) for each in constants[:500]]
    return None


def _words(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _kind_of(schema: Schema, required: bool, root: Schema) -> str:
    kind = schema.get("type")
    if options_of(schema) is not None:
        return "choice"
    if kind == "boolean":
        return "flag" if required or isinstance(schema.get("default"), bool) else "choice"
    if kind == "array":
        item = resolve(schema.get("items"), root)
        if item and options_of(item[0]) is not None:
            return "choices"
        return "lines" if item and item[0].get("type") in SCALARS and not item[1] else "json"
    return str(kind) if kind in ("string", "integer", "number") else "json"


def read_slots(schema: Any) -> list[Slot] | None:
    """The properties of a tool's input schema, or None if only a JSON textarea can take its arguments."""
    found = resolve(schema, schema) if isinstance(schema, dict) else None
    if found is None or found[0].get("type", "object") != "object":
        return None
    properties = found[0].get("properties")
    if not properties:
        free = found[0].get("additionalProperties", False) not in (False, None)
        combined = any(name in {**found[0], **schema} for name in ("anyOf", "oneOf", "allOf", "patternProperties"))
        return None if free or combined or properties not in (None, {}) else []
    if not isinstance(properties, dict) or len(properties) > MAX_FIELDS:
        return None
    budget = [MAX_FIELDS]
    return list(_read_object(found[0], schema, (), budget, outer_required=True))


def _read_object(
    schema: Schema, root: Schema, path: tuple[str, ...], budget: list[int], *, outer_required: bool
) -> Iterator[Slot]:
    required = schema.get("required")
    needed = set(required) if isinstance(required, list) and all(isinstance(r, str) for r in required) else set()
    for name, described in schema["properties"].items():
        budget[0] -= 1
        yield _read_property(described, root, (*path, str(name)), budget, outer_required and name in needed)


def _read_property(described: Any, root: Schema, path: tuple[str, ...], budget: list[int], required: bool) -> Slot:
    found = resolve(described, root)
    if found is None:
        plain = described if isinstance(described, dict) else {}
        return Slot(path, plain, "json", required)
    schema, nullable = found
    inner = schema.get("properties")
    if isinstance(inner, dict) and inner and len(path) < MAX_DEPTH and len(inner) <= budget[0] and not nullable:
        children = list(_read_object(schema, root, path, budget, outer_required=required))
        return Slot(path, schema, "group", required, children=children)
    if schema.get("type") == "array":
        item = resolve(schema.get("items"), root)
        schema = {**schema, "items": item[0]} if item else schema
    return Slot(path, schema, _kind_of(schema, required, root), required, nullable)
