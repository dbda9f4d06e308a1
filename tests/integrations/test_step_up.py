"""More rights when a tool needs them: the server names scopes, the person consents to the union, nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import pytest
from mcp import Client

from agents.models import Agent, ToolCall
from agents.runtime.session import AgentSession
from agents.services.agents import save_agent
from agents.services.calls import agent_tools
from aster.demo.records import Client as ProviderClient
from aster.errors import AsterError, ConnectionRequired
from integrations.models import AuthType, Connection, McpServer
from integrations.services.connections import complete_connection
from integrations.services.servers import test_server as try_out
from tests.aster.api_contract import ContractClient, api
from tests.conftest import Person
from tests.fakes.provider import Site
from tests.integrations.sign_in import add_server, begin, sign_in, why_not
from tests.walks.conftest import at_gateway, callback_params, consent

pytestmark = pytest.mark.django_db(transaction=True)

SERVERS, AGENTS = "/api/v1/config/mcp-server", "/api/v1/config/agent"


@dataclass
class Stage:
    """A server whose `add` needs the scope `write`, and alice, who has granted `read`."""

    place: Site
    server: McpServer
    connection: Connection
    client: ContractClient

    def call(self, tool: str, **arguments: Any) -> Any:
        return self.client.post(f"{SERVERS}/docs/tools/call", {"name": tool, "arguments": arguments})

    def add(self) -> Any:
        return self.call("add", a=1, b=2)

    def echo(self) -> Any:
        return self.call("echo", text="hello")

    @property
    def stored(self) -> Connection:
        return Connection.objects.select_related("auth_config").get(pk=self.connection.pk)


@pytest.fixture
def stage(place: Site, alice: Person) -> Stage:
    place.mcp.tool_scopes = {"add": "write"}
    server = add_server(place, alice)
    connection = sign_in(server, alice)
    try_out(server, actor=alice.actor)
    return Stage(place, server, connection, api(alice))


@pytest.fixture
def agent(stage: Stage, alice: Person) -> Agent:
    return save_agent(Agent(name="Bot"), actor=alice.actor, server_ids=[stage.server.pk])


def scope_of(url: str) -> list[str]:
    return dict(parse_qsl(urlsplit(url).query))["scope"].split()


def finish(url: str, person: Person, decision: str = "allow") -> Connection:
    return complete_connection(callback_params(consent(url, decision=decision)), actor=person.actor)


# --- The way up -------------------------------------------------------------------------------------------------------


def test_a_refused_call_names_the_missing_scopes_and_leads_to_the_union(stage: Stage) -> None:
    answer = stage.add()
    told = answer.json()
    assert (answer.status_code, told["code"]) == (409, "connection_required")
    assert told["missing_scopes"] == ["write"]
    assert "write" in told["detail"] and "Connect again" in told["detail"]
    assert scope_of(told["authorization_url"]) == ["read", "write"]
    assert ToolCall.objects.latest("pk").outcome == "connection_required"


def test_after_the_consent_the_call_works_on_the_same_connection(stage: Stage, alice: Person) -> None:
    connection = finish(stage.add().json()["authorization_url"], alice)
    assert connection.pk == stage.connection.pk
    assert (connection.scopes, connection.wanted_scopes) == (["read", "write"], [])
    answer = stage.add()
    assert (answer.status_code, answer.json()["result"]["content"][0]["text"]) == (200, "3")


def test_the_old_token_works_until_the_new_one_is_there(stage: Stage) -> None:
    old = stage.connection.access_token
    url = stage.add().json()["authorization_url"]
    assert (stage.stored.status, stage.stored.access_token) == ("connected", old)
    assert stage.echo().status_code == 200
    consent(url)
    assert stage.echo().status_code == 200 and stage.stored.access_token == old, "consented, not yet come back"


def test_a_declined_consent_keeps_the_old_grant(stage: Stage, alice: Person) -> None:
    url = stage.add().json()["authorization_url"]
    assert "declined" in why_not(finish, url, alice, decision="deny").message
    assert stage.stored.access_token == stage.connection.access_token
    assert stage.echo().status_code == 200
    assert stage.stored.generation == 1


def test_a_code_the_provider_then_refuses_keeps_the_old_grant(stage: Stage, alice: Person) -> None:
    url = stage.add().json()["authorization_url"]
    stage.place.provider.break_token("no access token")
    why_not(finish, url, alice)
    assert stage.stored.access_token == stage.connection.access_token
    assert stage.echo().status_code == 200


def test_several_refusals_are_answered_by_one_consent(stage: Stage, alice: Person) -> None:
    stage.place.provider.scopes = {**stage.place.provider.scopes, "admin": "Everything"}
    stage.place.mcp.tool_scopes = {"add": "write", "big": "admin read"}
    stage.add()
    url = stage.call("big", size=3).json()["authorization_url"]
    assert scope_of(url) == ["read", "write", "admin"]
    finish(url, alice)
    assert stage.add().status_code == stage.call("big", size=3).status_code == 200


def test_what_one_person_lacks_is_not_asked_of_another(stage: Stage, bob: Person) -> None:
    stage.add()
    assert scope_of(begin(stage.server, bob)) == ["read"]


def test_an_ordinary_refusal_is_no_step_up(stage: Stage) -> None:
    stage.place.mcp.other_challenges = ['Bearer error="access_denied", scope="write"']
    stage.place.mcp.points_at_metadata = False
    answer = stage.add()
    assert (answer.status_code, answer.json()["code"]) == (502, "auth_required")
    assert (stage.stored.status, stage.stored.wanted_scopes) == ("connected", [])


@pytest.mark.parametrize(("named", "kept"), [("write wri\\te", ["write"]), ('write "x" \u00e9', ["write"])])
def test_words_that_are_no_scopes_are_not_asked_for(stage: Stage, named: str, kept: list[str]) -> None:
    stage.place.mcp.tool_scopes = {"add": named.replace("\\", "\\\\").replace('"', '\\"')}
    assert stage.add().json()["missing_scopes"] == kept


# --- Where it shows ---------------------------------------------------------------------------------------------------


def name_of(agent: Agent, tool: str) -> str:
    return next(one.name for one in agent_tools(agent) if one.tool and one.tool.name == tool)


def test_a_call_through_an_agent_is_told_the_same(stage: Stage, agent: Agent, alice: Person) -> None:
    body = {"name": name_of(agent, "add"), "arguments": {"a": 1, "b": 2}}
    answer = stage.client.post(f"{AGENTS}/{agent.slug}/tools/call", body)
    assert (answer.status_code, answer.json()["missing_scopes"]) == (409, ["write"])
    assert scope_of(answer.json()["authorization_url"]) == ["read", "write"]
    finish(answer.json()["authorization_url"], alice)
    assert stage.client.post(f"{AGENTS}/{agent.slug}/tools/call", body).status_code == 200


def test_in_a_turn_the_other_tools_of_the_server_go_on(stage: Stage, agent: Agent, alice: Person) -> None:
    async def turn() -> tuple[AsterError | None, str]:
        refused: AsterError | None = None
        async with AgentSession.open(agent, actor=alice.actor) as session:
            try:
                await session.call(name_of_add, {"a": 1, "b": 2})
            except AsterError as error:
                refused = error
            said = await session.call(name_of_echo, {"text": "still here"})
        return refused, str(said["content"][0]["text"])

    name_of_add, name_of_echo = name_of(agent, "add"), name_of(agent, "echo")
    refused, said = anyio.run(turn)
    assert isinstance(refused, ConnectionRequired) and refused.extra["missing_scopes"] == ["write"]
    assert said == "still here"


def test_a_client_at_the_gateway_gets_the_link_and_then_the_result(
    aster: str, stage: Stage, agent: Agent, alice: Person
) -> None:
    async def add(client: Client) -> Any:
        return await client.call_tool(name, {"a": 1, "b": 2})

    name = name_of(agent, "add")
    refused = at_gateway(agent.gateway_url, alice.key(), add)
    assert refused.is_error
    text = refused.content[0].text
    assert "write" in text and f"{aster}/hub/servers/docs/connect/" in text
    finish(begin(stage.server, alice), alice)
    assert at_gateway(agent.gateway_url, alice.key(), add).content[0].text == "3"


def test_listing_tools_leads_to_the_consent_as_well(stage: Stage, alice: Person) -> None:
    stage.place.mcp.scope = "write"
    answer = stage.client.post(f"{SERVERS}/docs/tools/refresh")
    assert answer.status_code == 409
    assert scope_of(answer.json()["authorization_url"]) == ["read", "write"]
    finish(answer.json()["authorization_url"], alice)
    assert stage.client.post(f"{SERVERS}/docs/tools/refresh").status_code == 200


def test_a_test_of_the_server_says_what_is_missing(stage: Stage) -> None:
    stage.place.mcp.scope = "write"
    answer = stage.client.post(f"{SERVERS}/docs/test").json()
    assert answer["status"] == "sign_in" and "write" in answer["message"]
    assert stage.stored.wanted_scopes == ["write"]


def test_the_connection_says_what_it_lacks(stage: Stage) -> None:
    stage.add()
    shown = stage.client.get(f"/api/v1/connections/{stage.connection.pk}").json()
    assert (shown["scopes"], shown["wanted_scopes"], shown["status"]) == (["read"], ["write"], "connected")


# --- The end of the way -----------------------------------------------------------------------------------------------


def test_a_server_that_is_never_content_is_not_followed(stage: Stage, alice: Person) -> None:
    stage.place.mcp.never_content = "write"
    finish(stage.add().json()["authorization_url"], alice)
    answer = stage.add()
    assert (answer.status_code, answer.json()["code"]) == (502, "insufficient_scope")
    assert "asked for already" in answer.json()["detail"]
    assert (stage.stored.status, stage.stored.wanted_scopes) == ("connected", [])
    assert scope_of(begin(stage.server, alice)) == ["read"], "the next sign-in is an ordinary one"


def test_a_provider_that_does_not_grant_what_was_asked_is_asked_twice(stage: Stage, alice: Person) -> None:
    stage.place.provider.granted = ("read",)
    for _ in range(2):
        answer = stage.add()
        assert answer.status_code == 409
        assert finish(answer.json()["authorization_url"], alice).scopes == ["read"]
    answer = stage.add()
    assert (answer.status_code, answer.json()["code"]) == (502, "insufficient_scope")
    assert stage.stored.status == "connected"


def test_after_an_ordinary_grant_of_the_scope_the_way_up_is_open_again(stage: Stage, alice: Person) -> None:
    stage.place.provider.granted = ("read",)
    for _ in range(2):
        finish(stage.add().json()["authorization_url"], alice)
    stage.add()
    stage.place.provider.granted = None
    assert sign_in(stage.server, alice).scopes == ["read"]
    assert stage.add().status_code == 409


def test_the_organizations_connection_is_for_an_admin_to_widen(place: Site, alice: Person, bob: Person) -> None:
    place.mcp.tool_scopes = {"add": "write"}
    place.provider.add_client(ProviderClient.with_secret("robot", "s3cret", grant_types=("client_credentials",)))
    fields = {"auth_type": AuthType.CLIENT_CREDENTIALS, "client_id": "robot", "client_secret": "s3cret"}
    add_server(place, alice, **fields, scopes=["read"])
    agent = save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[McpServer.objects.get().pk])
    url = f"{AGENTS}/{agent.slug}/tools/call"
    answer = api(bob).post(url, {"name": name_of(agent, "add"), "arguments": {"a": 1, "b": 2}})
    told = answer.json()
    assert (answer.status_code, told["code"]) == (502, "insufficient_scope")
    assert "write" in told["detail"] and "admin can add these scopes to Docs sign-in" in told["hint"]
    connection = Connection.objects.get()
    assert (connection.status, connection.wanted_scopes) == ("connected", [])
    assert api(bob).post(url, {"name": name_of(agent, "echo"), "arguments": {"text": "x"}}).status_code == 200


def test_a_derived_sign_in_cannot_be_widened_by_a_consent(place: Site, alice: Person) -> None:
    """Nobody is asked at a consent page for it: the scopes are the admin's."""
    place.mcp.tool_scopes = {"add": "write"}
    portal = add_server(place, alice, "Portal")
    sign_in(portal, alice)
    place.provider.add_client(ProviderClient.with_secret("derived", "s3cret"))
    fields = {"auth_type": AuthType.TOKEN_EXCHANGE, "client_id": "derived", "client_secret": "s3cret"}
    add_server(place, alice, "Files", **fields, subject_config=portal.auth_config, scopes=["read"])
    client = api(alice)
    assert client.post(f"{SERVERS}/files/connect").json()["status"] == "connected"
    answer = client.post(f"{SERVERS}/files/tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})
    assert (answer.status_code, answer.json()["code"]) == (502, "insufficient_scope")
    assert "admin can add these scopes to Files sign-in" in answer.json()["hint"]
