"""Plain calls at the gateway: what they cost, that they answer as the SDK's server does, how soon a change counts."""

from __future__ import annotations

import json
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from agents.models import Agent, AgentServer, ToolCall, ToolGrant
from agents.services.agents import save_agent
from aster.accounts.models import ApiKey, Membership, User
from integrations.models import AuthConfig, AuthType, Connection, McpServer
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.mcp_servers import (
    FakeServer,
    Receive,
    Send,
    legacy_only_app,
    modern_and_legacy_app,
    scripted_app,
    serve,
)

MODERN, LEGACY = "2026-07-28", "2025-11-25"
META = "io.modelcontextprotocol/"
pytestmark = pytest.mark.django_db(transaction=True)
Upstream = tuple[FakeServer, Agent]
Make = Callable[..., "Client"]


@contextmanager
def agent_at(person: Person, fake: FakeServer) -> Iterator[Agent]:
    with serve(fake) as url:
        server = save_server(McpServer(name="Fake", url=f"{url}/mcp"), actor=person.actor).server
        yield save_agent(Agent(name="Helper"), actor=person.actor, server_ids=[server.pk])


@pytest.fixture
def upstream(aster: str, alice: Person) -> Iterator[Upstream]:
    fake = modern_and_legacy_app(json_response=True)
    with agent_at(alice, fake) as agent:
        yield fake, agent


class Client:
    """Sends what an MCP client sends, over one connection, and shows the HTTP answer."""

    def __init__(self, agent: Agent, key: str, version: str = MODERN) -> None:
        self.agent, self.version = agent, version
        self.prefix = f"fake_{agent.servers.get().pk}__"
        self.http = httpx2.Client(
            headers={
                "accept": "application/json, text/event-stream",
                "mcp-protocol-version": version,
                "authorization": f"Bearer {key}",
            }
        )

    def ask(self, method: str, params: dict[str, Any], meta: dict[str, Any] | None = None) -> httpx2.Response:
        headers = {}
        if self.version == MODERN:
            required = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
            params = {**params, "_meta": {**required, **(meta or {})}}
            headers = {"mcp-method": method, **({"mcp-name": params["name"]} if "name" in params else {})}
        elif meta:
            params = {**params, "_meta": meta}
        message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        return self.http.post(self.agent.gateway_url, json=message, headers=headers)

    def call(self, tool: str, meta: dict[str, Any] | None = None, **arguments: Any) -> httpx2.Response:
        return self.ask("tools/call", {"name": self.prefix + tool, "arguments": arguments}, meta)

    def list(self, meta: dict[str, Any] | None = None) -> httpx2.Response:
        return self.ask("tools/list", {}, meta)


@pytest.fixture
def clients() -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(*about: Any) -> Client:
        made.append(Client(*about))
        return made[-1]

    yield make
    for client in made:
        client.http.close()


