"""Files that describe servers under `mcp:` and scopes under `security:`, as ours.

There a value may hold `${NAME}`, a variable of the environment. In headers and `env` it is replaced when the file is
read, because these are stored encrypted; in `args`, which everybody who sees the server can read, it stays and is
replaced when the command starts.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.text import slugify

from aster.accounts.models import RESERVED_SLUGS
from aster.configuration import schema
from aster.configuration.kinds import BY_SECTION, ONLY, SCOPE_MAP, TEXT_MAP, TEXTS, Schema, Values, Wanted, own_names
from aster.configuration.reading import Path, Problems, Source
from aster.configuration.secrets import Secret
from integrations.models import AuthType, Transport

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BEARER = re.compile(r"bearer\s+(?P<token>\S.*)", re.IGNORECASE)
MOST_SECONDS, MOST_RETRIES = 600, 5
_BOOLEAN: Schema = {"type": "boolean"}
_TEXT: Schema = {"type": "string"}
_SECONDS: Schema = {"type": "number", "minimum": 0}


def _object(properties: Mapping[str, Schema], *required: str) -> Schema:
    closed = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return {**closed, **({"required": list(required)} if required else {})}


_SERVER = _object(
    {
        **{"name": {"type": "string", "minLength": 1, "maxLength": 100}, "enabled": _BOOLEAN},
        **{"transport": {"enum": ["stdio", "sse", "streamable_http"]}, "command": _TEXT, "args": TEXTS},
        **{"env": TEXT_MAP, "working_dir": _TEXT, "url": _TEXT, "headers": TEXT_MAP, "timeout": _SECONDS},
        **{"tool_scopes": SCOPE_MAP, "expose_as_skills": _BOOLEAN},
    },
    "name",
)
_MCP = _object(
    {
        **{"enabled": _BOOLEAN, "client_enabled": _BOOLEAN, "client_timeout": _SECONDS},
        **{"client_retry_attempts": {"type": "integer", "minimum": 0}, "server_enabled": _BOOLEAN},
        **{"server_host": _TEXT, "server_port": {"type": "integer"}, "servers": {"type": "array", "items": _SERVER}},
    }
)
_SECURITY = _object({"enabled": _BOOLEAN, "scope_hierarchy": SCOPE_MAP, "auth": {"type": "object"}})
SCHEMA: Schema = {"type": "object", "properties": {"mcp": _MCP, "security": _SECURITY}}


@dataclass
class Converted:
    """What the file wants, in our sections, and what of it has no meaning here."""

    wanted: Wanted = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list)


def is_it(value: Mapping[str, Any]) -> bool:
    return "mcp" in value


def convert(source: Source, environ: Mapping[str, str] | None = None) -> Converted:
    """Raises Problems with everything that is wrong, every missing variable included."""
    problems = [*source.problems, *schema.check(source, SCHEMA)]
    ours = sorted(source.value.keys() & BY_SECTION.keys())
    problems += [source.say((name,), "write either mcp: or Aster's own sections in one file") for name in ours]
    if problems:
        raise Problems(problems)
    return _Conversion(source, os.environ if environ is None else environ).run()


class _Conversion:
    def __init__(self, source: Source, environ: Mapping[str, str]) -> None:
        self.source, self.environ = source, environ
        self.mcp: dict[str, Any] = source.value["mcp"]
        self.found = Converted()
        self.problems: list[str] = []

    def run(self) -> Converted:
        self._tell_about_the_rest()
        servers: dict[str, Values] = {}
        auth_configs: dict[str, Values] = {}
        for number, server in enumerate(self.mcp.get("servers", [])):
            path: Path = ("mcp", "servers", number)
            slug = _slug(server["name"])
            if not slug:
                words = "has no Latin letter or digit to make a slug of; write a slug, under Aster's own servers:"
                self.problems.append(self.source.say((*path, "name"), words))
                continue
            if slug in servers:
                self.problems.append(self.source.say((*path, "name"), f"a server {slug} is there twice"))
                continue
            servers[slug] = self._server(server, slug, path)
            if server.get("headers") and servers[slug]["transport"] != Transport.STDIO:
                servers[slug]["auth_config"] = server["name"]
                auth_configs[server["name"]] = self._auth_config(server["headers"], (*path, "headers"))
        if self.problems:
            raise Problems(self.problems)
        wanted = self.found.wanted
        hierarchy = self.source.value.get("security", {}).get("scope_hierarchy")
        if hierarchy is not None:
            wanted["organization"] = {ONLY: {"scope_hierarchy": hierarchy}}
        if auth_configs:
            wanted["auth_configs"] = auth_configs
        if "servers" in self.mcp:  # a section that is not there says nothing, also to --prune
            wanted["servers"] = servers
        return self.found

    def _server(self, given: Mapping[str, Any], slug: str, path: Path) -> Values:
        transport = given.get("transport") or ("stdio" if given.get("command") else "streamable_http")
        values: Values = {
            "name": given["name"],
            "transport": transport,
            "is_enabled": given.get("enabled", True) and self._is_on(),
            "expose_as_skills": given.get("expose_as_skills", False),
            "tool_scopes": own_names(given.get("tool_scopes", {}), given["name"], slug),
        }
        if (seconds := given.get("timeout", self.mcp.get("client_timeout"))) is not None:
            values["timeout_seconds"] = min(max(math.ceil(seconds), 1), MOST_SECONDS)
        if (attempts := self.mcp.get("client_retry_attempts")) is not None:
            values["retry_attempts"] = min(attempts, MOST_RETRIES)
        if transport == "stdio":
            values |= {"command": given.get("command", ""), "args": given.get("args", [])}
            values["env"] = self._expanded(given.get("env", {}), (*path, "env"))
            values["working_dir"] = given.get("working_dir", "")
            foreign: tuple[str, ...] = ("url", "headers")
        else:
            values["url"] = given.get("url", "")
            if "${" in values["url"]:
                words = "variables are replaced in headers, env and args only; write the address itself"
                self.problems.append(self.source.say((*path, "url"), words))
            foreign = ("command", "args", "env", "working_dir")
        for name in [name for name in foreign if given.get(name)]:
            self._note((*path, name), f"means nothing with {transport}")
        return values

    def _is_on(self) -> bool:
        return bool(self.mcp.get("enabled", True) and self.mcp.get("client_enabled", True))

    def _auth_config(self, headers: Mapping[str, str], path: Path) -> Values:
        for name, text in headers.items():
            if not _VARIABLE.search(text):
                self._note((*path, name), "the value itself stands in the file; better write ${NAME}")
        custom = self._expanded(headers, path)
        values: Values = {"auth_type": AuthType.BEARER, "custom_headers": custom}
        for name, secret in list(custom.items()):
            if name.lower() == "authorization" and (found := _BEARER.fullmatch(secret.text.strip())):
                values["token"] = Secret(found["token"])
                del custom[name]
        return values

    def _expanded(self, texts: Mapping[str, str], path: Path) -> dict[str, Secret]:
        return {name: Secret(self._expand(text, (*path, name))) for name, text in texts.items()}

    def _expand(self, text: str, path: Path) -> str:
        for name in _VARIABLE.findall(text):
            if not self.environ.get(name):
                self.problems.append(self.source.say(path, f"the environment variable {name} is not set or empty"))
        return _VARIABLE.sub(lambda match: self.environ.get(match[1], ""), text)

    def _tell_about_the_rest(self) -> None:
        if not self._is_on():
            self._note(("mcp",), "it is switched off, so its servers are")
        if any(name.startswith("server_") for name in self.mcp):
            self._note(("mcp", "server_enabled"), "every agent is an MCP server already, at its own URL (server_*)")
        if self.mcp.get("client_retry_attempts", 0) > MOST_RETRIES:
            self._note(("mcp", "client_retry_attempts"), f"{MOST_RETRIES} is the most here")
        security = self.source.value.get("security", {})
        if security.get("enabled") is False:
            self._note(("security", "enabled"), "scopes always hold here")
        for name in security.get("auth", {}):
            words = "keys are made in Aster (Settings, API keys, or manage.py create_api_key); nothing of it is stored"
            self._note(("security", "auth", name), words)
        if any(server.get("tool_scopes") for server in self.mcp.get("servers", [])):
            words = (
                "tools without scopes stay usable here, unless an agent has “only tools with scopes” (strict_scopes)"
            )
            self.found.notes.append(f"tool_scopes: {words}")
        for name in [name for name in self.source.value if name not in ("mcp", "security")]:
            self._note((name,), "is not read")

    def _note(self, path: Path, words: str) -> None:
        self.found.notes.append(self.source.say(path, words))


def _slug(name: str) -> str:
    """The same for the same name, whatever is stored; empty if nothing of it can stand in one."""
    slug = slugify(name).replace("_", "-").strip("-")[:50].rstrip("-")
    slug = re.sub("-{2,}", "-", slug)
    return f"mcp-{slug}"[:50] if slug.isdigit() or slug in RESERVED_SLUGS else slug
