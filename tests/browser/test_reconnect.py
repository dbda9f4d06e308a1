"""A connection that dies at the provider: the card says so, one click brings it back. In chromium."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Page, expect

from aster.demo.world import DemoWorld
from integrations.models import Connection, McpServer
from integrations.tasks import refresh_due_connections
from tests.browser.conftest import AxeCheck, sign_in
from tests.conftest import Person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


def connect(hub: Page, aster: str) -> None:
    """One click on the card, the consent at the provider, and back."""
    hub.get_by_role("button", name="Connect", exact=True).first.click()
    expect(hub.get_by_text("Demo provider").first).to_be_visible()
    hub.get_by_role("button", name="Allow").click()
    hub.wait_for_url(f"{aster}/hub/**")


def die_at_the_provider(world: DemoWorld) -> None:
    """The person takes the access back there; the scheduler is the first to notice."""
    world.authorization_server.revoke_person("Ada Park")
    Connection.objects.update(refresh_at="2026-01-01T00:00:00Z")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(refresh_due_connections).result()


def test_one_click_brings_back_a_connection_that_died(
    hub: Page, aster: str, alice: Person, notes: McpServer, world: DemoWorld, accessible: AxeCheck
) -> None:
    sign_in(hub, aster, alice)
    connect(hub, aster)
    hub.goto(f"{aster}/hub/integrations/")
    card = hub.locator("article, .card, li").filter(has_text="Acme Notes").first
    expect(card.get_by_text("Connected", exact=True).first).to_be_visible()

    die_at_the_provider(world)
    hub.reload()
    expect(hub.get_by_text("Connection error").first).to_be_visible()
    expect(hub.get_by_text(re.compile("invalid_grant")).first).to_be_visible()
    accessible()

    connect(hub, aster)
    hub.goto(f"{aster}/hub/integrations/")
    expect(hub.get_by_text("Connection error")).to_have_count(0)
    expect(hub.get_by_text("Connected", exact=True).first).to_be_visible()
    hub.goto(f"{aster}/hub/playground/?server={notes.slug}&tool=whoami")
    hub.get_by_role("button", name=re.compile("^Run")).click()
    expect(hub.get_by_text("Ada Park").first).to_be_visible()
    ledger = Connection.objects.get(user=alice.user).attempts.values_list("outcome", flat=True)
    assert list(ledger)[::-1][:3] == ["signed_in", "refused", "signed_in"]