class Costs:
    """What a process did meanwhile, beyond passing messages on. What is read again in the background is no cost."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.threads: list[str] = []
        self.tls_contexts = 0

    def least(self, work: Callable[[], object], tries: int = 5) -> tuple[list[str], list[str], int]:
        """The queries, threads and TLS contexts of a piece of work that is warm: those of the cheapest try.

        On a machine that stands still for a second, what was known runs out, and the next one pays for it once more.
        """
        found = []
        for _ in range(tries):
            self.queries.clear(), self.threads.clear()
            self.tls_contexts = 0
            work()
            found.append((_beyond_the_record(self.queries), list(self.threads), self.tls_contexts))
        return min(found, key=lambda each: (len(each[0]), len(each[1]), each[2]))


def _beyond_the_record(queries: list[str]) -> list[str]:
    asked = [sql for sql in queries if "INSERT INTO" not in sql or "toolcall" not in sql]
    return [sql for sql in asked if not sql.startswith(("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "PRAGMA"))]


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Costs:
    found = Costs()
    execute, start, make = CursorWrapper.execute, threading.Thread.start, ssl.SSLContext.__new__

    def counting_execute(cursor: Any, sql: str, params: Any = None) -> Any:
        functions = {frame.name for frame in traceback.extract_stack()}
        if "_store" not in functions or "_read_missing" in functions:
            found.queries.append(sql)
        return execute(cursor, sql, params)

    def counting_start(thread: threading.Thread) -> None:
        found.threads.append(thread.name)
        start(thread)

    def counting_make(cls: type[ssl.SSLContext], *args: Any, **options: Any) -> ssl.SSLContext:
        found.tls_contexts += 1
        return make(cls, *args, **options)

    monkeypatch.setattr(CursorWrapper, "execute", counting_execute)
    monkeypatch.setattr(threading.Thread, "start", counting_start)
    monkeypatch.setattr(ssl.SSLContext, "__new__", counting_make)
    return found


@pytest.mark.parametrize("version", [MODERN, LEGACY])
@pytest.mark.parametrize("app", [modern_and_legacy_app, legacy_only_app], ids=["to a modern server", "to a legacy one"])
def test_a_warm_call_is_one_request_and_no_query_no_thread_and_no_tls_context(
    aster: str, alice: Person, app: Callable[[], FakeServer], version: str, costs: Costs, settings: Any, clients: Make
) -> None:
    settings.ASTER_CALLS_WRITTEN_THROUGH = False
    fake = app()
    with agent_at(alice, fake) as agent:
        client = clients(agent, alice.key(), version)
        for _ in range(20):  # threads of the pool start with the first of them
            assert client.call("echo", text="warm").status_code == 200

        def twenty_calls() -> None:
            before = len(fake.requests)
            answers = [client.call("echo", text=str(number)).json() for number in range(20)]
            assert [each["result"]["content"][0]["text"] for each in answers] == [str(number) for number in range(20)]
            assert [seen.rpc for seen in fake.requests[before:] if seen.http_method == "POST"] == ["tools/call"] * 20

        assert costs.least(twenty_calls) == ([], [], 0)


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_a_warm_listing_asks_neither_server_nor_database(
    upstream: Upstream, alice: Person, version: str, costs: Costs, clients: Make
) -> None:
    fake, agent = upstream
    client = clients(agent, alice.key(), version)
    assert client.list().status_code == 200
    before = len(fake.requests)

    def listing() -> None:
        names = [tool["name"] for tool in client.list().json()["result"]["tools"]]
        assert f"{client.prefix}echo" in names and names == sorted(names)

    assert costs.least(listing) == ([], [], 0)
    assert len(fake.requests) == before


def json_of(response: httpx2.Response) -> Any:
    """The message of an answer, whichever of the two forms it has."""
    if response.headers["content-type"].startswith("text/event-stream"):
        return json.loads(next(line for line in response.text.splitlines() if line.startswith("data: {"))[6:])
    return response.json()


@pytest.mark.parametrize("version", [MODERN, LEGACY])
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("echo", {"text": "Grüße"}),
        ("fail", {}),
        ("structured", {}),
        ("big", {"size": 100_000}),
        ("big", {"size": 3_000_000}),
        ("regional", {"region": "eu"}),
        ("refused", {}),
    ],
)
def test_a_call_is_answered_as_the_sdks_server_answers_it(
    upstream: Upstream, alice: Person, version: str, tool: str, arguments: dict[str, Any], clients: Make
) -> None:
    client = clients(upstream[1], alice.key(), version)
    plain = client.call(tool, **arguments)
    # A request that says more than it must goes the long way.
    long_way = client.call(tool, meta={"com.example/more": 1}, **arguments)
    assert (plain.status_code, json_of(plain)) == (long_way.status_code, json_of(long_way))
    assert len(set(ToolCall.objects.values_list("outcome", "error_code", "tool_name", "server_label", "via"))) == 1


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_a_listing_is_answered_as_the_sdks_server_answers_it(
    upstream: Upstream, alice: Person, version: str, clients: Make
) -> None:
    client = clients(upstream[1], alice.key(), version)
    plain, long_way = client.list(), client.list(meta={"com.example/more": 1})
    assert json_of(plain) == json_of(long_way)


def disable_agent(agent: Agent, person: Person) -> None:
    Agent.objects.filter(pk=agent.pk).update(is_enabled=False)


def disable_server(agent: Agent, person: Person) -> None:
    McpServer.objects.filter(assignments__agent=agent).update(is_enabled=False)


def switch_off(agent: Agent, person: Person) -> None:
    ToolGrant.objects.create(agent=agent, server=agent.servers.get(), tool_name="echo", is_enabled=False)


def ask_for_approval(agent: Agent, person: Person) -> None:
    ToolGrant.objects.create(agent=agent, server=agent.servers.get(), tool_name="echo", approver="admin")


def quarantine(agent: Agent, person: Person) -> None:
    agent.servers.get().tools.filter(name="echo").update(changed_definition={"name": "echo", "description": "new"})


def unassign(agent: Agent, person: Person) -> None:
    AgentServer.objects.filter(agent=agent).delete()


def map_scope(agent: Agent, person: Person) -> None:
    McpServer.objects.filter(assignments__agent=agent).update(tool_scopes={"echo": ["echo:call"]})


def revoke_key(agent: Agent, person: Person) -> None:
    ApiKey.objects.filter(user=person.user).update(revoked_at="2026-01-01T00:00:00Z")


def remove_member(agent: Agent, person: Person) -> None:
    Membership.objects.filter(user=person.user).delete()


def lock_out(agent: Agent, person: Person) -> None:
    User.objects.filter(pk=person.user.pk).update(is_active=False)


CHANGES = [
    *(disable_agent, disable_server, switch_off, ask_for_approval, quarantine, unassign),
    *(map_scope, revoke_key, remove_member, lock_out),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_another_process_changes_counts_within_a_second(
    upstream: Upstream, alice: Person, change: Callable[[Agent, Person], None], clients: Make
) -> None:
    """The change is made below everything that could tell this process of it."""
    fake, agent = upstream
    client = clients(agent, alice.key("aster:call"))
    assert client.call("echo", text="before").json()["result"]["content"][0]["text"] == "before"
    change(agent, alice)
    changed = begun = time.monotonic()
    while went_through(client.call("echo", text="after")):
        assert begun - changed < 1.0, "a call that began a second later went through"
        begun = time.monotonic()
    before = len(fake.requests)
    assert not went_through(client.call("echo", text="after"))
    assert len(fake.requests) == before


def went_through(response: httpx2.Response) -> bool:
    return response.status_code == 200 and json_of(response).get("result", {}).get("isError") is False


def test_calls_are_written_behind_within_a_quarter_of_a_second(
    upstream: Upstream, alice: Person, settings: Any, clients: Make
) -> None:
    settings.ASTER_CALLS_WRITTEN_THROUGH = False
    client = clients(upstream[1], alice.key())
    client.call("echo", text="first")
    answered = time.monotonic()
    while not ToolCall.objects.filter(tool_name="echo", outcome="ok").exists():
        assert time.monotonic() - answered < 0.25 + 0.75  # the quarter, and patience with a busy machine


def test_a_server_that_is_away_is_told_of_and_recorded(aster: str, alice: Person, clients: Make) -> None:
    with agent_at(alice, modern_and_legacy_app()) as agent:
        client = clients(agent, alice.key())
        assert went_through(client.call("echo", text="x"))
    gone = client.call("echo", text="x").json()["result"]
    assert gone["isError"] and "127.0.0.1" in gone["content"][0]["text"]
    assert ToolCall.objects.filter(outcome="failed").count() == 1


READER = {"name": "read", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}


class BreaksOff:
    """A server that begins to answer a call, breaks off, and wants a sign-in when it is asked again."""

    has_begun = False

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        meta = json.loads((await receive())["body"])["params"]["_meta"]
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 401 if self.has_begun else 200, "headers": headers})
        told = {"progressToken": meta["progressToken"], "progress": 1}
        said = {"jsonrpc": "2.0", "method": "notifications/progress", "params": told}
        body = b"" if self.has_begun else b"data: %s\n\n" % json.dumps(said).encode()
        self.has_begun = True
        await send({"type": "http.response.body", "body": body})


def test_a_call_that_ran_before_the_server_wanted_a_sign_in_is_recorded(
    aster: str, alice: Person, clients: Make
) -> None:
    """Its answer had begun with progress: nobody else takes it over, as it is for calls that only lack a sign-in."""
    fake = scripted_app(tools_list={"tools": [READER]})
    with agent_at(alice, fake) as agent:
        auth = AuthConfig.objects.create(
            organization=alice.organization, name="Notes", auth_type=AuthType.AUTHORIZATION_CODE
        )
        Connection.objects.create(auth_config=auth, user=alice.user, access_token="t")
        McpServer.objects.update(auth_config=auth, retry_attempts=1)
        fake.serve_instead(BreaksOff())
        answer = clients(agent, alice.key()).call("read", {"progressToken": "p"})
    assert "notifications/progress" in answer.text and "/connect" in answer.text
    row = ToolCall.objects.get()
    assert (row.tool_name, row.outcome) == ("read", "connection_required")


def test_a_key_that_is_revoked_while_its_person_connects_calls_nothing(
    aster: str, alice: Person, clients: Make
) -> None:
    fake = scripted_app(tools_list={"tools": [READER]})
    with agent_at(alice, fake) as agent, ThreadPoolExecutor() as pool:
        auth = AuthConfig.objects.create(
            organization=alice.organization, name="Notes", auth_type=AuthType.AUTHORIZATION_CODE
        )
        McpServer.objects.update(auth_config=auth)
        client, other = clients(agent, alice.key()), clients(agent, alice.key())
        params = {"name": f"{client.prefix}read", "inputResponses": {"connect": {"action": "accept"}}}
        waiting = pool.submit(client.ask, "tools/call", params)
        while ApiKey.objects.filter(last_used_at=None).count() > 1:
            pass
        ApiKey.objects.update(revoked_at=timezone.now())
        while other.list().status_code == 200:
            pass
        Connection.objects.create(auth_config=auth, user=alice.user, access_token="t")
        assert "may not act" in waiting.result(20).text
    assert fake.calls() == [] and ToolCall.objects.get().outcome == "refused"
