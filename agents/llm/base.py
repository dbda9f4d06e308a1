"""What a model is told and what it answers, in words of our own; and the one request both protocols make."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2

from aster.egress import async_client, explain
from aster.errors import UpstreamError

# Between two pieces of an answer a model may think for a while.
TIMEOUT = httpx2.Timeout(30, connect=10, read=120)
# Egress leaves event streams unbounded: their reader bounds them.
MAX_LINE, MAX_ANSWER = 1024 * 1024, 16 * 1024 * 1024
STEP = "model"

# --- In -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FromPerson:
    text: str


@dataclass(frozen=True)
class FromModel:
    """What the model said before, with the calls it asked for."""

    text: str
    calls: tuple[ToolRequest, ...] = ()


@dataclass(frozen=True)
class FromTool:
    """The answer to one of the calls before it."""

    call_id: str
    text: str
    is_error: bool = False


Said = FromPerson | FromModel | FromTool


@dataclass(frozen=True)
class OfferedTool:
    """A tool as the model sees it; `name` is at most 64 of `[a-zA-Z0-9_-]`, which both protocols ask for."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One question to the model: everything it has to know."""

    system: str
    messages: tuple[Said, ...]
    tools: tuple[OfferedTool, ...] = ()


# --- Out ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextDelta:
    text: str


@dataclass(frozen=True)
class ToolRequest:
    """A call the model asks for. `arguments` is JSON text as the model wrote it, so it may be none."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Usage:
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Finish:
    """`reason` is stop, tools, length or refused. Nothing follows."""

    reason: str


Piece = TextDelta | ToolRequest | Usage | Finish


@dataclass(frozen=True)
class Endpoint:
    """Where a model is."""

    base_url: str
    model: str
    api_key: str = field(repr=False)
    max_tokens: int


class Client(Protocol):
    def answer(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        """The model's answer, piece by piece, with exactly one Finish at the end. Raises UpstreamError."""
        ...


