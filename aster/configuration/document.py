"""A file as what it wants: settings by section and key, its secrets resolved, its tools named in one way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aster.configuration import mcp_shape, schema, secrets
from aster.configuration.kinds import BY_SECTION, KINDS, ONLY, SECRET, SECRETS, Kind, Values, Wanted
from aster.configuration.reading import Path, Problems, Source, read


@dataclass(frozen=True)
class Document:
    """`notes` are lines for the reader: what has no meaning here. `wanted` has the sections that the file has."""

    wanted: Wanted = field(repr=False)
    notes: list[str]
    source: Source = field(repr=False)
    is_mcp_shape: bool = False

    def say(self, kind: Kind, key: str, words: str) -> str:
        name = f"{kind.word} {key}".strip()
        line = self.source.lines.get((kind.section, key) if kind.key else (kind.section,))
        return f"line {line}, {name}: {words}" if line else f"{name}: {words}"

    def keeps_auth_config(self, name: str) -> bool:
        """Whether it stays when its last server goes: the file has it, or refers to it."""
        servers, auths = self.wanted.get("servers", {}), self.wanted.get("auth_configs", {})
        referred = {each.get("auth_config") for each in servers.values()}
        return name in auths or name in referred | {each.get("subject_config") for each in auths.values()}


def parse(text: str, environ: Mapping[str, str] | None = None) -> Document:
    """Raises Problems with everything that is wrong with the file by itself, missing secrets included."""
    source = read(text)
    if not isinstance(source.value, dict):
        raise Problems(
            [*source.problems, "The file is empty." if source.value is None else "The file is a list or text."]
        )
    if mcp_shape.is_it(source.value):
        found = mcp_shape.convert(source, environ)
        return Document(_tidy(found.wanted), found.notes, Source(), is_mcp_shape=True)
    problems = [*source.problems, *schema.check(source, schema.configuration_schema())]
    if problems:
        raise Problems(problems)
    wanted: Wanted = {}
    for kind in KINDS:
        if kind.section in source.value:
            given = source.value[kind.section]
            wanted[kind.section] = dict(given) if kind.key else {ONLY: given}
    resolved = {
        section: {key: _resolved(section, key, values, source, problems, environ) for key, values in objects.items()}
        for section, objects in wanted.items()
    }
    if problems:
        raise Problems(problems)
    return Document(_tidy(resolved), [], source)


def _resolved(
    section: str, key: str, values: Values, source: Source, problems: list[str], environ: Mapping[str, str] | None
) -> Values:
    kind = BY_SECTION[section]
    at: Path = (section, key) if kind.key else (section,)

    def value_of(reference: str, place: Path, may_be_plain: bool) -> secrets.Secret | None:
        try:
            return secrets.resolve(reference, may_be_plain=may_be_plain, environ=environ)
        except secrets.Unresolved as problem:
            problems.append(source.say((*at, *place), str(problem)))
            return None

    found: Values = {}
    for name, value in values.items():
        shape = kind.settings[name].shape
        if shape == SECRET:
            found[name] = secrets.NONE if value is None else value_of(value, (name,), False)
        elif shape == SECRETS:
            found[name] = {each: value_of(text, (name, each), True) for each, text in value.items()}
        else:
            found[name] = value
    return found


def _tidy(wanted: Wanted) -> Wanted:
    """Lists whose order means nothing in one order."""
    for values in wanted.get("agents", {}).values():
        tidy_agent(values)
    return wanted


def tidy_agent(values: Values) -> None:
    if "servers" in values:
        values["servers"] = sorted(set(values["servers"]))
    if "disabled_tools" in values:
        off = values["disabled_tools"]
        values["disabled_tools"] = {slug: sorted(set(off[slug])) for slug in sorted(off) if off[slug]}
    if "approvals" in values:
        asked = values["approvals"]
        values["approvals"] = {slug: dict(sorted(asked[slug].items())) for slug in sorted(asked) if asked[slug]}
    if "tool_scopes" in values:
        scopes = values["tool_scopes"]
        values["tool_scopes"] = {name: sorted(set(scopes[name])) for name in sorted(scopes)}
