"""OpenAPI 3 documents as tools: which operations there are, what each takes, and how it is called.

Only what a tool needs is read (https://spec.openapis.org/oas/v3.1.1.html): paths, parameters, JSON bodies, and local
references.
A document that is not what it should be is refused with words; one odd operation costs that operation alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import yaml

from aster.errors import InvalidInput
from connectors.rest import Rest

MAX_BYTES = 10 * 1024 * 1024
MAX_OPERATIONS = 100  # in one connector
MAX_NAME = 60
MAX_DEPTH = 12  # of a schema, references followed; what lies deeper is anything
MAX_SCHEMA_BYTES = 60_000
METHODS = ("get", "post", "put", "patch", "delete")
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Operation:
    """One operation. `places` says where each argument goes: path, query, header; `body` holds those of a JSON body."""

    key: str  # method and path: what tells it apart in its document
    name: str
    title: str
    description: str
    method: str
    path: str
    schema: Mapping[str, Any]
    places: Mapping[str, str] = field(default_factory=dict)
    takes_body: bool = False

    @property
    def only_reads(self) -> bool:
        return self.method == "get"


@dataclass(frozen=True)
class Document:
    title: str
    url: str  # the first server that is one address; empty if there is none
    operations: tuple[Operation, ...]
    problems: tuple[str, ...] = ()  # a line for each operation that was left out


def read_document(text: str, *, prefix: str) -> Document:
    """The operations of a document in JSON or YAML, named `prefix_…`. Raises InvalidInput that says what is wrong."""
    document = _parsed(text)
    version = str(document.get("openapi", ""))
    if not version.startswith("3."):
        said = "Swagger 2" if document.get("swagger") else "no OpenAPI document"
        raise _invalid(f"This is {said}. Give an OpenAPI document of version 3.")
    paths = document.get("paths")
    if not isinstance(paths, dict) or not paths:
        raise _invalid("The document has no paths.")
    found, problems, taken = [], [], set[str]()
    for key, path, method, shared, raw in _operations_in(paths):
        try:
            operation = _read_operation(document, key, path, method, shared, raw, prefix)
        except (ValueError, RecursionError) as error:
            problems.append(f"{key}: {error or 'it is nested too deeply'}")
            continue
        name = _free_name(operation.name, taken)
        taken.add(name)
        found.append(Operation(**{**operation.__dict__, "name": name}))
    if not found:
        raise _invalid("The document has no operation that can be called.")
    info = document.get("info")
    title = str(info.get("title", "")) if isinstance(info, dict) else ""
    return Document(title[:100], _server_url(document), tuple(found), tuple(problems))


async def call_operation(api: Rest, operation: Operation, arguments: Mapping[str, Any]) -> Any:
    """Make the request that an operation describes. Arguments fit its schema already."""
    given = {name: value for name, value in arguments.items() if value is not None}
    path = _PLACEHOLDER.sub(lambda match: quote(_plain(given.get(match[1], "")), safe=""), operation.path)
    at = {place: {n: given[n] for n in given if operation.places.get(n) == place} for place in ("query", "header")}
    return await api.send(
        operation.method.upper(),
        path,
        params={name: value if isinstance(value, list) else _plain(value) for name, value in at["query"].items()},
        headers={name: _plain(value) for name, value in at["header"].items()},
        json=given.get("body") if operation.takes_body else None,
    )


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _parsed(text: str) -> dict[str, Any]:
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise _invalid(f"The document is larger than {MAX_BYTES // 1048576} MB.")
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=_Loader)  # noqa: S506
    except (ValueError, yaml.YAMLError, RecursionError):
        raise _invalid("The document is neither JSON nor YAML.") from None
    if not isinstance(document, dict):
        raise _invalid("The document is not an object.")
    return document


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for billions of nodes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("no aliases")
        return super().compose_node(parent, index)


def _operations_in(paths: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[Any], dict[str, Any]]]:
    for path, item in paths.items():
        if not isinstance(path, str) or not path.startswith("/") or not isinstance(item, dict):
            continue
        shared = item.get("parameters")
        for method in METHODS:
            if isinstance(raw := item.get(method), dict):
                yield f"{method.upper()} {path}", path, method, shared if isinstance(shared, list) else [], raw


def _read_operation(
    document: Mapping[str, Any], key: str, path: str, method: str, shared: list[Any], raw: dict[str, Any], prefix: str
) -> Operation:
    own = raw.get("parameters")
    properties, required, places = dict[str, Any](), list[str](), dict[str, str]()
    for each in [*shared, *(own if isinstance(own, list) else [])]:
        parameter = _resolved(document, each)
        name, place = parameter.get("name"), parameter.get("in")
        if not isinstance(name, str) or place not in ("path", "query", "header"):
            continue  # cookies are nobody's to set
        if place == "header" and name.lower() in ("authorization", "accept", "content-type"):
            continue
        schema = _inlined(document, parameter.get("schema") or {}, MAX_DEPTH)
        words = parameter.get("description")
        properties[name] = {**schema, **({"description": words[:1000]} if isinstance(words, str) else {})}
        places[name] = place
        if parameter.get("required") or place == "path":
            required.append(name)
    missing = set(_PLACEHOLDER.findall(path)) - {name for name, place in places.items() if place == "path"}
    if missing:
        raise ValueError(f"its path has {', '.join(sorted(missing))}, which it does not describe")
    body = _json_body(document, raw)
    if body is not None:
        properties["body"] = _inlined(document, body[0], MAX_DEPTH)
        required += ["body"] if body[1] else []
    schema = {"type": "object", "properties": properties, **({"required": sorted(set(required))} if required else {})}
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise ValueError("what it takes is too much to describe to a model")
    said = raw.get("operationId")
    name = _name(prefix, said if isinstance(said, str) and said else key)
    title = str(raw.get("summary") or said or key)[:100]
    words = str(raw.get("description") or raw.get("summary") or key)
    return Operation(key, name, title, words[:2000], method, path, schema, places, body is not None)


def _json_body(document: Mapping[str, Any], raw: Mapping[str, Any]) -> tuple[Any, bool] | None:
    """The schema of a JSON body and whether there has to be one."""
    body = _resolved(document, raw.get("requestBody"))
    content = body.get("content")
    if not isinstance(content, dict) or not content:
        return None
    found = next((value for kind, value in content.items() if kind.partition(";")[0].strip().endswith("json")), None)
    if not isinstance(found, dict):
        raise ValueError(f"it takes {next(iter(content))}, not JSON")
    return found.get("schema") or {}, bool(body.get("required"))


def _resolved(document: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """An object, local references (RFC 6901) followed; an empty one for what is none."""
    for _ in range(20):
        if not isinstance(value, dict):
            return {}
        pointer = value.get("$ref")
        if not isinstance(pointer, str):
            return value
        if not pointer.startswith("#/"):
            raise ValueError("it refers to another document")
        value = document
        for part in pointer[2:].split("/"):
            value = value.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
    raise ValueError("its references go round in circles")


def _inlined(document: Mapping[str, Any], schema: Any, depth: int) -> Any:
    """A schema without references. What contains itself ends where it is too deep, and is anything from there on."""
    if isinstance(schema, list):
        return [_inlined(document, each, depth) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if depth <= 0:
        return {}
    if "$ref" in schema:
        return _inlined(document, _resolved(document, schema), depth - 1)
    dropped = ("example", "examples", "xml", "externalDocs", "discriminator", "deprecated")
    return {
        key: _inlined(document, value, depth - 1) for key, value in schema.items()
        if key not in dropped and not key.startswith("x-")
    }  # fmt: skip


def _server_url(document: Mapping[str, Any]) -> str:
    servers = document.get("servers")
    for each in servers if isinstance(servers, list) else []:
        url = each.get("url") if isinstance(each, dict) else None
        if isinstance(url, str) and url.startswith(("https://", "http://")) and "{" not in url:
            return url
    return ""


def _name(prefix: str, said: str) -> str:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", said)
    return f"{prefix}_{_UNSAFE.sub('_', words).strip('_').lower()}"[:MAX_NAME].rstrip("_")


def _free_name(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(free for n in range(2, 10_000) if (free := f"{name[: MAX_NAME - 5]}_{n}") not in taken)


def _invalid(words: str) -> InvalidInput:
    return InvalidInput(words, code="invalid_document", fields={"document": [words]})
