"""A provider's REST API as one person sees it: their token, the provider's limits, and its refusals in words."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import httpx2
from pydantic_core import from_json

from aster import egress
from aster.errors import UpstreamError
from integrations.mcp_client import AuthChallenge

# A limit that ends within this time is waited for; of a longer one the caller is told.
PATIENT_SECONDS = 5.0
ATTEMPTS = 3
MOST_WORDS = 300
MOST_TEXT = 50_000
Token = Callable[[str | None], Awaitable[str | None]]


@dataclass(frozen=True)
class Answer:
    """What a provider answered: its body as JSON, `{}` for anything else, and as it came."""

    status: int
    headers: Mapping[str, str]
    body: Any
    content: bytes = field(default=b"", repr=False)
    is_json: bool = True

    @property
    def failed(self) -> bool:
        return self.status >= 400


@dataclass(frozen=True)
class Problem:
    """A refusal as the provider means it, whatever status it has: Slack says 200 to everything.

    `status` is what HTTP would say; `scopes` those that the token lacks, `lacks_scope` that it lacks one which the
    provider does not name; `wait` seconds until it may be asked again.
    """

    status: int
    words: str
    scopes: tuple[str, ...] = ()
    lacks_scope: bool = False
    wait: float | None = None


@dataclass(frozen=True)
class Rest:
    """Asks under `url`, with what the caller signs in with. `scopes` are those of the tool that asks. Its repr shows no
    credentials."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)  # an API key, as the headers that carry it
    token: Token | None = field(default=None, repr=False)
    problem: Callable[[Answer], Problem | None] | None = field(default=None, repr=False)
    timeout: float = 30.0
    scopes: tuple[str, ...] = ()

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON at `path`; parameters that are None are left out. Raises UpstreamError, or AuthChallenge for a token
        that is refused or lacks scopes."""
        return await self.send("GET", path, params=_given(params))

    async def part(self, path: str, offset: int, **params: Any) -> dict[str, Any]:
        """MOST_TEXT characters of the text at `path`, and where the next ones begin. What is not UTF-8 is marked."""
        text = (await self.ask("GET", path, params=_given(params))).content.decode("utf-8-sig", "replace")
        ends = offset + MOST_TEXT
        return {"text": text[offset:ends], "next_offset": ends if ends < len(text) else None}

    async def post(self, path: str, **body: Any) -> Any:
        """What the provider answers to these fields as JSON; those that are None are left out."""
        return await self.send("POST", path, json={name: value for name, value in body.items() if value is not None})

    async def send(self, method: str, path: str, **content: Any) -> Any:
        """The JSON a provider answers to any request; `content` are httpx2's params, json and headers."""
        return (await self.ask(method, path, **content)).body

    async def ask(self, method: str, path: str, **content: Any) -> Answer:
        """What the provider answers to any request, whatever it is."""
        token = await self.token(None) if self.token else None
        with_new_token = False
        for attempt in range(ATTEMPTS):
            answer = await self._send(method, path, token, content)
            problem = (self.problem(answer) if self.problem else None) or problem_of(answer)
            if problem is None:
                return answer
            if problem.status == 401 and self.token and token and not with_new_token:
                with_new_token, rejected = True, token
                token = await self.token(rejected)
                if token and token != rejected:
                    continue
            # Refused for being too many, a request was not carried out; any other is not sent twice.
            wait = problem.wait if problem.status == 429 and attempt < ATTEMPTS - 1 else None
            if wait is None or wait > PATIENT_SECONDS:
                break
            await anyio.sleep(wait)
        raise self._error(cast(Problem, problem))

    async def _send(self, method: str, path: str, token: str | None, content: Mapping[str, Any]) -> Answer:
        # What the caller gives comes first: nobody chooses what Aster signs in with.
        own = {**self.headers, **self.credentials, **({"Authorization": f"Bearer {token}"} if token else {})}
        headers = {**content.get("headers", {}), **own}
        url = f"{self.url.rstrip('/')}/{path.lstrip('/')}"
        try:
            async with egress.async_client(timeout=httpx2.Timeout(self.timeout), shared=True) as http:
                response = await http.request(method, url, **{**content, "headers": headers})
        except httpx2.TransportError as error:
            raise egress.explain(error, url) from None
        body, is_json = _parsed(response.content)
        return Answer(response.status_code, response.headers, body, response.content, is_json)

    def _error(self, problem: Problem) -> UpstreamError:
        if problem.status == 401 and self.credentials and not self.token:
            words = f"{self.name} does not accept the organization's API key ({problem.words})."
            hint = f"An admin can enter a new one under Connectors, {self.name}."
            return UpstreamError(f"{words} {hint}", step="auth", code="key_refused")
        if scopes := problem.scopes or (self.scopes if problem.lacks_scope else ()):
            lacks = f'Bearer error="insufficient_scope", scope="{" ".join(scopes)}"'
            return AuthChallenge(403, [lacks], has_credentials=True)
        if problem.status == 401:
            return AuthChallenge(401, [], has_credentials=True)
        if problem.status == 429:
            wait = f"in {round(problem.wait)} seconds" if problem.wait else "later"
            words = f"{self.name} takes no more calls for now ({problem.words}). Try again {wait}."
            return UpstreamError(words, step="call", code="rate_limited", retryable=True)
        is_down = problem.status >= 500
        words = f"{self.name} {'has a problem' if is_down else 'refused'}: {problem.words}"
        return UpstreamError(words, step="call", code="tool_call_failed", retryable=is_down)


def brief(item: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """These fields of what a provider tells at length; of a person or thing among them the name alone."""
    found = {name: item.get(name) for name in names}
    return {
        name: value.get("displayName", value.get("name")) if isinstance(value, dict) else value
        for name, value in found.items()
    }


def problem_of(answer: Answer, words: str = "") -> Problem | None:
    """What an answer refuses, as HTTP says it (RFC 9110 §15; §10.2.3 and RFC 6585 §4 for Retry-After)."""
    if not answer.failed:
        return None
    said = answer.body if isinstance(answer.body, dict) else {}
    inner = said.get("error")
    usual = [said.get("message"), inner.get("message") if isinstance(inner, dict) else inner]
    told = words or next((each for each in usual if isinstance(each, str) and each), f"status {answer.status}")
    return Problem(answer.status, told[:MOST_WORDS], wait=retry_after(answer.headers))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until a limit ends: Retry-After as a number, or when what nothing is left of is reset (GitHub says it in
    seconds, Linear in milliseconds and of two limits)."""
    if _is_count(said := headers.get("retry-after", "")):
        return float(said)
    for limit in ("x-ratelimit", "x-ratelimit-requests", "x-ratelimit-complexity"):
        if headers.get(f"{limit}-remaining") == "0" and _is_count(reset := headers.get(f"{limit}-reset", "")):
            ends = float(reset) / (1000 if len(reset) > 11 else 1)
            return max(0.0, ends - time.time())
    return None


def _is_count(text: str) -> bool:
    """Digits that make a number one can wait for; some languages have others, and servers send anything."""
    return text.isascii() and text.isdigit() and len(text) <= 15


def _parsed(content: bytes) -> tuple[Any, bool]:
    try:
        return from_json(content, allow_inf_nan=False), True
    except ValueError:
        return {}, False


def _given(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: _as_text(value) for name, value in params.items() if value is not None}


def _as_text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
