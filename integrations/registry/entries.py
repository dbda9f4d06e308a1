"""server.json as values (schema 2025-12-11): what a registry says about one server, read piece by piece.

A stranger wrote it. An entry without a usable name and version raises OddEntry; of everything else, what is not as
documented is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.utils.dateparse import parse_datetime

OFFICIAL = "io.modelcontextprotocol.registry/official"
ACTIVE, DEPRECATED, DELETED = "active", "deprecated", "deleted"
MOST_BYTES, MOST_ITEMS = 64 * 1024, 20
LONGEST_NAME, LONGEST_VERSION, LONGEST_TITLE, LONGEST_TEXT, LONGEST_URL = 200, 100, 100, 500, 500
_NAME = re.compile(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+")
_VERSION = re.compile(r"[!-~]+")
_KEPT = ("name", "description", "version", "title", "websiteUrl", "repository", "remotes", "packages")


class OddEntry(ValueError):
    """What a registry listed is no entry; its words say why."""


@dataclass(frozen=True)
class Input:
    """One value that whoever adds the server gives, or that is fixed. `variables` fill the {curly} names in `value`."""

    name: str
    description: str = ""
    is_required: bool = False
    is_secret: bool = False
    format: str = "string"
    value: str | None = None
    default: str = ""
    placeholder: str = ""
    choices: tuple[str, ...] = ()
    variables: tuple[Input, ...] = ()


@dataclass(frozen=True)
class Remote:
    type: str
    url: str
    headers: tuple[Input, ...] = ()
    variables: tuple[Input, ...] = ()


@dataclass(frozen=True)
class Argument:
    """An argument of a command: `flag` is empty for one that is known by its place."""

    flag: str
    input: Input


@dataclass(frozen=True)
class Package:
    registry_type: str
    identifier: str
    version: str
    base_url: str
    transport: str
    runtime_arguments: tuple[Argument, ...] = ()
    arguments: tuple[Argument, ...] = ()
    environment: tuple[Input, ...] = ()
    # It has arguments of a kind that Aster does not know, or more of something than it reads.
    has_more: bool = False


@dataclass(frozen=True)
class Listed:
    """One line of a registry's list: the server, and what the registry says about it."""

    name: str
    version: str
    title: str
    description: str
    website: str
    repository: str
    document: dict[str, Any]
    status: str
    status_message: str
    published_at: datetime | None
    updated_at: datetime | None
    is_latest: bool


def read_listed(raw: Any) -> Listed:
    """A line of a registry's list. Raises OddEntry."""
    server = raw.get("server") if isinstance(raw, dict) else None
    if not isinstance(server, dict):
        raise OddEntry("it has no server")
    name, version = server.get("name"), server.get("version")
    if not isinstance(name, str) or len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise OddEntry("its name is not in the form of com.example/server")
    if not isinstance(version, str) or not 0 < len(version) <= LONGEST_VERSION or not _VERSION.fullmatch(version):
        raise OddEntry("its version is not usable")
    document = {key: server[key] for key in _KEPT if key in server}
    if not _is_storable(document):
        raise OddEntry("it is too large, or has characters that cannot be stored")
    meta = raw.get("_meta")
    said = _mapping(_mapping(meta).get(OFFICIAL))
    status = said.get("status")
    return Listed(
        name=name,
        version=version,
        title=_text(server, "title", LONGEST_TITLE),
        description=_text(server, "description", LONGEST_TEXT),
        website=web_link(server.get("websiteUrl")),
        repository=web_link(_mapping(server.get("repository")).get("url")),
        document=document,
        status=status if status in (DEPRECATED, DELETED) else ACTIVE,
        status_message=_text(said, "statusMessage", LONGEST_TEXT),
        published_at=_moment(said.get("publishedAt")),
        updated_at=_moment(said.get("updatedAt")),
        is_latest=said.get("isLatest") is not False,
    )


def web_link(value: Any) -> str:
    """A link to show, or nothing: a page must not lead to javascript: and the like."""
    if not isinstance(value, str) or len(value) > LONGEST_URL or not value.isprintable() or " " in value:
        return ""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return value if parts.scheme in ("http", "https") and parts.hostname else ""


def remotes_of(document: Mapping[str, Any]) -> list[Remote]:
    """The addresses at which the server is offered, in the order of the document; odd ones are left out."""
    return [remote for raw in _items(document.get("remotes")) if (remote := _remote(raw))]


def packages_of(document: Mapping[str, Any]) -> list[Package]:
    return [package for raw in _items(document.get("packages")) if (package := _package(raw))]


