"""What a page of another app can do with a session ticket, from which pages, and what it is told otherwise."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta

import httpx2
import pytest
from django.utils import timezone

from agents.models import Agent, Conversation, SessionTicket, ToolCall
from agents.services.agents import save_agent
from agents.services.conversations import start_conversation
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, McpServer
from integrations.services.servers import set_enabled
from tests.agents.chatting import Stage, stage
from tests.agents.embedded import ORIGIN, SESSION, agent_with, client_with, page, ticket_for
from tests.agents.test_api_chat import events_in
from tests.aster.api_contract import ContractClient
from tests.conftest import Person
from tests.fakes.llm import Answer, FakeModel
from tests.integrations.hub import MakeServer, make_server, notes_at_nowhere, oauth_config

__all__ = ["make_server", "notes_at_nowhere"]
pytestmark = pytest.mark.django_db(transaction=True)
SERVERS = f"{SESSION}/agents/helper/servers"


@pytest.fixture
def helper(alice: Person, notes_at_nowhere: McpServer, make_server: MakeServer) -> Agent:
    shared = make_server("Keyed", auth=AuthConfig(name="Keyed", auth_type=AuthType.BEARER, token="t"))
    return agent_with(alice, notes_at_nowhere, shared, make_server("Open"))


@pytest.fixture
def chat(alice: Person) -> Iterator[Stage]:
    with stage(alice, FakeModel(Answer("Hello Alice."))) as opened:
        yield opened


def test_the_page_learns_for_whom_and_what_the_ticket_is(bob: Person, helper: Agent) -> None:
    session = page(ticket_for(bob, helper)).get(SESSION)
    assert session.status_code == 200 and session["Cache-Control"] == "no-store"
    told = session.json()
    assert (told["user"], told["organization"]) == ({"name": "Bob", "email": "bob@acme.test"}, "Acme")
    assert told["agents"] == [{"id": helper.pk, "slug": "helper", "name": "Helper"}]
    assert told["scopes"] == ["aster:call", "aster:connect"] and told["expires_at"]


def test_each_server_says_what_its_person_can_do(bob: Person, helper: Agent, notes_at_nowhere: McpServer) -> None:
    client = page(ticket_for(bob, helper))

    def seen() -> list[tuple[str, str, bool, bool]]:
        rows = client.get(SERVERS).json()["results"]
        return [(row["name"], row["status"], row["can_connect"], row["can_disconnect"]) for row in rows]

    nothing = [("Keyed", "nothing_to_connect", False, False), ("Open", "nothing_to_connect", False, False)]
    assert seen() == [("Acme Notes", "not_connected", True, False), *nothing]
    mine = Connection.objects.create(auth_config=notes_at_nowhere.auth_config, user=bob.user, access_token="t")
    assert seen()[0] == ("Acme Notes", "connected", False, True)
    Connection.objects.filter(pk=mine.pk).update(status=ConnectionStatus.ERROR, last_error="The provider says no.")
    assert seen()[0] == ("Acme Notes", "needs_reconnect", True, True)
    assert client.get(SERVERS).json()["results"][0]["reason"] == "The provider says no."


def test_more_rights_than_were_given_are_asked_for(bob: Person, helper: Agent, notes_at_nowhere: McpServer) -> None:
    auth = notes_at_nowhere.auth_config
    Connection.objects.create(auth_config=auth, user=bob.user, access_token="t", wanted_scopes=["notes:write"])
    row = page(ticket_for(bob, helper)).get(SERVERS).json()["results"][0]
    assert (row["status"], row["reason"]) == ("needs_reconnect", "A tool needs more rights: notes:write.")


def test_another_persons_connection_does_not_count(
    alice: Person, bob: Person, helper: Agent, notes_at_nowhere: McpServer
) -> None:
    Connection.objects.create(auth_config=notes_at_nowhere.auth_config, user=alice.user, access_token="t")
    client = page(ticket_for(bob, helper))
    assert client.get(SERVERS).json()["results"][0]["status"] == "not_connected"
    ended = client.post(f"{SERVERS}/acme-notes/disconnect")
    assert ended.json() == {"status": "not_connected", "revocation": None}
    assert Connection.objects.filter(user=alice.user).exists()


def test_a_server_that_is_switched_off_or_not_the_agents_cannot_be_connected(
    alice: Person, helper: Agent, notes_at_nowhere: McpServer, make_server: MakeServer
) -> None:
    make_server("Elsewhere", auth=oauth_config("Elsewhere"))
    client = page(ticket_for(alice, helper))
    assert client.post(f"{SERVERS}/elsewhere/connect").status_code == 404
    refused = client.post(f"{SERVERS}/open/connect")
    assert (refused.status_code, refused.json()["code"]) == (400, "no_sign_in_needed")
    set_enabled(notes_at_nowhere, False, actor=alice.actor)
    assert client.get(SERVERS).json()["results"][0]["status"] == "disabled"
    refused = client.post(f"{SERVERS}/acme-notes/connect")
    assert (refused.status_code, refused.json()["code"]) == (409, "server_disabled")


def test_the_ticket_must_hold_what_is_done_with_it(alice: Person, helper: Agent) -> None:
    save_agent(Agent(name="Other"), actor=alice.actor)
    caller = page(ticket_for(alice, helper, scopes=["aster:call"]))
    assert not any(row["can_connect"] for row in caller.get(SERVERS).json()["results"])
    for verb in ("connect", "disconnect"):
        refused = caller.post(f"{SERVERS}/acme-notes/{verb}")
        assert (refused.status_code, refused.json()["scope"]) == (403, "aster:connect")
        assert "session ticket" in refused.json()["detail"]
    connects = page(ticket_for(alice, helper, scopes=["aster:connect"]))
    assert connects.post(f"{SESSION}/agents/helper/messages", {"text": "x"}).json()["scope"] == "aster:call"
    other = connects.get(f"{SESSION}/agents/other/servers")
    assert (other.status_code, other.json()["code"], other.json()["agent"]) == (403, "other_agent", "other")
    assert connects.get(f"{SESSION}/agents/nobody/servers").status_code == 404


@pytest.mark.parametrize("shown", ["", "nonsense", "ast_000000000000_x", "ast", "ast_é_x"])
def test_what_is_no_ticket_is_refused_with_what_to_do(alice: Person, helper: Agent, shown: str) -> None:
    refused = page(shown).get(SESSION)
    assert refused.status_code == 401 and refused["WWW-Authenticate"].startswith("Bearer")
    assert refused.json()["code"] in ("ticket_unknown", "ticket_needed") and "server" in refused.json()["detail"]


def test_a_key_or_a_cookie_is_no_ticket(alice: Person, helper: Agent) -> None:
    refused = page(alice.key()).get(SESSION)
    assert (refused.status_code, refused.json()["code"]) == (401, "ticket_needed")
    assert "keep it at your server" in refused.json()["detail"]
    browser = ContractClient(HTTP_ORIGIN=ORIGIN)
    browser.force_login(alice.user)
    assert browser.get(SESSION).status_code == 401
    assert ContractClient(HTTP_ORIGIN=ORIGIN, HTTP_X_API_KEY=ticket_for(alice, helper)).get(SESSION).status_code == 401


def test_an_expired_ticket_says_so(alice: Person, helper: Agent) -> None:
    text = ticket_for(alice, helper)
    SessionTicket.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    refused = page(text).get(SESSION)
    assert (refused.status_code, refused.json()["code"]) == (401, "ticket_expired")
    # The script reads this, and asks for a new one.
    assert refused["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("origin", ["", "https://evil.example", "http://app.example", f"{ORIGIN}:8443", "null"])
def test_a_ticket_is_good_on_pages_of_its_origin_alone(alice: Person, helper: Agent, origin: str) -> None:
    refused = client_with(ticket_for(alice, helper), origin).get(SESSION)
    assert (refused.status_code, refused.json()["code"]) == (403, "other_origin")
    assert refused.json()["detail"] == f"This ticket is for pages of {ORIGIN}."
    assert alice.user.email not in refused.content.decode()


def test_pages_of_the_origin_may_read_the_answer_and_no_cookie_is_involved(alice: Person, helper: Agent) -> None:
    answer = page(ticket_for(alice, helper)).get(SESSION)
    assert answer["Access-Control-Allow-Origin"] == ORIGIN and "Origin" in answer["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer and not answer.cookies


def test_a_preflight_needs_no_ticket_and_says_what_may_be_sent(db: None) -> None:
    asks = {"HTTP_ORIGIN": ORIGIN, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}
    for path in (SESSION, SERVERS, f"{SERVERS}/x/connect", f"{SESSION}/agents/helper/messages"):
        answer = ContractClient().options(path, **asks)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer["Access-Control-Allow-Origin"] == ORIGIN
        assert answer["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
        assert answer["Access-Control-Allow-Methods"] == "GET, POST"
        assert "Access-Control-Allow-Credentials" not in answer
    assert "Access-Control-Allow-Origin" not in ContractClient().options("/api/v1/config/agent", **asks)


def test_a_page_talks_with_the_agent_as_its_person(aster: str, chat: Stage) -> None:
    name = chat.name("echo")
    chat.model.script = [Answer("", [(name, {"text": "blue"})]), Answer("It is blue."), Answer("Still blue.")]
    text = ticket_for(chat.person, chat.agent)
    address = f"{SESSION}/agents/{chat.agent.slug}/messages"
    headers = {"Authorization": f"Bearer {text}", "Origin": ORIGIN}
    answer = httpx2.post(f"{aster}{address}", json={"text": "Which colour?"}, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    events = events_in(answer.text)
    assert "".join(data["text"] for kind, data in events if kind == "text") == "It is blue."
    call, conversation = ToolCall.objects.get(), Conversation.objects.get()
    assert (call.user_label, call.via, conversation.origin) == (chat.person.user.email, "embed", ORIGIN)
    again = page(text).post(f"{address}?stream=0", {"text": "And now?", "conversation": conversation.pk})
    assert (again.status_code, again.json()["messages"][-1]["text"]) == (200, "Still blue.")


def test_a_page_goes_on_with_no_conversation_of_the_hub_or_of_another_app(chat: Stage) -> None:
    address = f"{SESSION}/agents/{chat.agent.slug}/messages?stream=0"
    in_hub = start_conversation(chat.agent, chat.person.actor)
    elsewhere = page(ticket_for(chat.person, chat.agent, origin="https://other.example"), "https://other.example")
    begun = elsewhere.post(address, {"text": "Hi"}).json()["conversation"]
    for pk in (in_hub.pk, begun):
        refused = page(ticket_for(chat.person, chat.agent)).post(
            address, {"text": "What did I say?", "conversation": pk}
        )
        assert refused.status_code == 404
    assert len(chat.model.asked) == 1


def test_no_log_line_holds_a_ticket(alice: Person, helper: Agent, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        text = ticket_for(alice, helper)
        client = page(text)
        invited = client.post(f"{SERVERS}/acme-notes/connect").json()
        for path in (SESSION, SERVERS, f"{SESSION}/agents/nobody/servers"):
            client.get(path)
        page(text, "https://evil.example").get(SESSION)
        SessionTicket.objects.update(revoked_at=timezone.now())
        client.get(SESSION)
    logged = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("django.db"))
    assert caplog.records
    for secret in (text, text.split("_", 2)[2], invited["proof"], invited["url"].split("code=")[1]):
        assert secret not in logged
