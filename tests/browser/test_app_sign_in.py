"""A person lets an app in, in chromium: from the app's link through the sign-in back to the app, and out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from agents.models import Agent
from agents.services.agents import save_agent
from aster.demo.serving import ServerThread, bind_port
from integrations.models import McpServer
from tests.agents.signing_in import App
from tests.browser.conftest import AxeCheck
from tests.conftest import PASSWORD, Person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


class Listener:
    """The app's own listener on this computer, where the browser brings the code."""

    def __init__(self) -> None:
        bound = bind_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{bound.getsockname()[1]}/callback"
        self.answer: dict[str, str] = {}
        self.thread = ServerThread(Starlette(routes=[Route("/callback", self._take)]), bound)
        self.thread.start()

    async def _take(self, request: Request) -> HTMLResponse:
        self.answer = dict(request.query_params)
        return HTMLResponse("<!doctype html><title>Done</title><p>You may close this window.")


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.thread.stop()


@pytest.fixture
def agent(alice: Person, weather: McpServer) -> Agent:
    made: Agent = apart(save_agent, Agent(name="Helper"), actor=alice.actor, server_ids=[weather.pk])
    return made


def apart(do: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """In a thread of its own: Playwright's event loop occupies this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(do, *args, **kwargs).result()


def test_an_app_is_let_in_and_locked_out(
    hub: Page, aster: str, agent: Agent, bob: Person, listener: Listener, accessible: AxeCheck
) -> None:
    app = apart(App, redirect_uri=listener.url)
    hub.goto(f"{aster}{app.asking(agent.gateway_url)}")
    hub.get_by_label("E-mail").fill(bob.user.email)
    hub.get_by_label("Password").fill(PASSWORD)
    hub.get_by_role("button", name="Sign in").click()
    expect(hub.get_by_role("heading", name="Let Trial in?")).to_be_visible()
    accessible()
    hub.get_by_role("button", name="Allow").click()
    expect(hub.get_by_text("You may close this window.")).to_be_visible()
    assert (listener.answer["state"], listener.answer["iss"]) == (app.state, aster)
    token = apart(app.exchange, listener.answer["code"]).json()["access_token"]
    assert token.startswith("aat_")

    hub.goto(f"{aster}/hub/connected-apps/")
    accessible()
    hub.get_by_role("link", name="Revoke Trial").click()
    accessible()
    hub.get_by_role("button", name="Revoke").click()
    expect(hub.get_by_text("“Trial” was locked out.")).to_be_visible()
    expect(hub.get_by_text("No connected apps")).to_be_visible()


def test_somebody_who_cancels_is_sent_back_with_the_reason(
    hub: Page, aster: str, agent: Agent, bob: Person, listener: Listener, accessible: AxeCheck
) -> None:
    app = apart(App, redirect_uri=listener.url)
    hub.goto(f"{aster}{app.asking(agent.gateway_url)}")
    hub.get_by_label("E-mail").fill(bob.user.email)
    hub.get_by_label("Password").fill(PASSWORD)
    hub.get_by_role("button", name="Sign in").click()
    hub.get_by_role("button", name="Cancel").click()
    expect(hub.get_by_text("You may close this window.")).to_be_visible()
    assert listener.answer["error"] == "access_denied"
    hub.goto(f"{aster}{app.asking(None)}")
    expect(hub.get_by_role("heading", name="This app cannot sign in")).to_be_visible()
    accessible()
    hub.get_by_role("link", name="Back to Trial").click()
    expect(hub.get_by_text("You may close this window.")).to_be_visible()
    assert listener.answer["error"] == "invalid_target" and "URL of an agent" in listener.answer["error_description"]
