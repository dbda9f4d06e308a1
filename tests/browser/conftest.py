"""Chromium for the tests: the system's, started without calling home. Without one, these tests are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, AuthType, McpServer
from integrations.services.servers import save_server
from tests.browser.chromium import ARGUMENTS, find_chromium
from tests.conftest import PASSWORD, Person

BUSY = ".htmx-request, .htmx-swapping, .htmx-settling, [aria-busy=true]"
AxeCheck = Callable[[], None]


# Not for the session: as long as Playwright runs, this thread has a running event loop, which other tests cannot bear.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


@pytest.fixture
def hub(chromium: Browser, aster: str) -> Iterator[Page]:
    """A page whose console must stay clean: a blocked script or style is a failure, not a detail."""
    complaints: list[str] = []
    context = chromium.new_context(reduced_motion="reduce")  # a colour on its way to another has no contrast to judge
    page = context.new_page()

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "status of 4" not in message.text:
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(10_000)
    yield page
    context.close()
    assert not complaints


def add_server(person: Person, name: str, url: str, auth: AuthConfig | None = None) -> McpServer:
    """save_server in a thread of its own: Playwright's event loop occupies this one."""
    server = McpServer(name=name, url=url)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(save_server, server, auth=auth, actor=person.actor).result().server


@pytest.fixture
def notes(world: DemoWorld, alice: Person) -> McpServer:
    auth = AuthConfig(name="Acme ID", auth_type=AuthType.AUTHORIZATION_CODE, organization=alice.organization)
    return add_server(alice, "Acme Notes", world.notes_url, auth)


@pytest.fixture
def weather(world: DemoWorld, alice: Person) -> McpServer:
    return add_server(alice, "Acme Weather", world.weather_url)


def sign_in(page: Page, aster: str, person: Person) -> None:
    page.goto(f"{aster}/hub/")
    page.get_by_label("E-mail").fill(person.user.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/hub/integrations/")


@pytest.fixture
def accessible(hub: Page) -> AxeCheck:
    """Call it on any page: axe finds nothing, and nothing is wider than the window."""

    def check() -> None:
        expect(hub.locator(BUSY)).to_have_count(0)
        found = Axe().run(hub)["violations"]
        assert not found, [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found]
        wide = hub.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert not wide, f"{hub.url} scrolls sideways"

    return check
