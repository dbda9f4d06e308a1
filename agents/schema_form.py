"""A form for a tool's arguments from its JSON Schema, and from what was entered back to the arguments.

Pure: no database, no network. What the schema says is read by `schema_slots` and checked by `schema_check`; here it
becomes fields, and its words, which a server wrote, are escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms import BoundField
from django.utils.html import escape

from agents.schema_check import check_arguments
from agents.schema_slots import OMIT, Omit, Schema, Slot, options_of, read_slots
from aster.form_fields import JsonObjectField, parse_json

_LONG_TEXT = {"body", "content", "code", "html", "markdown", "message", "prompt", "query_sql", "sql", "text"}
_INPUT_TYPES = {"date": "date", "email": "email", "uri": "url", "password": "password"}


# --- Fields -----------------------------------------------------------------------------------------------------------


def _parse_number(text: str, *, whole: bool) -> int | float:
    try:
        value = parse_json(text.strip())
    except ValidationError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValidationError("Enter a whole number." if whole else "Enter a number.", code="number")
    if whole and isinstance(value, float):
        if not value.is_integer():
            raise ValidationError("Enter a whole number.", code="number")
        return int(value)
    return value


def _parse_line(line: str, kind: str) -> Any:
    return line if kind == "string" else _parse_number(line, whole=kind == "integer")


def _parse(slot: Slot, text: Any) -> Any:
    """The JSON value of what was entered into a field, or OMIT."""
    if slot.kind == "flag":
        return bool(text)
    if slot.kind == "choices":
        return [json.loads(each) for each in text] or ([] if slot.required else OMIT)
    if slot.kind == "lines":
        kind = str(slot.schema["items"]["type"])
        lines = [line for line in str(text).splitlines() if line.strip()]
        return [_parse_line(line, kind) for line in lines] if lines or slot.required else OMIT
    if text in (None, ""):
        return None if slot.required and slot.nullable else OMIT
    if slot.kind in ("integer", "number"):
        return _parse_number(str(text), whole=slot.kind == "integer")
    return parse_json(str(text)) if slot.kind in ("json", "choice") else str(text)


def _show(slot: Slot, value: Any) -> Any:
    """The reverse of `_parse`: what the field shows for a JSON value."""
    if slot.kind == "flag":
        return value is True
    if slot.kind == "choices":
        return [json.dumps(each) for each in value] if isinstance(value, list) else []
    if slot.kind == "choice":
        return json.dumps(value)
    if slot.kind == "lines":
        return "\n".join(map(str, value)) if isinstance(value, list) else ""
    if slot.kind == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    return "" if value is None else str(value)


def _limits(schema: Schema) -> Iterator[str]:
    """The limits that the schema sets, in words."""
    yield from _range(schema.get("minimum"), schema.get("maximum"), "")
    least = schema.get("minLength")
    yield from _range(least if least != 1 else None, schema.get("maxLength"), " characters")
    yield from _range(schema.get("minItems"), schema.get("maxItems"), " entries")
    if isinstance(schema.get("exclusiveMinimum"), int | float):
        yield f"More than {schema['exclusiveMinimum']}."
    if isinstance(schema.get("exclusiveMaximum"), int | float):
        yield f"Less than {schema['exclusiveMaximum']}."
    if isinstance(schema.get("pattern"), str):
        yield f"Pattern {schema['pattern'][:120]}"


def _range(least: Any, most: Any, unit: str) -> Iterator[str]:
    has_least, has_most = (isinstance(each, int | float) for each in (least, most))
    if has_least and has_most:
        yield f"From {least} to {most}{unit}."
    elif has_least or has_most:
        yield f"At least {least}{unit}." if has_least else f"At most {most}{unit}."


def _help(slot: Slot) -> str:
    text = slot.description
    parts = [text if not text or text[-1] in ".!?:" else f"{text}."]
    parts += ["One per line."] if slot.kind == "lines" else []
    parts += ["As JSON."] if slot.kind == "json" else []
    limits = slot.schema["items"] if slot.kind in ("lines", "choices") else slot.schema
    parts += list(_limits(limits)) if slot.kind in ("lines", "string", "integer", "number") else []
    # Shown as it is by the field component, so it must be escaped here.
    return escape(" ".join(filter(None, parts)))


def _text_widget(slot: Slot) -> forms.Widget:
    limit = slot.schema.get("maxLength")
    attrs: dict[str, Any] = {}
    examples = slot.schema.get("examples")
    if isinstance(examples, list) and examples and isinstance(examples[0], str | int | float):
        attrs["placeholder"] = str(examples[0])[:100]
    if (isinstance(limit, int) and limit > 200) or slot.path[-1].lower() in _LONG_TEXT:
        return forms.Textarea(attrs={**attrs, "rows": 4})
    kind = _INPUT_TYPES.get(str(slot.schema.get("format")), "text")
    if slot.schema.get("format") == "date-time":
        attrs["placeholder"] = "2026-01-31T09:00:00Z"
    return forms.TextInput(attrs={**attrs, "type": kind, "autocomplete": "off"})


def _choices(slot: Slot) -> list[tuple[str, str]]:
    schema = slot.schema["items"] if slot.kind == "choices" else slot.schema
    options = options_of(schema) or [(True, "Yes"), (False, "No")]
    return [(json.dumps(value), words) for value, words in options]


def make_field(slot: Slot) -> forms.Field:
    common: dict[str, Any] = {
        "label": slot.label,
        "help_text": _help(slot),
        "required": slot.required and not slot.nullable and slot.kind not in ("flag", "choices", "lines"),
    }
    code = forms.Textarea(attrs={"class": "code", "rows": 4, "spellcheck": "false"})
    makers: dict[str, Callable[[], forms.Field]] = {
        "flag": lambda: forms.BooleanField(**common),
        "choice": lambda: forms.ChoiceField(
            choices=_choices(slot) if common["required"] else [("", "Not set"), *_choices(slot)], **common
        ),
        "choices": lambda: forms.MultipleChoiceField(
            choices=_choices(slot), widget=forms.CheckboxSelectMultiple, **common
        ),
        "lines": lambda: forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), strip=False, **common),
        "json": lambda: forms.CharField(widget=code, **common),
        "string": lambda: forms.CharField(widget=_text_widget(slot), strip=False, **common),
    }
    number = lambda: forms.CharField(  # noqa: E731
        widget=forms.NumberInput(attrs={"step": "1" if slot.kind == "integer" else "any", "autocomplete": "off"}),
        **common,
    )
    return makers.get(slot.kind, number)()


# --- The form ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What a template draws: one bound field, or a titled group of rows."""

    bound: BoundField | None
    title: str = ""
    text: str = ""
    rows: list[Row] = field(default_factory=list)
    switch: bool = False
    required: bool = False

    @property
    def hide_optional(self) -> bool:
        """A switch always has a value, and a required list is not optional although an empty one can be sent."""
        return self.switch or self.required


