"""The chat pages: what one sees, what one may not see, and what happens without JavaScript."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent, Approval, Author, Conversation, LlmConfig, Message, MessageState
from agents.runtime.finding import FIND_TOOLS
from agents.schema_form import ArgumentsForm
from agents.services import approvals, conversations
from agents.services.agents import save_agent
from aster.demo.scripted_model import MODEL
from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, McpServer
from integrations.services.servers import save_server
from tests.conftest import Person

pytestmark = pytest.mark.django_db(transaction=True)


def text_of(response: Any) -> str:
    content: bytes = response.content
    return content.decode()


@pytest.fixture
def model(alice: Person, world: DemoWorld) -> LlmConfig:
    return LlmConfig.objects.create(
        organization=alice.organization, name="Scripted", base_url=world.model_url, model=MODEL
    )


@pytest.fixture
def agent(alice: Person, world: DemoWorld, model: LlmConfig) -> Agent:
    server = McpServer(name="Weather", url=world.weather_url)
    save_server(server, actor=alice.actor)
    helper = Agent(name="Helper", organization=alice.organization, llm_config=model)
    return save_agent(helper, actor=alice.actor, server_ids=[server.pk])


def conversation_of(person: Person, agent: Agent, title: str = "About Oslo") -> Conversation:
    return Conversation.objects.create(organization=person.organization, agent=agent, user=person.user, title=title)


def url_of(conversation: Conversation, rest: str = "") -> str:
    return f"/hub/agent/{conversation.agent.slug}/chat/{conversation.pk}/{rest}"


def answered(conversation: Conversation, text: str = "", **fields: Any) -> Message:
    return Message.objects.create(conversation=conversation, author=Author.MODEL, text=text, **fields)


# --- Beginning ------------------------------------------------------------------------------------------------------


def test_the_first_page_says_what_the_agent_can_do_and_is_reached_from_its_card(bob: Person, agent: Agent) -> None:
    browser = bob.browser()
    assert 'href="/hub/agent/helper/chat/"' in text_of(browser.get("/hub/agents/"))
    page = text_of(browser.get("/hub/agent/helper/chat/"))
    assert "Get forecast" in page and "Message Helper" in page and "Scripted" in page


def test_a_search_for_tools_is_a_card_with_words_of_its_own(bob: Person, agent: Agent) -> None:
    begun = conversation_of(bob, agent)
    call = {"id": "c1", "name": FIND_TOOLS, "arguments": {"query": "weather <now>"}}
    answered(begun, calls=[call])
    facts = {"title": "Look for tools", "server": "", "outcome": "ok", "code": "", "duration_ms": 4, "connection": ""}
    Message.objects.create(
        conversation=begun, author=Author.TOOL, text="Best first.", call_id="c1", tool_name=FIND_TOOLS, facts=facts
    )
    page = text_of(bob.browser().get(url_of(begun)))
    assert "Looked for tools: “weather &lt;now&gt;”" in page and "Best first." in page
    assert "no server was asked" in page and "no sign-in used" not in page


def test_without_javascript_a_message_is_posted_and_the_finished_answer_shown(bob: Person, agent: Agent) -> None:
    response = bob.browser().post("/hub/agent/helper/chat/", {"text": "What is the weather in Oslo?"}, follow=True)
    begun = Conversation.objects.get()
    assert response.redirect_chain == [(url_of(begun), 302)]
    page = text_of(response)
    assert page.count("What is the weather in Oslo?") >= 2  # its title and the message
    assert "__get_forecast" in page and "scripted model" in page and "Forecast for Oslo" in page
    assert not conversations.is_running(begun)
    again = text_of(bob.browser().post(url_of(begun), {"text": "And in Tokyo: the weather?"}, follow=True))
    assert "Forecast for Tokyo" in again and Conversation.objects.count() == 1


def test_an_empty_message_is_refused_and_what_was_too_long_is_kept(bob: Person, agent: Agent) -> None:
    conversation, browser = conversation_of(bob, agent), bob.browser()
    assert "Write a message first." in text_of(browser.post(url_of(conversation), {"text": "  "}, follow=True))
    long = "x" * 20_001
    page = text_of(browser.post(url_of(conversation), {"text": long}, follow=True))
    assert "at most 20,000 characters" in page and long in page
    assert not conversation.messages.exists()
    page = text_of(browser.post("/hub/agent/helper/chat/", {"text": long}, follow=True))
    assert "at most 20,000 characters" in page and long in page
    assert Conversation.objects.count() == 1


def test_an_agents_input_is_asked_for_first_and_checked(alice: Person, bob: Person, agent: Agent) -> None:
    agent.input_json_schema = {
        "type": "object", "properties": {"team": {"type": "string", "title": "Which team"}}, "required": ["team"],
    }  # fmt: skip
    save_agent(agent, actor=alice.actor)
    browser, address = bob.browser(), "/hub/agent/helper/chat/"
    page = text_of(browser.get(address))
    assert "Which team" in page and "Start conversation" in page and "Message Helper" not in page
    name = ArgumentsForm(agent.input_json_schema).rows[0].bound.html_name  # type: ignore[union-attr]
    refused = browser.post(address, {name: ""})
    assert refused.status_code == 400 and not Conversation.objects.exists()
    begun = text_of(browser.post(address, {name: "Import"}, follow=True))
    assert Conversation.objects.get().input == {"team": "Import"}
    assert "What it began with" in begun and "Message Helper" in begun


def test_without_a_model_it_says_who_can_add_one(alice: Person, bob: Person, agent: Agent) -> None:
    agent.llm_config = None
    save_agent(agent, actor=alice.actor)
    page = text_of(bob.browser().get("/hub/agent/helper/chat/"))
    assert "no model yet" in page and "Alice" in page and "Message Helper" not in page
    assert "Choose a model" in text_of(alice.browser().get("/hub/agent/helper/chat/"))
    response = bob.browser().post("/hub/agent/helper/chat/", {"text": "Hello"}, follow=True)
    assert "has no model" in text_of(response) and not Conversation.objects.exists()
    assert "/chat/" not in text_of(bob.browser().get("/hub/agents/"))


def test_an_agent_that_is_switched_off_answers_nobody(alice: Person, bob: Person, agent: Agent) -> None:
    agent.is_enabled = False
    save_agent(agent, actor=alice.actor)
    page = text_of(bob.browser().get("/hub/agent/helper/chat/"))
    assert "switched off" in page and "Message Helper" not in page
    assert "switched off" in text_of(bob.browser().post("/hub/agent/helper/chat/", {"text": "Hello"}, follow=True))
    assert not Conversation.objects.exists()


# --- Whose it is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", ["", "thread/", "stop/", "delete/"])
def test_a_conversation_is_its_persons_alone(
    alice: Person, bob: Person, charlie: Person, agent: Agent, rest: str
) -> None:
    conversation = conversation_of(bob, agent)
    for other in (alice, charlie):  # an admin of the same organization, and somebody of another one
        browser = other.browser()
        ask = browser.post if rest == "stop/" else browser.get
        assert ask(url_of(conversation, rest)).status_code == 404
        assert browser.post(url_of(conversation, rest), {"text": "Hello"}).status_code in (404, 405)
    assert Conversation.objects.filter(pk=conversation.pk).exists() and not conversation.messages.exists()


def test_it_is_found_through_its_own_agent_only(alice: Person, bob: Person, agent: Agent) -> None:
    conversation = conversation_of(bob, agent)
    save_agent(Agent(name="Other", organization=alice.organization), actor=alice.actor)
    assert bob.browser().get(f"/hub/agent/other/chat/{conversation.pk}/").status_code == 404
    assert bob.browser().get(f"/hub/agent/helper/chat/{2**70}/").status_code == 404


def test_the_list_holds_my_conversations_and_deleting_asks_first(bob: Person, alice: Person, agent: Agent) -> None:
    mine, theirs = conversation_of(bob, agent, "Mine"), conversation_of(alice, agent, "Hers")
    browser = bob.browser()
    page = text_of(browser.get("/hub/agent/helper/chat/"))
    assert "Mine" in page and "Hers" not in page
    assert "cannot be undone" in text_of(browser.get(url_of(mine, "delete/")))
    assert Conversation.objects.filter(pk=mine.pk).exists()
    browser.post(url_of(mine, "delete/"))
    assert list(Conversation.objects.all()) == [theirs]


def test_signed_out_nobody_sees_anything(client: Any, bob: Person, agent: Agent) -> None:
    conversation = conversation_of(bob, agent)
    for address in ("/hub/agent/helper/chat/", url_of(conversation), url_of(conversation, "thread/")):
        assert client.get(address).headers["location"].startswith("/hub/login/")


# --- What was said --------------------------------------------------------------------------------------------------


def test_words_are_drawn_as_markdown_and_never_as_html(bob: Person, agent: Agent) -> None:
    conversation = conversation_of(bob, agent, "<b>title</b>")
    Message.objects.create(conversation=conversation, author=Author.PERSON, text="<script>mine</script> **not bold**")
    call = {"id": "c1", "name": "w_1__get", "arguments": {"city": "<img src=x>"}}
    answered(conversation, "**Bold** <script>alert(1)</script>", calls=[call])
    facts = {"outcome": "ok", "duration_ms": 820, "server": "<i>W</i>", "connection": "<u>Bob</u>"}
    Message.objects.create(
        conversation=conversation, author=Author.TOOL, call_id="c1", text="<svg onload=x>", facts=facts
    )
    page = text_of(bob.browser().get(url_of(conversation)))
    assert "<strong>Bold</strong>" in page and "**not bold**" in page and "820 ms" in page
    for raw in ("<script>alert", "<script>mine", "<img src=x", "<svg onload", "<i>W", "<u>Bob", "<b>title"):
        assert raw not in page


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"outcome": "connection_required", "code": "connection_required"}, "Needs sign-in"),
        ({"outcome": "tool_error"}, "Tool error"),
        ({"outcome": "refused", "code": "approval_required"}, "Waits for approval"),
        ({"outcome": "refused", "code": "tool_disabled"}, "tool_disabled"),
        ({}, "Not called"),
    ],
)
def test_a_call_says_how_it_ended(bob: Person, agent: Agent, facts: dict[str, Any], words: str) -> None:
    conversation = conversation_of(bob, agent)
    answered(conversation, calls=[{"id": "c1", "name": "w_1__get", "arguments": "not json"}])
    Message.objects.create(conversation=conversation, author=Author.TOOL, call_id="c1", facts=facts)
    assert words in text_of(bob.browser().get(url_of(conversation)))


def test_a_call_that_waits_for_approval_leads_there(bob: Person, agent: Agent) -> None:
    conversation = conversation_of(bob, agent)
    answered(conversation, calls=[{"id": "c1", "name": "w_1__get", "arguments": {}}])
    words = "Somebody has to approve this first: https://aster.test/hub/approvals/7/ <b>"
    facts = {"outcome": "refused", "code": "approval_required"}
    Message.objects.create(conversation=conversation, author=Author.TOOL, call_id="c1", text=words, facts=facts)
    page = text_of(bob.browser().get(url_of(conversation)))
    assert '<a href="https://aster.test/hub/approvals/7/"' in page and "first: <a" in page and "<b>" not in page


def test_a_call_tells_what_becomes_of_its_approval_and_how_to_go_on(alice: Person, bob: Person, agent: Agent) -> None:
    server, words = McpServer.objects.get(), "What is the weather in Oslo?"
    approvals.set_approver(agent, server, "get_forecast", "caller", actor=alice.actor)
    page = text_of(bob.browser().post("/hub/agent/helper/chat/", {"text": words}, follow=True))
    waiting, begun = Approval.objects.get(), Conversation.objects.get()
    assert "Nothing was sent to Weather yet. Look at the call and approve it" in page and "Ask again" not in page
    assert f'href="/hub/approvals/{waiting.pk}/"' in page and "Waits for approval" in page
    approvals.approve(waiting, actor=bob.actor)
    page = text_of(bob.browser().get(url_of(begun)))
    assert "Ask again</span>" in page and f'name="text" value="{words}"' in page and "Approved, not used yet" in page
    page = text_of(bob.browser().post(url_of(begun), {"text": words}, follow=True))
    assert "It was approved, and made." in page and "Forecast for Oslo" in page and "Ask again" not in page


def test_a_call_that_an_admin_must_approve_or_that_was_denied_says_so(alice: Person, bob: Person, agent: Agent) -> None:
    approvals.set_approver(agent, McpServer.objects.get(), "get_forecast", "admin", actor=alice.actor)
    page = text_of(bob.browser().post("/hub/agent/helper/chat/", {"text": "The weather in Oslo"}, follow=True))
    assert "An admin has to approve this call" in page and "Look at the call" not in page
    approvals.deny(Approval.objects.get(), actor=alice.actor)
    assert "Alice denied this call." in text_of(bob.browser().get(url_of(Conversation.objects.get())))


def test_a_failed_answer_is_one_line_with_try_again(bob: Person, agent: Agent) -> None:
    conversation = conversation_of(bob, agent)
    Message.objects.create(conversation=conversation, author=Author.PERSON, text="Say it")
    answered(conversation, state=MessageState.FAILED, error="The model is overloaded. Try again in a minute.")
    page = text_of(bob.browser().get(url_of(conversation)))
    assert "The model is overloaded." in page and 'name="text" value="Say it"' in page and "Try again" in page
    answered(conversation, "Now it works.")
    assert "Try again</span>" not in text_of(bob.browser().get(url_of(conversation)))


def test_while_the_agent_answers_the_page_asks_again_and_offers_to_stop(bob: Person, agent: Agent) -> None:
    conversation = conversation_of(bob, agent)
    conversations.add_message(conversation, "Hello", bob.actor)
    page = text_of(bob.browser().get(url_of(conversation)))
    assert 'data-running="yes"' in page and "Helper is answering" in page and '<meta http-equiv="refresh"' in page
    assert "still answering" in text_of(bob.browser().post(url_of(conversation), {"text": "More"}, follow=True))
    bob.browser().post(url_of(conversation, "stop/"))
    conversation.refresh_from_db()
    assert conversation.stop_requested
    conversations.end_turn(conversation)
    assert 'data-running="no"' in text_of(bob.browser().get(url_of(conversation, "thread/")))


def test_the_banner_is_there_as_long_as_the_connection_is_not(alice: Person, bob: Person, agent: Agent) -> None:
    sign_in = AuthConfig.objects.create(
        organization=alice.organization, name="Crm ID", auth_type=AuthType.AUTHORIZATION_CODE
    )
    crm = McpServer.objects.create(
        organization=alice.organization, name="Crm", slug="crm", url="https://example.com/mcp", auth_config=sign_in
    )
    agent.assignments.create(server=crm)
    conversation, browser = conversation_of(bob, agent), bob.browser()
    page = text_of(browser.get(url_of(conversation)))
    assert "Your Crm connection needs to be connected before this agent can use its tools." in page
    assert f"/hub/servers/crm/connect/?next={url_of(conversation)}" in page
    grant = Connection.objects.create(
        auth_config=sign_in, user=bob.user, access_token="t", origins=["https://example.com"],
        status=ConnectionStatus.ERROR, connected_at=timezone.now(),
    )  # fmt: skip
    words = "Your Crm connection needs to be reconnected before this agent can use its tools."
    assert words in text_of(browser.get(url_of(conversation, "thread/")))
    grant.status = ConnectionStatus.CONNECTED
    grant.save()
    assert "before this agent can use" not in text_of(browser.get(url_of(conversation)))
    grant.wanted_scopes = ["files:write"]
    grant.save()
    assert words in text_of(browser.get(url_of(conversation)))


def test_each_call_shows_its_own_result_where_a_model_gives_the_same_id_again(bob: Person, agent: Agent) -> None:
    conversation = conversation_of(bob, agent)
    for text in ("first result", "second result"):
        answered(conversation, calls=[{"id": "call_0", "name": "echo", "arguments": {}}])
        Message.objects.create(
            conversation=conversation, author=Author.TOOL, call_id="call_0", text=text, facts={"outcome": "ok"}
        )
    page = text_of(bob.browser().get(url_of(conversation, "thread/")))
    assert (page.count("first result"), page.count("second result")) == (1, 1)
