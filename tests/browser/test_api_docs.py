"""The API's own page, in chromium: every operation is listed and can be tried, under the same policy as all pages."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.aster.test_openapi import OPERATIONS

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_page_lists_every_operation_and_runs_one(hub: Page, aster: str) -> None:
    hub.goto(f"{aster}/api/docs/")
    hub.wait_for_selector(".opblock")
    assert hub.locator(".opblock").count() == len(OPERATIONS)
    hub.locator("[id$=create_server] .opblock-summary-control").click()
    hub.wait_for_selector(".opblock-body .try-out__btn")
    hub.locator(".try-out__btn").first.click()
    hub.locator(".execute").first.click()
    expect(hub.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("401")
