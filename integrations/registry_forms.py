"""The form that adds a server from an entry of a registry: one field for each thing the entry asks for."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.html import escape

from aster.errors import AsterError
from integrations.fields import SecretField
from integrations.registry.inputs import LONGEST_VALUE, Blank
from integrations.services.registry import SignIn
from integrations.services.registry_ways import Way

_AGAIN = "Enter it again: it was not kept."
SIGN_IN = ("token", "client_id", "client_secret")


class AddFromEntryForm(forms.Form):
    name = forms.CharField(max_length=100, help_text="Shown to everyone.")
    token = SecretField(label="Key", help_text="Sent as “Authorization: Bearer …”.")
    client_id = forms.CharField(
        label="Client ID", required=False, max_length=2000, widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="Of an app that you made at the provider, if it does not let Aster register itself.",
    )  # fmt: skip
    client_secret = SecretField(label="Client secret")

    def __init__(self, data: Any, *, way: Way, name: str) -> None:
        super().__init__(data, initial={"name": name})
        self.way = way
        self.names = {f"value_{number}": blank for number, blank in enumerate(way.asks)}
        self.fields |= {name: _field(blank) for name, blank in self.names.items()}
        self.offers_sign_in = way.remote is not None and not any(blank.input.is_secret for blank in way.asks)
        for name in () if self.offers_sign_in else SIGN_IN:
            del self.fields[name]

    @property
    def asked(self) -> list[forms.BoundField]:
        return [self[name] for name in self.names]

    @property
    def sign_in_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in SIGN_IN if name in self.fields]

    @property
    def has_sign_in_errors(self) -> bool:
        return any(name in self.errors for name in SIGN_IN)

    def values(self) -> dict[str, str]:
        return {blank.key: self.cleaned_data[name] for name, blank in self.names.items()}

    def sign_in(self) -> SignIn:
        return SignIn(**{name: self.cleaned_data.get(name, "") for name in SIGN_IN})

    def refuse(self, error: AsterError) -> None:
        """Put what the service refused beside the fields it is about."""
        ours = {f"values.{blank.key}": name for name, blank in self.names.items()}
        placed = False
        for name, words in error.fields.items():
            field = ours.get(name, name)
            for word in words:
                self.add_error(field if field in self.fields else None, word)
                placed = True
        if not placed:
            self.add_error(None, error.message)

    def ask_again(self) -> None:
        for name, field in self.fields.items():
            if isinstance(field, SecretField) and self.data.get(name) and not self.has_error(name):
                self.add_error(name, _AGAIN)


def _field(blank: Blank) -> forms.Field:
    given = blank.input
    # A stranger's words: help texts are written into pages as they are.
    common: dict[str, Any] = {
        "label": given.name,
        "required": given.is_required,
        "help_text": escape(given.description),
    }
    if blank.choices:
        pairs = [(each, each) for each in blank.choices]
        empty = [] if given.is_required and given.default in blank.choices else [("", "Choose one")]
        return forms.ChoiceField(**common, choices=[*empty, *pairs], initial=given.default)
    if given.is_secret:
        field = SecretField(**{**common, "max_length": LONGEST_VALUE})
        field.widget.attrs["placeholder"] = given.placeholder
        return field
    attrs = {"placeholder": given.placeholder, "autocomplete": "off", "spellcheck": "false"}
    widget = forms.TextInput(attrs)
    return forms.CharField(**common, initial=given.default, max_length=LONGEST_VALUE, widget=widget)
