"""Form fields that several pages share."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError


def parse_json(text: str) -> Any:
    """The JSON value in `text`. Raises ValidationError that says where it stops being JSON."""

    def refuse(constant: str) -> None:
        raise ValidationError(f"{constant} is not JSON.", code="json")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        problem = f"{error.msg[:1].lower()}{error.msg[1:]}"
        raise ValidationError(f"Not valid JSON at {where}: {problem}.", code="json") from None
    except ValueError:
        raise ValidationError("Not valid JSON: a number is too long.", code="json") from None
    except RecursionError:
        raise ValidationError("Not valid JSON: nested too deeply.", code="json") from None


class JsonObjectField(forms.CharField):
    """A textarea with a JSON object; cleans to a dict, `{}` when empty."""

    widget = forms.Textarea

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", forms.Textarea(attrs={"class": "code", "rows": 6, "spellcheck": "false"}))
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return json.dumps(value, indent=2, ensure_ascii=False) if value else ""
        return value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        parsed = parse_json(text) if text else {}
        if not isinstance(parsed, dict):
            raise ValidationError("Must be a JSON object: { … }.", code="object")
        return parsed

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(super().has_changed(self.prepare_value(initial), data))
