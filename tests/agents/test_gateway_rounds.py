"""A server that asks in the middle of a call: passed on to who can answer, with a state nobody can forge or swap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mcp_types import URL_ELICITATION_REQUIRED

from agents.gateway import asking
from agents.models import Agent, Approval, ToolCall
from agents.services import approvals
from agents.services.agents import save_agent, switch_tools
from integrations.models import McpServer
from tests.agents.gateway_wire import FORMS, LINKS, add_agent, add_server, ask, ask_legacy, offering_app, strictly_async
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, asking_legacy_app, serve

__all__ = ["strictly_async"]
pytestmark = pytest.mark.django_db(transaction=True)

STATE = 'the server\'s own "state" ü {"a":1}'
BOTH: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}}
YES: dict[str, Any] = {"name": {"action": "accept", "content": {"name": "Ada"}}}
TOOLS = [
    {"name": name, "inputSchema": {"type": "object"}}
    for name in ("form", "link", "sample", "bad_link", "odd_form", "plain")
]


def question(mode: str = "form", **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    params = {
        "message": "What is your name?",
        **({"requestedSchema": schema} if mode == "form" else {"mode": mode}),
        **more,
    }
    return {"method": "elicitation/create", "params": params}


def answer(params: dict[str, Any]) -> dict[str, Any]:
    """Asks until it has its own state back; then it says what it was told."""
    asks = {
        "form": question(),
        "link": question("url", url="https://provider.example/sign?x=1"),
        "sample": {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}},
        "odd_form": {**question(), "params": {"message": "?", "requestedSchema": 5}},
        "bad_link": question("url", url="javascript://provider.example/%0aalert(1)"),
    }
    if params["name"] == "plain" or params.get("requestState") == STATE:
        said = params.get("inputResponses")
        return {"content": [{"type": "text", "text": repr(said)}], "resultType": "complete"}
    return {"resultType": "input_required", "inputRequests": {"name": asks[params["name"]]}, "requestState": STATE}


@pytest.fixture
def fake() -> FakeServer:
    return offering_app(tools_list={"tools": TOOLS}, tools_call=answer)


@pytest.fixture
def server(alice: Person, fake: FakeServer) -> Iterator[McpServer]:
    with serve(fake) as base:
        yield add_server(alice, "Fake", base)


@pytest.fixture
def agent(alice: Person, server: McpServer) -> Agent:
    return add_agent(alice, server)


def call(agent: Agent, key: str, name: str = "form", can: dict[str, Any] = FORMS, **more: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": {"n": 1}, **more}
    return ask(f"{agent.gateway_url}/fake", key, "tools/call", params, can)


def sent(fake: FakeServer) -> list[dict[str, Any]]:
    return [seen.body["params"] for seen in fake.requests if seen.rpc == "tools/call"]


def capabilities(params: dict[str, Any]) -> Any:
    return params["_meta"]["io.modelcontextprotocol/clientCapabilities"]


def test_a_question_is_passed_on_and_the_answer_reaches_the_server_with_its_own_state(
    aster: str, agent: Agent, bob: Person, fake: FakeServer
) -> None:
    key = bob.key()
    asked = call(agent, key)["result"]
    assert asked["resultType"] == "input_required" and "state" not in asked["requestState"]
    shown = asked["inputRequests"]["name"]["params"]
    assert shown["message"] == "Fake asks: What is your name?" and "requestedSchema" in shown
    more = {**YES, "other": {"action": "accept"}}
    done = call(agent, key, inputResponses=more, requestState=asked["requestState"])["result"]
    assert "Ada" in done["content"][0]["text"]
    first, second = sent(fake)
    assert capabilities(first) == {"elicitation": {"form": {}}} and "requestState" not in first
    assert second["requestState"] == STATE and second["inputResponses"] == YES  # not what nobody asked for
    assert list(ToolCall.objects.order_by("pk").values_list("outcome", "error_code")) == [
        ("ok", "input_required"), ("ok", ""),
    ]  # fmt: skip


def test_a_state_is_good_for_one_person_one_agent_one_tool_and_its_arguments(
    aster: str, agent: Agent, server: McpServer, alice: Person, bob: Person, fake: FakeServer
) -> None:
    key = bob.key()
    state = call(agent, key)["result"]["requestState"]
    other = save_agent(Agent(name="Other"), actor=alice.actor, server_ids=[server.pk])
    fake.requests.clear()
    given: dict[str, Any] = {"inputResponses": YES, "requestState": state}
    middle = len(state) // 2
    flipped = state[:middle] + ("A" if state[middle] != "A" else "B") + state[middle + 1 :]
    refused = [
        call(agent, alice.key(), **given),
        call(other, key, **given),
        call(agent, key, "link", BOTH, **given),
        call(agent, key, arguments={"n": 2}, **given),
        *(
            call(agent, key, **{**given, "requestState": forged})
            for forged in ("x", "r1.", flipped, f"{state}-TAMPERED")
        ),
    ]
    assert {each["error"]["code"] for each in refused} == {-32602} and sent(fake) == []
    rows = ToolCall.objects.filter(outcome="refused", error_code="bad_request_state")
    assert rows.count() == len(refused) and rows.filter(user=alice.user).count() == 1
    assert "result" in call(agent, key, **given)


def test_a_state_that_is_older_than_ten_minutes_is_refused(
    aster: str, agent: Agent, bob: Person, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SECONDS", -1)
    state = call(agent, bob.key())["result"]["requestState"]
    assert call(agent, bob.key(), inputResponses=YES, requestState=state)["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("name", "can"),
    [
        ("form", {}),
        ("form", LINKS),
        ("link", FORMS),
        ("sample", {"sampling": {}, "roots": {}, **BOTH}),
        ("bad_link", BOTH),
    ],
)
def test_what_the_client_cannot_be_asked_becomes_words(
    aster: str, agent: Agent, bob: Person, fake: FakeServer, name: str, can: dict[str, Any]
) -> None:
    said = call(agent, bob.key(), name, can)["result"]
    assert said["isError"] and "asks for input" in said["content"][0]["text"]
    assert "sampling" not in capabilities(sent(fake)[0]) and "roots" not in capabilities(sent(fake)[0])


def test_a_form_that_is_none_is_an_error_and_nothing_of_it_is_shown(aster: str, agent: Agent, bob: Person) -> None:
    error = call(agent, bob.key(), "odd_form")["error"]
    assert "cannot be passed on" in error["message"] and "requestedSchema" not in error["message"]


def test_a_link_is_shown_with_the_servers_name_to_who_opens_links(
    aster: str, agent: Agent, bob: Person, fake: FakeServer
) -> None:
    asked = call(agent, bob.key(), "link", BOTH)["result"]["inputRequests"]["name"]["params"]
    assert asked["url"] == "https://provider.example/sign?x=1" and asked["message"].startswith("Fake asks:")


def test_clients_of_2025_get_error_42_for_links_if_they_open_them_and_words_otherwise(
    aster: str, agent: Agent, bob: Person
) -> None:
    url, key = f"{agent.gateway_url}/fake", bob.key()
    params = {"name": "link", "arguments": {}}
    opens = ask_legacy(url, key, "tools/call", params, mcp_session_id="url.0")["error"]
    assert opens["code"] == URL_ELICITATION_REQUIRED
    link = opens["data"]["elicitations"][0]
    assert link["url"] == "https://provider.example/sign?x=1" and link["elicitationId"]
    for version, session in (("2025-11-25", "plain.0"), ("2025-06-18", "url.0"), ("2024-11-05", "plain.0")):
        said = ask_legacy(url, key, "tools/call", params, version, mcp_session_id=session)["result"]
        assert said["isError"] and "asks for input" in said["content"][0]["text"]
        assert "resultType" not in said and "requestState" not in said


def test_every_round_passes_every_check_again(
    aster: str, agent: Agent, server: McpServer, alice: Person, bob: Person, fake: FakeServer
) -> None:
    state = call(agent, bob.key())["result"]["requestState"]
    switch_tools(agent, server, off=["form"], actor=alice.actor)
    fake.requests.clear()
    refused = call(agent, bob.key(), inputResponses=YES, requestState=state)
    assert "switched off" in refused["error"]["message"] and sent(fake) == []


def test_one_approval_lets_all_rounds_of_one_call_through_and_no_second_call(
    aster: str, agent: Agent, server: McpServer, alice: Person, bob: Person, fake: FakeServer
) -> None:
    approvals.set_approver(agent, server, "form", "admin", actor=alice.actor)
    key = bob.key()
    assert "needs an admin's approval" in str(call(agent, key)) and sent(fake) == []
    approvals.approve(Approval.objects.get(), actor=alice.actor)
    state = call(agent, key)["result"]["requestState"]
    given: dict[str, Any] = {"inputResponses": YES, "requestState": state}
    assert "Ada" in str(call(agent, key, **given)["result"])
    # The same round again is another call, and nobody approved that.
    assert "needs an admin's approval" in str(call(agent, key, **given))
    assert len(sent(fake)) == 2


def test_answers_to_asters_own_questions_reach_no_server(
    aster: str, agent: Agent, bob: Person, fake: FakeServer
) -> None:
    own = {"connect": {"action": "accept"}, "approve": {"action": "accept"}, "mine": {"action": "decline"}}
    call(agent, bob.key(), inputResponses=own)
    assert sent(fake)[0]["inputResponses"] == {"mine": {"action": "decline"}}


def test_nothing_of_the_callers_goes_upstream_but_the_trace(
    aster: str, agent: Agent, bob: Person, fake: FakeServer
) -> None:
    meta = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "com.example/mine": "secret"}
    key = bob.key()
    call(agent, key, "plain", _meta=meta)
    request = next(seen for seen in fake.requests if seen.rpc == "tools/call")
    assert request.body["params"]["_meta"]["traceparent"] == meta["traceparent"]
    assert key not in str(request) and "secret" not in str(request) and "authorization" not in request.headers


# --- Servers of the older eras --------------------------------------------------------------------------------------


def test_a_link_of_a_legacy_server_is_passed_on_in_the_clients_own_era(aster: str, alice: Person) -> None:
    with serve(asking_legacy_app()) as base:
        agent = add_agent(alice, add_server(alice, "Old", base))
        url, key, params = f"{agent.gateway_url}/old", alice.key(), {"name": "link", "arguments": {}}
        asked = ask(url, key, "tools/call", params, LINKS)["result"]
        assert asked["inputRequests"]["link_1"]["params"]["url"] == "https://provider.example/open"
        again = {**params, "inputResponses": {"link_1": {"action": "accept"}}, "requestState": asked["requestState"]}
        assert ask(url, key, "tools/call", again, LINKS)["result"]["resultType"] == "input_required"
        error = ask_legacy(url, key, "tools/call", params, mcp_session_id="url.0")["error"]
        assert error["data"]["elicitations"][0]["url"] == "https://provider.example/open"
        assert ask(url, key, "tools/call", params)["result"]["isError"]


def test_a_legacy_server_that_asks_by_a_request_of_its_own_is_declined_and_the_call_goes_on(
    aster: str, alice: Person
) -> None:
    with serve(asking_legacy_app()) as base:
        agent = add_agent(alice, add_server(alice, "Old", base))
        said = ask(f"{agent.gateway_url}/old", alice.key(), "tools/call", {"name": "push", "arguments": {}}, FORMS)
    assert said["result"]["content"][0]["text"].startswith("not asked")
