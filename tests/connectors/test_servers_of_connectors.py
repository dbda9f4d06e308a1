"""A connector's server on the faces that are for any server: what can be changed there, and what cannot."""

from __future__ import annotations

from typing import Any

import pytest

from aster.errors import InvalidInput
from connectors.services import Settings, enable_connector, find_enabled
from integrations.models import McpServer, Transport
from integrations.services.servers import save_server
from tests.agents.admin_mcp import AdminClient, admin, off_the_loop
from tests.conftest import Person, body

__all__ = ["admin", "off_the_loop"]
pytestmark = pytest.mark.django_db(transaction=True)
API, EDIT = "/api/v1/config/mcp-server", "/hub/servers/slack/edit/"
# Each would make it something else.
OTHERS: list[dict[str, Any]] = [
    {"transport": "streamable_http"},
    {"transport": "stdio", "command": "python"},
    {"command": "github"},
    {"command": ""},
    {"args": ["7"]},
]


@pytest.fixture
def slack(alice: Person) -> McpServer:
    return enable_connector("slack", Settings(client_id="1234", client_secret="s3cret"), actor=alice.actor)


def kept(alice: Person) -> tuple[str, str, list[str], str]:
    server = find_enabled("slack", actor=alice.actor)
    return server.transport, server.command, server.args, server.url


AS_ENABLED = (Transport.CONNECTOR, "slack", [], "https://slack.com/api")


class TestTheApi:
    @pytest.mark.parametrize("sent", OTHERS, ids=str)
    def test_cannot_make_it_something_else(self, slack: McpServer, alice: Person, sent: dict[str, Any]) -> None:
        answer = alice.api().patch(f"{API}/{slack.pk}", sent)
        assert answer.status_code == 400 and body(answer)["code"] == "is_connector"
        assert set(sent) & set(body(answer)["fields"]) and "under Connectors" in str(body(answer))
        assert kept(alice) == AS_ENABLED

    def test_cannot_make_one_by_hand(self, alice: Person) -> None:
        sent = {"name": "Mine", "transport": "connector", "command": "slack", "url": "https://slack.com/api"}
        answer = alice.api().post(API, sent)
        assert answer.status_code == 400 and "enabled under Connectors" in body(answer)["fields"]["transport"][0]
        assert not McpServer.objects.exists()

    def test_cannot_make_a_connector_of_another_server(self, alice: Person) -> None:
        server = save_server(McpServer(name="Own", url="http://127.0.0.1:9/mcp"), actor=alice.actor, test=False).server
        answer = alice.api().patch(f"{API}/{server.pk}", {"transport": "connector", "command": "slack"})
        assert answer.status_code == 400 and body(answer)["code"] == "is_connector"
        server.refresh_from_db()
        assert server.transport == Transport.STREAMABLE_HTTP

    def test_changes_the_rest(self, slack: McpServer, alice: Person) -> None:
        sent = {"name": "Our Slack", "description": "Ours", "timeout_seconds": 9, "is_enabled": False,
                "tool_scopes": {"slack_send_message": ["chat:send"]}}  # fmt: skip
        answer = alice.api().patch(f"{API}/{slack.pk}", sent)
        assert answer.status_code == 200 and {name: body(answer)[name] for name in sent} == sent
        assert kept(alice) == AS_ENABLED

    def test_takes_its_own_answer_back(self, slack: McpServer, alice: Person) -> None:
        api = alice.api()
        answer = api.patch(f"{API}/{slack.pk}", body(api.get(f"{API}/{slack.pk}")))
        assert answer.status_code == 200, answer.content
        assert kept(alice) == AS_ENABLED

    def test_puts_no_other_server_in_its_place(self, slack: McpServer, alice: Person) -> None:
        sent = {"name": "Slack", "url": "https://mcp.example.com/mcp", "transport": "sse", "test_connection": False}
        answer = alice.api().put(f"{API}/slack", sent)
        assert (answer.status_code, body(answer)["code"]) == (400, "is_connector")
        assert kept(alice) == AS_ENABLED


