"""Connectors through the admin MCP server: what each tool does, for whom, and what is asked first."""

from __future__ import annotations

from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from aster.accounts.access import CALL, CONNECT, MANAGE, READ
from aster.accounts.models import AuditEvent
from connectors.registry import all_connectors
from connectors.services import Settings, enable_connector
from integrations.models import AuthConfig, McpServer
from tests.agents.admin_mcp import ERAS, AdminClient, admin, client_of, member, off_the_loop, words
from tests.conftest import Person
from tests.fakes.rest_catalog import KEY

__all__ = ["admin", "member", "off_the_loop"]
pytestmark = pytest.mark.django_db(transaction=True)
APP = {"client_id": "1234.5678", "client_secret": "s3cret"}
TOOLS = {"list_connectors", "enable_connector", "update_connector", "disable_connector"}


@pytest.fixture
def slack(alice: Person) -> McpServer:
    return enable_connector("slack", Settings(**APP), actor=alice.actor)


def shown(admin: AdminClient, slug: str) -> dict[str, Any]:
    return next(each for each in admin.ok("list_connectors")["results"] if each["slug"] == slug)


# --- For whom -------------------------------------------------------------------------------------------------------


def test_admins_see_the_tools_and_members_do_not(admin: AdminClient, member: AdminClient) -> None:
    assert set(admin.names()) >= TOOLS and not TOOLS & set(member.names())


@pytest.mark.parametrize("scope", [READ, CALL, CONNECT])
def test_a_key_without_the_scope_to_manage_does_not_see_them(aster: str, alice: Person, scope: str) -> None:
    assert not TOOLS & set(client_of(alice, aster, scope).names())
    assert set(client_of(alice, aster, MANAGE).names()) >= TOOLS


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_a_member_is_refused(member: AdminClient, slack: McpServer, tool: str) -> None:
    with pytest.raises(MCPError, match="Only an admin of the organization can do this"):
        member.call(tool, **({} if tool == "list_connectors" else {"connector": "slack", "confirm": "slack"}))
    assert McpServer.objects.filter(pk=slack.pk).exists()


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_a_key_that_lacks_the_scope_is_told_which(aster: str, alice: Person, slack: McpServer, tool: str) -> None:
    with pytest.raises(MCPError, match=f"lacks the scope {MANAGE}"):
        client_of(alice, aster, READ).call(tool, connector="slack")
    assert McpServer.objects.filter(pk=slack.pk).exists()


def test_another_organizations_connector_is_not_enabled_here(aster: str, slack: McpServer, charlie: Person) -> None:
    his = client_of(charlie, aster)
    assert shown(his, "slack")["server"] is None
    assert "Slack is not enabled" in his.refused("update_connector", connector="slack", client_id="mine")
    assert "Slack is not enabled" in his.refused("disable_connector", connector="slack", confirm="slack")
    assert his.ok("enable_connector", connector="slack", **APP)["server"] == "slack"
    assert McpServer.objects.count() == 2


# --- What they do ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ERAS)
def test_the_catalogue_is_listed_with_what_is_enabled(aster: str, alice: Person, slack: McpServer, mode: str) -> None:
    client = client_of(alice, aster, mode=mode)
    listed = client.ok("list_connectors")["results"]
    assert [each["slug"] for each in listed] == [each.slug for each in all_connectors()]
    assert [each["slug"] for each in listed if each["server"]] == ["slack"]
    facts = shown(client, "slack")
    assert facts["has_secret"] and facts["redirect_uri"] and "s3cret" not in str(listed)


@pytest.mark.parametrize("mode", ERAS)
def test_one_is_enabled_with_the_app_of_a_provider(aster: str, alice: Person, mode: str) -> None:
    client = client_of(alice, aster, mode=mode)
    enabled = client.ok("enable_connector", connector="notion", **APP)
    assert (enabled["server"], enabled["is_enabled"], enabled["has_secret"]) == ("notion", True, True)
    assert "s3cret" not in str(enabled) and AuthConfig.objects.get().client_secret == "s3cret"
    event = AuditEvent.objects.get(object_type="mcpserver", action="created")
    assert (event.via, event.actor) == ("gateway", alice.user)


