"""An organization's configuration written down as a file that changes nothing when it is applied."""

from __future__ import annotations

from typing import Any

import yaml

from aster.accounts.access import Actor
from aster.configuration.current import Current, read_current
from aster.configuration.kinds import KINDS, ONLY, SECRET, SECRETS, Kind, Values
from aster.configuration.schema import VERSION
from aster.configuration.secrets import STORED
from integrations.models import AuthConfig, AuthType, Transport
from integrations.services.discovery import found_by_discovery

_SHARED = ("auth_type", "custom_headers", "token", "username", "password")
_OTHER_BREAKS = {"\r", "\x85", "\u2028", "\u2029"}
_OF_COMMANDS = ("command", "args", "env", "working_dir")


def export(actor: Actor) -> tuple[dict[str, Any], list[str]]:
    """The document and notes about what it cannot say. Every secret is `stored`."""
    actor.require_admin()
    current = read_current(actor)
    document: dict[str, Any] = {"version": VERSION}
    for kind in KINDS:
        objects = {
            key: _shown(kind, _worth_saying(kind, key, values, current))
            for key, values in sorted(current.values[kind.section].items())
        }
        document[kind.section] = objects if kind.key else objects[ONLY]
    return document, current.notes


def as_yaml(document: dict[str, Any], notes: list[str], title: str) -> str:
    lines = [f"# Configuration of {title}; see docs/configuration.md.", *(f"# {note}" for note in notes)]
    head = "".join("".join(char for char in line if char.isprintable()) + "\n" for line in lines)
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return f"{head}{body}"


def _worth_saying(kind: Kind, key: str, values: Values, current: Current) -> Values:
    """Without what means nothing for this one, and without what was learned from the provider."""
    row = current.rows[kind.section][key]
    if isinstance(row, AuthConfig):
        if row.auth_type in (AuthType.NONE, AuthType.BEARER, AuthType.BASIC):
            values = {name: values[name] for name in _SHARED if name in values}
        found = found_by_discovery(row)
        return {name: value for name, value in values.items() if name not in found and value not in ("", [], {}, None)}
    if kind.section == "servers":
        foreign = ("url", "auth_config") if row.transport == Transport.STDIO else _OF_COMMANDS
        return {
            name: value for name, value in values.items() if name not in foreign and (name, value) != ("source", "")
        }
    return values


def _shown(kind: Kind, values: Values) -> Values:
    shown = {}
    for name, value in values.items():
        shape = kind.settings[name].shape
        shown[name] = STORED if shape == SECRET else dict.fromkeys(value, STORED) if shape == SECRETS else value
    return shown


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # YAML 1.1 takes these for line breaks and reads some of them as others, unless they are written as numbers.
    style = '"' if set(text) & _OTHER_BREAKS else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
