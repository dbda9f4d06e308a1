"""OpenAPI 3 documents: which operations there are, and what each takes.

Only what a tool needs is read (https://spec.openapis.org/oas/v3.1.1.html): paths, parameters, bodies of JSON or forms,
and local references. A document that is not what it should be is refused with words; one odd operation costs that
operation alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain, count, islice
from typing import Any

from connectors.openapi.addresses import PLACEHOLDER, server_url
from connectors.openapi.schemas import MAX_SCHEMA_SIZE, TOO_MUCH, Schemas, Sized, clean_text
from connectors.openapi.text import invalid_document, parse_text

MAX_NAME = 60
MAX_PREFIX = 20
MAX_PATH = 500
# What one reads is bounded, whatever a document of MAX_BYTES says how often
MAX_READ = 5_000  # operations
MAX_PARAMETERS = 200  # of one operation
MAX_TOTAL = 30_000_000  # characters that the schemas of all operations have, what they share counted each time
MOST_BODY_TYPES = 50
METHODS = ("get", "post", "put", "patch", "delete")
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")
_ARGUMENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # what models take as the name of an argument
_WIRE_NAME = re.compile(r"[^\x00-\x20\x7f-\x9f\ud800-\udfff]{1,200}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_JSON_TYPE = re.compile(r"[a-z]+/[a-z0-9_.+-]*json")
# Aster's own to say, or the transport's
_OWN_HEADERS = {
    *("authorization", "accept", "content-type", "content-length", "host", "connection", "transfer-encoding"),
    *("cookie", "te", "trailer", "upgrade", "proxy-authorization", "expect"),
}


@dataclass(frozen=True)
class Place:
    """Where an argument goes: `where` is path, query or header, `name` its name there, and `how` is how a list or
    object is written: repeat, deep, fields, json, or what stands between the items of a list."""

    where: str
    name: str
    how: str = "repeat"


Parameter = tuple[Place, Sized, bool]  # and whether it has to be given


@dataclass(frozen=True)
class Operation:
    """One operation. `places` says where each argument goes; the argument `body` is sent as `body_type`."""

    key: str  # method and path: what tells it apart in its document
    name: str
    title: str
    description: str
    method: str
    path: str
    schema: Mapping[str, Any]
    places: Mapping[str, Place] = field(default_factory=dict)
    body: str = ""
    body_type: str = ""
    tag: str = ""

    @property
    def only_reads(self) -> bool:
        return self.method == "get"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Operation:
        places = {argument: Place(**place) for argument, place in kept["places"].items()}
        return cls(**{**kept, "places": places})


@dataclass(frozen=True)
class Document:
    title: str
    url: str  # where its API is, as far as the document says; empty if it does not
    operations: tuple[Operation, ...]
    problems: tuple[str, ...] = ()  # a line for each operation that was left out
    hint: str = ""  # what to look at about the url
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def by_key(self) -> dict[str, Operation]:
        return {each.key: each for each in self.operations}


def read_document(text: str, *, prefix: str, source_url: str = "") -> Document:
    """The operations of a document in JSON or YAML, named `prefix_…`. Raises InvalidInput that says what is wrong."""
    return read_parsed(parse_text(text), prefix=prefix, source_url=source_url)


def read_parsed(raw: Mapping[str, Any], *, prefix: str, source_url: str = "") -> Document:
    version = str(raw.get("openapi", ""))
    if not version.startswith("3."):
        if raw.get("swagger"):
            words = (
                "This is Swagger 2. Convert it first, for example with “npx swagger2openapi” or at editor.swagger.io"
            )
            raise invalid_document(f"{words} (Edit, Convert to OpenAPI 3).")
        raise invalid_document("This is no OpenAPI document. Give one of version 3: it begins with “openapi: 3…”.")
    paths = raw.get("paths")
    if not isinstance(paths, dict) or not paths:
        raise invalid_document("The document has no paths.")
    reader = _Reader(raw, prefix, source_url)
    found, problems = list[Operation](), list[str]()
    operations = _operations_in(paths)
    for key, path, method, item, operation in islice(operations, MAX_READ):
        try:
            found.append(reader.read(key, path, method, item, operation))
        except ValueError as error:
            problems.append(f"{key}: {error}")
    if next(operations, None):
        problems.append(f"The document has more than {MAX_READ} operations: the further ones are left out.")
    if not found:
        why = f" {problems[0]}." if problems else ""
        raise invalid_document(f"The document has no operation that can be called.{why}")
    return Document(title_of(raw), reader.url, tuple(found), tuple(problems), reader.hint, raw)


def title_of(raw: Mapping[str, Any]) -> str:
    info = raw.get("info")
    return " ".join(clean_text(info.get("title") if isinstance(info, dict) else "", 100).split())


def tool_prefix(slug: str) -> str:
    return _UNSAFE.sub("_", slug).strip("_").lower()[:MAX_PREFIX].rstrip("_") or "api"


def tool_name(prefix: str, said: str) -> str:
    """`said` as the name of a tool, with the prefix that it may have already."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", said)
    own = _UNSAFE.sub("_", words).strip("_").lower()
    own = own.removeprefix(f"{prefix}_") or own
    return f"{prefix}_{own}"[:MAX_NAME].rstrip("_")


