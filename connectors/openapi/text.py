"""The text of an OpenAPI document as JSON values: JSON, or the part of YAML that means the same.

OpenAPI takes YAML 1.2 with its JSON schema (https://spec.openapis.org/oas/v3.1.1.html#format): `yes`, `12:30` and
`2024-01-31` are texts there, not what YAML 1.1 makes of them.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from aster.errors import InvalidInput

MAX_BYTES = 10 * 1024 * 1024
MAX_NESTING = 100
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is some ten times faster
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,400}\Z")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_TAGS = {None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null"))}


def parse_text(text: str) -> dict[str, Any]:
    """The document, or InvalidInput that says what is wrong with it."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise invalid_document(f"The document is larger than {MAX_BYTES // 1048576} MB.")
    text = text.removeprefix("\ufeff")
    try:
        document = json.loads(text, parse_constant=_refuse) if text.lstrip().startswith("{") else _parsed_yaml(text)
        json.dumps(document, allow_nan=False)  # 1e999 is a number that JSON cannot say
    except (ValueError, yaml.YAMLError):
        raise invalid_document("The document is neither JSON nor YAML.") from None
    except RecursionError:
        raise invalid_document("The document is nested too deeply.") from None
    if not isinstance(document, dict):
        raise invalid_document("The document is not an object.")
    return document


def _refuse(name: str) -> None:
    raise ValueError(name)


def _parsed_yaml(text: str) -> Any:
    """From the parser's events, in one pass: depth costs no stack, and an alias, of which a few lines can stand for
    billions of values, is seen before it stands for anything."""
    stack: list[_Open] = [_Open([])]
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.ScalarEvent):
            stack[-1].add(_scalar(event))
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(stack) > MAX_NESTING:
                raise RecursionError
            _check_tag(event.tag)
            stack.append(_Open({} if isinstance(event, yaml.MappingStartEvent) else []))
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = stack.pop()
            stack[-1].add(ended.values)
        elif isinstance(event, yaml.AliasEvent):
            words = "The document uses YAML aliases (*name), which can stand for any amount of text. Write it as JSON."
            raise invalid_document(words)
    documents = stack[0].values
    if len(documents) != 1:
        raise ValueError("not one document")
    return documents[0]


class _Open:
    """A list or an object that is being read; in an object every second value is a name."""

    __slots__ = ("name", "values")

    def __init__(self, values: Any) -> None:
        self.values = values
        self.name: str | None = None

    def add(self, value: Any) -> None:
        if isinstance(self.values, list):
            self.values.append(value)
        elif self.name is None:
            # `200:` and `true:` are texts in JSON
            self.name = value if isinstance(value, str) else json.dumps(value)
        else:
            self.values[self.name], self.name = value, None


def _scalar(event: yaml.ScalarEvent) -> Any:
    _check_tag(event.tag)
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] in "-+.0123456789":
        if _INTEGER.match(text):
            return int(text)
        if _NUMBER.match(text):
            return float(text)
    return text


def _check_tag(tag: str | None) -> None:
    if tag not in _TAGS:
        raise ValueError("JSON has nothing like it")


def invalid_document(words: str) -> InvalidInput:
    return InvalidInput(words, code="invalid_document", fields={"document": [words]})
