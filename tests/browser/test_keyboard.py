"""The hub without a mouse: menus and dialogs open, hold the focus, and give it back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from integrations.models import McpServer
from tests.browser.conftest import sign_in
from tests.conftest import Person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_dialog_begins_at_the_harmless_button_holds_the_focus_and_gives_it_back(
    hub: Page, aster: str, alice: Person
) -> None:
    sign_in(hub, aster, alice)
    hub.goto(f"{aster}/hub/members/")
    asking = hub.get_by_role("button", name="Make member")
    dialog = hub.get_by_role("dialog")
    for way_out in ("Escape", "Enter"):
        asking.focus()
        hub.keyboard.press("Enter")
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        for _ in range(3):  # to the other button, out to the browser's own controls, and back to the first
            hub.keyboard.press("Tab")
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        hub.keyboard.press(way_out)
        expect(dialog).to_have_count(0)
        expect(asking).to_be_focused()


def test_a_menu_closes_by_escape_and_by_leaving_it(hub: Page, aster: str, alice: Person, weather: McpServer) -> None:
    sign_in(hub, aster, alice)
    menu = hub.locator("main details.menu")
    menu.locator("summary").focus()
    hub.keyboard.press("Enter")
    hub.keyboard.press("Tab")
    expect(hub.get_by_role("link", name="Servers as a list")).to_be_focused()
    hub.keyboard.press("Escape")
    expect(menu.locator("summary")).to_be_focused()
    expect(menu).not_to_have_attribute("open", "")
    hub.keyboard.press("Enter")
    expect(menu).to_have_attribute("open", "")
    hub.keyboard.press("Shift+Tab")
    expect(menu).not_to_have_attribute("open", "")


def test_the_first_stop_leads_past_the_navigation(hub: Page, aster: str, alice: Person, weather: McpServer) -> None:
    sign_in(hub, aster, alice)
    hub.keyboard.press("Tab")
    expect(hub.get_by_role("link", name="Skip to content")).to_be_focused()
    hub.keyboard.press("Enter")
    hub.keyboard.press("Tab")
    expect(hub.get_by_role("link", name="Add server")).to_be_focused()


def test_the_menu_opens_by_keyboard_on_a_phone(hub: Page, aster: str, alice: Person) -> None:
    hub.set_viewport_size({"width": 390, "height": 844})
    sign_in(hub, aster, alice)
    hub.keyboard.press("Tab")
    expect(hub.get_by_role("link", name="Skip to content")).to_be_focused()
    menu = hub.locator("header.topbar summary")
    menu.focus()
    hub.keyboard.press("Enter")
    expect(hub.get_by_role("link", name="Members")).to_be_visible()
