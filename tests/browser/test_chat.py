"""Walk 6, in chromium on the real demo world: ask, watch a tool work, lose the connection at the provider, see the
banner, connect again, go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Page, expect

from agents.models import Agent, Author, Conversation, LlmConfig, ToolCall
from agents.services.agents import save_agent
from agents.services.approvals import set_approver
from aster.demo.scripted_model import MODEL
from aster.demo.world import DemoWorld
from integrations.models import Connection, McpServer
from tests.browser.conftest import AxeCheck, sign_in
from tests.conftest import Person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

BANNER = "Your Acme Notes connection needs to be reconnected before this agent can use its tools."


@pytest.fixture
def agent(alice: Person, notes: McpServer, weather: McpServer, world: DemoWorld) -> Agent:
    def make() -> Agent:
        model = LlmConfig.objects.create(
            organization=alice.organization, name="Scripted model (demo)", base_url=world.model_url, model=MODEL
        )
        assistant = Agent(name="Research assistant", organization=alice.organization, llm_config=model)
        return save_agent(assistant, actor=alice.actor, server_ids=[notes.pk, weather.pk])

    with ThreadPoolExecutor(1) as pool:  # Playwright's event loop occupies this thread
        return pool.submit(make).result()


def ask(hub: Page, text: str) -> None:
    box = hub.get_by_label("Message Research assistant")
    box.fill(text)
    box.press("Enter")
    expect(hub.locator(".bubble").last).to_have_text(f"You: {text}", use_inner_text=False)


def consent(hub: Page) -> None:
    hub.get_by_role("button", name="Connect", exact=True).first.click()
    expect(hub.get_by_text("Demo provider").first).to_be_visible()
    hub.get_by_role("button", name="Allow").click()


def idle(hub: Page) -> None:
    expect(hub.get_by_role("button", name="Send")).to_be_visible()


def test_a_conversation_survives_the_loss_of_a_connection(
    hub: Page, aster: str, alice: Person, agent: Agent, world: DemoWorld, accessible: AxeCheck
) -> None:
    sign_in(hub, aster, alice)
    hub.goto(f"{aster}/hub/agents/")
    hub.get_by_role("link", name="Chat with Research assistant").click()
    hub.get_by_role("link", name="Connect Acme Notes").click()
    consent(hub)
    hub.wait_for_url(f"{aster}/hub/agent/research-assistant/chat/")
    expect(hub.locator(".callout.error")).to_have_count(0)

    ask(hub, "Which notes do I have?")
    card = hub.locator(".tool-call").first
    expect(card).to_contain_text(re.compile(r"__list_notes"))
    expect(card.locator(".badge.ok")).to_contain_text(re.compile(r"\d+ ms|\d s"))
    idle(hub)
    expect(hub.locator(".message strong").first).to_have_text("Onboarding checklist for Priya")
    expect(hub.get_by_text("I am a scripted model")).to_have_count(1)
    conversation = Conversation.objects.get()
    assert hub.url == f"{aster}/hub/agent/research-assistant/chat/{conversation.pk}/"
    card.locator("summary").click()
    expect(card.get_by_text("Acme Notes", exact=False).first).to_be_visible()
    expect(card.get_by_text(re.compile("Ada Park|Alice")).first).to_be_visible()
    accessible()

    # The person takes the access back at the provider; nobody tells Aster.
    world.authorization_server.revoke_person("Ada Park")
    Connection.objects.update(expires_at="2026-01-01T00:00:00Z")
    ask(hub, "Add a note: call Northwind")
    expect(hub.get_by_text(BANNER)).to_be_visible()
    expect(hub.locator(".tool-call").last).to_contain_text("Needs sign-in")
    idle(hub)
    expect(hub.get_by_text("a connection is needed")).to_be_visible()
    accessible()

    hub.get_by_role("link", name="Connect Acme Notes").click()
    consent(hub)
    hub.wait_for_url(f"{aster}/hub/agent/research-assistant/chat/{conversation.pk}/")
    expect(hub.get_by_text(BANNER)).to_have_count(0)
    ask(hub, "Add a note: call Northwind")
    expect(hub.get_by_text("Done. I wrote the note")).to_be_visible()
    idle(hub)
    outcomes = list(ToolCall.objects.order_by("pk").values_list("outcome", flat=True))
    assert outcomes == ["ok", "connection_required", "ok"]


@pytest.fixture
def slow_model() -> Iterator[str]:
    world = DemoWorld(port=0, word_seconds=0.15)
    world.start()
    yield world.model_url
    world.stop()


def test_words_appear_while_they_are_said_and_stop_stops_them(
    hub: Page, aster: str, alice: Person, agent: Agent, world: DemoWorld, slow_model: str
) -> None:
    LlmConfig.objects.update(base_url=slow_model)
    sign_in(hub, aster, alice)
    hub.goto(f"{aster}/hub/agent/research-assistant/chat/")
    ask(hub, "Hello")
    expect(hub.get_by_role("button", name="Send")).to_be_hidden()
    expect(hub.get_by_label("Message Research assistant")).not_to_be_editable()
    expect(hub.locator(".message-text.live")).to_contain_text("I am a")
    hub.get_by_role("button", name="Stop").click()
    expect(hub.get_by_text("Stopped.")).to_be_visible()
    idle(hub)
    said = Conversation.objects.get().messages.get(author=Author.MODEL)
    assert said.state == "stopped" and not said.text.rstrip().endswith("milk`.")

    LlmConfig.objects.update(base_url=world.model_url)
    hub.get_by_role("button", name="Try again").click()
    idle(hub)
    expect(hub.locator(".message code").last).to_have_text("add a note: buy milk")


def test_an_answer_is_followed_by_a_page_that_did_not_ask_for_it(
    hub: Page, aster: str, alice: Person, agent: Agent, slow_model: str
) -> None:
    LlmConfig.objects.update(base_url=slow_model)
    sign_in(hub, aster, alice)
    hub.goto(f"{aster}/hub/agent/research-assistant/chat/")
    ask(hub, "What is the weather in Oslo?")
    expect(hub.locator(".tool-call .badge.ok")).to_be_visible()
    hub.reload()
    expect(hub.get_by_text("Research assistant is answering")).to_be_visible()
    expect(hub.get_by_role("button", name="Send")).to_be_hidden()
    expect(hub.locator(".message li").first).to_contain_text("chance of rain", timeout=30_000)
    expect(hub.get_by_role("button", name="Send")).to_be_visible(timeout=30_000)


def test_shift_and_enter_make_a_new_line_and_html_stays_text(
    hub: Page, aster: str, alice: Person, agent: Agent
) -> None:
    sign_in(hub, aster, alice)
    hub.goto(f"{aster}/hub/agent/research-assistant/chat/")
    box = hub.get_by_label("Message Research assistant")
    box.press_sequentially("<b>one</b>")
    box.press("Shift+Enter")
    box.press_sequentially("two")
    expect(box).to_have_value("<b>one</b>\ntwo")
    box.press("Enter")
    expect(hub.locator(".bubble")).to_contain_text("<b>one</b>\ntwo")
    idle(hub)
    expect(hub.locator(".bubble b")).to_have_count(0)
    assert Conversation.objects.get().messages.first().text == "<b>one</b>\ntwo"  # type: ignore[union-attr]


def test_a_call_is_approved_in_another_tab_and_asked_for_again(
    hub: Page, aster: str, alice: Person, agent: Agent, accessible: AxeCheck
) -> None:
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(McpServer.objects.get, name="Acme Weather").result()
        pool.submit(set_approver, agent, server, "get_forecast", "caller", actor=alice.actor).result()
    sign_in(hub, aster, alice)
    hub.goto(f"{aster}/hub/agent/{agent.slug}/chat/")
    ask(hub, "What is the weather in Oslo?")
    idle(hub)
    accessible()
    with hub.context.expect_page() as opened:
        hub.get_by_role("link", name="See the approval").click()
    opened.value.get_by_role("button", name="Approve once").click()
    expect(opened.value.get_by_text("Make the same call again")).to_be_visible()
    opened.value.close()
    hub.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # what coming back to a tab does
    accessible()
    hub.get_by_role("button", name="Ask again").click()
    expect(hub.get_by_text("Forecast for Oslo").last).to_be_visible()
    expect(hub.get_by_text("It was approved, and made.")).to_be_visible()
