"""What the tests of embedded pages share: an agent with a server that people sign in to, tickets, and a page."""

from __future__ import annotations

from typing import Any

from agents.models import Agent
from agents.services.agents import save_agent
from integrations.models import McpServer
from tests.aster.api_contract import ContractClient
from tests.conftest import Person

ORIGIN = "https://app.example"
TICKETS = "/api/v1/session-tickets"
SESSION = "/api/v1/session"


def agent_with(person: Person, *servers: McpServer, name: str = "Helper") -> Agent:
    return save_agent(Agent(name=name), actor=person.actor, server_ids=[server.pk for server in servers])


def asked(agent: Agent, **changes: Any) -> dict[str, Any]:
    return {"agents": [agent.slug], "scopes": ["aster:connect", "aster:call"], "origin": ORIGIN, **changes}


def client_with(key: str, origin: str = "") -> ContractClient:
    client = ContractClient()
    client.credentials(**{"HTTP_AUTHORIZATION": f"Bearer {key}"}, **({"HTTP_ORIGIN": origin} if origin else {}))
    return client


def page(ticket: str, origin: str = ORIGIN) -> ContractClient:
    """A page of another app, as its script speaks to Aster; every answer is held against the document."""
    return client_with(ticket, origin)


def ticket_for(person: Person, agent: Agent, **changes: Any) -> str:
    made = client_with(person.key("*", "aster:tickets")).post(TICKETS, asked(agent, **changes))
    assert made.status_code == 201, made.content
    text: str = made.json()["ticket"]
    return text
