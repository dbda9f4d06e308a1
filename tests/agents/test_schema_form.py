"""A tool's JSON Schema as a form, and the form's data as arguments."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from agents.schema_check import check_arguments, is_simple_pattern
from agents.schema_form import ArgumentsForm
from agents.schema_slots import MAX_FIELDS, Slot, read_slots

Schema = dict[str, Any]


def an_object(required: tuple[str, ...] = (), /, **properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def name_of(*path: str) -> str:
    return Slot(path, {}, "string", False).field_name


def fill(schema: Schema, entered: dict[str, Any]) -> ArgumentsForm:
    """The form after somebody entered these texts by property name (dots reach into groups)."""
    form = ArgumentsForm(schema, {name_of(*path.split("/")): value for path, value in entered.items()})
    form.is_valid()
    return form


STRING, INTEGER, NUMBER, FLAG = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
UNIT = {"enum": ["celsius", "fahrenheit"]}


@pytest.mark.parametrize(
    ("schema", "entered", "arguments"),
    [
        pytest.param(an_object(("q",), q=STRING), {"q": " two  words "}, {"q": " two  words "}, id="text is kept"),
        pytest.param(an_object(q=STRING), {"q": ""}, {}, id="empty optional left out"),
        pytest.param(an_object(n=INTEGER), {"n": "7"}, {"n": 7}, id="integer"),
        pytest.param(an_object(n=INTEGER), {"n": "7.0"}, {"n": 7}, id="integer written as a float"),
        pytest.param(an_object(n=NUMBER), {"n": "7"}, {"n": 7}, id="a whole number stays whole"),
        pytest.param(an_object(n=NUMBER), {"n": "-1.5e3"}, {"n": -1500.0}, id="number"),
        pytest.param(an_object(("b",), b=FLAG), {}, {"b": False}, id="required flag unchecked is false"),
        pytest.param(an_object(("b",), b=FLAG), {"b": "on"}, {"b": True}, id="flag"),
        pytest.param(an_object(b={**FLAG, "default": True}), {}, {"b": False}, id="what is shown is what is sent"),
        pytest.param(an_object(b=FLAG), {"b": ""}, {}, id="an optional flag can be not set"),
        pytest.param(an_object(b=FLAG), {"b": "false"}, {"b": False}, id="an optional flag can be false"),
        pytest.param(an_object(u=UNIT), {"u": '"celsius"'}, {"u": "celsius"}, id="enum"),
        pytest.param(an_object(u={"enum": [1, None, "1"]}), {"u": "1"}, {"u": 1}, id="enum keeps the type"),
        pytest.param(an_object(u={"enum": [1, None, "1"]}), {"u": "null"}, {"u": None}, id="enum with null"),
        pytest.param(an_object(("v",), v={"const": 2}), {"v": "2"}, {"v": 2}, id="const"),
        pytest.param(
            an_object(u={"oneOf": [{"const": "a", "title": "First"}, {"const": "b"}]}), {"u": '"a"'}, {"u": "a"},
            id="alternatives of constants",
        ),
        pytest.param(
            an_object(t={"type": "array", "items": STRING}), {"t": "one\r\n\r\ntwo"}, {"t": ["one", "two"]}, id="lines"
        ),
        pytest.param(an_object(t={"type": "array", "items": INTEGER}), {"t": "1\n2"}, {"t": [1, 2]}, id="whole lines"),
        pytest.param(an_object(("t",), t={"type": "array", "items": STRING}), {"t": ""}, {"t": []}, id="empty list"),
        pytest.param(
            an_object(t={"type": "array", "items": UNIT}), {"t": ['"celsius"']}, {"t": ["celsius"]}, id="several"
        ),
        pytest.param(an_object(x={}), {"x": '{"a": [1]}'}, {"x": {"a": [1]}}, id="anything as JSON"),
        pytest.param(an_object(x=True), {"x": "3"}, {"x": 3}, id="boolean schema"),
        pytest.param(
            an_object(x={"anyOf": [STRING, {"type": "null"}], "default": None}), {"x": ""}, {}, id="text or null"
        ),
        pytest.param(an_object(("x",), x={"type": ["string", "null"]}), {"x": ""}, {"x": None}, id="required null"),
        pytest.param(an_object(x={"type": ["integer", "null"]}), {"x": "4"}, {"x": 4}, id="integer or null"),
        pytest.param(an_object(x={"anyOf": [STRING, INTEGER]}), {"x": '"5"'}, {"x": "5"}, id="two types as JSON"),
        pytest.param(an_object(x={"allOf": [UNIT]}), {"x": '"celsius"'}, {"x": "celsius"}, id="single allOf"),
        pytest.param(
            an_object(("where",), where=an_object(("city",), city=STRING)), {"where/city": "Oslo"},
            {"where": {"city": "Oslo"}}, id="nested object",
        ),
        pytest.param(
            an_object(where=an_object(("city",), city=STRING, n={**INTEGER, "default": 3})), {"where/n": "3"}, {},
            id="an untouched optional group is left out",
        ),
        pytest.param({"type": "object"}, {}, {}, id="no arguments"),
        pytest.param({}, {}, {}, id="empty schema"),
    ],
)  # fmt: skip
def test_entered_values_become_arguments(schema: Schema, entered: dict[str, Any], arguments: dict[str, Any]) -> None:
    form = fill(schema, entered)
    assert not form.errors
    assert form.arguments == arguments
    assert json.dumps(form.arguments) == json.dumps(arguments)


@pytest.mark.parametrize(
    ("schema", "entered", "field", "words"),
    [
        (an_object(("q",), q=STRING), {}, "q", "required"),
        (an_object(n=INTEGER), {"n": "1.5"}, "n", "whole number"),
        (an_object(n=INTEGER), {"n": "true"}, "n", "whole number"),
        (an_object(n=NUMBER), {"n": "NaN"}, "n", "Enter a number"),
        (an_object(n=NUMBER), {"n": "Infinity"}, "n", "Enter a number"),
        (an_object(n={**INTEGER, "minimum": 1, "maximum": 5}), {"n": "0"}, "n", "at least 1"),
        (an_object(n={**INTEGER, "maximum": 5}), {"n": "6"}, "n", "at most 5"),
        (an_object(n={**INTEGER, "exclusiveMaximum": 5}), {"n": "5"}, "n", "less than 5"),
        (an_object(q={**STRING, "minLength": 3}), {"q": "ab"}, "q", "at least 3"),
        (an_object(q={**STRING, "maxLength": 3}), {"q": "abcd"}, "q", "at most 3"),
        (an_object(q={**STRING, "pattern": r"^note-\d+$"}), {"q": "memo-1"}, "q", "pattern"),
        (an_object(q={**STRING, "format": "date"}), {"q": "2026-13-01"}, "q", "valid date"),
        (an_object(q={"anyOf": [{**STRING, "format": "date"}, {"type": "null"}]}), {"q": "x"}, "q", "valid date"),
        (an_object(u=UNIT), {"u": '"kelvin"'}, "u", "valid choice"),
        (an_object(t={"type": "array", "items": INTEGER}), {"t": "1\nx"}, "t", "whole number"),
        (an_object(t={"type": "array", "items": STRING, "maxItems": 1}), {"t": "a\nb"}, "t", "at most 1"),
        (an_object(x={}), {"x": "{"}, "x", "line 1"),
        (an_object(x={}), {"x": "[" * 100_000}, "x", "nested too deeply"),
        (an_object(w=an_object(("c", "d"), c=STRING, d=STRING)), {"w/c": "x"}, "w/d", "required"),
        (an_object(x={"type": "object", "additionalProperties": STRING}), {"x": '{"a": 1}'}, "x", "a: Must be string"),
    ],
)
def test_an_error_stands_beside_its_field(schema: Schema, entered: dict[str, Any], field: str, words: str) -> None:
    form = fill(schema, entered)
    assert words in str(form.errors[name_of(*field.split("/"))])


@pytest.mark.parametrize(
    "name", ["a.b", "two words", "class", "x" * 200, "", "é\u202e<b>", "__proto__", "csrfmiddlewaretoken"]
)
def test_any_property_name_works(name: str) -> None:
    schema = {"type": "object", "properties": {name: STRING, "other": STRING}, "required": [name]}
    form = ArgumentsForm(schema, {name_of(name): "v"})
    assert form.is_valid(), form.errors
    assert form.arguments == {name: "v"}
    assert "required" in str(ArgumentsForm(schema, {}).errors[name_of(name)])


def test_references_inside_the_schema_are_followed() -> None:
    schema = an_object(("unit",), unit={"$ref": "#/$defs/a~1b", "description": "Which"}) | {"$defs": {"a/b": UNIT}}
    form = fill(schema, {"unit": '"celsius"'})
    assert form.arguments == {"unit": "celsius"}
    assert next(form.leaves()).description == "Which"


@pytest.mark.parametrize(
    "odd",
    [
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#/$defs/loop"},
        {"$ref": 7},
        "text",
        None,
    ],
)
def test_a_property_that_cannot_be_read_takes_json(odd: Any) -> None:
    schema = an_object(x=odd) | {"$defs": {"loop": {"$ref": "#/$defs/loop"}}}
    form = fill(schema, {"x": '{"free": true}'})
    assert form.is_valid()
    assert form.arguments == {"x": {"free": True}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object", "additionalProperties": True},
        {"type": "object", "additionalProperties": STRING},
        {"type": "object", "properties": {}, "anyOf": [{"required": ["a"]}]},
        {"type": "object", "properties": []},
        {"$ref": "https://example.com/x"},
        an_object(**{f"p{n}": STRING for n in range(MAX_FIELDS + 1)}),
        None,
        [],
        "text",
    ],
)  # fmt: skip
def test_an_odd_schema_falls_back_to_one_json_textarea(schema: Any) -> None:
    form = ArgumentsForm(schema, {"whole_arguments": '{"a": 1}'})
    assert list(form.fields) == ["whole_arguments"]
    form.is_valid()
    assert form.arguments == {"a": 1}
    wrong = ArgumentsForm(schema, {"whole_arguments": "[1]"})
    assert "JSON object" in str(wrong.errors["whole_arguments"])


def test_a_schema_that_refers_to_itself_stays_small() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "value": STRING}}
    slots = read_slots(tree)
    assert slots is not None
    form = ArgumentsForm(tree, {name_of("value"): "x"})
    assert len(form.fields) <= MAX_FIELDS
    assert form.is_valid()
    assert form.arguments == {"value": "x"}


def test_words_of_the_server_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    schema = an_object(x={**STRING, "title": evil, "description": evil, "pattern": evil, "examples": [evil]})
    assert "<script" not in ArgumentsForm(schema).as_p()


def test_shared_arguments_fill_the_form_and_come_back_unchanged() -> None:
    schema = an_object(
        ("city",), city=STRING, days={**INTEGER, "default": 3}, wind={**FLAG, "default": False}, unit=UNIT, any={},
        tags={"type": "array", "items": STRING}, units={"type": "array", "items": UNIT},
        deep=an_object(a=an_object(b=NUMBER)),
    )  # fmt: skip
    arguments = {
        "city": "Oslo", "days": 5, "wind": True, "unit": "celsius", "any": {"k": [None]}, "tags": ["a", "b"],
        "units": ["fahrenheit"], "deep": {"a": {"b": 1.5}},
    }  # fmt: skip
    shown = ArgumentsForm(schema, arguments=arguments)
    again = ArgumentsForm(schema, {name: shown.initial.get(name) for name in shown.fields})
    assert again.is_valid(), again.errors
    assert again.arguments == arguments
    assert shown.covers(arguments) and not shown.covers({"unknown": 1})


def test_defaults_are_prefilled() -> None:
    form = ArgumentsForm(an_object(days={**INTEGER, "default": 3}, unit={**UNIT, "default": "celsius"}))
    assert form.initial == {name_of("days"): "3", name_of("unit"): '"celsius"'}


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)*$", r"(a)\1+", "a*a*a*a*a*b", "(?=a+)x", "(x{1,9}){1,9}"])
def test_a_pattern_that_could_hang_is_left_to_the_server(pattern: str) -> None:
    assert not is_simple_pattern(pattern)
    started = time.monotonic()
    assert not list(check_arguments(an_object(q={**STRING, "pattern": pattern}), {"q": "a" * 40 + "!"}))
    named = {"type": "object", "patternProperties": {pattern: {}}, "additionalProperties": False}
    assert not list(check_arguments(named, {"a" * 40 + "!": 1}))
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "pattern", [r"^note-\d+$", r"^[A-Z]{2}-\d{4}$", "^[0-9a-f]{8}-[0-9a-f]{4}$", r"^(?:abc)[^)+]$"]
)
def test_an_ordinary_pattern_is_checked(pattern: str) -> None:
    assert is_simple_pattern(pattern)
    assert list(check_arguments(an_object(q={**STRING, "pattern": pattern}), {"q": "#"}))