# --- The request ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A model that has been asked: its events one by one, and the words for what may go wrong with it."""

    endpoint: Endpoint
    kind: str
    response: httpx2.Response = field(repr=False)

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON behind each `data:` line (WHATWG HTML, server-sent events). `[DONE]` ends them."""
        async for line in self._lines():
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            try:
                event = json.loads(data)
            except (ValueError, RecursionError):
                raise self.not_spoken() from None
            if not isinstance(event, dict):
                raise self.not_spoken()
            if isinstance(error := event.get("error"), dict | str):
                raise self.failed_midway(error)
            yield event

    async def _lines(self) -> AsyncIterator[bytes]:
        """Lines by their bytes: `str.splitlines` would also cut at characters that JSON texts may hold as they are."""
        rest, total = bytearray(), 0
        async for chunk in self.response.aiter_raw():
            rest += chunk
            total += len(chunk)
            if b"\n" in chunk:
                *lines, left = bytes(rest).split(b"\n")
                rest = bytearray(left)
                for line in lines:
                    yield line.rstrip(b"\r")
            if total > MAX_ANSWER or len(rest) > MAX_LINE:
                raise UpstreamError("The model's answer is too large.", step=STEP, code="model_protocol")
        yield bytes(rest).rstrip(b"\r")

    def not_spoken(self) -> UpstreamError:
        return _not_spoken(self.endpoint, self.kind)

    def cut_off(self) -> UpstreamError:
        words = "The model's answer was cut off."
        return UpstreamError(words, step=STEP, code="model_cut_off", retryable=True, hint="Send the message again.")

    def failed_midway(self, error: Any) -> UpstreamError:
        kind = f"{error.get('type')} {error.get('code')}" if isinstance(error, dict) else ""
        if any(word in kind for word in ("overloaded", "rate_limit", "429", "500", "503", "server_error", "api_error")):
            return _overloaded(self.endpoint)
        words = _said({"error": error}, self.endpoint)
        return UpstreamError(f"The model ended its answer with an error{words}", step=STEP, code="model_failed")


@asynccontextmanager
async def ask(
    endpoint: Endpoint, kind: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> AsyncIterator[Asked]:
    """Send a question; `kind` names the protocol for people. Whatever fails on the way becomes an UpstreamError."""
    if not (endpoint.api_key.isascii() and endpoint.api_key.isprintable()):
        raise _key_refused(endpoint)
    url = f"{endpoint.base_url}{path}"
    sent = {"Accept": "text/event-stream", **headers}
    try:
        async with async_client(timeout=TIMEOUT) as http, http.stream("POST", url, json=body, headers=sent) as response:
            if response.status_code != 200:
                raise _refusal(endpoint, kind, response.status_code, await _body(response))
            if response.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/event-stream":
                raise _not_spoken(endpoint, kind)
            yield Asked(endpoint, kind, response)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _explained(error, url) from None


async def _body(response: httpx2.Response) -> Any:
    try:
        return json.loads(await response.aread())
    except (ValueError, RecursionError):
        return None


def _explained(error: Exception, url: str) -> UpstreamError:
    found = explain(error, url)
    if isinstance(error, httpx2.ReadTimeout):
        return UpstreamError(
            f"The model was silent for {TIMEOUT.read:g} s.", step=STEP, code=UpstreamError.TIMEOUT, retryable=True,
            hint="Send the message again.",
        )  # fmt: skip
    hint = "An admin can check the base URL in the LLM config." if found.step in ("url", "dial") else found.hint
    return UpstreamError(found.message, step=STEP, code=found.code, retryable=found.retryable, hint=hint)


# --- Refusals -------------------------------------------------------------------------------------------------------


def _place(endpoint: Endpoint) -> str:
    return urlsplit(endpoint.base_url).hostname or "The model's host"


def _key_refused(endpoint: Endpoint) -> UpstreamError:
    words = (
        f"{_place(endpoint)} does not accept the API key." if endpoint.api_key else f"{_place(endpoint)} wants a key."
    )
    hint = "An admin can enter another one in the LLM config."
    return UpstreamError(words, step=STEP, code="model_key_refused", hint=hint)


def _overloaded(endpoint: Endpoint) -> UpstreamError:
    words = f"{_place(endpoint)} is overloaded, or its limit is reached."
    return UpstreamError(words, step=STEP, code="model_overloaded", retryable=True, hint="Try again in a minute.")


def _not_spoken(endpoint: Endpoint, kind: str) -> UpstreamError:
    return UpstreamError(
        f"What {_place(endpoint)} answers is not the {kind} protocol.", step=STEP, code="model_protocol",
        hint="An admin can check protocol and base URL in the LLM config.",
    )  # fmt: skip


def _refusal(endpoint: Endpoint, kind: str, status: int, body: Any) -> UpstreamError:
    """A status in the person's words. What the provider says itself is shown where only that tells what is wrong."""
    if status in (401, 403):
        return _key_refused(endpoint)
    if status == 404 and isinstance(body, dict):
        words = f"{_place(endpoint)} has no model {endpoint.model}{_said(body, endpoint)}"
        return UpstreamError(words, step=STEP, code="model_unknown", hint="An admin can check it in the LLM config.")
    if status == 429 or status == 529:
        return _overloaded(endpoint)
    if status >= 500:
        words = f"{_place(endpoint)} failed with HTTP status {status}."
        return UpstreamError(words, step=STEP, code="model_failed", retryable=True, hint="Try again in a minute.")
    if isinstance(body, dict):
        words = f"{_place(endpoint)} refused the request{_said(body, endpoint)}"
        return UpstreamError(words, step=STEP, code="model_refused")
    return _not_spoken(endpoint, kind)


def _said(body: Any, endpoint: Endpoint) -> str:
    """`: what the provider says.`, short and without the key, which some quote; or a full stop."""
    error = body.get("error") if isinstance(body, dict) else None
    text = error.get("message") if isinstance(error, dict) else error
    if not isinstance(text, str) or not text.strip():
        return "."
    shown = " ".join(text.split())
    if endpoint.api_key:
        shown = shown.replace(endpoint.api_key, "[REDACTED]")
    return f": {shown[:200].rstrip('.')}."
