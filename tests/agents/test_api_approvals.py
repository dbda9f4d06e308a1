"""The API of approvals: what a refused call says, the list, and who may decide with which key."""

from __future__ import annotations

from typing import Any

import pytest

from agents.models import Approval
from agents.services import approvals
from aster.accounts.models import AuditEvent
from integrations.models import McpServer
from tests.agents.approval_cast import Guarded, guarded
from tests.aster.api_contract import ContractClient, api
from tests.conftest import Person

__all__ = ["guarded"]
pytestmark = pytest.mark.django_db(transaction=True)
APPROVALS = "/api/v1/approvals"


def call(client: ContractClient, guarded: Guarded, tool: str, **arguments: Any) -> Any:
    body = {"name": guarded.name_of(tool), "arguments": arguments}
    return client.post(f"/api/v1/config/agent/{guarded.agent.pk}/tools/call", body)


def test_a_call_waits_is_approved_and_goes_through_once(guarded: Guarded, alice: Person, bob: Person) -> None:
    caller, admin = api(bob, "aster:call"), api(alice)
    refused = call(caller, guarded, "add", a=1, b=2)
    assert (refused.status_code, refused.json()["code"]) == (409, "approval_required")
    pk = refused.json()["approval_id"]
    assert refused.json()["approval_url"].endswith(f"/hub/approvals/{pk}/?organization=acme")
    approved = admin.post(f"{APPROVALS}/{pk}/approve").json()
    assert (approved["status"], approved["decided_by"], approved["user"]) == (
        "approved",
        "alice@acme.test",
        "bob@acme.test",
    )
    assert call(caller, guarded, "add", a=1, b=2).json()["result"]["content"][0]["text"] == "3"
    assert admin.get(f"{APPROVALS}/{pk}").json()["status"] == "used"
    assert call(caller, guarded, "add", a=1, b=2).status_code == 409
    assert guarded.fake.calls() == ["add"]


def test_a_denied_call_is_a_403_and_deciding_twice_a_409(guarded: Guarded, alice: Person, bob: Person) -> None:
    caller, admin = api(bob, "aster:call"), api(alice)
    pk = call(caller, guarded, "add", a=1, b=2).json()["approval_id"]
    assert admin.post(f"{APPROVALS}/{pk}/deny").json()["status"] == "denied"
    denied = call(caller, guarded, "add", a=1, b=2)
    assert (denied.status_code, denied.json()["code"]) == (403, "approval_denied")
    again = admin.post(f"{APPROVALS}/{pk}/approve")
    assert (again.status_code, again.json()["code"]) == (409, "already_decided")


def test_nobody_approves_with_a_key_that_may_not_manage(guarded: Guarded, alice: Person, bob: Person) -> None:
    own, for_admins = guarded.ask(bob, text="hello"), guarded.ask(bob, "add", a=1, b=2)
    for person, waiting in ((bob, own), (alice, own), (alice, for_admins)):
        for verb in ("approve", "deny"):
            refused = api(person, "aster:call", "aster:read").post(f"{APPROVALS}/{waiting.pk}/{verb}")
            assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")
    assert set(Approval.objects.values_list("status", flat=True)) == {"pending"}


