"""Walk 7 in chromium: an admin enables a connector; a member who is not signed in calls a tool, follows the link,
consents at the provider, and the same call works with a token of their own; disabling revokes it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from mcp import Client
from playwright.sync_api import Browser, Page, expect

from integrations.models import Connection, McpServer
from tests.browser.conftest import AxeCheck, sign_in
from tests.conftest import PASSWORD, Person
from tests.fakes.mcp_servers import serve
from tests.fakes.rest_providers import RestProvider, github_api, notion_api, slack_api
from tests.fakes.rest_sign_in import (
    CLIENT_ID,
    CLIENT_SECRET,
    SignIn,
    github_sign_in,
    notion_sign_in,
    slack_sign_in,
)
from tests.walks.conftest import at_gateway

pytestmark = [
    pytest.mark.browser, pytest.mark.walk, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120),
]  # fmt: skip

Case = tuple[str, Callable[[], RestProvider], Callable[[RestProvider], SignIn], str, dict[str, Any], str]
SLACK: Case = ("Slack", slack_api, slack_sign_in, "slack_list_channels", {"limit": 1}, "general")
NOTION: Case = ("Notion", notion_api, notion_sign_in, "notion_search", {"query": "kale"}, "Tuscan kale")
GITHUB: Case = ("GitHub", github_api, github_sign_in, "github_list_repos", {"limit": 2}, "octocat/Hello-World")


@pytest.mark.parametrize("case", [SLACK, NOTION, GITHUB], ids=lambda case: case[0])
def test_from_the_catalogue_to_a_call_with_ones_own_token_and_back(
    case: Case, hub: Page, chromium: Browser, aster: str, alice: Person, bob: Person, accessible: AxeCheck
) -> None:
    name, make_api, make_sign_in, tool, arguments, expected = case
    api = make_api()
    provider = make_sign_in(api)
    with serve(provider.app) as base:
        enable(hub, aster, alice, name, base)
        accessible()
        server = McpServer.objects.get()
        made = {"name": "Helper", "mcp_server_config_ids": [server.pk]}
        agent = in_thread(alice.api().post, "/api/v1/config/agent", made).json()
        call = caller(agent["gateway_url"], bob, f"{server.slug}_{server.pk}__{tool}", arguments)

        refused = call()
        assert refused.is_error and not api.asked
        link = next(word for word in refused.content[0].text.split() if word.startswith(aster)).rstrip(".")
        member = chromium.new_context().new_page()
        follow(member, link, bob, name)

        result = call()
        assert not result.is_error and expected in str(result.structured_content)
        (token,) = provider.issued
        assert api.asked[-1].headers["authorization"] == f"Bearer {token}"
        connection = Connection.objects.get()
        assert connection.user == bob.user
        assert connection.scopes == server.auth_config.scopes  # Slack lists them with commas

        hub.goto(f"{aster}/hub/connectors/{server.slug}/disable/")
        expect(hub.get_by_text("1 connected account will be disconnected.")).to_be_visible()
        accessible()
        hub.get_by_role("button", name="Disable").click()
        expect(hub.get_by_text(f"{name} is disabled. 1 connection revoked at the provider.")).to_be_visible()
        assert provider.revoked == [token]
        member.context.close()
    assert not McpServer.objects.exists() and not Connection.objects.exists()


def enable(hub: Page, aster: str, admin: Person, name: str, base: str) -> None:
    """From the catalogue through the dialog, with an app's ID and secret, for a provider at `base`."""
    sign_in(hub, aster, admin)
    hub.get_by_role("link", name="Connectors", exact=True).click()
    own = hub.get_by_role("region", name="Through Aster")
    own.get_by_role("link", name=f"Enable {name}").click()
    expect(hub.get_by_role("textbox", name="Redirect URI")).to_have_value(f"{aster}/api/mcp/oauth/callback")
    hub.get_by_label("Client ID").fill(CLIENT_ID)
    hub.get_by_label("Client secret").fill(CLIENT_SECRET)
    hub.get_by_text("An installation of your own").click()
    hub.get_by_label("Address of the API").fill(f"{base}/v1" if name == "Notion" else base)
    hub.get_by_label("Authorization URL").fill(f"{base}/authorize")
    hub.get_by_label("Token URL").fill(f"{base}/token")
    revocation = "/applications/{client_id}/token" if name == "GitHub" else "/revoke"
    hub.get_by_label("Revocation URL").fill(f"{base}{revocation}")
    hub.get_by_role("button", name="Enable").click()
    expect(hub.get_by_text(f"{name} is enabled.")).to_be_visible()


def follow(page: Page, link: str, person: Person, name: str) -> None:
    """Open the link of a refused call as its person, who has yet to sign in, and consent at the provider."""
    page.goto(link)
    page.get_by_label("E-mail").fill(person.user.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url("**/hub/**")


def caller(url: str, person: Person, tool: str, arguments: dict[str, Any]) -> Callable[[], Any]:
    """Calls a tool through the gateway as an MCP client does."""
    key = person.key()

    async def run(client: Client) -> Any:
        return await client.call_tool(tool, arguments)

    return lambda: in_thread(at_gateway, url, key, run)


def in_thread(work: Callable[..., Any], *args: Any) -> Any:
    """Playwright's event loop occupies this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *args).result()
