"""Template tags and filters of the hub's design system; a builtins library, so no page has to load it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from zlib import crc32

from django import template
from django.forms import BoundField
from django.utils import timezone
from django.utils.html import conditional_escape, escape, format_html
from django.utils.safestring import SafeString, mark_safe

from .icons import ICONS

register = template.Library()

TINTS = 8
_UNITS = ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))
_JSON_TOKEN = re.compile(r'("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')
_CONTROL = re.compile(r'<(input(?! type="hidden")|select|textarea)(?= )')
_SHORT = re.compile(r"\b(api|id|llm|mcp|url|uri)\b", re.IGNORECASE)
_BOOLEAN_IMAGE = re.compile(r'<img src="[^"]*" alt="(True|False|None)">')


@register.simple_tag
def icon(name: str, css_class: str = "") -> SafeString:
    """An inline SVG icon, hidden from screen readers: words beside it carry the meaning. An unknown name is a bug."""
    classes = f"icon {css_class}".strip()
    return format_html(
        '<svg class="{}" viewBox="0 0 24 24" width="18" height="18" fill="none" stroke="currentColor"'
        ' stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{}</svg>',
        classes,
        mark_safe(ICONS[name]),  # noqa: S308  (our own constant)
    )


@register.simple_tag
def avatar(name: object, size: str = "", person: bool = False) -> SafeString:
    """The first letter (two letters and round for a `person`) on a tint that is always the same for a name.

    `size` is "", "sm" or "lg".
    """
    text = str(name or "?").strip() or "?"
    words = re.findall(r"\w+", text) or [text]
    letters = words[0][0] + (words[-1][0] if person and len(words) > 1 else "")
    classes = ["avatar", f"tint-{crc32(text.lower().encode()) % TINTS}"]
    classes += [size] if size else []
    classes += ["round"] if person else []
    return format_html('<span class="{}" aria-hidden="true">{}</span>', " ".join(classes), letters.upper())


def describe_age(then: datetime, now: datetime) -> str:
    """Say how far `then` lies from `now` in the largest whole unit: "3 minutes ago", "in 2 hours", "just now"."""
    seconds = (now - then).total_seconds()
    for size, unit in _UNITS:
        count = int(abs(seconds) // size)
        if count:
            words = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"{words} ago" if seconds > 0 else f"in {words}"
    return "just now" if seconds >= 0 else "in a moment"


@register.filter
def relative_time(value: datetime | None, never: str = "Never") -> SafeString | str:
    """A `<time>` element that says how long ago, with the exact UTC moment as its title; `never` when there is none."""
    if not value:
        return never
    moment = value if timezone.is_aware(value) else timezone.make_aware(value)
    exact = moment.astimezone(timezone.get_default_timezone())
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        exact.isoformat(timespec="seconds"),
        f"{exact:%d %b %Y, %H:%M:%S %Z}",
        describe_age(moment, timezone.now()),
    )


@register.filter
def duration_ms(value: float | None) -> str:
    """Milliseconds for people: "820 ms", "1.2 s", "2 min 5 s"; an en dash for None."""
    if value is None:
        return "\N{EN DASH}"
    if value < 1000:
        return f"{round(value)} ms"
    if value < 60_000:
        return f"{value / 1000:.1f} s"
    minutes, rest = divmod(round(value / 1000), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


@register.filter
def pretty_json(value: object) -> str:
    """Indented JSON of a value, or of a text that is JSON; any other text comes back unchanged."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


@register.filter
def highlight_json(value: object) -> SafeString:
    """`pretty_json` with spans for keys (k), texts (s), numbers (n) and constants (c); everything is escaped."""
    text = pretty_json(value)
    if not text.lstrip().startswith(("{", "[")):
        return escape(text)
    parts: list[str] = []
    end = 0
    for found in _JSON_TOKEN.finditer(text):
        string, colon, constant, _number = found.groups()
        kind = "k" if colon else "s" if string else "c" if constant else "n"
        parts += [escape(text[end : found.start()]), f'<span class="{kind}">', escape(string or found[0]), "</span>"]
        parts.append(colon or "")
        end = found.end()
    return mark_safe("".join([*parts, escape(text[end:])]))  # noqa: S308  (each part is escaped above)