class ArgumentsForm(forms.Form):
    """The arguments of one tool. `arguments` fills it in; after `is_valid()` they are in `self.arguments`."""

    WHOLE = "whole_arguments"

    def __init__(
        self, schema: Any, data: Mapping[str, Any] | None = None, *, arguments: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(data)
        self.schema = schema
        self.slots = read_slots(schema)
        self.arguments: dict[str, Any] = {}
        if self.slots is None:
            help_text = "This tool's schema has no plain form. Write its arguments as a JSON object."
            self.fields[self.WHOLE] = JsonObjectField(label="Arguments", help_text=help_text, required=False)
            self.initial[self.WHOLE] = dict(arguments or {})
            return
        for slot in self.leaves():
            self.fields[slot.field_name] = make_field(slot)
            value = _value_at(arguments, slot.path) if arguments is not None else slot.default
            if not isinstance(value, Omit):
                self.initial[slot.field_name] = _show(slot, value)

    def leaves(self, slots: Iterable[Slot] | None = None) -> Iterator[Slot]:
        for slot in self.slots or () if slots is None else slots:
            if slot.children:
                yield from self.leaves(slot.children)
            else:
                yield slot

    def covers(self, arguments: Mapping[str, Any]) -> bool:
        """Whether the form can show all of these arguments."""
        return self.slots is None or set(arguments) <= {slot.path[0] for slot in self.slots}

    @property
    def rows(self) -> list[Row]:
        return [Row(self[self.WHOLE])] if self.slots is None else [self._row(slot) for slot in self.slots]

    def _row(self, slot: Slot) -> Row:
        if slot.children:
            return Row(None, slot.label, slot.description, [self._row(child) for child in slot.children])
        return Row(self[slot.field_name], switch=slot.kind == "flag", required=slot.required)

    def clean(self) -> dict[str, Any]:
        if self.slots is None:
            self.arguments = self.cleaned_data.get(self.WHOLE) or {}
        else:
            self.arguments = self._collect(self.slots)
        if not self.errors:
            for path, message in islice(check_arguments(self.schema, self.arguments), 20):
                self._place(path, message)
        return self.cleaned_data

    def _collect(self, slots: Iterable[Slot]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for slot in slots:
            value = self._collect_group(slot) if slot.children else self._entered(slot)
            if not isinstance(value, Omit):
                values[slot.path[-1]] = value
        return values

    def _collect_group(self, slot: Slot) -> Any:
        values = self._collect(slot.children)
        defaults = {child.path[-1]: child.default for child in slot.children}
        untouched = all(values[name] == defaults[name] for name in values)
        return OMIT if untouched and not slot.required else values

    def _entered(self, slot: Slot) -> Any:
        if slot.field_name not in self.cleaned_data:
            return OMIT
        try:
            return _parse(slot, self.cleaned_data[slot.field_name])
        except ValidationError as error:
            self.add_error(slot.field_name, error)
            return OMIT

    def _place(self, path: tuple[str, ...], message: str) -> None:
        """Put an error beside the field it is about: the one with the longest matching path."""
        near = [slot for slot in self.leaves() if path[: len(slot.path)] == slot.path]
        if self.slots is None:
            self.add_error(self.WHOLE, f"{'.'.join(path)}: {message}" if path else message)
        elif near:
            deeper = ".".join(path[len(near[0].path) :])
            self.add_error(near[0].field_name, f"{deeper}: {message}" if deeper else message)
        else:
            self.add_error(None, f"{'.'.join(path)}: {message}" if path else message)


def _value_at(arguments: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = arguments
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return OMIT
        found = found[name]
    return found
