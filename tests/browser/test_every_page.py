"""Every page of the hub, in each size and colour scheme: readable by everyone, and nothing wider than the window."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_core_python.sync_playwright import Axe
from django.contrib import admin
from django.urls import URLPattern, URLResolver
from playwright.sync_api import Browser, Page, expect

from aster.scoped_admin import OrgScopedAdmin
from tests.browser.conftest import BUSY
from tests.browser.installation import Installation, installation
from tests.browser.pages import every_page, name_of, prepare

VARIANTS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]

BUTTONS = {
    "server-test", "server-refresh-tools", "server-enable", "server-disable", "server-disconnect", "server-discover",
    "server-try", "server-doctor-fix", "connection-disconnect", "member-link", "member-role", "switch-organization",
    "agent-conversation-stop", "schedule-run", "schedule-switch", "approval-approve", "approval-deny",
    "changed-tool-accept", "changed-tools-accept", "registry-sync",
}  # fmt: skip
FILES = {"activity-export", "activity-calls-export"}
FRAGMENTS = {"agent-server-tools", "agent-conversation-thread"}
DJANGO = {"index", "autocomplete", "jsi18n", "view_on_site"}
# Change lists whose rows are added and changed on the hub's own pages.
ELSEWHERE = {
    f"{model}_{verb}" for model in ("agents_agent", "agents_llmconfig", "integrations_mcpserver")
    for verb in ("add", "change")
}  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def running(chromium: Browser) -> Iterator[Installation]:
    with installation() as started:
        prepare(chromium, started)
        yield started


def test_every_page_is_accessible_and_fits(chromium: Browser, running: Installation) -> None:
    context = chromium.new_context(reduced_motion="reduce")
    page = context.new_page()
    problems, visited = [], set()
    for name in every_page(page, running):
        visited.add(name_of(page))
        if name != "gallery":  # which shows what waiting looks like
            expect(page.locator(BUSY)).to_have_count(0)
        # Colours are those of the scheme at any width, and places those of the width in any scheme.
        for width, scheme in VARIANTS if name == "integrations" else VARIANTS[::3]:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found = Axe().run(page, options={"resultTypes": ["violations"]})["violations"]
            problems += [(name, width, each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found]
        problems += [(name, width, "too wide", what) for width in (390, 1024, 1440) if (what := _too_wide(page, width))]
    context.close()
    assert not problems
    forgotten = {each for each in _names(admin.site.get_urls()) if _is_page(each)} - visited
    assert not forgotten, f"{forgotten}: no link leads there from the front page, and tests.browser.pages does not"


def _too_wide(page: Page, width: int) -> list[str]:
    """What is wider than its place: the page, or a table that nobody can scroll by keyboard."""
    page.set_viewport_size({"width": width, "height": 900})
    found: list[str] = page.evaluate(
        "[document.documentElement, ...document.querySelectorAll('.table-wrap:not([tabindex])')]"
        ".filter(each => each.scrollWidth > each.clientWidth).map(each => each.outerHTML.slice(0, 300))"
    )
    return found


def _names(patterns: list[URLResolver | URLPattern]) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _names(pattern.url_patterns)
        elif pattern.name:
            yield pattern.name


def _is_page(name: str) -> bool:
    """Whether a pattern answers a browser's GET with a page of its own."""
    for model, shown in admin.site._registry.items():
        prefix = f"{model._meta.app_label}_{model._meta.model_name}_"
        if name.startswith(prefix):
            if not isinstance(shown, OrgScopedAdmin):  # Django's groups, which nobody here may see
                return False
            absent = {"add": shown.can_add, "delete": shown.can_delete, "history": shown.keeps_history}
            return name not in ELSEWHERE and absent.get(name.removeprefix(prefix), True)
    return name not in BUTTONS | FILES | FRAGMENTS | DJANGO