def _operations_in(paths: Mapping[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any], dict[str, Any]]]:
    for path, item in paths.items():
        if path.startswith("/") and isinstance(item, dict):
            for method in METHODS:
                if isinstance(operation := item.get(method), dict):
                    yield clean_text(f"{method.upper()} {path}", MAX_PATH), path, method, item, operation


class _Reader:
    """Reads operations one by one; what they share is looked at once."""

    def __init__(self, raw: Mapping[str, Any], prefix: str, source_url: str) -> None:
        self._raw, self._prefix, self._source_url = raw, prefix, source_url
        self._schemas = Schemas(raw)
        self._taken, self._alike = set[str](), Counter[str]()
        self._left = MAX_TOTAL
        paths: Mapping[str, Any] = raw["paths"]
        servers = [raw.get("servers"), *(item.get("servers") for item in paths.values() if isinstance(item, dict))]
        # Some documents name the address at each path instead of once.
        self.url, self.hint = next(filter(any, (server_url(each, source_url) for each in servers)), ("", ""))

    def read(
        self, key: str, path: str, method: str, item: Mapping[str, Any], operation: Mapping[str, Any]
    ) -> Operation:
        _check_path(path)
        own_servers = operation.get("servers") or item.get("servers")
        own, _ = server_url(own_servers, self._source_url)
        if own and own.rstrip("/") != self.url.rstrip("/"):
            raise ValueError(f"it is at another address, {own[:100]}")
        arguments = self._arguments(path, item.get("parameters"), operation.get("parameters"))
        (body, size), body_type, is_needed = self._body(operation)
        named = _name_arguments(arguments)
        properties = {argument: schema for argument, (_, (schema, _), _) in named.items()}
        size += sum(more + len(argument) for argument, (_, (_, more), _) in named.items())
        if size > MAX_SCHEMA_SIZE:
            raise ValueError(TOO_MUCH)
        self._left -= size
        if self._left < 0:
            raise ValueError("the document describes too much altogether, this no more")
        required = [argument for argument, (_, _, needed) in named.items() if needed]
        body_name = ""
        if body_type:
            body_name = "body" if "body" not in properties else "request_body"
            properties[body_name] = body
            required += [body_name] if is_needed else []
        schema = {"type": "object", "properties": properties, **({"required": sorted(required)} if required else {})}
        said = clean_text(operation.get("operationId"), 200)
        summary = clean_text(operation.get("summary"), 200)
        words = clean_text(operation.get("description"), 2000) or summary or key
        tags = operation.get("tags")
        return Operation(
            key, self._free_name(said or key), (" ".join(summary.split()) or said or key)[:100], words, method, path,
            schema, {argument: place for argument, (place, _, _) in named.items()}, body_name, body_type,
            clean_text(tags[0], 60) if isinstance(tags, list) and tags else "",
        )  # fmt: skip

    def _arguments(self, path: str, *lists: Any) -> list[Parameter]:
        """What an operation takes, its own parameters over those of its path (OpenAPI 3.1.1 §4.8.9)."""
        used = set(PLACEHOLDER.findall(path))
        found: dict[tuple[str, str], Parameter] = {}
        for each in chain.from_iterable(several for several in lists if isinstance(several, list)):
            parameter = self._schemas.follow(each)
            name, where = parameter.get("name"), parameter.get("in")
            if where == "cookie" and parameter.get("required") is True:
                raise ValueError("it needs a cookie")
            if not isinstance(name, str) or where not in ("path", "query", "header"):
                continue
            if where == "path" and name not in used:
                continue
            if not _WIRE_NAME.fullmatch(name):
                raise ValueError("a parameter has a name that cannot be sent")
            if where == "header" and (name.lower() in _OWN_HEADERS or not _HEADER_NAME.fullmatch(name)):
                continue
            how, (schema, size) = self._parameter_schema(parameter, where)
            if words := clean_text(parameter.get("description")):
                schema, size = {**schema, "description": words}, size + len(words)
            needed = parameter.get("required") is True or where == "path"
            found[where, name] = Place(where, name, how), (schema, size), needed
            if len(found) > MAX_PARAMETERS:
                raise ValueError(f"it has more than {MAX_PARAMETERS} parameters")
        if missing := used - {name for where, name in found if where == "path"}:
            raise ValueError(f"its path has {clean_text(', '.join(sorted(missing)), 100)}, which it does not describe")
        return list(found.values())

    def _parameter_schema(self, parameter: Mapping[str, Any], where: str) -> tuple[str, Sized]:
        content = parameter.get("content")
        if isinstance(content, dict) and content:
            inside = next(iter(content.values()))
            return "json", self._schemas.plain(inside.get("schema") if isinstance(inside, dict) else {})
        style = parameter.get("style")
        style = style if isinstance(style, str) else "form"
        explode = parameter.get("explode", style == "form")
        between = {"spaceDelimited": " ", "pipeDelimited": "|"}.get(style, ",")
        how = "deep" if style == "deepObject" else "repeat" if explode and style == "form" else between
        return "," if where != "query" else how, self._schemas.plain(parameter.get("schema"))

    def _body(self, operation: Mapping[str, Any]) -> tuple[Sized, str, bool]:
        """The schema of a body, its type, and whether there has to be one."""
        body = self._schemas.follow(operation.get("requestBody"))
        content = body.get("content")
        if not isinstance(content, dict) or not content:
            return ({}, 0), "", False
        listed = islice(content.items(), MOST_BODY_TYPES)
        kinds = {each[:200].partition(";")[0].strip().lower(): value for each, value in listed}
        form = "application/x-www-form-urlencoded"
        order = ["application/json", *filter(_JSON_TYPE.fullmatch, kinds), form]
        chosen = next((kind for kind in order if kind in kinds), "application/json" if "*/*" in kinds else "")
        if not chosen:
            if body.get("required") is True:
                raise ValueError(f"it takes {clean_text(next(iter(kinds)), 60)}, neither JSON nor a form")
            return ({}, 0), "", False
        inside = kinds.get(chosen, kinds.get("*/*"))
        schema, size = self._schemas.plain(inside.get("schema") if isinstance(inside, dict) else {})
        words = clean_text(body.get("description"))
        if words and "description" not in schema:
            schema = {**schema, "description": words}
        return (schema, size + len(words)), chosen, body.get("required") is True

    def _free_name(self, said: str) -> str:
        name = tool_name(self._prefix, said)
        begins = name[: MAX_NAME - 6].rstrip("_")
        while name in self._taken:
            self._alike[begins] += 1
            name = f"{begins}_{self._alike[begins] + 1}"
        self._taken.add(name)
        return name


def _check_path(path: str) -> None:
    """What would lead elsewhere than under the API's address, or was not meant as a path."""
    if len(path) > MAX_PATH or not path.isprintable() or any(char in path for char in "?#\\ "):
        raise ValueError("its path has characters that an address cannot have")
    if any(part in (".", "..") for part in path.split("/")):
        raise ValueError("its path leads out of the API")


def _name_arguments(arguments: list[Parameter]) -> dict[str, Parameter]:
    """By names that models take, and that tell a path's `id` from a query's."""
    named: dict[str, Parameter] = {}
    order = {"path": 0, "query": 1, "header": 2}
    for each in sorted(arguments, key=lambda one: order[one[0].where]):
        place = each[0]
        wanted = place.name if _ARGUMENT.fullmatch(place.name) else _UNSAFE.sub("_", place.name).strip("_")[:50]
        wanted = wanted or "argument"
        choices = chain((wanted, f"{place.where}_{wanted}"[:64]), (f"{wanted[:58]}_{n}" for n in count(2)))
        named[next(name for name in choices if name not in named)] = each
    return named
