"""What templates/gallery.html is filled with: every component of the design system in its states."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.core.paginator import Paginator
from django.utils import timezone


class GalleryForm(forms.Form):
    text = forms.CharField(help_text="Help says what is expected, with an example.")
    optional = forms.CharField(required=False)
    wrong = forms.URLField(assume_scheme="https", help_text="Shown with an error.")
    secret = forms.CharField(widget=forms.PasswordInput)
    number = forms.IntegerField(min_value=1, max_value=100)
    choice = forms.ChoiceField(choices=[("http", "Streamable HTTP"), ("sse", "Server-sent events")])
    auth = forms.ChoiceField(
        label="Choice cards",
        choices=[("none", "None"), ("key", "API key"), ("oauth", "OAuth")],
        widget=forms.RadioSelect,
    )
    radios = forms.ChoiceField(choices=[("a", "All members"), ("b", "Admins")], widget=forms.RadioSelect)
    several = forms.MultipleChoiceField(
        choices=[("r", "Read"), ("w", "Write"), ("x", "Call tools")],
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )
    check = forms.BooleanField(label="A checkbox", help_text="With help.", required=False)
    on = forms.BooleanField(label="A switch", help_text="Takes effect when the form is saved.", required=False)
    long = forms.CharField(label="Long text", widget=forms.Textarea(attrs={"rows": 3}), required=False)


def gallery_context() -> dict[str, Any]:
    now = timezone.now()
    data = {"text": "HubSpot", "wrong": "not a url", "auth": "oauth", "radios": "a", "on": "on", "choice": "http"}
    form = GalleryForm(data)
    return {
        "title": "Gallery",
        "form": form,
        "descriptions": {"none": "A public server", "key": "One shared key", "oauth": "Each person signs in"},
        "fields": [form[name] for name in ("text", "optional", "wrong", "secret", "number", "choice", "long")],
        "tones": ["neutral", "ok", "info", "warn", "error", "accent"],
        "page": Paginator(range(240), 12).page(4),
        "tabs": [{"label": "General", "url": "#", "active": True}, {"label": "Tools", "url": "#", "count": 9}],
        "items": [
            {"label": "Edit", "url": "#", "icon": "edit"},
            {"label": "Delete", "url": "#", "icon": "trash", "danger": True},
        ],
        "facts": [("Issuer", "https://auth.example.com"), ("Registered", "automatically"), ("Resource", "")],
        "columns": ["Name", "Role", "Last seen"],
        "rows": [["Ada Park", "Admin", "Just now"], ["Ben Ortiz", "Member", "2 days ago"]],
        "value": {"deals": [{"id": 901, "name": "Brightside renewal", "next_step": None, "won": False}]},
        "earlier": now - timedelta(minutes=3),
        "later": now + timedelta(days=3, hours=1),
    }