def test_a_callers_key_decides_nothing_and_their_browser_does(guarded: Guarded, bob: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    refused = api(bob).post(f"{APPROVALS}/{waiting.pk}/approve")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert "in your browser" in refused.json()["detail"]
    signed_in = ContractClient()
    signed_in.force_login(bob.user)
    assert signed_in.post(f"{APPROVALS}/{waiting.pk}/approve").json()["status"] == "approved"


def test_members_see_their_own_admins_all_and_others_nothing(
    guarded: Guarded, alice: Person, bob: Person, charlie: Person
) -> None:
    own, of_alice = guarded.ask(bob, text="hello"), guarded.ask(alice, text="secret plan")
    approvals.deny(guarded.ask(bob, text="no"), actor=bob.actor)
    assert [row["id"] for row in api(bob).get(APPROVALS).json()["results"]] == [own.pk + 2, own.pk]
    assert len(api(alice).get(APPROVALS).json()["results"]) == 3
    waiting = api(alice).get(f"{APPROVALS}?waiting=true").json()["results"]
    assert [row["id"] for row in waiting] == [of_alice.pk, own.pk]
    assert waiting[0]["arguments"] == {"text": "secret plan"}
    for person in (bob, charlie):
        for path in ("", "/approve", "/deny"):
            client = api(person)
            reply = (
                client.post(f"{APPROVALS}/{of_alice.pk}{path}") if path else client.get(f"{APPROVALS}/{of_alice.pk}")
            )
            assert reply.status_code == 404
    assert api(charlie).get(APPROVALS).json()["results"] == []


# --- The rule of a tool -----------------------------------------------------------------------------------------------

AGENT = "/api/v1/config/agent/helper"


def test_the_rules_are_shown_and_replaced_whole(guarded: Guarded, alice: Person) -> None:
    client, name = api(alice), guarded.name_of
    assert client.get(AGENT).json()["approvals"] == {name("echo"): "caller", name("add"): "admin"}
    sent = {name("echo"): "admin", "fake:fail": "caller"}
    assert client.patch(AGENT, {"approvals": sent}).json()["approvals"] == {
        name("echo"): "admin",
        name("fail"): "caller",
    }
    assert approvals.approvers(guarded.agent) == {
        (guarded.server.pk, "echo"): "admin",
        (guarded.server.pk, "fail"): "caller",
    }
    assert client.patch(AGENT, {"description": "kept"}).json()["approvals"][name("echo")] == "admin"
    stored = client.get(AGENT).json()
    events = AuditEvent.objects.count()
    assert client.put(AGENT, stored).json()["approvals"] == stored["approvals"]
    assert AuditEvent.objects.count() == events
    assert client.patch(AGENT, {"approvals": {}}).json()["approvals"] == {}
    assert guarded.call(alice, text="x") == "x"


def test_a_new_rule_ends_what_the_old_one_allowed(guarded: Guarded, alice: Person, bob: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    api(alice).patch(AGENT, {"approvals": {"fake:echo": "admin"}})
    waiting.refresh_from_db()
    assert waiting.state == "expired"
    assert guarded.ask(bob, text="hello").approver == "admin"
    assert guarded.fake.calls() == []


def test_a_new_agent_has_its_rules_from_the_start(guarded: Guarded, alice: Person) -> None:
    body = {"name": "New", "mcp_server_config_ids": ["fake"], "approvals": {"fake:add": "admin"}}
    made = api(alice).post("/api/v1/config/agent", body)
    assert (made.status_code, made.json()["approvals"]) == (201, {guarded.name_of("add"): "admin"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"fake:nonsense": "admin"},
        {"echo": "admin"},
        {"fake:echo": "everybody"},
        {"fake:echo": ""},
        {"fake:echo": None},
        {"other:search": "admin"},
        ["fake:echo"],
    ],
)
def test_wrong_rules_are_refused_and_nothing_of_the_body_is_stored(
    guarded: Guarded, alice: Person, wrong: object
) -> None:
    other = McpServer.objects.create(organization=alice.organization, name="Other", slug="other")
    other.tools.create(name="search", definition={"name": "search", "inputSchema": {"type": "object"}})
    client = api(alice)
    before = client.get(AGENT).json()
    body = {"name": "Renamed", "disabled_tools": {"fake": ["fail"]}, "approvals": wrong}
    refused = client.patch(AGENT, body)
    assert refused.status_code == 400
    assert {field.split(".")[0] for field in refused.json()["fields"]} == {"approvals"}
    assert client.get(AGENT).json() == before
    both = {"fake:echo": "admin", guarded.name_of("echo"): "caller"}
    assert client.patch(AGENT, {"approvals": both}).status_code == 400
    assert client.get(AGENT).json() == before


def test_rules_of_a_server_that_was_taken_away_wait_for_its_return(guarded: Guarded, alice: Person) -> None:
    client = api(alice)
    without = client.patch(AGENT, {"mcp_server_config_ids": [], "approvals": {}}).json()
    assert without["approvals"] == {}
    assert client.put(AGENT, without).status_code == 200
    back = client.patch(AGENT, {"mcp_server_config_ids": ["fake"]}).json()
    assert back["approvals"] == {guarded.name_of("echo"): "caller", guarded.name_of("add"): "admin"}


def test_a_rule_outlives_its_tool_and_can_be_sent_back(guarded: Guarded, alice: Person) -> None:
    guarded.server.tools.filter(name="echo").delete()
    client = api(alice)
    shown = client.get(AGENT).json()["approvals"]
    assert shown[guarded.name_of("echo")] == "caller"
    assert client.patch(AGENT, {"approvals": shown}).json()["approvals"] == shown


def test_rules_are_for_admins(guarded: Guarded, bob: Person) -> None:
    assert api(bob).get(AGENT).json()["approvals"][guarded.name_of("add")] == "admin"
    assert api(bob).patch(AGENT, {"approvals": {}}).status_code == 403
    assert len(approvals.approvers(guarded.agent)) == 2
