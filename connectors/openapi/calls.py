"""Calls of operations: arguments are checked and put where they belong, and the answer is told as the API gave it."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from itertools import islice
from typing import Any
from urllib.parse import quote

import anyio.to_thread
import mcp_types as types
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from connectors.openapi.document import Operation, Place
from connectors.openapi.schemas import clean_text
from connectors.rest import MOST_WORDS, Answer, Problem, Rest, retry_after

MAX_ANSWER_BYTES = 400_000
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_SCOPES = re.compile(r'scope="([^"]{1,500})"')
MAX_ARGUMENTS = 100_000  # characters as JSON
TINY_ARGUMENTS = 2_000  # these are checked at once
TINY_SECONDS = 0.05  # for which nobody else waits
MOST_SECONDS = 5.0
MOST_TOLD = 5
_ends: ContextVar[float] = ContextVar("when a check has to end", default=math.inf)


_LIMITS = {
    "minimum": "must be at least", "maximum": "must be at most", "exclusiveMinimum": "must be more than",
    "exclusiveMaximum": "must be less than", "minLength": "needs characters, at least",
    "maxLength": "is too long, characters at most", "minItems": "needs items, at least",
    "maxItems": "has too many items, at most", "multipleOf": "must be a multiple of",
}  # fmt: skip


class Unfit(Exception):
    """Arguments that cannot be sent. Says which and why, never what was given."""


class TakesLong(Unfit):
    """They could not be checked in time."""


def _timed(keyword: Callable[..., Any]) -> Callable[..., Any]:
    """Schemas come from strangers: a few kB of arguments can be checked against some for hours."""

    def check(*given: Any) -> Any:
        if time.monotonic() > _ends.get():
            raise TakesLong("These arguments take too long to check. Give fewer of them")
        return keyword(*given)

    return check


# A pattern comes from the document, and Python can be made to think about one for hours: the API looks at it itself.
_keywords = {**Draft202012Validator.VALIDATORS, "pattern": lambda *_: None}
_make: Any = validators.extend
_Validator = _make(Draft202012Validator, {name: _timed(keyword) for name, keyword in _keywords.items()})


async def check_in_time(operation: Operation, given: Mapping[str, Any], seconds: float) -> None:
    """`check_arguments`, while everybody else's calls go on. Raises Unfit."""
    ends = time.monotonic() + min(seconds, MOST_SECONDS)
    if _size(given) <= TINY_ARGUMENTS:
        try:
            check_arguments(operation, given, time.monotonic() + TINY_SECONDS)
        except TakesLong:  # the schema is not tiny
            pass
        else:
            return
    # A thread cannot be ended from outside: it ends itself.
    await anyio.to_thread.run_sync(check_arguments, operation, given, ends, abandon_on_cancel=True)


def check_arguments(operation: Operation, given: Mapping[str, Any], ends: float = math.inf) -> None:
    """Raises Unfit that names the first arguments that do not fit the operation."""
    if unknown := sorted(set(given) - set(operation.schema["properties"])):
        known = ", ".join(operation.schema["properties"]) or "none"
        raise Unfit(f"{unknown[0][:60]}: there is no such argument. There are: {known[:1000]}")
    token = _ends.set(ends)
    try:
        errors = islice(_Validator(operation.schema).iter_errors(given), MOST_TOLD)
        found = [_in_words(error) for error in errors]
    except RecursionError:
        found = ["an argument is nested too deeply"]
    except OverflowError:
        found = ["an argument is too large a number"]
    finally:
        _ends.reset(token)
    if found:
        raise Unfit("; ".join(dict.fromkeys(found)))


def _size(given: Mapping[str, Any]) -> int:
    try:
        size = len(json.dumps(given, ensure_ascii=False))
    except RecursionError:
        raise Unfit("an argument is nested too deeply") from None
    except ValueError:  # Python writes no number of more than 4300 digits
        raise Unfit("an argument is too large a number") from None
    if size > MAX_ARGUMENTS:
        raise Unfit(f"They have {size // 1000} kB as JSON; {MAX_ARGUMENTS // 1000} kB can be sent. Give less at once")
    return size


def _in_words(error: ValidationError) -> str:
    at = ".".join(str(part)[:60] for part in error.absolute_path)
    wanted: Any = error.validator_value
    match error.validator:
        case "required":
            instance: Any = error.instance
            missing = [name for name in wanted if name not in instance]
            return f"{'.'.join(filter(None, (at, missing[0][:60])))}: is missing"
        case "type":
            return f"{at}: must be {' or '.join(wanted) if isinstance(wanted, list) else wanted}"
        case "enum":
            return f"{at}: must be one of {', '.join(json.dumps(each) for each in wanted[:30])[:500]}"
        case "const":
            return f"{at}: must be {json.dumps(wanted)[:100]}"
        case str(limit) if limit in _LIMITS:
            return f"{at}: {_LIMITS[limit]} {wanted}"
        case "additionalProperties":
            return f"{at}: has a property that it does not know"
    return f"{at}: does not fit ({error.validator})"


async def call_operation(api: Rest, operation: Operation, given: Mapping[str, Any]) -> Answer:
    """Make the request that an operation describes. Raises Unfit, or what `Rest.ask` raises."""
    sent = {name: value for name, value in given.items() if value is not None}  # models write null for nothing
    await check_in_time(operation, sent, api.timeout)
    at: dict[str, list[tuple[Place, Any]]] = {"path": [], "query": [], "header": []}
    for argument, value in sent.items():
        if place := operation.places.get(argument):
            at[place.where].append((place, value))
    path = _fill_path(operation.path, {place.name: _joined(value, ",") for place, value in at["path"]})
    # What Aster signs in with has the last word, however its name is written.
    own = {name.lower() for name in (*api.headers, *api.credentials)}
    headers = {place.name: _header(place.name, value) for place, value in at["header"] if place.name.lower() not in own}
    content: dict[str, Any] = {"headers": headers}
    if at["query"]:
        content["params"] = [pair for place, value in at["query"] for pair in _query(place, value)]
    if operation.body in sent and operation.body_type:
        content |= _body(operation, sent[operation.body])
        headers["Content-Type"] = operation.body_type
    return await api.ask(operation.method.upper(), path, **content)


