"""A provider that answers from a table, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qs

import h11
import httpcore2
import httpx2

from aster.egress import AsyncLine, Policy


class Wire:
    """`answers` maps a URL to an answer; every other URL is a 404. `http` is the client that ends here."""

    def __init__(self, answers: Mapping[str, httpx2.Response | Exception] | None = None) -> None:
        self.answers = dict(answers or {})
        self.requests: list[httpx2.Request] = []
        self.http = httpx2.Client(transport=httpx2.MockTransport(self.answer), trust_env=False)

    def line(self) -> AsyncLine:
        """What an event loop asks over; its bytes end here too."""
        return AsyncLine(policy=Policy(), resolver=lambda host, port: ["93.184.215.14"], connector=_Dialler(self))

    @property
    def asked(self) -> list[str]:
        return [str(request.url) for request in self.requests]

    def form(self) -> dict[str, str]:
        """The last request's form body; every field must occur once."""
        fields = parse_qs(self.requests[-1].content.decode(), keep_blank_values=True, strict_parsing=True)
        assert all(len(values) == 1 for values in fields.values())
        return {name: values[0] for name, values in fields.items()}

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.get(str(request.url), httpx2.Response(404, text="not found"))
        if isinstance(answer, Exception):
            raise answer
        return answer


class _Dialler(httpcore2.AsyncNetworkBackend):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        return _Stream(self._wire)


class _Stream(httpcore2.AsyncNetworkStream):
    """Understands what a client writes, and gives the table's answer to it."""

    def __init__(self, wire: Wire) -> None:
        self._wire, self._http, self._scheme = wire, h11.Connection(h11.SERVER), "http"

    async def start_tls(self, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        self._scheme = "https"
        return self

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._http.receive_data(buffer)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        asked, content = self._http.next_event(), b""
        assert isinstance(asked, h11.Request)
        while isinstance(part := self._http.next_event(), h11.Data):
            content += part.data
        url = f"{self._scheme}://{dict(asked.headers)[b'host'].decode()}{asked.target.decode()}"
        request = httpx2.Request(asked.method.decode(), url, headers=list(asked.headers), content=content)
        try:
            answer = self._wire.answer(request)
        except httpx2.TransportError as fault:
            raise getattr(httpcore2, type(fault).__name__)(str(fault)) from None
        sent = self._http.send(h11.Response(status_code=answer.status_code, headers=answer.headers.raw)) or b""
        for chunk in cast("httpx2.SyncByteStream", answer.stream):
            sent += self._http.send(h11.Data(data=chunk)) or b""
        return sent + (self._http.send(h11.EndOfMessage()) or b"")

    async def aclose(self) -> None:
        pass

    def get_extra_info(self, info: str) -> Any:
        return None


def json_answer(document: Any, status: int = 200, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, content=json.dumps(document).encode(), headers=headers)
