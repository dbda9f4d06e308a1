"""What the file says about each kind of object: its section, its key, and its settings, taken from the models."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from agents.models import Agent, Approver, LlmConfig
from aster.accounts.models import AuditedModel, Organization
from aster.crypto import EncryptedJSONField, EncryptedTextField
from connectors.registry import CONNECTORS
from connectors.services import AUTH_SETTINGS
from integrations.models import OWN_TRANSPORTS, AuthConfig, McpServer

PLAIN, SECRET, SECRETS, REFERENCE = "plain", "secret", "secrets", "reference"
Schema = dict[str, Any]
# section → key → setting → value; a Secret for a secret, None for one to keep as stored
Values = dict[str, Any]
Wanted = dict[str, dict[str, Values]]
ONLY = ""  # the key in a section that has one object
SCOPES: Schema = {"type": "array", "items": {"type": "string", "minLength": 1}}
SCOPE_MAP: Schema = {"type": "object", "additionalProperties": SCOPES}
TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
TEXT_MAP: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
ASKED = [each.value for each in Approver if each != Approver.NOBODY]
# What a JSON field holds, for those where its default does not tell.
_MAPS: Mapping[str, Schema] = {
    "tool_scopes": SCOPE_MAP,
    "scope_hierarchy": SCOPE_MAP,
    "extra_authorize_params": TEXT_MAP,
    "input_json_schema": {"type": "object"},
}
# A name in the file → the section where it is defined
_REFERRED: Mapping[type[models.Model], str] = {AuthConfig: "auth_configs", LlmConfig: "llm_configs"}


@dataclass(frozen=True)
class Setting:
    """One setting of an object: its name in the file and in the model, what it may be, and what it refers to."""

    name: str
    shape: str
    schema: Schema
    to: str = ""


@dataclass(frozen=True)
class Kind:
    """A section of the file. Its objects are told apart by their key, the model's `key` (none: there is only one)."""

    section: str
    word: str
    key: str
    settings: Mapping[str, Setting]
    keys: Schema = field(default_factory=dict)


def _setting(model: type[AuditedModel], name: str) -> Setting:
    found: Any = model._meta.get_field(name)
    if isinstance(found, EncryptedTextField):
        return Setting(name, SECRET, {"type": "string"})
    if isinstance(found, EncryptedJSONField):
        return Setting(name, SECRETS, TEXT_MAP)
    if isinstance(found, models.ForeignKey):
        to = _REFERRED[found.related_model]
        return Setting(name, REFERENCE, {"type": ["string", "null"]}, to)
    return Setting(name, PLAIN, _plain_schema(name, found))


def _plain_schema(name: str, found: Any) -> Schema:
    if isinstance(found, models.JSONField):
        return _MAPS.get(name, TEXTS)
    if isinstance(found, models.BooleanField):
        return {"type": "boolean"}
    if isinstance(found, models.IntegerField):
        schema: Schema = {"type": ["integer", "null"] if found.null else "integer", "minimum": 0}
        for validator in found.validators:
            if isinstance(validator, MinValueValidator):
                schema["minimum"] = max(schema["minimum"], validator.limit_value)
            elif isinstance(validator, MaxValueValidator):
                schema["maximum"] = min(schema.get("maximum", validator.limit_value), validator.limit_value)
        return schema
    choices = OWN_TRANSPORTS if name == "transport" else found.choices
    if choices:
        values = [value for value, _ in choices]
        return {"enum": [*values, *([""] if found.blank and "" not in values else [])]}
    return {"type": "string", **({"maxLength": found.max_length} if found.max_length else {})}


def _settings(model: type[AuditedModel], *, but: Iterable[str] = ()) -> dict[str, Setting]:
    return {name: _setting(model, name) for name in model.AUDITED if name not in but}


_SERVER = _settings(McpServer, but=["slug"])
# Of a connector, what an admin gives for it (connectors.services.Settings), and what every server has.
CONNECTOR_AUTH = AUTH_SETTINGS
CONNECTOR_SERVER = ("url", "is_enabled")
AS_SERVERS = (
    *("name", "description", "timeout_seconds", "retry_attempts", "tool_scopes", "takes_changes", "expose_as_skills"),
)
_AGENT = {
    **_settings(Agent, but=["slug"]),
    "servers": Setting("servers", PLAIN, TEXTS),
    "disabled_tools": Setting("disabled_tools", PLAIN, {"type": "object", "additionalProperties": TEXTS}),
    "approvals": Setting(
        "approvals", PLAIN,
        {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": {"enum": ASKED}}},
    ),
}  # fmt: skip
_SLUG: Schema = {"maxLength": 50, "pattern": "^[a-z0-9]+(?:-[a-z0-9]+)*$"}
_NAME: Schema = {"maxLength": 100, "minLength": 1}

ORGANIZATION = Kind(
    "organization", "organization", "", _settings(Organization, but=["name", "slug"])
)  # fmt: skip
AUTH_CONFIGS = Kind("auth_configs", "auth config", "name", _settings(AuthConfig, but=["name"]), keys=_NAME)
CONNECTOR_KIND = Kind(
    "connectors", "connector", "command",
    {
        **{name: _setting(AuthConfig, name) for name in CONNECTOR_AUTH},
        "api_key": Setting("api_key", SECRET, {"type": "string"}),
        **{name: _SERVER[name] for name in (*CONNECTOR_SERVER, *AS_SERVERS)},
    },
    keys={"enum": [each.slug for each in CONNECTORS]},
)  # fmt: skip
SERVERS = Kind("servers", "server", "slug", _SERVER, keys=_SLUG)
LLM_CONFIGS = Kind("llm_configs", "LLM config", "name", _settings(LlmConfig, but=["name"]), keys=_NAME)
AGENTS = Kind("agents", "agent", "slug", _AGENT, keys=_SLUG)

# In the order in which they are stored: what is referred to comes first.
KINDS: tuple[Kind, ...] = (ORGANIZATION, AUTH_CONFIGS, CONNECTOR_KIND, SERVERS, LLM_CONFIGS, AGENTS)
BY_SECTION = {kind.section: kind for kind in KINDS}


def own_names(scopes: Mapping[str, list[str]], *prefixes: str, but: Container[str] = ()) -> dict[str, list[str]]:
    """`github:create_issue` of the server github means its own `create_issue`; who writes both means both.

    `but` are names that the server itself writes so.
    """
    found: dict[str, set[str]] = {}
    for name, each in scopes.items():
        prefix, _, rest = name.partition(":")
        found.setdefault(rest if rest and prefix in prefixes and name not in but else name, set()).update(each)
    return {name: sorted(found[name]) for name in sorted(found)}
