"""An agent's rules and a person's connections as held in memory: other ones after every change, the same after none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import Agent, AgentServer, ToolGrant
from agents.services.agents import save_agent, switch_tools
from agents.services.calls import ReadyCall
from agents.services.rules import Rules, load_rules
from aster.accounts.models import Organization
from integrations.mcp_client import KnownTool
from integrations.models import AuthConfig, AuthType, Connection, McpServer, Tool
from integrations.services.catalogue import store_tools
from integrations.services.held import Held, load_held
from tests.conftest import Person

pytestmark = pytest.mark.django_db

ADDRESS = ("acme", "helper")
SCHEMA = {"type": "object", "properties": {}}


@pytest.fixture
def auth(alice: Person) -> AuthConfig:
    return AuthConfig.objects.create(
        organization=alice.organization, name="Key", auth_type=AuthType.BEARER, token="s3cret-token",
    )  # fmt: skip


@pytest.fixture
def server(alice: Person, auth: AuthConfig) -> McpServer:
    made = McpServer.objects.create(
        organization=alice.organization, name="Tools", slug="tools", url="https://mcp.example/mcp", auth_config=auth,
        era="modern", discover_result={"supportedVersions": ["2026-07-28"]},
    )  # fmt: skip
    store_tools(made, [{"name": n, "inputSchema": SCHEMA} for n in ("one", "two")], seen_by=None, now=timezone.now())
    return made


@pytest.fixture
def agent(alice: Person, server: McpServer) -> Agent:
    return save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk])


def load(known: Rules | None = None) -> Rules:
    return load_rules({ADDRESS: known})[ADDRESS]


def test_rules_that_nobody_changed_are_the_same_ones_for_six_queries(agent: Agent) -> None:
    first = load()
    with CaptureQueriesContext(
        database,
    ) as asked:
        assert load(first) is first
    assert len(asked) == 6
    assert [each.name.rpartition("__")[2] for each in first.tools.values()] == ["one", "two"]


def test_rules_of_many_agents_are_six_queries_too(alice: Person, agent: Agent, server: McpServer) -> None:
    wanted: dict[tuple[str, str], Rules | None] = {ADDRESS: None}
    for n in range(20):
        made = save_agent(Agent(name=f"Helper {n}"), actor=alice.actor, server_ids=[server.pk])
        wanted["acme", made.slug] = None
    known = load_rules(wanted)
    with CaptureQueriesContext(database) as asked:
        again = load_rules(known)
    assert len(asked) == 6 and all(again[address] is known[address] for address in known)


def test_an_agent_that_is_not_there_has_no_rules(agent: Agent) -> None:
    assert load_rules({("acme", "other"): None, ("globex", "helper"): None}) == {}
    first = load()
    agent.delete()
    assert load_rules({ADDRESS: first}) == {}


def other_server(agent: Agent) -> McpServer:
    return McpServer.objects.create(
        organization=agent.organization, name="Other", slug="other", url="https://o.example/"
    )


# As another process, or somebody at the database, would make them: nothing here is told to anybody.
CHANGES: dict[str, Callable[[Agent, McpServer], object]] = {
    "agent off": lambda agent, server: Agent.objects.update(is_enabled=False),
    "agent renamed": lambda agent, server: Agent.objects.update(name="New"),
    "agent's scopes": lambda agent, server: Agent.objects.update(tool_scopes={"x": ["y"]}),
    "agent strict": lambda agent, server: Agent.objects.update(strict_scopes=True),
    "organization's hierarchy": lambda agent, server: Organization.objects.update(scope_hierarchy={"a": ["b"]}),
    "organization renamed": lambda agent, server: Organization.objects.update(name="New"),
    "assigned": lambda agent, server: AgentServer.objects.create(agent=agent, server=other_server(agent)),
    "taken away": lambda agent, server: AgentServer.objects.all().delete(),
    "tool off": lambda agent, server: ToolGrant.objects.create(
        agent=agent, server=server, tool_name="one", is_enabled=False
    ),
    "approver": lambda agent, server: ToolGrant.objects.create(
        agent=agent, server=server, tool_name="one", approver="admin"
    ),
    "server off": lambda agent, server: McpServer.objects.update(is_enabled=False),
    "url": lambda agent, server: McpServer.objects.update(url="https://elsewhere.example/mcp"),
    "timeout": lambda agent, server: McpServer.objects.update(timeout_seconds=7),
    "tries": lambda agent, server: McpServer.objects.update(retry_attempts=5),
    "server's scopes": lambda agent, server: McpServer.objects.update(tool_scopes={"one": ["x"]}),
    "era": lambda agent, server: McpServer.objects.update(era="legacy"),
    "environment": lambda agent, server: McpServer.objects.update(env={"KEY": "new"}),
    "no sign-in": lambda agent, server: McpServer.objects.update(auth_config=None),
    "token": lambda agent, server: AuthConfig.objects.update(token="another-s3cret"),
    "headers": lambda agent, server: AuthConfig.objects.update(custom_headers={"x-a": "b"}),
    "tool added": lambda agent, server: Tool.objects.create(server=server, name="new", definition={}),
    "tool deleted": lambda agent, server: Tool.objects.filter(name="one").delete(),
    "tool gone": lambda agent, server: Tool.objects.filter(name="one").update(gone_at=timezone.now()),
    "tool changed": lambda agent, server: Tool.objects.filter(name="one").update(
        changed_definition={"name": "one"}, changed_at=timezone.now()
    ),
    "tools listed again": lambda agent, server: store_tools(
        server, [{"name": "one", "inputSchema": SCHEMA}], seen_by=None, now=timezone.now()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_makes_other_rules(agent: Agent, server: McpServer, name: str) -> None:
    first = load()
    CHANGES[name](agent, server)
    second = load(first)
    assert second is not first
    assert load(second) is second


def test_an_accepted_change_makes_other_rules(agent: Agent) -> None:
    Tool.objects.filter(name="one").update(changed_definition={"name": "one"}, changed_at=timezone.now())
    first = load()
    assert [each.is_quarantined for each in first.tools.values()] == [True, False]
    Tool.objects.filter(name="one").update(definition={"name": "one", "inputSchema": {}}, changed_definition=None)
    assert [each.is_quarantined for each in load(first).tools.values()] == [False, False]


def test_a_switch_shows_in_the_rules_and_those_of_others_stay(alice: Person, agent: Agent, server: McpServer) -> None:
    other = save_agent(Agent(name="Other"), actor=alice.actor, server_ids=[server.pk])
    known = load_rules({ADDRESS: None, ("acme", other.slug): None})
    switch_tools(agent, server, off=["one"], actor=alice.actor)
    again = load_rules(known)
    assert [each.is_on for each in again[ADDRESS].tools.values()] == [False, True]
    assert again["acme", other.slug] is known["acme", other.slug]


# --- Connections ------------------------------------------------------------------------------------------------------
@pytest.fixture
def grant(bob: Person, auth: AuthConfig) -> Connection:
    AuthConfig.objects.update(auth_type=AuthType.AUTHORIZATION_CODE)
    return Connection.objects.create(
        auth_config=auth, user=bob.user, access_token="s3cret-access", refresh_token="s3cret-refresh",
        expires_at=timezone.now() + timedelta(hours=1), origins=["https://mcp.example"], last_used_at=timezone.now(),
    )  # fmt: skip


def hold(grant: Connection, known: Held | None = None) -> Held:
    holder = (grant.auth_config_id, grant.user_id)
    return load_held({holder: known})[holder]


def test_a_connection_that_nobody_changed_is_the_same_one_for_one_query(grant: Connection) -> None:
    first = hold(grant)
    with CaptureQueriesContext(database) as asked:
        assert hold(grant, first) is first
    assert len(asked) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": "s3cret-new"}, {"generation": 2}, {"status": "error"}, {"origins": ["https://o.example"]},
        {"expires_at": None}, {"claimed_by": "me"}, {"wanted_scopes": ["x"]}, {"refresh_token": ""},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_change_of_a_connection_makes_another_one(grant: Connection, change: dict[str, object]) -> None:
    first = hold(grant)
    Connection.objects.update(**change)
    second = hold(grant, first)
    assert second is not first
    for name, value in change.items():
        assert getattr(second.connection, name) == value


def test_that_a_connection_was_used_makes_it_no_other_one_and_is_known(grant: Connection, server: McpServer) -> None:
    first, later = hold(grant), timezone.now() + timedelta(minutes=5)
    target = first.target(server)
    Connection.objects.update(last_used_at=later)
    assert hold(grant, first) is first
    assert first.connection.last_used_at == later
    assert first.target(server) is target


def test_a_disconnected_account_is_held_no_longer_and_others_are_not_mixed_up(
    grant: Connection, alice: Person, bob: Person
) -> None:
    other = Connection.objects.create(auth_config=grant.auth_config, user=alice.user, access_token="s3cret-alice")
    holders = [(grant.auth_config_id, person.user.pk) for person in (alice, bob)]
    held = load_held(dict.fromkeys(holders))
    assert [held[each].connection.access_token for each in holders] == ["s3cret-alice", "s3cret-access"]
    other.delete()
    assert list(load_held(held)) == [holders[1]]
    assert load_held({(grant.auth_config_id, None): None}) == {}


def test_targets_of_one_connection_at_an_unchanged_server_are_equal(grant: Connection, server: McpServer) -> None:
    """So what is open there stays open, although the server's row was read again."""
    held = hold(grant)
    first, second = (held.target(McpServer.objects.get()) for _ in range(2))
    assert first == second and first is not second
    assert hold(grant).target(server) != first, "another reading of the row may have another token"


def test_no_repr_holds_a_secret(agent: Agent, grant: Connection, server: McpServer) -> None:
    rules, held = load(), hold(grant)
    found = next(iter(rules.tools.values()))
    target = held.target(server)
    ready = ReadyCall(server, "one", KnownTool({}), held.connection, target)
    for each in (rules, held, ready, target, found):
        assert "s3cret" not in repr(each), type(each)
