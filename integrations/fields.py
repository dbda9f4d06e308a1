"""Form fields of the integrations pages: lists and name-value pairs as lines of text, and secrets never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from aster.accounts.audit import REDACTED

MAX_TEXT = 100_000


class WordsField(forms.CharField):
    """A list of words: scopes or addresses, with spaces or line breaks between."""

    def __init__(self, *, rows: int = 2, mono: bool = True, **kwargs: Any) -> None:
        attrs = {"rows": rows, "spellcheck": "false", "class": "mono" if mono else ""}
        super().__init__(**{"required": False, "max_length": MAX_TEXT, **kwargs}, widget=forms.Textarea(attrs))

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, list) else str(value or "").split()

    def run_validators(self, value: Any) -> None:
        super().run_validators(" ".join(value))


class LinesField(WordsField):
    """A list of texts, one per line; spaces belong to the text."""

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]


class PairsField(forms.CharField):
    """Names and values, one pair per line: `Name: value` or `name=value`."""

    def __init__(self, *, separator: str = "=", rows: int = 2, **kwargs: Any) -> None:
        self.separator = separator
        attrs = {"rows": rows, "spellcheck": "false", "autocomplete": "off", "class": "mono"}
        super().__init__(**{"required": False, "max_length": MAX_TEXT, **kwargs}, widget=forms.Textarea(attrs))

    def prepare_value(self, value: Any) -> Any:
        return self.write(value) if isinstance(value, Mapping) else value

    def write(self, pairs: Mapping[str, str]) -> str:
        gap = " " if self.separator == ":" else ""
        return "\n".join(f"{name}{self.separator}{gap}{value}" for name, value in pairs.items())

    def to_python(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return dict(value)
        pairs: dict[str, str] = {}
        for number, line in enumerate(str(value or "").splitlines(), start=1):
            if not line.strip():
                continue
            name, found, text = line.partition(self.separator)
            name = name.strip()
            if not found or not name:
                raise ValidationError(f"Line {number} is not written as name{self.separator} value.", code="pair")
            if name in pairs:
                raise ValidationError(f"{name[:60]} is there twice.", code="pair")
            pairs[name] = text.strip()
        return pairs

    def run_validators(self, value: Any) -> None:
        super().run_validators(self.write(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.write(initial or {}) != str(data or ""))


class SecretPairsField(PairsField):
    """Pairs whose values are secret. A page shows `[REDACTED]` for each stored one, which means: keep it."""

    def prepare_value(self, value: Any) -> Any:
        return self.write(dict.fromkeys(value, REDACTED) if isinstance(value, Mapping) else self._readable(value))

    def _readable(self, text: Any) -> dict[str, str]:
        """The names of what was typed; values only where they stand for a stored one."""
        pairs: dict[str, str] = {}
        for line in str(text or "").splitlines():
            name, _, value = line.partition(self.separator)
            # A line without a separator may be a pasted secret.
            if self.separator in line and name.strip():
                pairs[name.strip()] = REDACTED if value.strip() == REDACTED else ""
        return pairs

    def merge(self, sent: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
        """`sent` with every `[REDACTED]` replaced by what is stored under that name. Raises ValidationError."""
        merged: dict[str, str] = {}
        for name, value in sent.items():
            if value == REDACTED and name not in stored:
                raise ValidationError(f"There is no stored value for {name[:60]}: enter it.", code="pair")
            if not value:
                raise ValidationError(f"Enter the value of {name[:60]}.", code="pair")
            merged[name] = stored[name] if value == REDACTED else value
        return merged

    def lost_by(self, text: Any) -> bool:
        """Whether showing `text` again leaves out something that was typed."""
        return any(line.strip() not in self.write(self._readable(text)).splitlines() for line in _lines(text))


def _lines(text: Any) -> list[str]:
    return [line for line in str(text or "").splitlines() if line.strip()]


class SecretField(forms.CharField):
    """A secret that can be typed or replaced, never read."""

    def __init__(self, **kwargs: Any) -> None:
        # "new-password" keeps the browser from filling in the person's own password.
        attrs = {"autocomplete": "new-password", "spellcheck": "false", "class": "mono"}
        widget = forms.PasswordInput(attrs, render_value=False)
        super().__init__(**{"required": False, "max_length": MAX_TEXT, **kwargs}, widget=widget)

    def prepare_value(self, value: Any) -> Any:
        return ""


class SecretTextField(SecretField):
    """A secret of several lines, such as a private key."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widget = forms.Textarea({"rows": 3, "spellcheck": "false", "autocomplete": "off", "class": "mono"})
