"""`make screenshots`: a picture of every hub page at 1440 and 390 px, light and dark, into screenshots/."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.chromium import ARGUMENTS, find_chromium
from tests.browser.installation import ROOT, Installation, installation

SIZES = {"wide": (1440, 900), "phone": (390, 844)}


def main() -> None:
    chromium = find_chromium()
    if chromium is None:
        sys.exit("No chromium found.")
    target = ROOT / "screenshots"
    target.mkdir(exist_ok=True)
    with installation() as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        fill(running)
        pages = prepare(browser, running)
        for scheme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                shoot(browser, running, pages, target, scheme, size, width, height)
        browser.close()


def fill(running: Installation) -> None:
    """Servers in every state a card can be in, and calls that worked and did not."""
    add = {"test_connection": False}
    running.api("POST", "config/mcp-server", {
        "name": "Warehouse SQL with a name that is longer than anybody would choose for a card", "url":
        "http://127.0.0.1:9/warehouse/production/eu-west/mcp", "description": "Read-only analytics warehouse",
        "auth_config": {"auth_type": "BEARER", "token": "not-a-real-key"}, **add})  # fmt: skip
    running.api(
        "POST", "config/mcp-server", {"name": "Old tools", "url": "http://127.0.0.1:9/sse", "transport": "sse", **add}
    )
    running.api("POST", "config/mcp-server/old-tools/test")
    running.api("POST", "config/mcp-server/old-tools/diagnose")
    running.api(
        "POST",
        "config/mcp-server",
        {"name": "Archive", "url": "http://127.0.0.1:9/archive/mcp", "is_enabled": False, **add},
    )
    agent = running.api("GET", "config/agent")["results"][0]
    tools = {t["tool_name"]: t["name"] for t in running.api("GET", f"config/agent/{agent['id']}/tools")["results"]}
    for arguments in ({"city": "Oslo", "days": 3}, {"city": "Atlantis"}, {"city": "Tokyo"}):
        body = {"name": tools["get_forecast"], "arguments": arguments}
        running.api("POST", f"config/agent/{agent['id']}/tools/call", body)


def sign_in(page: Page, running: Installation, email: str = "ada@acme.test") -> None:
    page.goto(f"{running.url}/hub/login/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(running.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/hub/integrations/")


def connect_notes(page: Page, running: Installation) -> None:
    page.goto(f"{running.url}/hub/servers/acme-notes/connect/")
    page.get_by_role("button", name="Connect").first.click()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{running.url}/hub/**")


def prepare(browser: Browser, running: Installation) -> dict[str, str]:
    """Connect once, then name every page."""
    page = browser.new_page()
    sign_in(page, running)
    connect_notes(page, running)
    agent = running.api("GET", "config/agent")["results"][0]
    page.close()
    return {
        "login": "login/?next=/hub/",
        "integrations": "integrations/",
        "server-add": "servers/add/",
        "server": "servers/acme-notes/",
        "server-error": "servers/old-tools/",
        "server-doctor": "servers/acme-notes/doctor/",
        "server-doctor-error": "servers/old-tools/doctor/",
        "server-edit": "servers/acme-notes/edit/",
        "server-connect": "servers/acme-notes/connect/",
        "agents": "agents/",
        "agent": f"agent/{agent['slug']}/",
        "agent-tools": f"agent/{agent['slug']}/tools/",
        "agent-use": f"agent/{agent['slug']}/use/",
        "agent-calls": f"agent/{agent['slug']}/calls/",
        "agent-add": "agents/add/",
        "playground": "playground/",
        "playground-tool": "playground/?server=acme-weather&tool=get_forecast",
        "connections": "connections/",
        "matrix": "matrix/",
        "members": "members/",
        "api-keys": "api-keys/",
        "activity": "activity/",
        "activity-calls": "activity/?tab=calls",
        "organization": "organization/",
        "llm-configs": "llm-configs/",
        "records": "records/",
        "list-servers": "integrations/mcpserver/",
        "list-connections": "integrations/connection/",
        "list-audit": "accounts/auditevent/",
        "form-auth-config": "integrations/authconfig/1/change/",
        "not-found": "nowhere/",
    }


def shoot(
    browser: Browser, running: Installation, pages: dict[str, str], target: Path,
    scheme: str, size: str, width: int, height: int,
) -> None:  # fmt: skip
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme,  # type: ignore[arg-type]
        is_mobile=size == "phone", has_touch=size == "phone",
    )  # fmt: skip
    page = context.new_page()
    sign_in(page, running)
    for name, path in pages.items():
        if name == "login":
            visitor = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            lonely = visitor.new_page()
            lonely.goto(f"{running.url}/hub/{path}")
            lonely.screenshot(path=target / f"{name}-{size}-{scheme}.png", full_page=True)
            visitor.close()
            continue
        page.goto(f"{running.url}/hub/{path}")
        page.screenshot(path=target / f"{name}-{size}-{scheme}.png", full_page=True)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        print(f"{name}-{size}-{scheme}{'  OVERFLOWS by ' + str(overflow) if overflow > 0 else ''}")  # noqa: T201
    context.close()


if __name__ == "__main__":
    main()
