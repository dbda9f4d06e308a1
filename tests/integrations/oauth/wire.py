"""A provider that answers from a table, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import httpx2


class Wire:
    """`answers` maps a URL to an answer; every other URL is a 404. `http` is the client that ends here."""

    def __init__(self, answers: Mapping[str, httpx2.Response | Exception] | None = None) -> None:
        self.answers = dict(answers or {})
        self.requests: list[httpx2.Request] = []
        self.http = httpx2.Client(transport=httpx2.MockTransport(self._answer), trust_env=False)

    def open_async(self) -> httpx2.AsyncClient:
        """A client for an event loop that ends here too, and follows redirects if it is let."""
        ends_here = httpx2.MockTransport(self._answer)
        return httpx2.AsyncClient(transport=ends_here, trust_env=False, follow_redirects=True)

    @property
    def asked(self) -> list[str]:
        return [str(request.url) for request in self.requests]

    def form(self) -> dict[str, str]:
        """The last request's form body; every field must occur once."""
        fields = parse_qs(self.requests[-1].content.decode(), keep_blank_values=True, strict_parsing=True)
        assert all(len(values) == 1 for values in fields.values())
        return {name: values[0] for name, values in fields.items()}

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.get(str(request.url), httpx2.Response(404, text="not found"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def json_answer(document: Any, status: int = 200, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, content=json.dumps(document).encode(), headers=headers)
