"""A call that needs approval, by MCP clients of both eras: asked in their form, and never at the server unasked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from django.utils import timezone
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from agents.models import Approval
from agents.services import approvals
from aster.accounts.models import AuditEvent
from tests.agents.approval_cast import Guarded, guarded
from tests.conftest import Person
from tests.walks.conftest import at_gateway, first_of

__all__ = ["guarded"]
pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]

ERAS = ["auto", "legacy"]
Says = Callable[[Any], str]


def call(guarded: Guarded, key: str, mode: str, tool: str = "echo", **arguments: Any) -> Any:
    """As a client that shows no forms and opens no links."""

    async def do(client: Client) -> Any:
        return await client.call_tool(guarded.name_of(tool), arguments)

    return at_gateway(guarded.agent.gateway_url, key, do, mode)


def call_asking(guarded: Guarded, key: str, mode: str, person: Says, tool: str = "echo", **arguments: Any) -> Any:
    """As a client that shows what it is asked to `person`, who says accept, decline or cancel."""

    async def asks(ctx: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action=await anyio.to_thread.run_sync(person, params))  # type: ignore[arg-type]

    async def run() -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=40) as http,
            Client(
                streamable_http_client(guarded.agent.gateway_url, http_client=http),
                mode=mode,
                elicitation_callback=asks,
            ) as client,
        ):
            return await client.call_tool(guarded.name_of(tool), arguments)

    try:
        return anyio.run(run)
    except BaseExceptionGroup as group:
        raise first_of(group) from None


def text_of(result: Any) -> str:
    return str(result.content[0].text)


@pytest.mark.parametrize("mode", ERAS)
def test_a_call_waits_with_a_link_passes_once_when_approved_and_another_one_does_not(
    aster: str, guarded: Guarded, bob: Person, mode: str
) -> None:
    key = bob.key("aster:call")
    refused = call(guarded, key, mode, text="hello")
    waiting = Approval.objects.get()
    assert refused.is_error and f"{aster}/hub/approvals/{waiting.pk}/?organization=acme" in text_of(refused)
    assert guarded.fake.calls() == []
    bob.browser().post(f"/hub/approvals/{waiting.pk}/approve/")
    assert call(guarded, key, mode, text="hello, all").is_error
    assert guarded.fake.calls() == []
    assert text_of(call(guarded, key, mode, text="hello")) == "hello"
    assert call(guarded, key, mode, text="hello").is_error
    assert guarded.fake.calls() == ["echo"]


@pytest.mark.parametrize("mode", ERAS)
def test_a_denied_call_says_by_whom_and_an_expired_approval_lets_nothing_through(
    aster: str, guarded: Guarded, bob: Person, alice: Person, mode: str
) -> None:
    key = bob.key("aster:call")
    call(guarded, key, mode, "add", a=1, b=2)
    approvals.deny(Approval.objects.get(), actor=alice.actor)
    refused = call(guarded, key, mode, "add", a=1, b=2)
    assert refused.is_error and "Alice denied this call" in text_of(refused)
    call(guarded, key, mode, "add", a=3, b=4)
    approvals.approve(Approval.objects.latest("pk"), actor=alice.actor)
    Approval.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "needs an admin's approval" in text_of(call(guarded, key, mode, "add", a=3, b=4))
    assert guarded.fake.calls() == []


def test_a_modern_client_shows_the_exact_arguments_and_accepting_lets_the_call_through(
    aster: str, guarded: Guarded, bob: Person
) -> None:
    asked: list[Any] = []

    def person(params: Any) -> str:
        asked.append(params)
        assert guarded.fake.calls() == []
        return "accept"

    result = call_asking(guarded, bob.key("aster:call"), "auto", person, text="pay 7\u202e00")
    assert text_of(result) == "pay 7\u202e00"
    (question,) = asked
    assert question.mode == "form"
    assert '{\n  "text": "pay 7\\u202e00"\n}' in question.message
    assert "echo at Fake" in question.message and "Helper" in question.message
    used = Approval.objects.get()
    assert (used.status, used.decided_by, used.via) == ("used", bob.user, "gateway")
    assert AuditEvent.objects.get(action="approved").via == "gateway"
    assert guarded.fake.calls() == ["echo"]


def test_accepting_one_call_does_not_accept_the_next(aster: str, guarded: Guarded, bob: Person) -> None:
    says = iter(["accept", "decline"])
    key = bob.key("aster:call")
    assert not call_asking(guarded, key, "auto", lambda params: next(says), text="hello").is_error
    assert call_asking(guarded, key, "auto", lambda params: next(says), text="hello").is_error
    assert guarded.fake.calls() == ["echo"]


def test_declining_denies_and_closing_the_form_leaves_the_link(aster: str, guarded: Guarded, bob: Person) -> None:
    key = bob.key("aster:call")
    denied = call_asking(guarded, key, "auto", lambda params: "decline", text="no")
    assert denied.is_error and "Bob denied this call" in text_of(denied)
    left = call_asking(guarded, key, "auto", lambda params: "cancel", text="later")
    assert left.is_error and "/hub/approvals/" in text_of(left)
    assert set(Approval.objects.values_list("status", flat=True)) == {"denied", "pending"}
    assert guarded.fake.calls() == []


@pytest.mark.parametrize("mode", ERAS)
def test_for_an_admins_word_no_client_is_asked_for_its_own(
    aster: str, guarded: Guarded, bob: Person, mode: str
) -> None:
    def nobody(params: Any) -> str:
        raise AssertionError("the caller was asked")

    refused = call_asking(guarded, bob.key("aster:call"), mode, nobody, "add", a=1, b=2)
    assert refused.is_error and "needs an admin's approval" in text_of(refused)


def test_arguments_too_long_for_a_form_are_left_to_the_page(aster: str, guarded: Guarded, bob: Person) -> None:
    asked: list[Any] = []

    def person(params: Any) -> str:
        asked.append(params)
        return "accept"

    # Accepting a link is not approving what is behind it.
    result = call_asking(guarded, bob.key("aster:call"), "auto", person, text="x" * 5000)
    assert result.is_error and Approval.objects.get().status == "pending"
    assert [params.mode for params in asked] == ["url"]
    assert guarded.fake.calls() == []


def test_a_client_of_2025_11_25_that_opens_urls_gets_the_error_made_for_that(
    aster: str, guarded: Guarded, bob: Person
) -> None:
    key = bob.key("aster:call")
    with pytest.raises(MCPError) as caught:
        call_asking(guarded, key, "legacy", lambda params: "accept", text="hello")
    assert caught.value.code == types.URL_ELICITATION_REQUIRED
    (asked,) = caught.value.data["elicitations"]
    assert f"/hub/approvals/{Approval.objects.get().pk}/" in asked["url"] and asked["elicitationId"]
    approvals.approve(Approval.objects.get(), actor=bob.actor)
    assert text_of(call_asking(guarded, key, "legacy", lambda params: "accept", text="hello")) == "hello"


ACCEPT = types.ElicitResult(action="accept", content={})


def answer_unasked(guarded: Guarded, key: str, state: str | None, **arguments: Any) -> Any:
    """Call with an answer to a question, and the state that came with it, if any."""

    async def do(client: Client) -> Any:
        return await client.session.call_tool(
            guarded.name_of("echo"), arguments,
            input_responses={"approve": ACCEPT}, request_state=state, allow_input_required=True,
        )  # fmt: skip

    return at_gateway(guarded.agent.gateway_url, key, do)


def state_asked(guarded: Guarded, key: str, **arguments: Any) -> str:
    """The state of the question a client gets that would show a form."""

    async def shows(ctx: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="cancel")

    async def run() -> Any:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=40) as http,
            Client(
                streamable_http_client(guarded.agent.gateway_url, http_client=http), elicitation_callback=shows
            ) as client,
        ):
            return await client.session.call_tool(guarded.name_of("echo"), arguments, allow_input_required=True)

    return str(anyio.run(run).request_state)


def test_an_answer_to_a_question_nobody_asked_approves_nothing(aster: str, guarded: Guarded, bob: Person) -> None:
    key = bob.key("aster:call")
    for state in (None, "nonsense"):
        assert answer_unasked(guarded, key, state, text="hello").is_error
    assert Approval.objects.get().status == "pending"
    assert guarded.fake.calls() == []


def test_the_state_of_a_question_is_good_for_its_caller_and_its_arguments_only(
    aster: str, guarded: Guarded, bob: Person, alice: Person
) -> None:
    key = bob.key("aster:call")
    state = state_asked(guarded, key, text="hello")
    assert answer_unasked(guarded, alice.key(), state, text="hello").is_error
    assert not Approval.objects.exclude(status="pending").exists()
    # Bob said yes to "hello"; what the client sends is something else.
    assert answer_unasked(guarded, key, state, text="goodbye").is_error
    assert guarded.fake.calls() == []
    assert Approval.objects.get(user=bob.user, digest=approvals.digest_of({"text": "hello"})).status == "approved"
