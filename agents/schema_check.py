"""Do arguments fit a tool's JSON Schema? Asked before a call, to put errors beside fields; the server decides.

Pure. Remote references are never followed, and a server's regular expressions run only when they cannot hang a thread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

MAX_SCHEMA = 200_000
_FORMATS = FormatChecker(formats=("date", "email", "ipv4", "ipv6", "uuid"))
_CLASS_OR_ESCAPE = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]|\\.")

_SENTENCES = {
    "required": "This field is required.",
    "minLength": "Enter at least {} characters.",
    "maxLength": "Enter at most {} characters.",
    "minimum": "Must be at least {}.",
    "maximum": "Must be at most {}.",
    "exclusiveMinimum": "Must be more than {}.",
    "exclusiveMaximum": "Must be less than {}.",
    "multipleOf": "Must be a multiple of {}.",
    "minItems": "Give at least {}.",
    "maxItems": "Give at most {}.",
    "pattern": "Must match the pattern {}",
    "format": "Is not a valid {}.",
    "const": "Must be {}.",
    "additionalProperties": "Has a property that the tool does not know.",
    "uniqueItems": "Must not repeat a value.",
}


def is_simple_pattern(pattern: str) -> bool:
    """Whether matching it takes at most quadratic time: no repeated groups, no back references, two open repeats."""
    bare = _CLASS_OR_ESCAPE.sub("x", pattern)
    refers = re.search(r"\\[1-9]|\(\?(?!:)", pattern)
    repeated_group = re.search(r"\)[*+?{]", bare)
    open_repeats = len(re.findall(r"[*+?]|\{\d*,\d*\}", bare.replace("(?:", "(")))
    return len(pattern) <= 300 and not refers and not repeated_group and open_repeats <= 2


def _check_pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, str) or not isinstance(pattern, str) or len(instance) > 1000:
        return
    try:
        fits = not is_simple_pattern(pattern) or re.search(pattern, instance)
    except re.error:
        return
    if not fits:
        yield ValidationError(f"Does not match {pattern}")


def _skip(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    return iter(())


def _check_additional(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    # The library would match the names against patternProperties, whatever those patterns are.
    if "patternProperties" not in schema:
        yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, value, instance, schema)


_Validator = cast(Any, extend)(
    Draft202012Validator,
    {
        "pattern": _check_pattern,
        "patternProperties": _skip,
        "additionalProperties": _check_additional,
        "unevaluatedProperties": _skip,
        "unevaluatedItems": _skip,
    },
)


def check_arguments(schema: Any, arguments: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path, words) of everything wrong with `arguments`. Nothing is found in a schema that cannot be used."""
    try:
        if not isinstance(schema, dict) or len(json.dumps(schema)) > MAX_SCHEMA:
            return
        Draft202012Validator.check_schema(schema)
        # An empty registry: whatever is not inside the schema is unknown, nothing is fetched.
        validator = _Validator(schema, registry=Registry(), format_checker=_FORMATS)
        found = [_nearest(error) for error in validator.iter_errors(arguments)]
    except (SchemaError, Unresolvable, RecursionError, re.error, TypeError, ValueError):
        return
    for error in found:
        for path in _paths(error):
            yield path, _word(error)


def _nearest(error: ValidationError) -> ValidationError:
    """In "this or null", the error that is not about null."""
    inner = [each for each in error.context or () if each.validator_value != "null"]
    return _nearest(inner[0]) if error.validator in ("anyOf", "oneOf") and len(inner) == 1 else error


def _paths(error: ValidationError) -> list[tuple[str, ...]]:
    here = tuple(map(str, error.absolute_path))
    if error.validator == "required" and isinstance(error.instance, dict):
        # One error names one missing property, but only in its words.
        missing = [name for name in cast(list[str], error.validator_value) if name not in error.instance]
        named = [name for name in missing if error.message.startswith(repr(name))]
        return [(*here, name) for name in named[:1]] or [here]
    return [here]


def _word(error: ValidationError) -> str:
    kind, value = str(error.validator), cast(Any, error.validator_value)
    if kind == "type":
        return f"Must be {' or '.join(value) if isinstance(value, list) else value}."
    if kind == "enum":
        return f"Must be one of {', '.join(json.dumps(each) for each in value[:10])}."
    if kind in _SENTENCES:
        return _SENTENCES[kind].format(str(value)[:120])
    return error.message[:200]
