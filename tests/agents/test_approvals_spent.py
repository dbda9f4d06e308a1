"""When an approval is spent: as the last thing before the call is sent, and given back if it surely was not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import anyio
import pytest
from django.utils import timezone

from agents.models import Approval, ToolCall
from agents.runtime.breaker import FAILURES
from agents.runtime.session import AgentSession
from agents.services import approvals
from agents.services.approvals import ApprovalRequired, Leave
from aster.errors import AsterError, UpstreamError
from integrations.models import McpServer
from tests.agents.approval_cast import Guarded, guarded
from tests.conftest import Person
from tests.fakes.mcp_servers import broken_app, unused_url

__all__ = ["guarded"]
pytestmark = pytest.mark.django_db(transaction=True)


def approved(guarded: Guarded, who: Person, text: str = "hello") -> Approval:
    done = approvals.approve(guarded.ask(who, text=text), actor=who.actor)
    guarded.fake.requests.clear()
    return done


def through_turn(guarded: Guarded, who: Person, *, settle: bool = False) -> str:
    """The call as a model makes it in a turn; with `settle`, once its server is open or known to be away."""

    async def run() -> str | AsterError:
        async with AgentSession.open(guarded.agent, actor=who.actor) as session:
            if settle:
                with anyio.fail_after(10):
                    await session._links[guarded.server.pk].opened.wait()
            try:
                result = await session.call(guarded.name_of("echo"), {"text": "hello"})
            except AsterError as error:
                return error
        return str(result["content"][0]["text"])

    answer = anyio.run(run)
    if isinstance(answer, AsterError):
        raise answer
    return answer


def once(guarded: Guarded, who: Person) -> str:
    return guarded.call(who, text="hello")


WAYS = pytest.mark.parametrize("call", [once, through_turn], ids=["once", "turn"])
Way = Callable[[Guarded, Person], str]


@WAYS
def test_what_could_not_be_dialled_spends_nothing(guarded: Guarded, bob: Person, call: Way) -> None:
    given, url = approved(guarded, bob), guarded.server.url
    McpServer.objects.update(url=unused_url(), retry_attempts=0)
    with pytest.raises(UpstreamError) as failed:
        call(guarded, bob)
    assert failed.value.step == "dial"
    kept = Approval.objects.get()
    assert (kept.status, kept.used_at, kept.expires_at) == ("approved", None, given.expires_at)
    McpServer.objects.update(url=url)
    assert call(guarded, bob) == "hello"
    assert guarded.fake.calls() == ["echo"]
    assert Approval.objects.get().status == "used"


@WAYS
def test_what_may_have_arrived_stays_spent(guarded: Guarded, bob: Person, call: Way) -> None:
    approved(guarded, bob)
    McpServer.objects.update(timeout_seconds=1, retry_attempts=0)
    guarded.fake.serve_instead(broken_app("hang").app)
    with pytest.raises(UpstreamError) as failed:
        call(guarded, bob)
    assert failed.value.code == "timeout"
    assert guarded.fake.calls() == ["echo"]
    assert Approval.objects.get().status == "used"
    with pytest.raises(ApprovalRequired):
        call(guarded, bob)
    assert guarded.fake.calls() == ["echo"]


@WAYS
def test_a_server_that_rests_costs_no_approval_and_nobody_is_asked(guarded: Guarded, bob: Person, call: Way) -> None:
    McpServer.objects.update(url=unused_url(), retry_attempts=0)
    for _ in range(FAILURES):
        with pytest.raises(UpstreamError):
            guarded.call(bob, "whoami")
    with pytest.raises(UpstreamError) as failed:
        call(guarded, bob)
    assert failed.value.code == "server_resting"
    assert not Approval.objects.exists()
    Approval.objects.create(
        organization=bob.organization, agent=guarded.agent, server=guarded.server, tool_name="echo", user=bob.user,
        arguments={"text": "hello"}, digest=approvals.digest_of({"text": "hello"}), approver="caller", via="page",
        status="approved", expires_at=timezone.now() + timedelta(minutes=5),
    )  # fmt: skip
    with pytest.raises(UpstreamError) as failed:
        call(guarded, bob)
    assert (failed.value.code, Approval.objects.get().status) == ("server_resting", "approved")
    assert ToolCall.objects.latest("pk").outcome == "failed"


def test_in_a_turn_whose_server_is_away_nobody_is_asked(guarded: Guarded, bob: Person) -> None:
    # Nothing is remembered of it, so that opening it is what fails.
    McpServer.objects.update(url=unused_url(), retry_attempts=0, era="", discover_result=None)
    with pytest.raises(UpstreamError) as failed:
        through_turn(guarded, bob, settle=True)
    assert failed.value.step == "dial"
    assert not Approval.objects.exists()


def test_an_unapproved_call_asks_without_a_word_to_the_server(guarded: Guarded, bob: Person) -> None:
    McpServer.objects.update(era="", discover_result=None)
    with pytest.raises(ApprovalRequired):
        once(guarded, bob)
    assert guarded.fake.requests == []


def test_an_approval_is_given_back_once_and_by_who_spent_it(guarded: Guarded, bob: Person) -> None:
    approved(guarded, bob)
    grant = guarded.agent.tool_grants.get(tool_name="echo")
    leave = Leave(grant.pk, {"text": "hello"}, bob.actor)
    first = approvals.spend(leave)
    assert first
    with pytest.raises(ApprovalRequired):
        approvals.spend(leave)
    approvals.give_back(first)
    assert Approval.objects.get(pk=first.pk).status == "approved"
    second = approvals.spend(leave)
    assert second == first
    approvals.give_back(first)
    assert Approval.objects.get(pk=first.pk).status == "used"


def test_what_is_given_back_after_its_time_lets_nothing_through(guarded: Guarded, bob: Person) -> None:
    given = approved(guarded, bob)
    leave = Leave(guarded.agent.tool_grants.get(tool_name="echo").pk, {"text": "hello"}, bob.actor)
    spent = approvals.spend(leave)
    assert spent
    guarded.guard("echo", "admin")  # ends what was approved under the old rule
    approvals.give_back(spent)
    given.refresh_from_db()
    assert given.state == "expired"
    with pytest.raises(ApprovalRequired, match="an admin's approval"):
        once(guarded, bob)
    assert guarded.fake.calls() == []


def test_a_rule_that_ended_meanwhile_asks_nobody(guarded: Guarded, bob: Person) -> None:
    approved(guarded, bob)
    leave = Leave(guarded.agent.tool_grants.get(tool_name="echo").pk, {"text": "hello"}, bob.actor)
    guarded.guard("echo", "")
    assert approvals.spend(leave) is None
