"""What common providers want beyond the specifications (features C6): fields of an auth config, each with its reason.

A preset only fills what nobody has set; every value stays visible and editable. One whose host is found by discovery is
applied by itself, so that nobody has to know that Google wants `access_type=offline`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aster.errors import InvalidInput
from integrations.models import AuthConfig, ClientMode, ResourceMode, TokenAuthMethod

# Chosen by an admin: apply none, whatever the provider is.
NO_PRESET = "none"


@dataclass(frozen=True)
class Quirk:
    """One field, what it should be at this provider, and why. Mappings are merged, lists extended."""

    field: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Preset:
    """A provider: the hosts of its issuers, what to set there, and what to know."""

    id: str
    name: str
    hosts: tuple[str, ...]
    quirks: tuple[Quirk, ...] = ()
    note: str = ""


_OWN_APP = "It registers no clients by itself: make an app there and paste its client ID."
_POST = TokenAuthMethod.POST

PRESETS: tuple[Preset, ...] = (
    Preset(
        "google", "Google", ("accounts.google.com",),
        (
            Quirk("client_mode", ClientMode.KNOWN, _OWN_APP),
            Quirk("extra_authorize_params", {"access_type": "offline", "prompt": "consent"},
                  "Google gives a refresh token only to those who ask for offline access, and again only with a new "
                  "consent. Without it people would have to sign in every hour."),
        ),
        "Refresh tokens are kept when one is renewed; an app in testing loses them after seven days.",
    ),
    Preset(
        "entra", "Microsoft Entra ID", ("login.microsoftonline.com", "login.microsoftonline.us", "sts.windows.net"),
        (
            Quirk("client_mode", ClientMode.KNOWN, _OWN_APP),
            Quirk("resource_mode", ResourceMode.OMIT,
                  "The v2.0 endpoints refuse the resource parameter (AADSTS9010010, AADSTS901002): the scope names the "
                  "resource, such as api://…/.default."),
            Quirk("scopes", ["offline_access"], "Entra gives no refresh token without this scope."),
            Quirk("scope_on_refresh", True, "A refresh without scopes may come back for another resource."),
            Quirk("assume_pkce", True, "Entra supports PKCE, although its metadata does not say so."),
        ),
        "Add the scopes of the API with their prefix, for example api://CLIENT-ID/mcp.tools.",
    ),
    Preset(
        "github", "GitHub", ("github.com",),
        (
            Quirk("client_mode", ClientMode.KNOWN, _OWN_APP),
            Quirk("authorization_url", "https://github.com/login/oauth/authorize",
                  "GitHub's metadata is not always to be had."),
            Quirk("token_url", "https://github.com/login/oauth/access_token",
                  "GitHub's metadata is not always to be had."),
            Quirk("token_endpoint_auth_method", _POST, "GitHub takes the client secret in the body."),
        ),
        "Tokens of an OAuth app do not expire; those of a GitHub App last eight hours and are renewed.",
    ),
    Preset(
        "slack", "Slack", ("slack.com", "mcp.slack.com"),
        (
            Quirk("client_mode", ClientMode.KNOWN, _OWN_APP),
            Quirk("token_endpoint_auth_method", _POST, "Slack takes the client secret in the body."),
        ),
        "Slack refuses a sign-in that asks for no scope: enter those of your app. Switch MCP on in the app's settings.",
    ),
    Preset(
        "notion", "Notion", ("mcp.notion.com",), (),
        "Registers clients by itself. Every renewal replaces the refresh token, and one that is used twice ends the "
        "grant: Aster renews once, however many processes run.",
    ),
    Preset(
        "atlassian", "Atlassian", ("auth.atlassian.com",),
        (
            Quirk("client_mode", ClientMode.KNOWN, _OWN_APP),
            Quirk("audience", "api.atlassian.com", "Atlassian's own APIs want to be named as the audience."),
            Quirk("resource_mode", ResourceMode.OMIT, "The audience stands in for the resource."),
            Quirk("extra_authorize_params", {"prompt": "consent"}, "Atlassian asks for it in every sign-in."),
            Quirk("scopes", ["offline_access"], "Atlassian gives no refresh token without this scope."),
            Quirk("assume_pkce", True, "It does not promise PKCE; sending it does no harm."),
        ),
        "This is for apps of your own. mcp.atlassian.com registers clients by itself and needs none of it.",
    ),
    Preset(
        "hubspot", "HubSpot", ("mcp.hubspot.com", "app.hubspot.com"),
        (
            Quirk("client_mode", ClientMode.KNOWN, _OWN_APP),
            Quirk("token_endpoint_auth_method", _POST, "HubSpot takes the client secret in the body only."),
        ),
        "Make an “MCP auth app” in HubSpot; its scopes are those chosen there.",
    ),
    Preset(
        "linear", "Linear", ("mcp.linear.app", "linear.app"), (),
        "Registers clients by itself. Access tokens last a day; each renewal replaces the refresh token.",
    ),
)  # fmt: skip


def find_preset(preset_id: str) -> Preset | None:
    return next((preset for preset in PRESETS if preset.id == preset_id), None)


def preset_of_host(url: str) -> Preset | None:
    """The provider whose issuer or endpoint `url` is."""
    host = urlsplit(url).hostname or ""
    return next((preset for preset in PRESETS if host in preset.hosts), None)


def apply_preset(auth: AuthConfig, preset: Preset) -> list[Quirk]:
    """Fill what `preset` knows and nobody has set; returns what was filled. The caller stores and audits."""
    empty = AuthConfig()
    auth.preset = preset.id
    return [quirk for quirk in preset.quirks if _fill(auth, quirk, getattr(empty, quirk.field))]


def _fill(auth: AuthConfig, quirk: Quirk, default: Any) -> bool:
    present = getattr(auth, quirk.field)
    wanted: Any
    if isinstance(quirk.value, dict):
        wanted = {**quirk.value, **present}
    elif isinstance(quirk.value, list):
        # Nothing is added to an empty list: that asks for the provider's default, which one scope would replace.
        wanted = list(dict.fromkeys([*present, *quirk.value])) if present else present
    else:
        wanted = quirk.value if present == default else present
    setattr(auth, quirk.field, wanted)
    return bool(wanted != present)


def apply_chosen_preset(auth: AuthConfig) -> None:
    """An admin named a preset: fill it in. Raises InvalidInput for one that does not exist."""
    if auth.preset in ("", NO_PRESET):
        return
    preset = find_preset(auth.preset)
    if preset is None:
        known = ", ".join(preset.id for preset in PRESETS)
        message = f"There is no preset “{auth.preset[:30]}”. Known: {known}, {NO_PRESET}."
        raise InvalidInput(message, fields={"preset": [message]})
    apply_preset(auth, preset)


def apply_found_preset(auth: AuthConfig) -> None:
    """Discovery found the provider: apply its preset, unless an admin has chosen one or none."""
    if not auth.preset and (preset := preset_of_host(auth.issuer or auth.authorization_url)):
        apply_preset(auth, preset)
