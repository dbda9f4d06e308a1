"""What an admin enters to enable a connector, and what can be changed later."""

from __future__ import annotations

from typing import Any

from django import forms

from connectors.base import Connector, Kind
from connectors.services import ADDRESSES, Settings
from integrations.models import AuthConfig, McpServer

_SECRET = forms.PasswordInput(attrs={"autocomplete": "new-password"})
_STORED = "One is stored. Leave this empty to keep it, or enter a new one to replace it."
_NEVER_SHOWN = "Stored encrypted and never shown again."


class SwitchesForm(forms.Form):
    """What can be switched on any connector (features K3)."""

    allow_end_user_auth = forms.BooleanField(
        label="Members may connect their accounts", required=False, help_text="Otherwise only admins can."
    )
    require_auth = forms.BooleanField(
        label="Calls need a connected account", required=False,
        help_text="Otherwise they go out without an account of the caller, for what the provider shows to anybody.",
    )  # fmt: skip
    is_enabled = forms.BooleanField(
        label="Tools are on", required=False, help_text="Off, agents lose them; nobody is disconnected."
    )


class ConnectorForm(SwitchesForm):
    field_order = ("client_id", "client_secret", "api_key", "scopes")  # and then the others

    client_id = forms.CharField(
        label="Client ID", max_length=2000, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    client_secret = forms.CharField(label="Client secret", max_length=5000, required=False, widget=_SECRET)
    api_key = forms.CharField(label="API key", max_length=5000, required=False, widget=_SECRET)
    scopes = forms.MultipleChoiceField(
        label="Scopes", required=False, widget=forms.CheckboxSelectMultiple,
        help_text="What people are asked to grant. A tool that lacks one asks for it when it is called.",
    )  # fmt: skip
    url = forms.CharField(label="Address of the API", max_length=2000, required=False)
    authorization_url = forms.CharField(label="Authorization URL", max_length=2000, required=False)
    token_url = forms.CharField(label="Token URL", max_length=2000, required=False)
    revocation_url = forms.CharField(
        label="Revocation URL", max_length=2000, required=False, help_text="Tokens are revoked here when people leave."
    )

    def __init__(self, data: Any, *, connector: Connector, server: McpServer | None) -> None:
        self.connector = connector
        auth = server.auth_config if server else None
        super().__init__(data, initial=_initial(connector, server, auth))
        for name in set(self.fields) - _offered(connector, server):
            del self.fields[name]
        if scopes := self.fields.get("scopes"):
            scopes.choices = [(scope, f"{scope}: {words}") for scope, words in connector.scopes.items()]  # type: ignore[attr-defined]
        self._say_of_secrets(auth)

    def _say_of_secrets(self, auth: AuthConfig | None) -> None:
        stored = {"client_secret": bool(auth and auth.client_secret), "api_key": bool(auth and auth.token)}
        for name, is_stored in stored.items():
            if field := self.fields.get(name):
                field.help_text = _STORED if is_stored else _NEVER_SHOWN
                field.required = not is_stored

    @property
    def everyday(self) -> list[forms.BoundField]:
        return [field for field in self if field.name not in ("url", *ADDRESSES)]

    @property
    def addresses(self) -> list[forms.BoundField]:
        """What is changed for an installation of one's own only."""
        return [field for field in self if field.name in ("url", *ADDRESSES)]

    @property
    def has_wrong_address(self) -> bool:
        return any(field.errors for field in self.addresses)

    def settings(self) -> Settings:
        """What was entered; a secret or an address that was left empty stays as it is."""
        given = {name: self.cleaned_data[name] for name in self.fields}
        stays = ("client_secret", "api_key", "url", "authorization_url", "token_url")
        return Settings(**{name: value for name, value in given.items() if value != "" or name not in stays})


def _offered(connector: Connector, server: McpServer | None) -> set[str]:
    """The fields that mean something for this kind of connector. A remote server is enabled without any."""
    offered = {"is_enabled"} if server else set()
    if connector.kind == Kind.OAUTH:
        offered |= {"client_id", "client_secret", "url", *ADDRESSES} | ({"scopes"} if connector.scopes else set())
    if connector.kind == Kind.API_KEY:
        offered |= {"api_key", "url"}
    if connector.kind == Kind.OAUTH or (server and server.needs_person):
        offered |= {"allow_end_user_auth", "require_auth"}
    return offered


def _initial(connector: Connector, server: McpServer | None, auth: AuthConfig | None) -> dict[str, Any]:
    addresses = {name: connector.auth.get(name, "") for name in ADDRESSES}
    of_auth = {**addresses, "scopes": list(connector.scopes), "allow_end_user_auth": True, "require_auth": True}
    if auth:
        of_auth = {name: getattr(auth, name) for name in ("client_id", *of_auth)}
    return {**of_auth, "url": server.url if server else connector.url, "is_enabled": bool(server and server.is_enabled)}
