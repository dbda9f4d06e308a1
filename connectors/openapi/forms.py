"""What an admin enters to make a connector from an OpenAPI document, and what can be changed later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.html import escape

from connectors.forms import SwitchesForm
from connectors.openapi.document import Document, Operation
from connectors.openapi.documents import propose_scope
from connectors.openapi.services import ApiSettings, Choice
from connectors.openapi.sign_in import API_KEY, BASIC, HEADER, KINDS, OAUTH, Credentials, SignIn, kind_of
from connectors.openapi.text import MAX_BYTES
from integrations.fields import WordsField
from integrations.models import McpServer

_SECRET = forms.PasswordInput(attrs={"autocomplete": "new-password"})
_PLAIN = forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
_STORED = "One is stored. Leave this empty to keep it, or enter a new one to replace it."
_NEVER_SHOWN = "Stored encrypted and never shown again."
SECRETS = ("api_key", "password", "client_secret")


class DocumentForm(forms.Form):
    document_url = forms.CharField(
        label="Address", max_length=2000, required=False, widget=_PLAIN,
        help_text="Fetched once, now. Often …/openapi.json or …/openapi.yaml.",
    )  # fmt: skip
    file = forms.FileField(label="File", required=False, help_text=f"JSON or YAML, at most {MAX_BYTES // 1048576} MB.")
    document = forms.CharField(
        label="Text", required=False, strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "class": "mono"}),
        help_text="Up to 2 MB. Give longer ones as a file.",
    )  # fmt: skip

    def clean_file(self) -> str:
        file: UploadedFile[Any] | None = self.cleaned_data["file"]
        if file is None:
            return ""
        if (file.size or 0) > MAX_BYTES:
            raise ValidationError(f"The file is larger than {MAX_BYTES // 1048576} MB.")
        try:
            return str(file.read().decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ValidationError("The file is not text in UTF-8.") from None

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if not self.errors and sum(1 for name in self.fields if given.get(name)) != 1:
            raise ValidationError("Give the document in one of these ways.")
        return given


class ApiConnectorForm(SwitchesForm):
    name = forms.CharField(max_length=100)
    url = forms.CharField(label="Address of the API", max_length=2000, widget=_PLAIN)
    sign_in = forms.ChoiceField(label="Sign-in", choices=list(KINDS.items()))
    header = forms.CharField(
        label="Header", max_length=100, required=False, widget=_PLAIN, help_text="Carries the key."
    )
    api_key = forms.CharField(label="API key", max_length=5000, required=False, widget=_SECRET)
    username = forms.CharField(label="User name", max_length=200, required=False, widget=_PLAIN)
    password = forms.CharField(max_length=5000, required=False, widget=_SECRET)
    client_id = forms.CharField(label="Client ID", max_length=2000, required=False, widget=_PLAIN)
    client_secret = forms.CharField(max_length=5000, required=False, widget=_SECRET)
    authorization_url = forms.CharField(label="Authorization URL", max_length=2000, required=False, widget=_PLAIN)
    token_url = forms.CharField(label="Token URL", max_length=2000, required=False, widget=_PLAIN)
    scopes = WordsField(help_text="What people are asked to grant, with spaces between.")

    of_kind = {
        HEADER: ("header", "api_key"), API_KEY: ("api_key",), BASIC: ("username", "password"),
        OAUTH: ("client_id", "client_secret", "authorization_url", "token_url", "scopes", "allow_end_user_auth",
                "require_auth"),
    }  # fmt: skip

    def __init__(self, data: Any, *, read: Document, name: str, proposed: SignIn, server: McpServer | None) -> None:
        auth = server.auth_config if server else None
        kept = {n: getattr(auth, n) for n in self.of_kind[OAUTH] if auth and n != "client_secret"}
        super().__init__(data, initial={
            "name": server.name if server else name, "url": server.url if server else read.url,
            "sign_in": kind_of(auth) if server else proposed.kind, "is_enabled": server.is_enabled if server else True,
            "header": next(iter(auth.custom_headers), "") if auth else proposed.header,
            "username": auth.username if auth else "", "authorization_url": proposed.authorization_url,
            "token_url": proposed.token_url, "scopes": list(proposed.scopes), "allow_end_user_auth": True,
            "require_auth": True, **kept,
        })  # fmt: skip
        # A stranger's words: help texts are written into pages as they are.
        self.fields["url"].help_text = escape(read.hint) if not server else ""
        if server is None:
            del self.fields["is_enabled"]
        elif auth is not None:
            self.fields["sign_in"].disabled = True
            self.fields["sign_in"].help_text = "To sign in another way, disable the connector and add it again."
        stored = {
            "api_key": bool(auth and (auth.token or auth.custom_headers)),
            "password": bool(auth and auth.password),
            "client_secret": bool(auth and auth.client_secret),
        }
        for secret, is_stored in stored.items():
            self.fields[secret].help_text = _STORED if is_stored else _NEVER_SHOWN

    def settings(self, choices: Sequence[Choice] | None) -> ApiSettings:
        """What was entered for the chosen sign-in; a secret that was left empty stays as it is."""
        given = self.cleaned_data
        kind = given["sign_in"]
        own = {n: given[n] for n in self.of_kind.get(kind, ()) if given[n] != "" or n not in SECRETS}
        known = {each.name for each in fields(Credentials)}
        credentials = Credentials(sign_in=kind, **{n: value for n, value in own.items() if n in known})
        return ApiSettings(
            name=given["name"], url=given["url"], is_enabled=given.get("is_enabled"), operations=choices,
            credentials=credentials,
        )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A chosen operation on the page, with the name and scopes to be edited."""

    number: int  # of the operation in its document
    operation: Operation
    name: str
    scopes: str


def make_rows(
    read: Document, chosen: Sequence[int], slug: str, data: Any, had: dict[str, tuple[str, list[str]]]
) -> list[Row]:
    """`had` are names and scopes of the operations that the connector has, by key; `data` is what was entered."""
    rows = []
    for number in chosen:
        operation = read.operations[number]
        name, scopes = had.get(operation.key, (operation.name, [propose_scope(slug, operation)]))
        if data is not None:
            name = data.get(f"name-{number}", name)
            scopes = data.get(f"scopes-{number}", " ".join(scopes)).split()
        rows.append(Row(number, operation, name, " ".join(scopes)))
    return rows


def write_numbers(numbers: Sequence[int]) -> str:
    """Numbers as short text for an address: 0-3,7."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def read_numbers(text: str, below: int) -> list[int]:
    """The same back; what is no number of an operation is left out."""
    found: set[int] = set()
    for part in text[:10_000].split(","):
        first, _, last = part.partition("-")
        last = last or first
        if all(end.isascii() and end.isdigit() and len(end) < 7 for end in (first, last)):
            found.update(range(int(first), min(int(last) + 1, below)))
    return sorted(found)