class TestTheForm:
    def form(self, **changes: Any) -> dict[str, Any]:
        return {"server": "slack", "name": "Slack", "description": "", "auth_type": "AUTHORIZATION_CODE",
                "client_mode": "known_credentials", "client_id": "1234", "resource_mode": "omit", "use_pkce": "on",
                "authorization_url": "https://slack.com/oauth/v2_user/authorize", "preset": "slack",
                "token_url": "https://slack.com/api/oauth.v2.user.access", "timeout_seconds": "30",
                "retry_attempts": "1", "token_endpoint_auth_method": "client_secret_post", **changes}  # fmt: skip

    def test_shows_that_it_is_a_connector(self, slack: McpServer, alice: Person) -> None:
        page = alice.browser().get(EDIT).content.decode()
        assert "set under Connectors" in page and "Streamable HTTP" not in page

    def test_changes_name_and_limits(self, slack: McpServer, alice: Person) -> None:
        answer = alice.browser().post(EDIT, self.form(name="Our Slack", timeout_seconds="9"))
        assert answer.status_code == 302, answer.content.decode()
        server = find_enabled("slack", actor=alice.actor)
        assert (server.name, server.timeout_seconds) == ("Our Slack", 9) and kept(alice) == AS_ENABLED

    @pytest.mark.parametrize("sent", [*OTHERS, {"url": "https://elsewhere.example.com"}], ids=str)
    def test_does_not_make_it_something_else(self, slack: McpServer, alice: Person, sent: dict[str, Any]) -> None:
        alice.browser().post(EDIT, self.form(**sent))
        assert kept(alice) == AS_ENABLED

    def test_makes_none_by_hand(self, alice: Person) -> None:
        form = self.form(server="", transport="connector", command="slack", url="https://slack.com/api")
        answer = alice.browser().post("/hub/servers/add/", {**form, "test": "skip"})
        assert answer.status_code == 400 and not McpServer.objects.exists()


class TestTheAdminServer:
    @pytest.mark.parametrize("sent", OTHERS, ids=str)
    def test_cannot_make_it_something_else(
        self, admin: AdminClient, slack: McpServer, alice: Person, sent: dict[str, Any]
    ) -> None:
        assert "under Connectors" in admin.refused("update_server", server="slack", **sent)
        assert kept(alice) == AS_ENABLED

    def test_cannot_make_one_by_hand(self, admin: AdminClient) -> None:
        words = admin.refused(
            "add_server", name="Mine", transport="connector", command="slack", url="https://slack.com"
        )
        assert "enabled under Connectors" in words and not McpServer.objects.exists()

    def test_changes_the_rest(self, admin: AdminClient, slack: McpServer, alice: Person) -> None:
        saved = admin.ok("update_server", server="slack", name="Our Slack", timeout_seconds=9)
        assert (saved["name"], saved["timeout_seconds"], saved["transport"]) == ("Our Slack", 9, "connector")
        assert kept(alice) == AS_ENABLED


def test_the_service_itself_refuses(slack: McpServer, alice: Person) -> None:
    for name, value in (("transport", Transport.STREAMABLE_HTTP), ("command", "notion"), ("args", ["1"])):
        server = find_enabled("slack", actor=alice.actor)
        setattr(server, name, value)
        with pytest.raises(InvalidInput, match="under Connectors"):
            save_server(server, actor=alice.actor)
    by_hand = McpServer(name="Mine", transport=Transport.CONNECTOR, command="slack", url="https://slack.com/api")
    with pytest.raises(InvalidInput, match="under Connectors"):
        save_server(by_hand, actor=alice.actor)
    assert kept(alice) == AS_ENABLED and McpServer.objects.count() == 1


def test_it_is_not_deleted_past_the_revoking(slack: McpServer, admin: AdminClient, alice: Person) -> None:
    refused = alice.api().delete(f"{API}/{slack.pk}")
    assert (refused.status_code, body(refused)["code"]) == (409, "is_connector")
    assert "Disable it under Connectors" in admin.refused("remove_server", server="slack", confirm="slack")
    browser = alice.browser()
    for method in (browser.get, browser.post):
        assert "Disable it under Connectors" in method("/hub/servers/slack/delete/", follow=True).content.decode()
    assert browser.post(f"/hub/integrations/mcpserver/{slack.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "Open Connectors" in browser.get("/hub/servers/slack/").content.decode()
    assert kept(alice) == AS_ENABLED
