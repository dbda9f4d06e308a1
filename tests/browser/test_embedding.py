"""Another app's page, on an origin of its own: Connect, consent, Connected, Disconnect; and links that were stolen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx2
import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from agents.models import Agent, SessionTicket
from agents.services.agents import save_agent
from integrations.models import Connection, McpServer
from tests.browser.conftest import AxeCheck
from tests.browser.installation import ROOT, free_port
from tests.conftest import Person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]


@dataclass
class App:
    """The example of docs/embedding.md, served beside Aster."""

    url: str
    person: Person


@pytest.fixture
def app(aster: str, alice: Person, bob: Person, notes: McpServer, weather: McpServer) -> Iterator[App]:
    agent, ids = Agent(name="Helper"), [notes.pk, weather.pk]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(save_agent, agent, actor=alice.actor, server_ids=ids).result()
        key = pool.submit(bob.key, "aster:connect", "aster:call").result()
    port = free_port()
    env = {**os.environ, "ASTER_URL": aster, "ASTER_KEY": key, "ASTER_AGENT": "helper"}
    served = subprocess.Popen(
        [sys.executable, "docs/examples/embed/server.py", str(port)], cwd=ROOT, env=env, stderr=subprocess.DEVNULL
    )
    try:
        _await(f"http://127.0.0.1:{port}/")
        yield App(f"http://127.0.0.1:{port}/", bob)
    finally:
        served.terminate()
        served.wait(10)


def _await(url: str) -> None:
    with httpx2.Client(transport=httpx2.HTTPTransport(retries=30)) as http:
        assert http.get(url, timeout=20).status_code == 200


def press_connect(page: Page) -> Page:
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Connect: Acme Notes").click()
    window = opened.value
    window.wait_for_url("**/embed/connect/**")
    return window


def test_a_page_of_another_app_connects_and_disconnects(hub: Page, app: App, accessible: AxeCheck) -> None:
    hub.goto(app.url)
    expect(hub.get_by_text("Not connected")).to_be_visible()
    expect(hub.get_by_text("Nothing to connect")).to_be_visible()
    accessible()
    window = press_connect(hub)
    expect(window.get_by_text("bob@acme.test", exact=True)).to_be_visible()
    assert not Axe().run(window)["violations"]
    window.get_by_role("button", name="Continue").click()
    expect(window.get_by_text("Demo provider").first).to_be_visible()
    with window.expect_event("close"):
        window.get_by_role("button", name="Allow").click()
    expect(hub.get_by_role("button", name="Disconnect: Acme Notes")).to_be_focused()
    expect(hub.get_by_text("Connected", exact=True)).to_be_visible()
    assert Connection.objects.get().user == app.person.user
    accessible()
    hub.get_by_role("button", name="Disconnect: Acme Notes").click()
    expect(hub.get_by_text("Not connected")).to_be_visible()
    assert not Connection.objects.exists()


def test_a_ticket_that_ended_is_replaced_without_a_word(hub: Page, app: App) -> None:
    hub.goto(app.url)
    expect(hub.get_by_text("Not connected")).to_be_visible()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(SessionTicket.objects.update, expires_at="2026-01-01T00:00:00Z").result()
    window = press_connect(hub)
    expect(window.get_by_role("button", name="Continue")).to_be_enabled()
    window.close()
    expect(hub.get_by_role("button", name="Connect: Acme Notes")).to_be_enabled()
    assert SessionTicket.objects.count() == 2


@pytest.fixture
def stranger(chromium: Browser) -> Iterator[BrowserContext]:
    """Somebody else's browser."""
    context = chromium.new_context()
    yield context
    context.close()


def test_a_stolen_link_connects_nothing_in_another_browser(hub: Page, app: App, stranger: BrowserContext) -> None:
    hub.goto(app.url)
    window = press_connect(hub)
    stolen = stranger.new_page()
    stolen.goto(window.url)
    expect(stolen.get_by_text("Not opened by that page")).to_be_visible()
    expect(stolen.get_by_role("button", name="Continue")).to_be_disabled()
    assert not Axe().run(stolen)["violations"]
    # Even who has the button pressed all the same begins nothing.
    stolen.evaluate("document.querySelector('form').submit()")
    expect(stolen.get_by_text("Nothing was connected")).to_be_visible()
    assert not Axe().run(stolen)["violations"]
    assert not Connection.objects.exists()


def test_an_answer_that_ends_in_another_browser_connects_nothing(hub: Page, app: App, stranger: BrowserContext) -> None:
    hub.goto(app.url)
    window = press_connect(hub)
    window.get_by_role("button", name="Continue").click()
    expect(window.get_by_text("Demo provider").first).to_be_visible()
    lured = stranger.new_page()
    lured.goto(window.url)
    lured.get_by_role("button", name="Allow").click()
    expect(lured.get_by_text("in another browser")).to_be_visible()
    assert not Connection.objects.exists()
    # The one who began it can still finish it.
    with window.expect_event("close"):
        window.get_by_role("button", name="Allow").click()
    expect(hub.get_by_role("button", name="Disconnect: Acme Notes")).to_be_visible()


def test_a_page_of_yet_another_app_gets_nothing_out_of_it(hub: Page, app: App, chromium: Browser) -> None:
    """It opens a link that it has got hold of, and answers for the page that asked."""
    hub.goto(app.url)
    link = press_connect(hub).url
    context = chromium.new_context()
    evil = context.new_page()
    evil.goto(app.url.replace("127.0.0.1", "localhost"))
    with evil.expect_popup() as opened:
        evil.evaluate(
            "link => { const popup = window.open(link);"
            " setInterval(() => popup.postMessage({type: 'aster:proof', proof: 'x'}, '*'), 50); }",
            link,
        )
    expect(opened.value.get_by_text("Not opened by that page")).to_be_visible()
    expect(opened.value.get_by_role("button", name="Continue")).to_be_disabled()
    context.close()
