"""The pages of approvals: what waits, the exact arguments, deciding, and the rule beside a tool's switch."""

from __future__ import annotations

import html
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Approval
from agents.services import approvals
from agents.services.agents import tools_switched_off
from aster.accounts.models import AuditEvent
from tests.agents.approval_cast import Guarded, guarded
from tests.conftest import Person
from tests.integrations.hub import html_of, text_of

__all__ = ["guarded"]
pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "/hub/approvals/"


def click(person: Person, waiting: Approval, verb: str, **fields: Any) -> Any:
    return person.browser().post(f"{PAGE}{waiting.pk}/{verb}/", fields, follow=True)


def test_what_waits_is_shown_first_and_whole(guarded: Guarded, bob: Person) -> None:
    long = "x" * 3000 + " end"
    guarded.ask(bob, text=long, note="<b>é</b>\u202e")
    page = html_of(bob.browser().get(PAGE))
    assert long in page and "<b>é</b>\\u202e" in page
    words = text_of(bob.browser().get(PAGE))
    assert "echo at Fake, for you" in words and "Helper" in words and "Expires in 29 minutes" in words
    assert "Approve once" in words and "Deny" in words


def test_arguments_are_text_on_the_page(guarded: Guarded, bob: Person) -> None:
    waiting = guarded.ask(bob, text="<script>alert(1)</script>")
    for path in (PAGE, f"{PAGE}{waiting.pk}/"):
        content: bytes = bob.browser().get(path).content
        assert b"<script>alert(1)" not in content and html.escape("<script>alert(1)").encode() in content