def json_block(value: object, label: str) -> SafeString:
    """`highlight_json` as a block of its own, for read-only fields of change forms."""
    block = '<div class="code"><pre tabindex="0" role="group" aria-label="{}">{}</pre></div>'
    return format_html(block, label, highlight_json(value))


@register.filter
def get_key(mapping: Mapping[Any, Any] | None, key: Any) -> Any:
    """`mapping[key]`, also when the form's value is text and the key is not; "" when it is missing."""
    found = (mapping or {}).get(key)
    return (mapping or {}).get(str(key), "") if found is None else found


@register.filter
def named_parts(field: BoundField) -> SafeString:
    """The widget of a field; the halves of a date and time get names of their own, which Django leaves out."""
    html = str(field)
    for css_class, name in (("vDateField", "Date"), ("vTimeField", "Time")):
        if field.use_fieldset:
            html = html.replace(
                f'class="{css_class}"', f'class="{css_class}" aria-label="{escape(field.label)}: {name}"'
            )
    return mark_safe(html)  # noqa: S308  (the widget's own HTML)


@register.filter
def as_label(text: object) -> str:
    """The name of a model's field as a heading: "llm config" becomes "LLM config". HTML is left alone."""
    if isinstance(text, SafeString):
        return text
    words = _SHORT.sub(lambda found: found[0].upper(), str(text))
    return words[:1].upper() + words[1:]


@register.filter
def thousands(number: int) -> str:
    return f"{number:,}"


@register.filter
def worded_booleans(html: str) -> SafeString:
    """Badges in place of the pictures that Django's admin has for yes and no."""
    return mark_safe(_BOOLEAN_IMAGE.sub(_word_boolean, conditional_escape(html)))  # noqa: S308  (escaped or safe already)


@register.simple_tag
def admin_cells(cells: Iterable[str], headers: Sequence[Mapping[str, Any]]) -> SafeString:
    """The cells of one change list row with their column's name (for stacked rows on phones) and worded booleans."""
    return mark_safe("".join(_labelled_cells(cells, headers)))  # noqa: S308  (cells are the admin's own safe HTML)


def _labelled_cells(cells: Iterable[str], headers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for index, cell in enumerate(cells):
        header = headers[index] if index < len(headers) else {}
        label = str(header.get("text", "")) if "action-checkbox" not in str(header.get("class_attrib", "")) else ""
        start = f'{cell[:3]} data-label="{escape(as_label(label))}"'
        rest = cell[3:] if "aria-label" in cell else _CONTROL.sub(rf'<\1 aria-label="{escape(label)}"', cell[3:])
        yield _BOOLEAN_IMAGE.sub(_word_boolean, start + rest)


def _word_boolean(found: re.Match[str]) -> str:
    tone, name, word = {
        "True": ("ok", "check-circle", "Yes"),
        "False": ("neutral", "minus-circle", "No"),
        "None": ("neutral", "help", "Unknown"),
    }[found[1]]
    return format_html('<span class="badge {}">{}{}</span>', tone, icon(name), word)


@register.simple_tag
def active_filters(cl: Any) -> list[dict[str, str]]:
    """The filters that narrow a change list: `title`, `value` and the `url` that lifts each one."""
    chips: list[dict[str, str]] = []
    for spec in cl.filter_specs:
        choices = list(spec.choices(cl))
        chosen = [choice for choice in choices[1:] if choice.get("selected")]
        chips += [
            {"title": str(spec.title), "value": str(choice["display"]), "url": str(choices[0]["query_string"])}
            for choice in chosen
        ]
    return chips


@register.simple_tag
def page_numbers(page: Any) -> list[int | str]:
    """The page numbers to offer around a paginator's page, with the paginator's ellipsis between far ones."""
    return list(page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1))
