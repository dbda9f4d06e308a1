"""The ways in which an entry of a registry can be added: each of its addresses and packages, with what to fill in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from django.conf import settings

from aster.errors import InvalidInput, NotFound
from integrations.models import McpServer, RegistryEntry, Transport
from integrations.registry.commands import Command, blanks_of_package, command_of
from integrations.registry.entries import Input, Package, Remote, packages_of, remotes_of
from integrations.registry.inputs import (
    Blank,
    Blanks,
    Filled,
    blanks_of_remote,
    fill,
    fixed_text,
    operators_problem,
    secret_in,
)
from integrations.services.targets import is_reserved_header

TRANSPORTS = {"streamable-http": Transport.STREAMABLE_HTTP, "sse": Transport.SSE}
KINDS = {"streamable-http": "Streamable HTTP", "sse": "SSE", "npm": "npm package", "pypi": "PyPI package"}
# Headers that carry credentials whether or not an entry says so
_CREDENTIALS = ("authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "x-auth-token")


@dataclass(frozen=True)
class Way:
    """One way to reach the server. `problem` says why it cannot be added, if so."""

    key: str
    kind: str
    address: str
    blanks: Blanks
    problem: str = ""
    remote: Remote | None = None
    package: Package | None = None
    command: Command | None = None

    @property
    def asks(self) -> list[Blank]:
        return self.blanks.found

    @property
    def label(self) -> str:
        return KINDS.get(self.kind, f"{self.kind} package")

    @property
    def fixed(self) -> list[tuple[str, str]]:
        """What is sent without asking, to be shown before anybody adds it."""
        given = self.remote.headers if self.remote else self.package.environment if self.package else ()
        return [(each.name, text) for each in given if (text := fixed_text(each))]


def ways_of(entry: RegistryEntry) -> list[Way]:
    """Every way, the best first: Streamable HTTP, then SSE, then packages. Keys count as the document does."""
    remotes = [_remote_way(number, remote) for number, remote in enumerate(remotes_of(entry.server))]
    packages = [_package_way(number, package) for number, package in enumerate(packages_of(entry.server))]
    return sorted([*remotes, *packages], key=lambda way: (way.kind not in TRANSPORTS, way.kind == "sse"))


def find_way(entry: RegistryEntry, key: str = "") -> Way:
    """The way of this key, without one the best that can be added. Raises NotFound, or InvalidInput if it cannot be."""
    ways = ways_of(entry)
    if not ways:
        raise NotFound(f"{entry} names no address and no package: there is nothing to add.")
    if key:
        way = next((each for each in ways if each.key == key), None)
        if way is None:
            raise NotFound(f"{entry} has no {key[:30]}. It has {', '.join(each.key for each in ways)}.")
    else:
        way = next((each for each in ways if not each.problem), ways[0])
    if way.problem:
        raise InvalidInput(way.problem, code="not_addable")
    return way


def _remote_way(number: int, remote: Remote) -> Way:
    remote = replace(remote, headers=tuple(each for each in remote.headers if not is_reserved_header(each.name)))
    blanks = blanks_of_remote(remote)
    problem = operators_problem([Input("its address", value=remote.url), *remote.variables, *remote.headers])
    if secret := secret_in(blanks.found, "address"):
        problem = (
            f"Its address holds a secret ({secret}). Addresses are shown to everybody, so Aster keeps none in them."
        )
    return Way(f"remote-{number}", remote.type, remote.url, blanks, problem, remote=remote)


def _package_way(number: int, package: Package) -> Way:
    blanks, command = blanks_of_package(package), command_of(package)
    shown = f"{package.identifier} {package.version}".strip()
    key = f"package-{number}"
    if isinstance(command, str):
        return Way(key, package.registry_type, shown, blanks, command, package=package)
    return Way(
        key, package.registry_type, command.shown, blanks, _stdio_problem(command, blanks), package=package,
        command=command,
    )  # fmt: skip


def _stdio_problem(command: Command, blanks: Blanks) -> str:
    if not settings.ASTER_STDIO_COMMANDS:
        return "Local commands are off: they run a stranger's code. The operator can allow some (ASTER_STDIO_COMMANDS)."
    if command.program not in settings.ASTER_STDIO_COMMANDS:
        return f"The operator has not allowed the command {command.program} (ASTER_STDIO_COMMANDS)."
    if secret := secret_in(blanks.found, "argument"):
        return f"A secret ({secret}) is an argument of its command. Everybody on the machine sees arguments."
    return ""


@dataclass(frozen=True)
class Reached:
    """What a way comes to once it is filled in: fields of the server, and headers. Its repr shows no values."""

    server: McpServer
    headers: dict[str, str] = field(repr=False)
    has_credentials: bool


def fill_way(way: Way, given: Mapping[str, str]) -> Reached:
    """Raises InvalidInput that names what is missing or wrong."""
    filled = fill(way.blanks, given)
    if way.remote:
        return _fill_remote(way.remote, filled)
    if way.package and way.command:
        return _fill_package(way.package, way.command, filled)
    raise InvalidInput(way.problem, code="not_addable")


def _fill_remote(remote: Remote, filled: Filled) -> Reached:
    texts = {each.name: (each, filled.text(each)) for each in remote.headers}
    _require(texts)
    headers = {name: text for name, (_, text) in texts.items() if text}
    server = McpServer(transport=TRANSPORTS[remote.type], url=filled.address(remote))
    return Reached(server, headers, any(_is_credential(texts[name][0]) for name in headers))


def _fill_package(package: Package, command: Command, filled: Filled) -> Reached:
    variables = {each.name: (each, filled.text(each)) for each in package.environment}
    _require(variables)
    _require({each.input.name: (each.input, filled.text(each.input)) for each in package.arguments})
    env = {name: text for name, (_, text) in variables.items() if text}
    args = command.filled(filled)
    return Reached(McpServer(transport=Transport.STDIO, command=command.program, args=args, env=env), {}, False)


def _require(texts: Mapping[str, tuple[Input, str]]) -> None:
    for name, (given, text) in texts.items():
        if given.is_required and not text:
            raise InvalidInput(f"{name} is needed.", fields={f"values.{name}": ["This is needed."]})


def _is_credential(header: Input) -> bool:
    secret = header.is_secret or any(variable.is_secret for variable in header.variables)
    return secret or header.name.lower() in _CREDENTIALS
