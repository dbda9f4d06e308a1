"""A2A clients for tests: the official one in both versions, and plain requests."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import httpx
import httpx2
from a2a.client import ClientConfig, ClientFactory
from a2a.client.base_client import BaseClient
from a2a.client.card_resolver import parse_agent_card
from a2a.types import a2a_pb2 as pb

from agents.models import Agent

T = TypeVar("T")
VERSIONS = ("1.0", "0.3")


@dataclass(frozen=True)
class Caller:
    """The official client, as one person with one key at one agent."""

    agent: Agent
    key: str
    version: str = "1.0"
    streaming: bool = False

    def run(self, use: Callable[[BaseClient], Awaitable[T]]) -> T:
        async def using() -> T:
            async with self._open() as client:
                return await use(client)

        return anyio.run(using)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[BaseClient]:
        async with httpx.AsyncClient(headers={"X-API-Key": self.key}, timeout=30) as http:
            card = (await http.get(f"{self.agent.a2a_url}/.well-known/agent-card.json")).json()
            if self.version == "0.3":  # what a client sees that knows nothing of 1.0
                del card["supportedInterfaces"]
            factory = ClientFactory(ClientConfig(httpx_client=http, streaming=self.streaming))
            client = factory.create(parse_agent_card(card))
            assert isinstance(client, BaseClient)
            yield client

    def events(self, text: str, **ids: str) -> list[pb.StreamResponse]:
        """What comes back for a message: one answer, or all of a stream."""

        async def send(client: BaseClient) -> list[pb.StreamResponse]:
            return [event async for event in client.send_message(a_message(text, **ids))]

        return self.run(send)

    def send(self, text: str, **ids: str) -> pb.Task:
        """The task after the last event."""
        (event,) = self.events(text, **ids)
        return event.task

    def get(self, task_id: str, history: int | None = None) -> pb.Task:
        wanted = pb.GetTaskRequest(id=task_id, history_length=history)
        return self.run(lambda client: client.get_task(wanted))


def a_message(text: str, **ids: str) -> pb.SendMessageRequest:
    message = pb.Message(message_id=str(uuid.uuid4()), role=pb.ROLE_USER, parts=[pb.Part(text=text)], **ids)
    return pb.SendMessageRequest(message=message)


def text_of(parts: Any) -> str:
    return "".join(part.text for part in parts)


def answer_in(task: pb.Task) -> str:
    (artifact,) = task.artifacts
    return text_of(artifact.parts)


def state_of(task: Any) -> str:
    return pb.TaskState.Name(task.status.state)


@dataclass
class Wire:
    """Requests as anybody writes them."""

    agent: Agent
    key: str
    version: str = "1.0"

    @property
    def headers(self) -> dict[str, str]:
        said = {"A2A-Version": self.version} if self.version == "1.0" else {}
        return {"Authorization": f"Bearer {self.key}", **said}

    def post(self, **given: Any) -> httpx2.Response:
        headers = {**self.headers, **given.pop("headers", {})}
        return httpx2.post(self.agent.a2a_url, headers=headers, timeout=30, **given)

    def call(self, method: str, **params: Any) -> Any:
        """The whole answer to a request."""
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        response = self.post(json=body)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
        return answer

    def result(self, method: str, **params: Any) -> Any:
        answer = self.call(method, **params)
        assert "error" not in answer, answer
        return answer["result"]

    def error(self, method: str, **params: Any) -> tuple[int, str]:
        error = self.call(method, **params)["error"]
        return error["code"], error["message"]

    def stream(self, method: str, **params: Any) -> Iterator[Any]:
        """The results of a stream, as they come."""
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        with httpx2.stream("POST", self.agent.a2a_url, headers=self.headers, json=body, timeout=30) as response:
            assert response.headers["content-type"] == "text/event-stream", response.read()
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line[6:])["result"]


def message(text: str = "Hello", **more: Any) -> dict[str, Any]:
    """A message of 1.0."""
    return {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}], **more}


def old_message(text: str = "Hello", **more: Any) -> dict[str, Any]:
    """A message of 0.3."""
    return {"kind": "message", "messageId": "m-1", "role": "user", "parts": [{"kind": "text", "text": text}], **more}