def test_one_is_enabled_with_a_key_of_the_organization(admin: AdminClient) -> None:
    enabled = admin.ok("enable_connector", connector="stripe", api_key=KEY)
    assert enabled["kind"] == "api_key" and KEY not in str(enabled) and AuthConfig.objects.get().token == KEY


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"connector": "slack"}, "client_id"),
        ({"connector": "slack", **APP, "api_key": "x"}, "Slack has no api_key"),
        ({"connector": "stripe"}, "Paste the API key"),
        ({"connector": "stripe", "api_key": "x", "client_id": "y"}, "Stripe has no client_id"),
        ({"connector": "nonsense", **APP}, "no such connector"),
        ({"connector": "github", **APP, "url": "http://10.0.0.1/api"}, "url"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_said_and_nothing_is_stored(admin: AdminClient, given: dict[str, str], told: str) -> None:
    said = admin.refused("enable_connector", **given)
    assert told in said and "s3cret" not in said
    assert not McpServer.objects.exists() and not AuthConfig.objects.exists()


def test_twice_is_a_conflict(admin: AdminClient, slack: McpServer) -> None:
    assert "enabled already" in admin.refused("enable_connector", connector="slack", **APP)
    assert McpServer.objects.count() == 1


def test_a_change_keeps_what_was_left_out(admin: AdminClient, slack: McpServer) -> None:
    changed = admin.ok("update_connector", connector="slack", scopes=["channels:read"], is_enabled=False)
    assert (changed["scopes"], changed["is_enabled"], changed["client_id"]) == (["channels:read"], False, "1234.5678")
    assert AuthConfig.objects.get().client_secret == "s3cret"


def test_what_is_not_enabled_cannot_be_changed(admin: AdminClient) -> None:
    assert "Notion is not enabled" in admin.refused("update_connector", connector="notion", client_id="x")


# --- Disabling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confirm", [{}, {"confirm": ""}, {"confirm": "yes"}, {"confirm": "Slack"}], ids=str)
def test_disabling_wants_the_slug_once_more(admin: AdminClient, slack: McpServer, confirm: dict[str, str]) -> None:
    said = admin.refused("disable_connector", connector="slack", **confirm)
    assert "0 connected accounts are revoked" in said and "confirm set to slack" in said
    assert McpServer.objects.filter(pk=slack.pk, is_enabled=True).exists()


@pytest.mark.parametrize("mode", ERAS)
def test_it_is_disabled_once_it_was_confirmed(aster: str, alice: Person, slack: McpServer, mode: str) -> None:
    client = client_of(alice, aster, mode=mode)
    assert client.ok("disable_connector", connector="slack", confirm="slack") == {"revoked": 0, "not_revoked": []}
    assert not McpServer.objects.exists() and not AuthConfig.objects.exists()
    assert "Slack is not enabled" in client.refused("disable_connector", connector="slack", confirm="slack")


@pytest.mark.parametrize("answer", ["decline", "cancel"])
def test_a_person_who_is_asked_may_say_no(admin: AdminClient, slack: McpServer, answer: str) -> None:
    refused = admin.call_asking("disable_connector", lambda params: answer, connector="slack", confirm="slack")
    assert refused.is_error and McpServer.objects.filter(pk=slack.pk, is_enabled=True).exists()


def test_a_person_who_agrees_is_enough(admin: AdminClient, slack: McpServer) -> None:
    asked: list[str] = []

    def agrees(params: Any) -> str:
        asked.append(params.message)
        return "accept"

    done = admin.call_asking("disable_connector", agrees, connector="slack")
    assert not done.is_error and "Nobody was connected" in words(done)
    assert len(asked) == 1 and asked[0].startswith("Disable Slack?") and not McpServer.objects.exists()
