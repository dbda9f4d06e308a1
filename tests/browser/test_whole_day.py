"""A person at the hub: sign in, add a server, connect, try a tool, disconnect. In chromium, with axe looking on."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from aster.demo.world import DemoWorld
from integrations.models import Connection, McpServer
from tests.browser.conftest import AxeCheck, sign_in
from tests.conftest import Person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


def test_from_sign_in_to_disconnect(
    hub: Page, aster: str, alice: Person, world: DemoWorld, accessible: AxeCheck
) -> None:
    hub.goto(f"{aster}/hub/")
    accessible()
    sign_in(hub, aster, alice)
    expect(hub.get_by_role("heading", name="Integrations", level=1)).to_be_visible()
    accessible()

    hub.get_by_role("link", name="Add server").first.click()
    accessible()
    hub.get_by_label("Name", exact=True).fill("Acme Notes")
    hub.get_by_label("URL", exact=True).fill(world.notes_url)
    hub.get_by_role("button", name="Look up sign-in").click()
    expect(hub.get_by_role("radio", name=re.compile("OAuth, each person"))).to_be_checked()
    accessible()
    hub.get_by_role("button", name="Save", exact=True).click()

    hub.get_by_role("button", name="Connect", exact=True).first.click()
    expect(hub.get_by_text("Demo provider").first).to_be_visible()
    hub.get_by_role("button", name="Allow").click()
    hub.wait_for_url(f"{aster}/hub/**")
    expect(hub.get_by_text("Connected", exact=True).first).to_be_visible()
    assert Connection.objects.get(user=alice.user).status == "connected"
    accessible()

    server = McpServer.objects.get()
    hub.goto(f"{aster}/hub/playground/?server={server.slug}&tool=whoami")
    accessible()
    hub.get_by_role("button", name=re.compile("^Run")).click()
    expect(hub.get_by_text("Ada Park").first).to_be_visible()
    accessible()

    hub.goto(f"{aster}/hub/servers/{server.slug}/")
    accessible()
    hub.get_by_role("button", name="Disconnect").first.click()
    confirm = hub.get_by_role("dialog").get_by_role("button", name="Disconnect")
    if confirm.is_visible():
        confirm.click()
    expect(hub.get_by_text("Not connected", exact=True).first).to_be_visible()
    assert not Connection.objects.exists()


def test_an_agent_is_made_given_a_server_and_tried(
    hub: Page, aster: str, alice: Person, weather: McpServer, accessible: AxeCheck
) -> None:
    sign_in(hub, aster, alice)
    hub.goto(f"{aster}/hub/agents/")
    accessible()
    hub.get_by_role("link", name="Add agent").first.click()
    hub.get_by_label("Name", exact=True).fill("Forecaster")
    accessible()
    hub.get_by_role("button", name=re.compile("^(Save|Add|Create)")).first.click()
    hub.goto(f"{aster}/hub/agent/forecaster/tools/")
    hub.get_by_role("checkbox", name=re.compile("Acme Weather")).first.check()
    hub.get_by_role("button", name=re.compile("^Save")).first.click()
    accessible()
    hub.goto(f"{aster}/hub/playground/?agent=forecaster&tool=acme_weather_{weather.pk}__get_forecast")
    hub.get_by_label("City").fill("Oslo")
    hub.get_by_role("button", name=re.compile("^Run")).click()
    expect(hub.locator("#result").get_by_text("Oslo").first).to_be_visible()
    accessible()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_doctor_is_readable_with_everything_it_can_say(
    hub: Page, aster: str, alice: Person, weather: McpServer, notes: McpServer, accessible: AxeCheck, width: int,
    scheme: str,
) -> None:  # fmt: skip
    hub.set_viewport_size({"width": width, "height": 844})
    hub.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    sign_in(hub, aster, alice)
    for server, said in ((weather, "Everything works."), (notes, "You are not connected yet.")):
        hub.goto(f"{aster}/hub/servers/{server.slug}/doctor/")
        hub.get_by_role("button", name="Run").click()
        expect(hub.get_by_text(re.compile(said)).first).to_be_visible()
        for summary in hub.locator("details.disclosure > summary").all():
            summary.click()
        accessible()


def test_the_hub_works_without_javascript(aster: str, alice: Person, weather: McpServer, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, aster, alice)
    page.goto(f"{aster}/hub/servers/acme-weather/")
    page.get_by_role("button", name="Test").first.click()
    expect(page.get_by_text(re.compile("3 tools")).first).to_be_visible()
    page.goto(f"{aster}/hub/servers/acme-weather/doctor/")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Everything works.").first).to_be_visible()
    page.goto(f"{aster}/hub/playground/?server=acme-weather&tool=list_cities")
    page.get_by_role("button", name=re.compile("^Run")).click()
    expect(page.get_by_text("Amsterdam").first).to_be_visible()
    context.close()
