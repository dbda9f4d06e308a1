"""`make screenshots`: a picture of every hub page at 1440 and 390 px, light and dark, into screenshots/."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django
from playwright.sync_api import Browser, sync_playwright

import tests.environment  # noqa: F401  settings of its own, for the names of pages
from tests.browser.chromium import ARGUMENTS, find_chromium
from tests.browser.installation import ROOT, Installation, installation
from tests.browser.pages import every_page, prepare

SIZES = {"wide": (1440, 900), "phone": (390, 844)}


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "aster.settings"
    django.setup()
    chromium = find_chromium()
    if chromium is None:
        sys.exit("No chromium found.")
    target = ROOT / "screenshots"
    target.mkdir(exist_ok=True)
    with installation() as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        prepare(browser, running)
        for scheme in ("light", "dark"):
            for size in SIZES:
                shoot(browser, running, target, scheme, size)
        browser.close()


def shoot(browser: Browser, running: Installation, target: Path, scheme: str, size: str) -> None:
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme,  # type: ignore[arg-type]
        is_mobile=size == "phone", has_touch=size == "phone", reduced_motion="reduce",
    )  # fmt: skip
    page = context.new_page()
    for name in every_page(page, running):
        page.screenshot(path=target / f"{name}-{size}-{scheme}.png", full_page=True)
        print(f"{name}-{size}-{scheme}")  # noqa: T201
    context.close()


if __name__ == "__main__":
    main()