def _body(operation: Operation, value: Any) -> dict[str, Any]:
    if operation.body_type.endswith("json"):
        return {"content": json.dumps(value).encode()}
    if not isinstance(value, dict):
        raise Unfit(f"{operation.body}: must be an object")
    pairs = [pair for name, each in value.items() for pair in _form(name, each)]
    return {"content": "&".join(f"{quote(name, safe='')}={quote(each, safe='')}" for name, each in pairs).encode()}


def _form(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Lists repeat their name, and what is inside an object is `name[inside]`, as most forms have it."""
    if isinstance(value, dict):
        for inside, each in value.items():
            yield from _form(f"{name}[{inside}]", each)
    elif isinstance(value, list):
        yield from ((name, _plain(each)) for each in value)
    elif value is not None:
        yield name, _plain(value)


def _fill_path(path: str, values: Mapping[str, str]) -> str:
    """A value stays inside its part of the path, also at servers that undo %2F before they look."""
    for name, value in values.items():
        if not value or any(part in (".", "..") for part in re.split(r"[/\\]", value)):
            raise Unfit(f"{name[:60]}: must be text without . or .. as a part of a path")
    filled = _PLACEHOLDER.sub(lambda match: quote(values.get(match[1], ""), safe=""), path)
    if any(part in (".", "..") for part in filled.split("/")):
        raise Unfit("The path that these arguments make leads out of the API")
    return filled


def _query(place: Place, value: Any) -> Iterator[tuple[str, str]]:
    """https://spec.openapis.org/oas/v3.1.1.html#style-examples"""
    name, how = place.name, place.how
    if how == "json":
        yield name, json.dumps(value)
    elif isinstance(value, list) and how in ("repeat", "deep"):
        yield from ((name, _plain(each)) for each in value)
    elif isinstance(value, dict) and how == "deep":
        yield from _form(name, value)
    elif isinstance(value, dict) and how == "repeat":
        yield from ((each, _plain(value[each])) for each in value)
    else:
        yield name, _joined(value, how if how in (",", " ", "|") else ",")


def _joined(value: Any, between: str) -> str:
    if isinstance(value, list):
        return between.join(map(_plain, value))
    if isinstance(value, dict):
        return between.join(part for name, each in value.items() for part in (name, _plain(each)))
    return _plain(value)


def _header(name: str, value: Any) -> str:
    text = _joined(value, ",")
    if any(not " " <= char <= "~" for char in text):
        raise Unfit(f"{name[:60]}: has characters that a header cannot carry")
    return text


def _plain(value: Any) -> str:
    """Half a surrogate pair is no text that can be sent."""
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unfit("an argument has characters that cannot be sent") from None
    return text


# --- Answers --------------------------------------------------------------------------------------------------------


def read_problem(answer: Answer) -> Problem | None:
    """What an API refuses, in its own words wherever APIs put them (RFC 9457, and habit)."""
    if 300 <= answer.status < 400:
        return Problem(answer.status, "it answered with a redirect. Check the address of the API.")
    if not answer.failed:
        return None
    challenge = answer.headers.get("www-authenticate", "")
    scopes = _SCOPES.search(challenge) if answer.status == 403 and "insufficient_scope" in challenge else None
    words = _said_in(answer.body) or f"status {answer.status}"
    wanted = tuple(scopes[1].split()) if scopes else ()  # RFC 6750 §3
    return Problem(answer.status, words[:MOST_WORDS], scopes=wanted, wait=retry_after(answer.headers))


def _said_in(body: Any, depth: int = 3) -> str:
    if isinstance(body, str) and depth < 3:
        return clean_text(body)
    if isinstance(body, list) and depth < 3:
        return _said_in(body[0], depth - 1) if body and depth else ""
    if not isinstance(body, dict) or not depth:
        return ""
    names = ("detail", "message", "error_description", "error", "errors", "title", "reason")
    return next(filter(None, (_said_in(body.get(name), depth - 1) for name in names)), "")


def show_answer(answer: Answer) -> types.CallToolResult:
    """An object as it is, anything else under `result`; what is no JSON as text, and what is no text not at all."""
    size = len(answer.content)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if size > MAX_ANSWER_BYTES:
        words = f"The answer has {size // 1000} kB; {MAX_ANSWER_BYTES // 1000} kB can be shown. Ask for less of it."
        return said(words, is_error=True)
    if not size:
        return said("Done.", {"status": answer.status})
    if answer.is_json:
        structured = answer.body if isinstance(answer.body, dict) else {"result": answer.body}
        return said(json.dumps(structured, indent=1, ensure_ascii=False), structured)
    try:
        text = answer.content.decode()
    except UnicodeDecodeError:
        return said(f"The answer is no text: {clean_text(kind, 60) or 'unknown'}, {size} bytes.", is_error=True)
    return said(text, {"result": text})


def said(text: str, structured: dict[str, Any] | None = None, *, is_error: bool = False) -> types.CallToolResult:
    content = [types.TextContent(type="text", text=text)]
    return types.CallToolResult(content=[*content], structured_content=structured, is_error=is_error)