def _remote(raw: Mapping[str, Any]) -> Remote | None:
    kind, url = raw.get("type"), raw.get("url")
    if kind not in ("streamable-http", "sse") or not isinstance(url, str) or not 0 < len(url) <= 2000:
        return None
    return Remote(kind, url, _named_inputs(raw.get("headers")), _variables(raw.get("variables")))


def _package(raw: Mapping[str, Any]) -> Package | None:
    kind, identifier = _text(raw, "registryType", 30), _text(raw, "identifier", LONGEST_URL)
    if not kind or not identifier:
        return None
    runtime, own = _items(raw.get("runtimeArguments")), _items(raw.get("packageArguments"))
    read_runtime, read_own = _arguments(runtime), _arguments(own)
    counts = [(raw.get("runtimeArguments"), read_runtime), (raw.get("packageArguments"), read_own)]
    return Package(
        registry_type=kind,
        identifier=identifier,
        version=_text(raw, "version", LONGEST_VERSION),
        base_url=_text(raw, "registryBaseUrl", LONGEST_URL),
        transport=_text(_mapping(raw.get("transport")), "type", 30) or "stdio",
        runtime_arguments=read_runtime,
        arguments=read_own,
        environment=_named_inputs(raw.get("environmentVariables")),
        has_more=any(isinstance(given, list) and len(given) != len(read) for given, read in counts),
    )


def _arguments(items: list[Mapping[str, Any]]) -> tuple[Argument, ...]:
    read: list[Argument] = []
    for number, raw in enumerate(items, start=1):
        flag = _text(raw, "name", LONGEST_TITLE)
        hint = _text(raw, "valueHint", LONGEST_TITLE) or f"argument {number}"
        if raw.get("type") == "positional":
            read.append(Argument("", _input(hint, raw)))
        elif raw.get("type") == "named" and flag:
            read.append(Argument(flag, _input(flag, raw)))
    return tuple(read)


def _named_inputs(raw: Any) -> tuple[Input, ...]:
    return tuple(_input(name, each) for each in _items(raw) if (name := _text(each, "name", LONGEST_TITLE)))


def _variables(raw: Any) -> tuple[Input, ...]:
    pairs = list(raw.items())[:MOST_ITEMS] if isinstance(raw, dict) else []
    return tuple(_input(str(name)[:LONGEST_TITLE], each) for name, each in pairs if isinstance(each, dict))


def _input(name: str, raw: Mapping[str, Any]) -> Input:
    value, choices = raw.get("value"), raw.get("choices")
    kind = raw.get("format")
    return Input(
        name=name,
        description=_text(raw, "description", LONGEST_TEXT),
        is_required=raw.get("isRequired") is True,
        is_secret=raw.get("isSecret") is True,
        format=kind if kind in ("number", "boolean", "filepath") else "string",
        value=value[:2000] if isinstance(value, str) else None,
        default=_text(raw, "default", 2000),
        placeholder=_text(raw, "placeholder", 200),
        choices=tuple(each[:200] for each in choices[:100] if isinstance(each, str) and each)
        if isinstance(choices, list)
        else (),
        # Those of a variable have none of their own.
        variables=_variables(raw.get("variables")),
    )


def _items(raw: Any) -> list[Mapping[str, Any]]:
    return [each for each in raw[:MOST_ITEMS] if isinstance(each, dict)] if isinstance(raw, list) else []


def _mapping(raw: Any) -> Mapping[str, Any]:
    return raw if isinstance(raw, dict) else {}


def _text(raw: Mapping[str, Any], name: str, longest: int) -> str:
    value = raw.get(name)
    # A default may be written as a number or a truth; the schema wants texts.
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)[:longest]
    return "".join(_printable(value))[:longest].strip() if isinstance(value, str) else ""


def _printable(text: str) -> Iterator[str]:
    """One line without what could change how the rest of a page or a terminal reads."""
    for char in text:
        if char.isprintable():
            yield char
        elif char.isspace():
            yield " "


def _moment(value: Any) -> datetime | None:
    try:
        moment = parse_datetime(value) if isinstance(value, str) and len(value) < 50 else None
    except ValueError:
        return None
    # RFC 3339 has an offset; without one nobody knows when it was.
    return moment if moment and moment.tzinfo and 2000 < moment.year < 9000 else None


def _is_storable(document: dict[str, Any]) -> bool:
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (ValueError, RecursionError):
        return False
    return size <= MOST_BYTES and "\\u0000" not in text
