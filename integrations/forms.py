"""The forms behind adding and editing a server and its sign-in. Rules live in the services; a form reads and shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Model

from aster.accounts.access import Actor
from aster.errors import AsterError
from integrations.fields import LinesField, PairsField, SecretField, SecretPairsField, SecretTextField, WordsField
from integrations.models import OWN_TRANSPORTS, AuthConfig, AuthType, ClientMode, McpServer, Transport
from integrations.services.presets import NO_PRESET, PRESETS, Preset, find_preset

M = TypeVar("M", bound=Model)
EXISTING = "EXISTING"
KEEP = "Set. Leave empty to keep it."
ENTER_AGAIN = "Enter it again: what you typed was not kept."

AUTH_WORDS = {
    AuthType.NONE: "Open to everyone who can reach it.",
    AuthType.BEARER: "One shared key, sent with every request.",
    AuthType.BASIC: "One shared account.",
    AuthType.AUTHORIZATION_CODE: "Everyone connects their own account.",
    AuthType.CLIENT_CREDENTIALS: "One client of the organization, nobody signs in.",
    AuthType.TOKEN_EXCHANGE: "Everyone's token of another sign-in is exchanged for one for this server.",
    AuthType.ID_JAG: "Your company's sign-in vouches for each person. Nobody consents again.",
    EXISTING: "The same sign-in as another server.",
}
AUTH_CHOICES = [
    (AuthType.NONE, "None"),
    (AuthType.BEARER, "API key"),
    (AuthType.BASIC, "Username and password"),
    (AuthType.AUTHORIZATION_CODE, "OAuth, each person"),
    (AuthType.CLIENT_CREDENTIALS, "OAuth, organization"),
]
# Offered where there is a sign-in to derive them from.
DERIVED_CHOICES = [(AuthType.TOKEN_EXCHANGE, "OAuth, exchanged"), (AuthType.ID_JAG, "OAuth, vouched for")]
CLIENT_CHOICES = [
    (ClientMode.AUTO, "Automatic"),
    (ClientMode.KNOWN, "Pre-created app"),
    (ClientMode.DYNAMIC, "Register"),
    (ClientMode.CIMD, "Metadata document"),
]
CLIENT_WORDS = {
    ClientMode.AUTO: "The best way the provider offers: Aster's metadata document, else registering.",
    ClientMode.DYNAMIC: "Aster registers itself at the first sign-in (RFC 7591).",
    ClientMode.CIMD: "The provider reads who Aster is from a page of Aster's. Needs https.",
    ClientMode.KNOWN: "You made an app at the provider and paste its client ID here.",
}
TRANSPORT_WORDS = {
    Transport.STREAMABLE_HTTP: "What servers speak today.",
    Transport.SSE: "Older servers, often at a path ending in /sse.",
    Transport.STDIO: "A program started on Aster's own machine.",
    Transport.CONNECTOR: "Its address and sign-in are set under Connectors.",
}

_PROVIDER = frozenset(
    {"issuer", "authorization_url", "token_url", "registration_url", "revocation_url", "resource", "scopes"}
    | {"resource_mode", "audience", "extra_authorize_params", "extra_token_params", "scope_on_refresh"}
    | {"token_endpoint_auth_method", "use_pkce", "assume_pkce", "allow_legacy_endpoints", "allowed_redirect_uris"}
    | {"preset", "client_private_key"}
)
_CLIENT = frozenset({"client_id", "client_secret"})
_DERIVED = _PROVIDER | _CLIENT | {"subject_config", "custom_headers"}
# Which fields mean something for which kind of sign-in; the others are emptied, so that no stale secret stays behind.
RELEVANT: Mapping[str, frozenset[str]] = {
    AuthType.NONE: frozenset(),
    AuthType.BEARER: frozenset({"token", "custom_headers"}),
    AuthType.BASIC: frozenset({"username", "password", "custom_headers"}),
    AuthType.CLIENT_CREDENTIALS: _PROVIDER | _CLIENT | {"custom_headers"},
    AuthType.AUTHORIZATION_CODE: _PROVIDER | _CLIENT | {"client_mode", "custom_headers"},
    AuthType.TOKEN_EXCHANGE: _DERIVED,
    AuthType.ID_JAG: _DERIVED,
}


def auth_choices(actor: Actor) -> list[tuple[str, str]]:
    """The kinds of sign-in to offer: derived ones need one at which people consent themselves."""
    sources = AuthConfig.objects.visible_to(actor).filter(auth_type=AuthType.AUTHORIZATION_CODE)
    return [*AUTH_CHOICES, *(DERIVED_CHOICES if sources.exists() else [])]


if TYPE_CHECKING:
    _ModelForm = forms.ModelForm
else:  # Django's class takes no type argument at run time

    class _ModelForm(forms.ModelForm, Generic[M]):
        pass


class SecretsForm(_ModelForm[M], Generic[M]):
    """A form of a row with secrets: what is stored is kept when nothing is typed, and nothing secret is shown again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            if isinstance(field, SecretField) and self.initial.pop(name, ""):
                field.help_text = KEEP
                field.widget.attrs["placeholder"] = "••••••••••••"

    def keep_stored_secrets(self) -> None:
        for name, field in self.fields.items():
            stored = getattr(self.instance, name, None)
            if isinstance(field, SecretField) and not self.cleaned_data.get(name):
                self.cleaned_data[name] = stored or ""
            elif isinstance(field, SecretPairsField) and name in self.cleaned_data:
                try:
                    self.cleaned_data[name] = field.merge(self.cleaned_data[name], stored or {})
                except ValidationError as error:
                    self.add_error(name, error)

    def lost_secrets(self) -> list[str]:
        """The fields whose typed secrets are missing when this form is shown again."""
        lost = [name for name, field in self.fields.items() if isinstance(field, SecretField) and self.data.get(name)]
        pairs = [(name, field) for name, field in self.fields.items() if isinstance(field, SecretPairsField)]
        return lost + [name for name, field in pairs if field.lost_by(self.data.get(name))]

    def ask_again(self) -> None:
        """Say beside each field that what was typed there has to be typed again."""
        for name in self.lost_secrets():
            if not self.has_error(name):
                self.add_error(name, ENTER_AGAIN)


