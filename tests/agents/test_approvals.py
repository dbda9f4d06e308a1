"""A call that needs a person's word: bound to caller, tool and exact arguments, once, and not for long."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from agents.models import Approval, ToolCall, ToolGrant
from agents.services import approvals
from agents.services.agents import switch_tools
from agents.services.approvals import ApprovalRequired
from agents.tasks import delete_old
from aster.accounts.access import Actor
from aster.accounts.models import AuditEvent, Membership
from aster.errors import Conflict, ConnectionRequired, InvalidInput, NotAllowed, NotFound
from integrations.models import AuthConfig, McpServer
from tests.agents.approval_cast import Guarded, guarded
from tests.conftest import Person

__all__ = ["guarded"]
pytestmark = pytest.mark.django_db(transaction=True)


def run_out(approval: Approval) -> None:
    Approval.objects.filter(pk=approval.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


def test_a_call_waits_and_does_not_reach_the_server(guarded: Guarded, bob: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    assert (waiting.status, waiting.user, waiting.arguments) == ("pending", bob.user, {"text": "hello"})
    assert waiting.expires_at - waiting.created_at == timedelta(minutes=30)
    assert guarded.fake.calls() == []
    recorded = ToolCall.objects.get()
    assert (recorded.outcome, recorded.error_code, recorded.tool_name) == ("refused", "approval_required", "echo")


def test_the_refusal_leads_to_the_page_and_asking_again_asks_nothing_new(guarded: Guarded, bob: Person) -> None:
    with pytest.raises(ApprovalRequired, match=r"needs your approval") as refused:
        guarded.call(bob, text="hello")
    waiting = Approval.objects.get()
    assert f"/hub/approvals/{waiting.pk}/?organization=acme" in refused.value.message
    assert guarded.ask(bob, text="hello") == waiting
    with pytest.raises(ApprovalRequired, match=r"needs an admin's approval"):
        guarded.call(bob, "add", a=1, b=2)


def test_an_approved_call_goes_through_once(guarded: Guarded, bob: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    approvals.approve(waiting, actor=bob.actor)
    assert guarded.call(bob, text="hello") == "hello"
    again = guarded.ask(bob, text="hello")
    assert again != waiting
    waiting.refresh_from_db()
    assert waiting.status == "used" and waiting.used_at
    assert guarded.fake.calls() == ["echo"]


def test_other_arguments_another_caller_and_another_tool_are_not_approved_with_it(
    guarded: Guarded, bob: Person, alice: Person
) -> None:
    guarded.guard("whoami", "caller")
    approvals.approve(guarded.ask(bob, text="hello"), actor=bob.actor)
    guarded.ask(bob, text="hello!")
    guarded.ask(bob, text="hello", more=None)
    guarded.ask(alice, text="hello")
    guarded.ask(bob, "whoami", text="hello")
    assert guarded.fake.calls() == []
    assert guarded.call(bob, text="hello") == "hello"


def test_the_order_of_arguments_does_not_matter_and_their_kind_does(
    guarded: Guarded, bob: Person, alice: Person
) -> None:
    approvals.approve(guarded.ask(bob, "add", a=1, b=2), actor=alice.actor)
    guarded.ask(bob, "add", a="1", b=2)
    guarded.ask(bob, "add", a=True, b=2)
    assert guarded.call(bob, "add", b=2, a=1) == "3"


def test_a_denied_call_is_refused_until_it_expires(guarded: Guarded, bob: Person) -> None:
    denied = approvals.deny(guarded.ask(bob, text="hello"), actor=bob.actor)
    with pytest.raises(NotAllowed, match=r"Bob denied this call") as refused:
        guarded.call(bob, text="hello")
    assert refused.value.code == "approval_denied"
    assert ToolCall.objects.latest("pk").outcome == "refused"
    guarded.ask(bob, text="something else")
    run_out(denied)
    assert guarded.ask(bob, text="hello") != denied
    assert guarded.fake.calls() == []


def test_what_expired_cannot_be_approved_and_what_was_approved_expires_too(guarded: Guarded, bob: Person) -> None:
    late = guarded.ask(bob, text="late")
    run_out(late)
    with pytest.raises(Conflict, match=r"Make the call again"):
        approvals.approve(late, actor=bob.actor)
    approved = approvals.approve(guarded.ask(bob, text="hello"), actor=bob.actor)
    run_out(approved)
    guarded.ask(bob, text="hello")
    assert guarded.fake.calls() == []


def test_who_decides_second_hears_who_was_first(guarded: Guarded, bob: Person, alice: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    approvals.deny(waiting, actor=alice.actor)
    with pytest.raises(Conflict, match=r"Alice has denied this already"):
        approvals.approve(waiting, actor=bob.actor)


def test_a_member_decides_only_their_own_and_only_where_callers_do(
    guarded: Guarded, bob: Person, alice: Person
) -> None:
    of_alice, for_admins = guarded.ask(alice, text="x"), guarded.ask(bob, "add", a=1, b=2)
    with pytest.raises(NotFound):
        approvals.find_approval(of_alice.pk, actor=bob.actor)
    for waiting in (of_alice, for_admins):
        with pytest.raises(NotAllowed, match=r"Only an admin"):
            approvals.approve(waiting, actor=bob.actor)
        assert not approvals.may_decide(waiting, bob.actor)
    approvals.approve(for_admins, actor=alice.actor)
    assert guarded.call(bob, "add", a=1, b=2) == "3"


def test_an_admins_own_call_waits_like_any_other(guarded: Guarded, alice: Person) -> None:
    approvals.approve(guarded.ask(alice, "add", a=1, b=2), actor=alice.actor)
    assert guarded.call(alice, "add", a=1, b=2) == "3"


def test_aster_itself_and_other_organizations_decide_nothing(guarded: Guarded, bob: Person, charlie: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    with pytest.raises(NotAllowed, match=r"Only a person"):
        approvals.approve(waiting, actor=Actor.system(bob.organization))
    with pytest.raises(NotFound):
        approvals.approve(waiting, actor=charlie.actor)
    assert Approval.objects.get().status == "pending"


def test_a_scheduled_run_of_the_caller_cannot_approve_itself(guarded: Guarded, bob: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    with pytest.raises(NotAllowed, match=r"in your browser"):
        approvals.approve(waiting, actor=replace(bob.actor, via="task"))


def test_what_others_decide_for_oneself_and_what_waits_for_whom(guarded: Guarded, bob: Person, alice: Person) -> None:
    own, for_admins = guarded.ask(bob, text="hello"), guarded.ask(bob, "add", a=1, b=2)
    assert list(approvals.waiting_for(bob.actor)) == [own]
    assert list(approvals.waiting_for(alice.actor)) == [for_admins]
    assert set(approvals.visible_approvals(alice.actor)) == {own, for_admins}
    approvals.approve(own, actor=alice.actor)
    assert not approvals.waiting_for(bob.actor).exists()


def test_a_person_who_left_does_not_decide(guarded: Guarded, alice: Person, bob: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    browser = bob.browser()
    Membership.objects.filter(user=bob.user).delete()
    browser.post(f"/hub/approvals/{waiting.pk}/approve/")
    assert Approval.objects.get().status == "pending"


def test_an_approval_is_not_spent_on_a_call_that_another_rule_refuses(guarded: Guarded, bob: Person) -> None:
    approvals.approve(guarded.ask(bob, text="hello"), actor=bob.actor)
    switch_tools(guarded.agent, guarded.server, off=["echo"], actor=guarded.admin.actor)
    name = guarded.name_of("echo")
    reply = bob.api().post(
        f"/api/v1/config/agent/{guarded.agent.pk}/tools/call", {"name": name, "arguments": {"text": "hello"}}
    )
    assert reply.json()["code"] == "tool_disabled"
    assert Approval.objects.get().status == "approved"
    assert ToolGrant.objects.get(tool_name="echo").approver == "caller"


def test_it_is_not_spent_on_a_call_without_a_connection(guarded: Guarded, bob: Person) -> None:
    approvals.approve(guarded.ask(bob, text="hello"), actor=bob.actor)
    auth = AuthConfig.objects.create(organization=bob.organization, name="Sign-in", auth_type="AUTHORIZATION_CODE")
    McpServer.objects.update(auth_config=auth)
    with pytest.raises(ConnectionRequired):
        guarded.call(bob, text="hello")
    assert Approval.objects.get().status == "approved"


def test_changing_who_approves_ends_what_the_old_rule_allowed(guarded: Guarded, bob: Person, alice: Person) -> None:
    approvals.approve(guarded.ask(bob, text="hello"), actor=bob.actor)
    guarded.guard("echo", "admin")
    waiting = guarded.ask(bob, text="hello")
    assert waiting.approver == "admin"
    guarded.guard("echo", "")
    assert guarded.call(bob, text="hello") == "hello"
    with pytest.raises(Conflict):
        approvals.approve(waiting, actor=alice.actor)
    assert not ToolGrant.objects.filter(tool_name="echo").exists()


def test_setting_an_approver_is_for_admins_is_checked_and_is_audited(
    guarded: Guarded, bob: Person, alice: Person
) -> None:
    with pytest.raises(NotAllowed):
        approvals.set_approver(guarded.agent, guarded.server, "echo", "", actor=bob.actor)
    with pytest.raises(InvalidInput, match=r"no tool nonsense"):
        guarded.guard("nonsense", "admin")
    with pytest.raises(InvalidInput):
        guarded.guard("echo", "everybody")
    event = AuditEvent.objects.filter(action="set_approver").latest("pk")
    assert event.changes == {"approver of add at Fake": ["nobody", "admin"]}
    before = AuditEvent.objects.count()
    guarded.guard("add", "admin")
    assert AuditEvent.objects.count() == before


def test_a_rule_of_approval_outlives_the_switch_of_its_tool(guarded: Guarded) -> None:
    switch_tools(guarded.agent, guarded.server, off=["echo"], actor=guarded.admin.actor)
    switch_tools(guarded.agent, guarded.server, off=[], actor=guarded.admin.actor)
    assert approvals.approvers(guarded.agent) == {
        (guarded.server.pk, "echo"): "caller",
        (guarded.server.pk, "add"): "admin",
    }


def test_arguments_are_in_no_audit_event_no_log_and_no_plain_column(
    guarded: Guarded, bob: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    approved = approvals.approve(guarded.ask(bob, text="launch-code-7"), actor=bob.actor)
    guarded.call(bob, text="launch-code-7")
    event = AuditEvent.objects.get(action="approved")
    assert event.changes["arguments (SHA-256)"] == [None, approved.digest]
    assert event.changes["caller"] == [None, "bob@acme.test"] and event.changes["tool"] == [None, "echo at Fake"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT arguments FROM agents_approval")
        assert "launch-code-7" not in str(cursor.fetchall())
    assert "launch-code-7" not in str(list(AuditEvent.objects.values_list("changes", "object_label")))
    assert not [line for line in caplog.messages if "launch-code-7" in line and "django.db" not in line]


def test_nobody_can_bury_what_waits_under_more(guarded: Guarded, bob: Person, alice: Person) -> None:
    for number in range(approvals.MAX_WAITING):
        Approval.objects.create(
            organization=bob.organization, agent=guarded.agent, server=guarded.server, tool_name="echo", user=bob.user,
            digest=str(number), approver="caller", via="gateway", expires_at=timezone.now() + timedelta(minutes=5),
        )  # fmt: skip
    with pytest.raises(ApprovalRequired, match=r"Decide those first: http.*/hub/approvals/"):
        guarded.call(bob, text="one more")
    assert Approval.objects.count() == approvals.MAX_WAITING
    guarded.ask(alice, text="one more")


def test_what_cannot_be_seen_is_shown_as_an_escape() -> None:
    shown = approvals.readable({"to": "ada\u202egpj.exe", "note": "two\nlines\u200b é 日本"})
    assert "\\u202e" in shown and "\\u200b" in shown and "\\n" in shown
    assert "é 日本" in shown and "\u202e" not in shown


def test_old_approvals_are_deleted_with_their_arguments(guarded: Guarded, bob: Person) -> None:
    old, new = guarded.ask(bob, text="old"), guarded.ask(bob, text="new")
    Approval.objects.filter(pk=old.pk).update(expires_at=timezone.now() - approvals.KEPT - timedelta(minutes=1))
    delete_old()
    assert list(Approval.objects.all()) == [new]
