"""The JSON Schema of the file, built from the kinds, and what a value breaks of a schema, in words."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from aster.configuration.kinds import KINDS, SECRET, SECRETS, Kind, Schema
from aster.configuration.reading import Path, Source

VERSION = 1
MOST_NAMED = 12
_TYPES = {
    "string": "a text (put quotes around it)",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "names with values",
    "array": "a list",
    "null": "null",
}
_BOUNDS = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "minLength": "must not be empty",
    "maxLength": "has more than {} characters",
}
_REFERENCE: Schema = {
    "type": ["string", "null"],
    "description": "env:NAME, file:/path, stored (keep what is stored), or null for none. Never the secret itself.",
}


def configuration_schema() -> Schema:
    """The schema that is published as docs/configuration.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of an Aster organization",
        "type": "object",
        "properties": {"version": {"const": VERSION}, **{kind.section: _section(kind) for kind in KINDS}},
        "required": ["version"],
        "additionalProperties": False,
    }


def published() -> str:
    return json.dumps(configuration_schema(), indent=2) + "\n"


def _section(kind: Kind) -> Schema:
    one: Schema = {
        "type": "object",
        "properties": {name: _of_setting(each.shape, each.schema) for name, each in kind.settings.items()},
        "additionalProperties": False,
    }
    if not kind.key:
        return one
    return {"type": "object", "propertyNames": kind.keys, "additionalProperties": one}


def _of_setting(shape: str, schema: Schema) -> Schema:
    if shape == SECRET:
        return _REFERENCE
    if shape == SECRETS:
        described = "env:NAME, file:/path, stored (keep what is stored), or plain:TEXT for what is no secret."
        return {"type": "object", "additionalProperties": {"type": "string", "description": described}}
    return schema


def check(source: Source, schema: Schema) -> list[str]:
    """A line for each thing that `schema` does not allow; none repeats a value, which may be a secret."""
    lines = []
    for error in Draft202012Validator(schema).iter_errors(source.value):
        path: Path = tuple(error.absolute_path)
        lines += [(source.lines.get(at, 0), source.say(at, words)) for at, words in _told(error, path)]
    return [words for _, words in sorted(lines)]


def _told(error: Any, path: Path) -> Iterator[tuple[Path, str]]:
    wants = error.validator_value
    match error.validator:
        case "additionalProperties":
            known = list(error.schema.get("properties", {}))
            for name in [name for name in error.instance if name not in known]:
                yield (*path, name), f"unknown{_suggestion(name, known)}"
        case "type":
            names = [wants] if isinstance(wants, str) else wants
            yield path, f"must be {' or '.join(_TYPES[name] for name in names)}"
        case "enum":
            known = [str(each) for each in wants if each != ""]
            at = (*path, error.instance) if "propertyNames" in error.absolute_schema_path else path
            said = error.instance if isinstance(error.instance, str) else ""
            names = ", ".join(known) if len(known) <= MOST_NAMED else f"the {len(known)} in configuration.schema.json"
            yield at, f"must be one of {names}{_suggestion(said, known)}"
        case "required":
            for name in [name for name in wants if name not in error.instance]:
                yield path, f"{name} is missing"
        case "const":
            yield path, f"must be {wants}"
        case "pattern":
            yield (*path, error.instance), "is no such name: lowercase letters, digits and single hyphens make one"
        case _:
            yield path, _BOUNDS.get(error.validator, "is not as it has to be").format(wants)


def _suggestion(name: str, known: list[str]) -> str:
    by_case = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.6)
    return f"; did you mean {by_case[near[0]]}?" if near else ""