class ServerForm(SecretsForm[McpServer]):
    """The server itself. `auth_type` chooses what AuthForm is about, or that an existing auth config is used."""

    auth_type = forms.ChoiceField(label="How do people sign in?", widget=forms.RadioSelect, initial=AuthType.NONE)
    auth_config = forms.ModelChoiceField(
        AuthConfig.objects.none(), label="Auth config", required=False, empty_label="Choose one"
    )
    args = LinesField(label="Arguments", help_text="One per line.")
    env = SecretPairsField(
        label="Environment", help_text="One NAME=value per line. ${NAME} takes a variable the operator allows."
    )

    class Meta:
        model = McpServer
        fields: ClassVar = (
            *("name", "description", "transport", "url", "command", "args", "env", "working_dir"),
            *("timeout_seconds", "retry_attempts", "takes_changes", "expose_as_skills"),
        )
        labels: ClassVar = {
            "url": "URL", "timeout_seconds": "Timeout (seconds)", "retry_attempts": "Retries",
            "working_dir": "Working directory", "takes_changes": "Take in changed tools without asking",
            "expose_as_skills": "Show its tools as skills in A2A cards",
        }  # fmt: skip
        help_texts: ClassVar = {
            "name": "Shown to everyone, for example HubSpot or Cloudflare Docs.",
            "url": "The server's MCP endpoint. Private addresses are refused unless the operator lists them.",
            "description": "One line that says what agents can do with it.",
            "timeout_seconds": "How long one request may take, up to 600.",
            "takes_changes": "Otherwise a tool that changes waits until an admin has looked at it.",
            "expose_as_skills": "Agents that may call yours then see what its tools do. They can use them either way.",
            "retry_attempts": "How often a request that failed in transit is sent again, up to 5; calls if harmless.",
        }
        widgets: ClassVar = {
            "transport": forms.RadioSelect,
            "url": forms.URLInput(attrs={"placeholder": "https://mcp.example.com/mcp", "spellcheck": "false"}),
        }

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        configs = AuthConfig.objects.visible_to(actor)
        existing: Any = self.fields["auth_config"]
        existing.queryset = configs
        has_configs = configs.exists()
        shared = [(EXISTING, "Existing auth config")] if has_configs else []
        choices: Any = self.fields["auth_type"]
        choices.choices = [*auth_choices(actor), *shared]
        self._set_transports()
        if self.instance.auth_config and "auth_type" not in self.initial:
            self.initial["auth_type"] = shown_auth_type(self.instance.auth_config)

    def _set_transports(self) -> None:
        current = self.instance.transport
        offered = [choice for choice in OWN_TRANSPORTS if choice[0] != Transport.STDIO]
        if settings.ASTER_STDIO_COMMANDS or current == Transport.STDIO:
            offered.append((Transport.STDIO, "Local command"))
        else:
            self.fields[
                "transport"
            ].help_text = (
                "Programs on Aster's own machine can be added once its operator lists them in ASTER_STDIO_COMMANDS."
            )
        if current == Transport.CONNECTOR:
            offered = [(Transport.CONNECTOR, "Connector")]
            # What is sent for these does not count: validation.check_connector has the rule.
            self.fields["transport"].disabled = self.fields["url"].disabled = True
        labels = {Transport.STREAMABLE_HTTP: "Streamable HTTP", Transport.SSE: "SSE"}
        transport: Any = self.fields["transport"]
        transport.choices = [(value, labels.get(Transport(value), label)) for value, label in offered]
        commands = list(dict.fromkeys([*settings.ASTER_STDIO_COMMANDS, *filter(None, [self.instance.command])]))
        self.fields["command"] = forms.ChoiceField(
            label="Command", required=False, choices=[("", "Choose one"), *((name, name) for name in commands)],
            help_text="The operator lists the commands that may be run.",
        )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        self.keep_stored_secrets()
        if self.cleaned_data.get("transport") != Transport.STDIO:
            for name in ("command", "args", "env", "working_dir"):
                self.errors.pop(name, None)
                self.cleaned_data.pop(name, None)
        if self.cleaned_data.get("auth_type") == EXISTING and not self.cleaned_data.get("auth_config"):
            self.add_error("auth_config", "Choose which auth config to use.")
        return self.cleaned_data


