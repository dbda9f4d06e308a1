"""Explain access: each rule of a call told in words, on the page, in the API and on the command line."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from urllib.parse import urlencode

import anyio
import pytest
from django.core.management import CommandError, call_command
from pytest_django import DjangoAssertNumQueries

from agents.models import Agent, Approver, ToolCall, ToolGrant
from agents.runtime.session import call_once
from agents.services.agents import save_agent, set_enabled, switch_tools
from agents.services.explain import NOT_REACHED, Explanation, explain_access
from agents.services.tool_scopes import namespaced, set_tool_scopes
from aster.accounts.models import ApiKey
from aster.accounts.services import authenticate_key, revoke_api_key
from aster.errors import AsterError, NotAllowed, NotFound
from integrations.models import AuthConfig, AuthType, Connection, McpServer, Tool
from tests.aster.api_contract import api
from tests.conftest import Person

pytestmark = pytest.mark.django_db(transaction=True)
TOOL = "crm:delete_contact"


@pytest.fixture
def crm(alice: Person) -> McpServer:
    server = McpServer.objects.create(
        organization=alice.organization, name="Crm", slug="crm", url="http://127.0.0.1:1/mcp", retry_attempts=0
    )
    Tool.objects.create(server=server, name="delete_contact", definition={"name": "delete_contact", "inputSchema": {}})
    return server


@pytest.fixture
def agent(alice: Person, crm: McpServer) -> Agent:
    return save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[crm.pk])


def key_of(person: Person, *scopes: str) -> tuple[ApiKey, str]:
    text = person.key(*scopes)
    actor = authenticate_key(text)
    assert actor and actor.api_key
    return actor.api_key, text


def statuses(told: Explanation) -> dict[str, str]:
    return {step.name: step.status for step in told.steps}


def step_of(told: Explanation, name: str) -> str:
    return next(step.found for step in told.steps if step.name == name)


def test_somebody_who_may_call_passes_every_step(alice: Person, bob: Person, agent: Agent) -> None:
    told = explain_access(bob.user.email, agent, TOOL, actor=alice.actor)
    assert told.allowed and told.verdict == "bob@acme.test can call delete_contact of Crm through Helper."
    assert set(statuses(told).values()) == {"ok"} and "key" not in statuses(told)
    assert step_of(told, "member") == "Bob is a member of Acme."
    assert step_of(told, "scopes") == "No scopes are needed."
    assert not ToolCall.objects.exists()


def break_agent(alice: Person, agent: Agent, crm: McpServer) -> None:
    set_enabled(agent, False, actor=alice.actor)


def break_server(alice: Person, agent: Agent, crm: McpServer) -> None:
    McpServer.objects.update(is_enabled=False)


def break_assignment(alice: Person, agent: Agent, crm: McpServer) -> None:
    agent.assignments.all().delete()


def break_tool(alice: Person, agent: Agent, crm: McpServer) -> None:
    Tool.objects.update(gone_at="2026-01-01T00:00:00Z")


def break_switch(alice: Person, agent: Agent, crm: McpServer) -> None:
    switch_tools(agent, crm, off=["delete_contact"], actor=alice.actor)


def break_scopes(alice: Person, agent: Agent, crm: McpServer) -> None:
    set_tool_scopes(crm, {"delete_contact": ["crm:delete"]}, actor=alice.actor)


def break_strictness(alice: Person, agent: Agent, crm: McpServer) -> None:
    agent.strict_scopes = True
    save_agent(agent, actor=alice.actor)


def break_connection(alice: Person, agent: Agent, crm: McpServer) -> None:
    crm.auth_config = AuthConfig.objects.create(
        organization=alice.organization, name="Crm ID", auth_type=AuthType.AUTHORIZATION_CODE
    )
    crm.save()


@pytest.mark.parametrize(
    ("breaks", "step", "words"),
    [
        (break_agent, "agent", "Helper is switched off"),
        (break_server, "server", "Crm is switched off"),
        (break_assignment, "tool", "delete_contact belongs to Crm, which is not assigned to Helper"),
        (break_tool, "tool", "Crm does not offer delete_contact any more"),
        (break_switch, "switch", "delete_contact is switched off for Helper"),
        (break_scopes, "scopes", "lacks the scope crm:delete"),
        (break_strictness, "scopes", "offers only tools with scopes"),
        (break_connection, "connection", "Connect your account at Crm"),
    ],
)
def test_an_explanation_stops_where_the_call_does_and_with_its_code(
    alice: Person, bob: Person, agent: Agent, crm: McpServer, breaks: Any, step: str, words: str
) -> None:
    breaks(alice, agent, crm)
    agent = Agent.objects.select_related("organization").get()
    key, text = key_of(bob, "aster:call")
    told = explain_access(bob.user.email, agent, TOOL, actor=alice.actor, key_id=key.pk)
    assert told.blocker and told.blocker.name == step and words in told.blocker.found
    assert told.blocker.advice
    caller = authenticate_key(text)
    assert caller
    with pytest.raises(AsterError) as refused:
        anyio.run(lambda: call_once(agent, namespaced(crm, "delete_contact"), {}, actor=caller))
    assert refused.value.code == told.blocker.code


def test_steps_behind_an_unknown_tool_are_not_reached(alice: Person, agent: Agent) -> None:
    told = explain_access(alice.user.email, agent, "crm:nonsense", actor=alice.actor)
    assert told.blocker and told.blocker.code == "unknown_tool"
    assert step_of(told, "scopes") == NOT_REACHED and statuses(told)["connection"] == "skipped"


def test_scopes_tell_what_is_needed_held_and_by_whom(alice: Person, bob: Person, agent: Agent, crm: McpServer) -> None:
    set_tool_scopes(crm, {"delete_contact": ["crm:delete"]}, actor=alice.actor)
    set_tool_scopes(agent, {TOOL: ["helper:use"]}, actor=alice.actor)
    limited, _ = key_of(bob, "crm:delete")
    ApiKey.objects.filter(pk=limited.pk).update(name="Nightly")
    signed_in = explain_access(bob.user.email, agent, TOOL, actor=alice.actor)
    assert signed_in.allowed
    assert step_of(signed_in, "scopes") == (
        "Crm asks for crm:delete; Helper asks for helper:use. Who is signed in to the hub holds every scope. "
        "Not enough for it: the key Nightly."
    )
    told = explain_access(bob.user.email, agent, TOOL, actor=alice.actor, key_id=limited.pk)
    assert told.verdict.startswith("bob@acme.test with the key Nightly cannot call") and "helper:use" in told.verdict


def test_a_key_that_is_revoked_or_may_not_call_is_where_it_stops(alice: Person, bob: Person, agent: Agent) -> None:
    key, _ = key_of(bob, "aster:read")
    told = explain_access(bob.user.email, agent, TOOL, actor=alice.actor, key_id=key.pk)
    assert told.blocker and (told.blocker.name, told.blocker.code) == ("key", "missing_scope")
    revoke_api_key(key, actor=bob.actor)
    told = explain_access(bob.user.email, agent, TOOL, actor=alice.actor, key_id=key.pk)
    assert told.blocker and "is revoked" in told.blocker.found


def test_an_approval_is_a_note_and_a_changed_tool_a_stop(
    alice: Person, bob: Person, agent: Agent, crm: McpServer
) -> None:
    ToolGrant.objects.create(agent=agent, server=crm, tool_name="delete_contact", approver=Approver.ADMIN)
    told = explain_access(bob.user.email, agent, TOOL, actor=alice.actor)
    assert told.allowed and told.verdict.endswith("once it is approved.")
    assert "until an admin approves it" in step_of(told, "approval")
    Tool.objects.update(changed_definition={"name": "delete_contact", "description": "and all others"})
    told = explain_access(bob.user.email, agent, TOOL, actor=alice.actor)
    assert told.blocker and told.blocker.code == "tool_quarantined"


def test_the_connection_says_whose_token_it_is_and_how_it_is(
    alice: Person, bob: Person, agent: Agent, crm: McpServer
) -> None:
    break_connection(alice, agent, crm)
    assert crm.auth_config
    mine = Connection.objects.create(
        auth_config=crm.auth_config, user=bob.user, access_token="not-shown", origins=[crm.origin]
    )
    told = explain_access(bob.user.email, agent, TOOL, actor=alice.actor)
    assert step_of(told, "connection") == "With the token of Bob at Crm ID: connected."
    assert "not-shown" not in json.dumps(told.as_json())
    Connection.objects.filter(pk=mine.pk).update(status="connection_error")
    told = explain_access(bob.user.email, agent, TOOL, actor=alice.actor)
    assert told.blocker and told.blocker.code == "connection_required"
    assert not explain_access(alice.user.email, agent, TOOL, actor=alice.actor).allowed


def test_people_of_other_organizations_and_nobody_read_the_same(
    alice: Person, bob: Person, charlie: Person, agent: Agent
) -> None:
    told = [explain_access(each, agent, TOOL, actor=alice.actor) for each in (charlie.user.email, "no@body.test")]
    texts = [each.verdict.replace(each.person, "X") for each in told]
    assert texts[0] == texts[1] and "is not a member of Acme" in texts[0]
    assert all(step.status == "skipped" for step in told[0].steps[1:])
    bob.user.is_active = False
    bob.user.save()
    assert not explain_access(bob.user.email, agent, TOOL, actor=alice.actor).allowed


def test_only_admins_are_told_and_only_of_that_persons_keys(alice: Person, bob: Person, agent: Agent) -> None:
    with pytest.raises(NotAllowed):
        explain_access(alice.user.email, agent, TOOL, actor=bob.actor)
    key, _ = key_of(alice, "*")
    with pytest.raises(NotFound):
        explain_access(bob.user.email, agent, TOOL, actor=alice.actor, key_id=key.pk)


# --- Faces ------------------------------------------------------------------------------------------------------------


def test_the_page_lets_an_admin_pick_somebody_and_a_tool(
    alice: Person, bob: Person, agent: Agent, crm: McpServer
) -> None:
    set_tool_scopes(crm, {"delete_contact": ["crm:delete"]}, actor=alice.actor)
    key, _ = key_of(bob, "aster:call")
    browser, address, tool = alice.browser(), "/hub/agent/helper/explain/", namespaced(crm, "delete_contact")
    page = browser.get(address).content.decode()
    assert f'value="key:{key.pk}"' in page and f'value="{tool}"' in page and "Step by step" not in page
    signed_in = browser.get(f"{address}?{urlencode({'who': bob.user.email, 'tool': tool})}").content.decode()
    assert "Allowed" in signed_in and "Step by step" in signed_in
    refused = browser.get(f"{address}?{urlencode({'who': f'key:{key.pk}', 'tool': tool})}").content.decode()
    assert "Not allowed" in refused and "missing_tool_scope" in refused and "Stops here" in refused
    for who in ("key:99999", "key:x", "key:"):
        assert browser.get(f"{address}?{urlencode({'who': who, 'tool': tool})}").status_code == 404
    assert bob.browser().get(address).status_code == 403
    assert "/explain/" not in bob.browser().get("/hub/agent/helper/scopes/").content.decode()


def test_the_api_explains_to_admins(alice: Person, bob: Person, agent: Agent, crm: McpServer) -> None:
    set_tool_scopes(crm, {"delete_contact": ["crm:delete"]}, actor=alice.actor)
    key, _ = key_of(bob, "aster:call")
    path, asked = "/api/v1/config/agent/helper/explain_access", {"email": bob.user.email, "tool": TOOL}
    assert api(alice).get(path, asked).json()["allowed"] is True
    told = api(alice).get(path, asked | {"api_key_id": str(key.pk)}).json()
    assert (told["allowed"], told["code"], told["api_key"]) == (False, "missing_tool_scope", "test")
    assert [step["name"] for step in told["steps"]][:3] == ["member", "key", "agent"]
    for query, field in (
        ({"email": "x"}, "tool"),
        ({"tool": "x"}, "email"),
        (asked | {"api_key_id": "x"}, "api_key_id"),
    ):
        refused = api(alice).get(path, query)
        assert (refused.status_code, list(refused.json()["fields"])) == (400, [field])
    assert api(bob).get(path, asked).status_code == 403
    assert api(alice).get("/api/v1/config/agent/other/explain_access", asked).status_code == 404


def run(*command: str) -> tuple[str, int]:
    out = StringIO()
    try:
        call_command("explain_access", *command, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(ended.code or 0)
    return out.getvalue(), 0


def test_the_command_tells_each_step_and_ends_with_the_verdict(alice: Person, bob: Person, agent: Agent) -> None:
    told, code = run(bob.user.email, "helper", TOOL, "--organization", "Acme")
    assert code == 0 and told.endswith("bob@acme.test can call delete_contact of Crm through Helper.\n")
    set_enabled(agent, False, actor=alice.actor)
    told, code = run(bob.user.email, "helper", TOOL, "--organization", "acme", "--json")
    assert code == 1 and json.loads(told)["code"] == "agent_disabled"
    told, code = run(bob.user.email, "helper", TOOL, "--organization", "acme")
    assert code == 1 and "STOP  Agent: Helper is switched off" in told
    with pytest.raises(CommandError, match="no such agent"):
        run(bob.user.email, "nobody", TOOL, "--organization", "acme")


def test_more_tools_and_keys_cost_no_more_queries(
    alice: Person, agent: Agent, crm: McpServer, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for n in range(30):
        Tool.objects.create(server=crm, name=f"tool_{n}", definition={"name": f"tool_{n}", "inputSchema": {}})
        alice.key("aster:call")
    with django_assert_max_num_queries(20):
        assert explain_access(alice.user.email, agent, TOOL, actor=alice.actor).allowed