def test_approving_says_what_to_do_next_and_the_call_goes_through(guarded: Guarded, bob: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    page = click(bob, waiting, "approve")
    assert page.redirect_chain[-1][0] == f"{PAGE}{waiting.pk}/"
    assert "Make the same call again" in text_of(page) and "Approve once" not in text_of(page)
    assert guarded.call(bob, text="hello") == "hello"
    assert "Approved and used" in text_of(bob.browser().get(f"{PAGE}{waiting.pk}/"))


def test_denying_from_the_list_leads_back_to_the_list(guarded: Guarded, bob: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    page = click(bob, waiting, "deny", **{"from": "list"})
    assert page.redirect_chain[-1][0] == PAGE
    words = text_of(page)
    assert "Nothing waits" in words and "History" in words and "Denied" in words


def test_who_comes_too_late_is_told(guarded: Guarded, bob: Person, alice: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    click(alice, waiting, "deny")
    assert "Alice has denied this already" in text_of(click(bob, waiting, "approve"))
    Approval.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    assert "It may be asked for again now." in text_of(bob.browser().get(f"{PAGE}{waiting.pk}/"))
    expired = guarded.ask(bob, text="late")
    Approval.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(minutes=1))
    page = text_of(bob.browser().get(f"{PAGE}{expired.pk}/"))
    assert "Expired" in page and "Approve once" not in page


def test_members_see_their_own_and_have_no_buttons_where_admins_decide(
    guarded: Guarded, alice: Person, bob: Person
) -> None:
    of_alice, for_admins = guarded.ask(alice, text="secret plan"), guarded.ask(bob, "add", a=1, b=2)
    page = text_of(bob.browser().get(PAGE))
    assert "secret plan" not in page and "Waits for an admin" in page and "Approve once" not in page
    assert bob.browser().get(f"{PAGE}{of_alice.pk}/").status_code == 404
    assert click(bob, of_alice, "approve").status_code == 404
    assert click(bob, for_admins, "approve").status_code == 403
    assert set(Approval.objects.values_list("status", flat=True)) == {"pending"}
    assert "secret plan" in text_of(alice.browser().get(PAGE))


def test_the_navigation_counts_what_waits_for_oneself(guarded: Guarded, alice: Person, bob: Person) -> None:
    guarded.ask(bob, text="hello")
    guarded.ask(bob, "add", a=1, b=2)
    guarded.ask(bob, "add", a=3, b=4)
    assert "Approvals 1 waiting for you" in text_of(bob.browser().get("/hub/agents/"))
    assert "Approvals 2 waiting for you" in text_of(alice.browser().get("/hub/agents/"))


def test_only_a_post_decides(guarded: Guarded, bob: Person) -> None:
    waiting = guarded.ask(bob, text="hello")
    assert bob.browser().get(f"{PAGE}{waiting.pk}/approve/").status_code == 405
    assert Approval.objects.get().status == "pending"


def test_the_list_takes_the_same_queries_however_long_it_is(
    guarded: Guarded, bob: Person, django_assert_max_num_queries: Any
) -> None:
    for number in range(6):
        decided = guarded.ask(bob, text=f"old {number}")
        approvals.deny(decided, actor=bob.actor)
        guarded.ask(bob, text=f"new {number}")
    browser = bob.browser()
    browser.get(PAGE)
    with django_assert_max_num_queries(14):
        browser.get(PAGE)


# --- The rule beside the switch ---------------------------------------------------------------------------------------


def tool_pk(guarded: Guarded, name: str) -> int:
    return guarded.server.tools.get(name=name).pk


def test_an_admin_chooses_who_approves_on_the_tools_page(guarded: Guarded, alice: Person) -> None:
    tools, key = "/hub/agent/helper/tools/", f"approver-{tool_pk(guarded, 'fail')}"
    page = html_of(alice.browser().get(tools))
    assert f'name="{key}"' in page and "Admin approves" in page
    htmx = alice.browser().post(f"{tools}{guarded.server.pk}/", {key: "admin"}, headers={"HX-Request": "true"})
    assert htmx.status_code == 200
    assert approvals.approvers(guarded.agent)[guarded.server.pk, "fail"] == "admin"
    alice.browser().post(tools, {"server": [guarded.server.pk], key: ""})
    assert (guarded.server.pk, "fail") not in approvals.approvers(guarded.agent)
    assert len(approvals.approvers(guarded.agent)) == 2


def test_a_switch_on_an_old_page_does_not_take_a_rule_back(guarded: Guarded, alice: Person) -> None:
    stale = {f"shown-{guarded.server.pk}": '["fail"]', f"approver-{tool_pk(guarded, 'echo')}": ""}
    where = f"/hub/agent/helper/tools/{guarded.server.pk}/"
    alice.browser().post(where, stale, headers={"HX-Request": "true"})
    assert approvals.approvers(guarded.agent)[guarded.server.pk, "echo"] == "caller"
    seen = {"server": guarded.server.pk, f"approver-was-{tool_pk(guarded, 'echo')}": ""}
    alice.browser().post("/hub/agent/helper/tools/", {**stale, **seen})
    assert approvals.approvers(guarded.agent)[guarded.server.pk, "echo"] == "caller"


def test_the_tools_page_saves_all_or_nothing(guarded: Guarded, alice: Person) -> None:
    where, shown = "/hub/agent/helper/tools/", {f"shown-{guarded.server.pk}": '["fail", "whoami"]'}
    rules = {f"approver-{tool_pk(guarded, 'whoami')}": "caller", f"approver-{tool_pk(guarded, 'fail')}": "everybody"}
    before, events = approvals.approvers(guarded.agent), AuditEvent.objects.count()
    page = alice.browser().post(where, {"server": guarded.server.pk, **shown, **rules}, follow=True)
    assert "Choose who approves from the list." in text_of(page)
    assert (approvals.approvers(guarded.agent), AuditEvent.objects.count()) == (before, events)
    assert tools_switched_off(guarded.agent) == set()
    rules[f"approver-{tool_pk(guarded, 'fail')}"] = "admin"
    alice.browser().post(where, {"server": guarded.server.pk, **shown, **rules})
    rules_now = approvals.approvers(guarded.agent)
    assert (rules_now[guarded.server.pk, "whoami"], rules_now[guarded.server.pk, "fail"]) == ("caller", "admin")
    assert tools_switched_off(guarded.agent) == {(guarded.server.pk, "fail"), (guarded.server.pk, "whoami")}


def test_members_see_the_rule_and_cannot_change_it(guarded: Guarded, bob: Person) -> None:
    page = bob.browser().get("/hub/agent/helper/tools/")
    assert "Caller approves" in text_of(page) and "<select" not in html_of(page)
    where, key = f"/hub/agent/helper/tools/{guarded.server.pk}/", f"approver-{tool_pk(guarded, 'echo')}"
    bob.browser().post(where, {key: ""}, headers={"HX-Request": "true"})
    assert approvals.approvers(guarded.agent)[guarded.server.pk, "echo"] == "caller"


# --- The playground ---------------------------------------------------------------------------------------------------


def play(person: Person, guarded: Guarded, tool: str, raw: str) -> Any:
    url = f"/hub/playground/?agent=helper&tool={guarded.name_of(tool)}"
    return person.browser().post(url, {"raw": raw})


def test_the_playground_leads_to_the_approval_and_runs_again(guarded: Guarded, bob: Person) -> None:
    page = play(bob, guarded, "echo", '{"text": "hello"}')
    waiting = Approval.objects.get()
    assert "Approval required" in text_of(page) and "Approve this call first" in text_of(page)
    assert f"/hub/approvals/{waiting.pk}/" in html_of(page) and "Run again" in text_of(page)
    assert 'name="raw" value="{"text": "hello"}"' in html_of(page)
    click(bob, waiting, "approve")
    assert "Succeeded" in text_of(play(bob, guarded, "echo", '{"text": "hello"}'))
    assert guarded.fake.calls() == ["echo"]


def test_the_playground_says_when_an_admin_has_to_approve_and_who_denied(
    guarded: Guarded, alice: Person, bob: Person
) -> None:
    page = text_of(play(bob, guarded, "add", '{"a": 1, "b": 2}'))
    assert "An admin has to approve this call" in page
    click(alice, Approval.objects.get(), "deny")
    assert "Alice denied this call" in text_of(play(bob, guarded, "add", '{"a": 1, "b": 2}'))