class AuthForm(SecretsForm[AuthConfig]):
    """How to sign in. Only the fields of the chosen kind (`auth_type`) count; the others are emptied on the row."""

    token = SecretField(label="Key", help_text="Sent as “Authorization: Bearer …”. ${NAME} takes a variable.")
    password = SecretField(label="Password", strip=False)
    client_secret = SecretField(label="Client secret", help_text="Empty for public clients.")
    client_private_key = SecretTextField(
        label="Private key", help_text="PEM or JWK, for clients that sign instead of sending a secret."
    )
    preset = forms.ChoiceField(
        label="Provider", required=False,
        help_text="Fills in what a provider wants beyond the standards. Known ones are recognised by themselves.",
        choices=[("", "Recognise it"), (NO_PRESET, "Other"), *((preset.id, preset.name) for preset in PRESETS)],
    )  # fmt: skip
    custom_headers = SecretPairsField(
        label="Headers", separator=":", help_text="One “Name: value” per line, for keys that go elsewhere.",
    )  # fmt: skip
    scopes = WordsField(help_text="With spaces between. Empty asks for what the provider suggests.")
    allowed_redirect_uris = WordsField(
        label="Allowed redirect URIs", help_text="Further callbacks that API clients may ask for, one per line."
    )
    extra_authorize_params = PairsField(label="Extra authorization parameters", help_text="One name=value per line.")
    extra_token_params = SecretPairsField(label="Extra token parameters", help_text="One name=value per line.")

    class Meta:
        model = AuthConfig
        fields: ClassVar = (
            *("token", "username", "password", "custom_headers", "client_mode", "client_id", "client_secret"),
            *("scopes", "issuer", "authorization_url", "token_url", "registration_url", "revocation_url"),
            *("resource", "resource_mode", "audience", "token_endpoint_auth_method", "use_pkce", "scope_on_refresh"),
            *("extra_authorize_params", "extra_token_params", "allowed_redirect_uris", "client_private_key"),
            *("preset", "assume_pkce", "allow_legacy_endpoints", "subject_config"),
        )
        labels: ClassVar = {
            "client_mode": "OAuth client", "client_id": "Client ID", "resource_mode": "Resource parameter",
            "token_endpoint_auth_method": "Client authentication", "scope_on_refresh": "Send scopes when refreshing",
            "assume_pkce": "The provider supports PKCE", "allow_legacy_endpoints": "Server of 2025-03-26",
            "subject_config": "Derived from",
        }  # fmt: skip
        help_texts: ClassVar = {
            "resource": "The identifier sent as “resource”. Empty takes the server's own.",
            "audience": "For providers that want an audience instead of a resource.",
            "use_pkce": "Recommended. Switch off only for providers that reject it.",
            "scope_on_refresh": "Some providers demand them, most do not.",
            "assume_pkce": "For providers that do not say so in their metadata. You vouch for it; it is recorded.",
            "allow_legacy_endpoints": "For old servers that name no provider: they are taken for their own.",
            "subject_config": "The sign-in whose tokens are used to get those for this server.",
        }
        widgets: ClassVar = {"client_mode": forms.RadioSelect}

    def __init__(self, *args: Any, auth_type: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auth_type = auth_type or self.instance.auth_type
        mode: Any = self.fields.get("client_mode")
        if mode:
            current = self.instance.client_mode
            offers_document = bool(settings.ASTER_CLIENT_METADATA_URL) or current == ClientMode.CIMD
            choices = [choice for choice in CLIENT_CHOICES if choice[0] != ClientMode.CIMD or offers_document]
            mode.required, mode.choices = False, choices
        source: Any = self.fields["subject_config"]
        own = AuthConfig.objects.filter(organization=self.instance.organization_id)
        source.queryset = own.filter(auth_type=AuthType.AUTHORIZATION_CODE).exclude(pk=self.instance.pk)
        source.empty_label, source.required = "Choose one", False
        for name in ("issuer", "authorization_url", "token_url", "registration_url", "revocation_url"):
            attrs = {"placeholder": "Found automatically", "spellcheck": "false"}
            self.fields[name].widget = forms.URLInput(attrs)

    def relevant(self) -> frozenset[str]:
        names = RELEVANT.get(self.auth_type, frozenset())
        pasted = self.auth_type != AuthType.AUTHORIZATION_CODE or self._client_mode() == ClientMode.KNOWN
        return names if pasted else names - _CLIENT

    @property
    def has_provider_errors(self) -> bool:
        """Whether the folded part of the form has something to correct."""
        return bool(self.errors.keys() & _PROVIDER)

    @property
    def shown_preset(self) -> Preset | None:
        """The provider whose wishes were filled in, to show each with its reason."""
        return find_preset(self.instance.preset)

    def _client_mode(self) -> str:
        return str(self.cleaned_data.get("client_mode") or self.instance.client_mode)

    def clean(self) -> dict[str, Any]:
        self.keep_stored_secrets()
        relevant = self.relevant()
        for name in set(AuthForm.Meta.fields) - relevant:
            self.errors.pop(name, None)
            self.cleaned_data.pop(name, None)
        if "client_mode" in relevant and not self.cleaned_data.get("client_mode"):
            self.cleaned_data["client_mode"] = self.instance.client_mode or ClientMode.AUTO
        return self.cleaned_data

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        # Emptied on the row itself: Django leaves alone what a form was not sent.
        registers = self.auth_type in ("", AuthType.AUTHORIZATION_CODE)
        empty = AuthConfig(client_mode=ClientMode.AUTO if registers else ClientMode.KNOWN)
        for name in set(AuthForm.Meta.fields) - self.relevant():
            setattr(self.instance, name, getattr(empty, name))


class AuthConfigForm(AuthForm):
    """An auth config by itself, for the change form of the records."""

    class Meta(AuthForm.Meta):
        fields: ClassVar = ("name", "auth_type", *AuthForm.Meta.fields)  # type: ignore[assignment]
        widgets: ClassVar = {**AuthForm.Meta.widgets, "auth_type": forms.RadioSelect}
        help_texts: ClassVar = {**AuthForm.Meta.help_texts, "name": "For example the provider's name."}
        labels: ClassVar = {**AuthForm.Meta.labels, "auth_type": "How do people sign in?"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kind: Any = self.fields["auth_type"]
        source: Any = self.fields["subject_config"]
        kind.choices = [*AUTH_CHOICES, *(DERIVED_CHOICES if source.queryset.exists() else [])]
        if self.is_bound:
            self.auth_type = str(self.data.get("auth_type", ""))


def shown_auth_type(auth: AuthConfig) -> str:
    """The card to check for `auth`: headers without OAuth are what people call an API key."""
    if auth.auth_type == AuthType.NONE and auth.custom_headers:
        return AuthType.BEARER
    return auth.auth_type


def place_errors(error: AsterError, *targets: forms.BaseForm) -> None:
    """Put a service's refusal beside the fields it is about, whichever form has them; the rest above the first form."""
    renamed = {"auth_config_id": "auth_config", "subject_config_id": "subject_config"}
    pairs = [(renamed.get(name, name), word) for name, words in error.fields.items() for word in words]
    for name, word in pairs or [("", error.message)]:
        target = next((form for form in targets if name in form.fields), None)
        (target or targets[0]).add_error(name if target else None, word)
