"""The command that runs a package, or why Aster does not offer one.

Running a package is running a stranger's code. Nothing here decides whether that is allowed.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from integrations.registry.entries import Argument, Package
from integrations.registry.inputs import Blanks, Filled, operators_problem

_NPM = re.compile(r"(@[a-z0-9~][a-z0-9._~-]*/)?[a-z0-9~][a-z0-9._~-]*", re.IGNORECASE | re.ASCII)
_PYPI = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]*")
# With its dashes, says the schema; the value is an argument of its own.
_FLAG = re.compile(r"--?[A-Za-z0-9][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What decides which code is fetched, from where and over whom, and what runs before it: for the operator to set.
_OPERATORS_OWN = re.compile(
    r"(npm|pnpm|yarn|corepack|uv|pip|conda|ld|dyld|xdg|openssl)_.*|python.*|node_(?!env$).*"
    r"|git_(ssh|ssl|config|exec|proxy|askpass|template).*|(ssl|curl|requests)_(ca|cert)_.*|sslkeylogfile|curl_home|netrc"
    r"|path|home|prefix|shell|env|bash_env|ifs|tmpdir|te?mp|virtual_env|gconv_path|glibc_tunables|hostaliases"
    r"|((https?|ftp|all|no|wss?|socks)_)?proxy",
    re.IGNORECASE,
)
_HOMES = {"npm": "https://registry.npmjs.org", "pypi": "https://pypi.org"}
_HARMLESS = {"npm": ("-y", "--yes"), "pypi": ()}


@dataclass(frozen=True)
class Command:
    program: str
    args: tuple[str, ...]
    own: tuple[Argument, ...]
    """What the package's own program takes, after `args`."""

    @property
    def shown(self) -> str:
        """The whole command as it would be typed, with names in place of what is to be filled in."""
        own = [part for argument in self.own for part in _parts(argument, argument.input.value or _hint(argument))]
        return " ".join([self.program, *map(shlex.quote, self.args), *(_quoted(part) for part in own)])

    def filled(self, filled: Filled) -> list[str]:
        args = [*self.args]
        for argument in self.own:
            args += _parts(argument, filled.text(argument.input))
        return args


def _hint(argument: Argument) -> str:
    return f"<{argument.input.name.lstrip('-')}>"


def _quoted(part: str) -> str:
    return part if part.startswith("<") and part.endswith(">") else shlex.quote(part)


def _parts(argument: Argument, value: str) -> list[str]:
    """Flag and value as two arguments, which every parser of options takes."""
    return [*filter(None, [argument.flag]), value] if value else []


def command_of(package: Package) -> Command | str:
    """The command of a package from npm or PyPI, or in a sentence why there is none."""
    kind, name, version = package.registry_type, package.identifier, package.version
    if kind not in _HOMES:
        return f"Aster runs packages from npm and PyPI only; this one is of the kind {kind}."
    if package.transport != "stdio":
        return f"It listens on an address of its own ({package.transport}): start it yourself, then add its address."
    if package.base_url.rstrip("/") not in ("", _HOMES[kind]):
        return f"It comes from {package.base_url}, where Aster does not fetch packages."
    if not (_NPM if kind == "npm" else _PYPI).fullmatch(name):
        return "Its name is not one that a package can have."
    if not _VERSION.fullmatch(version) or version == "latest":
        return "It names no version, so that tomorrow something else would run."
    extra = [(each.flag or each.input.value or each.input.name) for each in package.runtime_arguments]
    if package.has_more or any(each not in _HARMLESS[kind] for each in extra):
        return "It asks for arguments of the program that runs it. Add it by hand if you trust them."
    if problem := _problem_of_inputs(package):
        return problem
    if kind == "npm":
        return Command("npx", ("-y", f"{name}@{version}"), package.arguments)
    return Command("uvx", (f"{name}=={version}",), package.arguments)


def _problem_of_inputs(package: Package) -> str:
    for flag in filter(None, (argument.flag for argument in package.arguments)):
        if not _FLAG.fullmatch(flag):
            return f"Its argument {flag[:40]} is not written as a flag is. Add it by hand if you trust it."
    for name in (variable.name for variable in package.environment):
        if not _VARIABLE.fullmatch(name):
            return f"{name[:40]} is no name that a variable of the environment can have."
        if _OPERATORS_OWN.fullmatch(name):
            return f"It sets {name[:40]}, which decides what runs and where it comes from. That is for the operator."
    return operators_problem([*package.environment, *(argument.input for argument in package.arguments)])


def blanks_of_package(package: Package) -> Blanks:
    blanks = Blanks()
    for variable in package.environment:
        blanks.add("", variable, "variable")
    for argument in package.arguments:
        blanks.add("", argument.input, "argument")
    return blanks
