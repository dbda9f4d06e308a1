"""What the tests of chat share: an agent with a model and a server of its own, and one turn from start to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from agents.models import Agent, Conversation, LlmConfig, Message
from agents.runtime.chat import Limits, answer
from agents.services.agents import save_agent, save_llm_config
from agents.services.calls import agent_tools
from agents.services.conversations import add_message, start_conversation
from integrations.models import McpServer
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.llm import FakeModel
from tests.fakes.mcp_servers import FakeServer, many_tools_app, modern_and_legacy_app, serve

Event = tuple[str, dict[str, Any]]


@dataclass
class Stage:
    """An agent that thinks with `model` and works with a real MCP server."""

    person: Person
    agent: Agent
    model: FakeModel
    server: FakeServer
    events: list[Event] = field(default_factory=list)

    def name(self, tool: str) -> str:
        return next(one.name for one in agent_tools(self.agent) if one.tool and one.tool.name == tool)

    def begin(self, text: str = "Hello", **given: Any) -> Conversation:
        conversation = start_conversation(self.agent, self.person.actor, **given)
        add_message(conversation, text, self.person.actor)
        return conversation

    def say(
        self, text: str = "Hello", conversation: Conversation | None = None, *, limits: Limits | None = None,
        on_event: Callable[[str, dict[str, Any]], None] = lambda kind, data: None,
    ) -> Conversation:  # fmt: skip
        """Say something and wait for the end of the answer; `events` holds what happened in this turn."""
        if conversation is None:
            conversation = self.begin(text)
        else:
            add_message(conversation, text, self.person.actor)
        self.events = []

        def tell(kind: str, data: dict[str, Any]) -> None:
            self.events.append((kind, data))
            on_event(kind, data)

        async def run() -> None:
            await answer(conversation, actor=self.person.actor, on_event=tell, limits=limits)

        anyio.run(run)
        return conversation

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [data for name, data in self.events if name == kind]

    @property
    def end(self) -> dict[str, Any]:
        (end,) = self.told("end")
        assert self.events[-1][0] == "end"
        return end


@contextmanager
def stage(
    person: Person, model: FakeModel, protocol: str = "openai", *, more_tools: int = 0, **agent_fields: Any
) -> Iterator[Stage]:
    tools = many_tools_app(more_tools) if more_tools else modern_and_legacy_app()
    with serve(model) as model_url, serve(tools) as tools_url:
        config = LlmConfig(
            name="Local", protocol=protocol, base_url=f"{model_url}/v1", model="small-1", api_key="key-of-the-model"
        )
        save_llm_config(config, actor=person.actor)
        server = save_server(
            McpServer(name="Fake", url=f"{tools_url}/mcp", timeout_seconds=5, retry_attempts=0), actor=person.actor
        ).server
        agent = Agent(name="Bot", llm_config=config, **{"prompt": "Be brief.", **agent_fields})
        save_agent(agent, actor=person.actor, server_ids=[server.pk])
        yield Stage(person, agent, model, tools)


def rows(conversation: Conversation) -> list[Message]:
    return list(Message.objects.filter(conversation=conversation))
