"""What the tests of approvals share: an agent with a fake server whose tools need somebody's word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from agents.models import Agent, Approval
from agents.runtime.session import call_once
from agents.services import approvals
from agents.services.agents import save_agent
from aster.accounts.access import Actor
from integrations.models import McpServer
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, modern_and_legacy_app, serve


@dataclass
class Guarded:
    """An agent, its server, and what reaches that server."""

    agent: Agent
    server: McpServer
    fake: FakeServer
    admin: Person

    def name_of(self, tool: str) -> str:
        return f"fake_{self.server.pk}__{tool}"

    def guard(self, tool: str, approver: str) -> None:
        approvals.set_approver(self.agent, self.server, tool, approver, actor=self.admin.actor)

    def call(self, who: Person | Actor, tool: str = "echo", **arguments: Any) -> str:
        """Call the tool as it is called everywhere; returns the text it answers."""
        actor = who.actor if isinstance(who, Person) else who
        result = anyio.run(lambda: call_once(self.agent, self.name_of(tool), arguments, actor=actor))
        return str(result["content"][0]["text"])

    def ask(self, who: Person, tool: str = "echo", **arguments: Any) -> Approval:
        """Make a call that has to wait; returns what it waits for."""
        with pytest.raises(approvals.ApprovalRequired) as refused:
            self.call(who, tool, **arguments)
        assert refused.value.approval
        return refused.value.approval


@pytest.fixture
def guarded(alice: Person) -> Iterator[Guarded]:
    """`echo` waits for its caller, `add` for an admin, and everything else for nobody."""
    fake = modern_and_legacy_app()
    with serve(fake) as base:
        server = save_server(McpServer(name="Fake", url=f"{base}/mcp"), actor=alice.actor).server
        agent = save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk])
        made = Guarded(agent, server, fake, alice)
        made.guard("echo", "caller")
        made.guard("add", "admin")
        fake.requests.clear()
        yield made
