"""Schemas of an OpenAPI document as JSON Schema that stands alone: references followed, and only what is understood.

OpenAPI 3.1 has JSON Schema 2020-12; 3.0 has a dialect of its own (`nullable`, boolean `exclusiveMinimum`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_SCHEMA_SIZE = 60_000
DEPTHS = (8, 5, 3, 2)  # levels that are described, the deepest first that is not too much
MOST_WORDS = 1_000
MAX_NUMBER = 1e300  # of a limit: further ones cannot be compared with every number
MAX_POINTER = 1_000
MOST_HOPS = 20

_TYPES = {"string", "number", "integer", "boolean", "object", "array", "null"}
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_TEXTS = ("format", "title", "description", "pattern")
TOO_MUCH = "what it takes is too much to describe to a model"
Sized = tuple[dict[str, Any], int]  # and how many characters it has, about


def clean_text(text: Any, most: int = MOST_WORDS) -> str:
    """Text that a database takes: some take neither NUL nor half of a surrogate pair."""
    if not isinstance(text, str):
        return ""
    return text[: 2 * most].replace("\0", "").encode("utf-8", "ignore").decode()[:most]


class References:
    """Of one document (RFC 6901): each is looked up once, however often it occurs and whatever leads to it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._targets: dict[str, dict[str, Any]] = {}
        self._nothing: dict[str, Any] = {}

    def follow(self, value: Any) -> dict[str, Any]:
        """An object, local references followed; an empty one for what is none. Raises ValueError."""
        passed = dict[str, None]()
        while isinstance(value, dict) and isinstance(pointer := value.get("$ref"), str):
            if pointer in self._targets:
                value = self._targets[pointer]
                break
            if pointer in passed:
                raise ValueError("its references go round in circles")
            if not pointer.startswith("#/"):
                raise ValueError("it refers to another document")
            if len(pointer) > MAX_POINTER or len(passed) >= MOST_HOPS:
                raise ValueError("its references are too long")
            passed[pointer] = None
            value = self._at(pointer)
        found = value if isinstance(value, dict) else self._nothing
        self._targets.update(dict.fromkeys(passed, found))
        return found

    def _at(self, pointer: str) -> Any:
        value: Any = self._document
        for part in pointer[2:].split("/"):
            value = value.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
        return value


class Schemas:
    """Of one document. What contains itself ends at a depth, and is anything from there on.

    Parts are shared between the schemas they occur in, so that even a document whose types contain each other many
    times over costs no more than its references times the depth.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.follow = References(document).follow
        # By id(): parts of the document live as long as it, and are alike only if they are the same.
        self._known: dict[tuple[int, int], Sized] = {}
        self._plain: dict[int, Sized] = {}

    def plain(self, schema: Any) -> Sized:
        """Described as deep as is not too much. Raises ValueError if every depth is."""
        if not isinstance(schema, dict) or not schema:
            return {}, 2
        found = self._plain.get(id(schema))
        if found is None:
            several = (self._read(schema, depth) for depth in DEPTHS)
            found = next((each for each in several if each[1] <= MAX_SCHEMA_SIZE), ({}, MAX_SCHEMA_SIZE + 1))
            self._plain[id(schema)] = found
        if found[1] > MAX_SCHEMA_SIZE:
            raise ValueError(TOO_MUCH)
        return found

    def _read(self, schema: Any, depth: int) -> Sized:
        if depth <= 0 or not isinstance(schema, dict):
            return {}, 2
        if not isinstance(schema.get("$ref"), str):
            return self._clean(schema, depth)
        target = self.follow(schema)
        known = self._known.get((id(target), depth))
        if known is None:
            known = self._known[id(target), depth] = self._clean(target, depth)
        if words := clean_text(schema.get("description")):  # 3.1 lets a reference say more
            return {**known[0], "description": words}, known[1] + len(words)
        return known

    def _clean(self, schema: Mapping[str, Any], depth: int) -> Sized:
        kept = _own_keywords(schema)
        size = len(json.dumps(kept))
        for name in ("items", "not", "additionalProperties"):
            if isinstance(value := schema.get(name), dict):
                kept[name], more = self._read(value, depth - 1)
                size += more + len(name)
        for name in ("allOf", "anyOf", "oneOf", "prefixItems"):
            if isinstance(several := schema.get(name), list) and several:
                found = [self._read(each, depth - 1) for each in several]
                kept[name], size = [each for each, _ in found], size + sum(more for _, more in found)
        properties = schema.get("properties")
        if isinstance(properties, dict):
            sent = {clean_text(n, 200): each for n, each in properties.items() if not self._is_read_only(each)}
            found_by = {name: self._read(each, depth - 1) for name, each in sent.items()}
            kept["properties"] = {name: each for name, (each, _) in found_by.items()}
            size += sum(more + len(name) + 6 for name, (_, more) in found_by.items())
            if "required" in kept:
                kept["required"] = [name for name in kept["required"] if name in sent or name not in properties]
        return kept, size

    def _is_read_only(self, schema: Any) -> bool:
        """Only an answer has it; in a request it counts neither as given nor as missing (OpenAPI 3.0.4 §4.7.24)."""
        return isinstance(schema, dict) and self.follow(schema).get("readOnly") is True


def _own_keywords(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords without schemas in them, each if it is what it should be; OpenAPI 3.0's become JSON Schema's."""
    kept = _types(schema) | _limits(schema)
    for name in _TEXTS:
        if words := clean_text(schema.get(name)):
            kept[name] = words
    required = [clean_text(each, 200) for each in _listed(schema.get("required")) if isinstance(each, str)]
    if required:
        kept["required"] = required
    if isinstance(more := schema.get("additionalProperties"), bool):
        kept["additionalProperties"] = more
    return kept | {name: _storable(schema[name]) for name in ("default", "const") if name in schema}


def _types(schema: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    types = [each for each in _listed(schema.get("type")) if isinstance(each, str) and each in _TYPES]
    if schema.get("nullable") is True and types and "null" not in types:
        types.append("null")
    if types:
        kept["type"] = types[0] if len(types) == 1 else types
    if isinstance(choices := schema.get("enum"), list) and choices:
        kept["enum"] = [_storable(each) for each in choices]
        if schema.get("nullable") is True and None not in choices:
            kept["enum"].append(None)
    return kept


def _limits(schema: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name in (*_NUMBERS, *_COUNTS):
        value = schema.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER:
            kept[name] = value
    for name, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(name) is True and limit in kept:
            kept[name] = kept.pop(limit)
    if kept.get("multipleOf", 1) <= 0:
        del kept["multipleOf"]
    return kept


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _storable(value: Any, depth: int = 20) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict | list) and not depth:
        return None
    if isinstance(value, dict):
        return {clean_text(name): _storable(each, depth - 1) for name, each in value.items()}
    return [_storable(each, depth - 1) for each in value] if isinstance(value, list) else value
