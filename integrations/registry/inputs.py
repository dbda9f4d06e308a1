"""What somebody has to fill in to add a server from an entry, and filling its templates with what they gave."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from aster.errors import InvalidInput
from integrations.registry.entries import Input, Remote

LONGEST_VALUE = 8000
_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")
# How Aster's own configuration names a variable of the machine it runs on: for admins to write, not for entries.
_OPERATORS = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?")


@dataclass(frozen=True)
class Blank:
    """One thing to fill in; `key` names it in forms and bodies."""

    key: str
    input: Input
    kind: str
    """What it goes into, in a word: address, header, variable or argument."""

    @property
    def choices(self) -> tuple[str, ...]:
        return ("true", "false") if self.input.format == "boolean" and not self.input.choices else self.input.choices


@dataclass
class Blanks:
    """The blanks of one way to reach a server, and which template each belongs to."""

    found: list[Blank] = field(default_factory=list)
    _keys: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, owner: str, given: Input, kind: str) -> None:
        """`owner` is the header or argument that a variable is part of; empty for what stands for itself."""
        if given.value is not None and not given.variables:
            return  # fixed
        if given.value is not None:
            for variable in _used(given):
                secret = variable.is_secret or given.is_secret
                self.add(given.name, replace(variable, is_secret=secret, variables=()), kind)
            return
        self._place(owner, _without_operators(given), kind)

    def _place(self, owner: str, given: Input, kind: str) -> None:
        taken = {blank.key for blank in self.found}
        longer = f"{owner}.{given.name}" if owner else f"{kind}.{given.name}"
        names = (given.name, longer, *(f"{longer}.{number}" for number in range(2, len(taken) + 3)))
        key = next(name for name in names if name not in taken)
        self.found.append(Blank(key, given, kind))
        self._keys.setdefault((owner, given.name), key)

    def key_of(self, owner: str, name: str) -> str:
        return self._keys.get((owner, name), "")


def _without_operators(given: Input) -> Input:
    """Without suggestions that name a variable of Aster's machine: an entry must not talk anybody into sending one."""
    default, placeholder = ("" if "${" in text else text for text in (given.default, given.placeholder))
    choices = tuple(each for each in given.choices if "${" not in each)
    return replace(given, default=default, placeholder=placeholder, choices=choices)


def operators_problem(given: Iterable[Input]) -> str:
    """Why none of these inputs may be used: one has a variable of Aster's machine in its name or in what is fixed."""
    for each in given:
        fixed = [each.name, each.value or "", *(variable.value or "" for variable in each.variables)]
        if any("${" in text for text in fixed):
            return _puts("${…}", each.name)
    return ""


def _puts(found: str, name: str) -> str:
    words = f"The entry puts {found[:60]}, a variable of Aster's own machine, into {name[:60]}. It is not used."
    return f"{words} Add the server by hand if you trust it."


def fixed_text(given: Input) -> str:
    """What an input always comes to; empty if it sends nothing, or if any of it is asked for."""
    if given.value is None or any(each.value is None for each in _used(given)):
        return ""
    return Filled(Blanks(), {}).from_template(given, given.value)


def _used(given: Input) -> list[Input]:
    return [each for each in given.variables if f"{{{each.name}}}" in (given.value or "")]


def blanks_of_remote(remote: Remote) -> Blanks:
    blanks = Blanks()
    declared = {variable.name: variable for variable in remote.variables}
    for name in dict.fromkeys(_PLACE.findall(remote.url)):
        # Braces cannot stay in an address (RFC 3986 §2): what the entry forgot to declare has to be asked for.
        known = declared.get(name, Input(name))
        blanks.add("", replace(known, is_required=True, variables=()), "address")
    for header in remote.headers:
        blanks.add("", header, "header")
    return blanks


@dataclass(frozen=True)
class Filled:
    """The values that were given, checked against the blanks. Its repr shows none: some are secret."""

    blanks: Blanks
    values: Mapping[str, str] = field(repr=False)

    def address(self, remote: Remote) -> str:
        """The remote's URL. Not yet vetted: that is for whoever would store or dial it."""
        fixed = {each.name: each.value for each in remote.variables if each.value is not None}
        return _PLACE.sub(lambda at: fixed.get(at.group(1)) or self._value("", at.group(1)) or "", remote.url)

    def text(self, given: Input) -> str:
        """What an input comes to; empty if it is optional and was left out."""
        filled = self._value("", given.name) if given.value is None else self.from_template(given, given.value)
        self._refuse_operators(given, filled)
        return filled

    def from_template(self, given: Input, template: str) -> str:
        fixed = {each.name: each.value for each in given.variables}
        used = [name for name in dict.fromkeys(_PLACE.findall(template)) if name in fixed]
        values = {name: fixed[name] or self._value(given.name, name) for name in used}
        if used and not any(values.values()):
            return ""
        # What is no variable stays as it is, says the schema.
        return _PLACE.sub(lambda at: values.get(at.group(1)) or ("" if at.group(1) in fixed else at.group(0)), template)

    def _value(self, owner: str, name: str) -> str:
        return self.values.get(self.blanks.key_of(owner, name), "")

    def _refuse_operators(self, given: Input, filled: str) -> None:
        """Halves that an entry gives may come together to a variable. One that was entered here may stay."""
        entered = [self._value("", given.name), *(self._value(given.name, each.name) for each in given.variables)]
        for found in _OPERATORS.findall(filled):
            if not any(found in value for value in entered):
                raise InvalidInput(_puts(found, given.name), code="odd_entry")


def fill(blanks: Blanks, given: Mapping[str, str]) -> Filled:
    """Check what was given. What was left out takes its default. Raises InvalidInput that names each blank."""
    problems: dict[str, str] = {}
    known = {blank.key for blank in blanks.found}
    problems |= {name: "The entry asks for nothing of this name." for name in given if name not in known}
    values: dict[str, str] = {}
    for blank in blanks.found:
        value = given.get(blank.key, blank.input.default).strip()
        if problem := _problem(blank, value):
            problems[blank.key] = problem
        values[blank.key] = value
    if problems:
        name, words = next(iter(problems.items()))
        raise InvalidInput(f"{name[:100]}: {words}", fields={f"values.{key[:200]}": [p] for key, p in problems.items()})
    return Filled(blanks, values)


def _problem(blank: Blank, value: str) -> str:
    if not value:
        return "This is needed." if blank.input.is_required else ""
    if len(value) > LONGEST_VALUE or not value.isprintable():
        return "This is too long, or has characters that cannot be sent."
    if blank.choices and value not in blank.choices:
        return f"Choose one of {', '.join(blank.choices[:20])}."
    if blank.input.format == "number" and not _NUMBER.fullmatch(value):
        return "Enter a number."
    return ""


def secret_in(blanks: Iterable[Blank], *kinds: str) -> str:
    """The name of a secret that would go where nothing is encrypted, if there is one."""
    return next((blank.input.name for blank in blanks if blank.kind in kinds and blank.input.is_secret), "")
