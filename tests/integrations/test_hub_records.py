"""The change lists of servers, auth configs, connections and tools: who sees what, bulk actions, history."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from aster.accounts.models import AuditEvent
from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, AuthType, ClientRegistration, Connection, McpServer
from integrations.services.catalogue import store_tools
from tests.conftest import Person
from tests.integrations.hub import MakeServer, auth_of, html_of, make_server, notes_at_nowhere, oauth_config, text_of

__all__ = ["make_server", "notes_at_nowhere"]

pytestmark = pytest.mark.django_db

SERVERS, AUTHS = "/hub/integrations/mcpserver/", "/hub/integrations/authconfig/"
CONNECTIONS, TOOLS = "/hub/integrations/connection/", "/hub/integrations/tool/"
REGISTRATIONS = "/hub/integrations/clientregistration/"


def run(browser: Client, path: str, action: str, *rows: Any) -> str:
    form = {"action": action, "_selected_action": [row.pk for row in rows], "index": "0"}
    return text_of(browser.post(path, form, follow=True))


@pytest.fixture
def keyed(make_server: MakeServer) -> McpServer:
    auth = AuthConfig(
        name="Docs key", auth_type=AuthType.BEARER, token="t0ken-canary", custom_headers={"X-Key": "h34der-canary"}
    )
    return make_server("Docs", auth=auth)


def test_the_lists_show_ones_organization_only(
    alice: Person, charlie: Person, keyed: McpServer, notes_at_nowhere: McpServer
) -> None:
    store_tools(keyed, [{"name": "read_page"}], seen_by=None, now=timezone.now())
    connection = Connection.objects.create(auth_config=auth_of(notes_at_nowhere), user=alice.user)
    for path, word in ((SERVERS, "Docs"), (AUTHS, "Docs key"), (TOOLS, "read_page"), (CONNECTIONS, "Acme ID")):
        assert word in text_of(alice.browser().get(path))
        assert word not in text_of(charlie.browser().get(path))
    theirs = charlie.browser().get(f"{CONNECTIONS}{connection.pk}/change/", follow=True)
    assert "Acme ID" not in text_of(theirs)


def test_members_see_no_auth_configs_or_registrations_and_only_their_own_connections(
    alice: Person, bob: Person, keyed: McpServer, notes_at_nowhere: McpServer
) -> None:
    Connection.objects.create(auth_config=auth_of(notes_at_nowhere), user=alice.user)
    browser = bob.browser()
    for path in (AUTHS, REGISTRATIONS, f"{AUTHS}{keyed.auth_config_id}/change/"):
        assert browser.get(path).status_code == 403
    assert "Alice" not in text_of(browser.get(CONNECTIONS))
    assert browser.get(SERVERS).status_code == 200


def test_adding_and_changing_a_server_happens_on_its_own_page(alice: Person, bob: Person, keyed: McpServer) -> None:
    assert alice.browser().get(f"{SERVERS}add/")["Location"] == "/hub/servers/add/"
    change = f"{SERVERS}{keyed.pk}/change/"
    assert alice.browser().get(change)["Location"] == "/hub/servers/docs/edit/"
    assert bob.browser().get(change)["Location"] == "/hub/servers/docs/"
    assert alice.browser().get(f"{SERVERS}999/change/").status_code == 404


def test_servers_are_switched_off_on_and_deleted_in_bulk(
    alice: Person, make_server: MakeServer, keyed: McpServer
) -> None:
    other, browser = make_server("Other"), alice.browser()
    store_tools(keyed, [{"name": "read_page"}], seen_by=None, now=timezone.now())
    assert "2 MCP servers switched off." in run(browser, SERVERS, "disable_chosen", keyed, other)
    assert not McpServer.objects.filter(is_enabled=True).exists()
    assert "1 MCP server switched on." in run(browser, SERVERS, "enable_chosen", other)
    form = {"action": "delete_selected", "_selected_action": [keyed.pk], "post": "yes"}
    browser.post(SERVERS, form)
    assert [server.name for server in McpServer.objects.all()] == ["Other"]
    assert not AuthConfig.objects.exists()
    assert AuditEvent.objects.filter(action="deleted", object_type="mcpserver").exists()


@pytest.mark.django_db(transaction=True)
def test_servers_are_tested_in_bulk(alice: Person, make_server: MakeServer, world: DemoWorld) -> None:
    works, fails = make_server("Weather", url=world.weather_url), make_server("Docs")
    words = run(alice.browser(), SERVERS, "test_chosen", works, fails)
    assert "Weather: 3 tools found." in words
    assert "Docs: Nobody answers" in words


def test_members_are_offered_no_bulk_action_on_servers(bob: Person, keyed: McpServer) -> None:
    run(bob.browser(), SERVERS, "disable_chosen", keyed)
    keyed.refresh_from_db()
    assert keyed.is_enabled


def test_connections_are_ended_in_bulk_by_whom_they_belong_to(
    alice: Person, bob: Person, notes_at_nowhere: McpServer
) -> None:
    rows = [Connection.objects.create(auth_config=auth_of(notes_at_nowhere), user=each.user) for each in (alice, bob)]
    run(bob.browser(), CONNECTIONS, "disconnect_chosen", *rows)
    assert list(Connection.objects.all()) == [rows[0]]
    assert "1 connection disconnected." in run(alice.browser(), CONNECTIONS, "disconnect_chosen", *rows)


# --- Auth configs ----------------------------------------------------------------------------------------------------


def fields_of(auth_type: str, **changes: Any) -> dict[str, Any]:
    return {"name": "Docs key", "auth_type": auth_type, "resource_mode": "send", "client_mode": "dynamic", **changes}


def test_an_auth_config_is_changed_without_showing_or_losing_its_secrets(alice: Person, keyed: McpServer) -> None:
    path, browser = f"{AUTHS}{keyed.auth_config_id}/change/", alice.browser()
    page = browser.get(path)
    assert "Set. Leave empty to keep it." in text_of(page)
    assert "canary" not in html_of(page)
    fields = fields_of(AuthType.BEARER, token="", custom_headers="X-Key: [REDACTED]")
    assert browser.post(path, {**fields, "name": "Renamed"}).status_code == 302
    auth = AuthConfig.objects.get()
    assert (auth.name, auth.token, auth.custom_headers) == ("Renamed", "t0ken-canary", {"X-Key": "h34der-canary"})
    browser.post(path, {**fields, "token": "n3w-canary"})
    assert AuthConfig.objects.get().token == "n3w-canary"
    history = browser.get(f"{AUTHS}{auth.pk}/history/")
    assert "Changed: Name from Docs key to Renamed" in text_of(history)
    assert "alice@acme.test" in text_of(history)
    assert "canary" not in html_of(history)


def test_an_auth_config_is_added_by_itself(alice: Person) -> None:
    response = alice.browser().post(f"{AUTHS}add/", fields_of(AuthType.BASIC, username="ada", password="p"))
    assert response.status_code == 302
    auth = AuthConfig.objects.get()
    assert (auth.organization, auth.auth_type, auth.username) == (alice.organization, AuthType.BASIC, "ada")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": ""}, "name", "This field is required."),
        ({"custom_headers": "Host: x"}, "custom_headers", "set by Aster itself"),
        ({"auth_type": AuthType.AUTHORIZATION_CODE, "token_url": "ftp://x"}, "token_url", "http"),
        ({"auth_type": AuthType.CLIENT_CREDENTIALS}, "client_id", "Paste the client ID"),
    ],
)
def test_a_refusal_stands_beside_its_field_and_nothing_is_stored(
    alice: Person, changes: dict[str, str], field: str, words: str
) -> None:
    page: Any = alice.browser().post(f"{AUTHS}add/", {**fields_of(AuthType.BEARER, token="t0ken-canary"), **changes})
    assert page.status_code == 200
    assert words in " ".join(page.context["adminform"].form.errors[field])
    assert "canary" not in html_of(page)
    assert not AuthConfig.objects.exists()


def test_an_auth_config_in_use_cannot_be_deleted(alice: Person, bob: Person, notes_at_nowhere: McpServer) -> None:
    auth = auth_of(notes_at_nowhere)
    Connection.objects.create(auth_config=auth, user=bob.user)
    browser = alice.browser()
    used = browser.post(f"{AUTHS}{auth.pk}/delete/", {"post": "yes"}, follow=True)
    assert "These objects need it. Delete or change them first" in text_of(used)
    notes_at_nowhere.delete()
    page = browser.post(f"{AUTHS}{auth.pk}/delete/", {"post": "yes"}, follow=True)
    assert "People are connected through this auth config." in text_of(page)
    form = {"action": "delete_selected", "_selected_action": [auth.pk], "post": "yes"}
    assert "People are connected through this auth config." in text_of(browser.post(AUTHS, form, follow=True))
    assert AuthConfig.objects.filter(pk=auth.pk).exists()


def test_an_auth_config_nobody_uses_is_deleted(alice: Person) -> None:
    auth = AuthConfig.objects.create(organization=alice.organization, name="Spare")
    alice.browser().post(f"{AUTHS}{auth.pk}/delete/", {"post": "yes"})
    assert not AuthConfig.objects.exists()


# --- What can only be looked at --------------------------------------------------------------------------------------


def test_no_page_of_the_records_shows_a_stored_secret(alice: Person, make_server: MakeServer) -> None:
    auth = oauth_config(client_secret="cl1ent-canary", extra_token_params={"k": "3xtra-canary"})
    server = make_server("Notes", auth=auth, env={})
    connection = Connection.objects.create(
        auth_config=auth, user=alice.user, access_token="t0ken-canary", refresh_token="r3fresh-canary",
        client_secret="s3cret-canary",
    )  # fmt: skip
    registration = ClientRegistration.objects.create(
        auth_config=auth, issuer="https://id.example", client_id="app", client_secret="r3gistered-canary",
        token_endpoint_auth_method="client_secret_basic",
    )  # fmt: skip
    browser = alice.browser()
    for path, row in ((CONNECTIONS, connection), (REGISTRATIONS, registration), (AUTHS, auth), (SERVERS, server)):
        for page in (path, f"{path}{row.pk}/change/", f"{path}{row.pk}/history/"):
            response = browser.get(page, follow=True)
            assert response.status_code == 200, page
            assert "canary" not in html_of(response), page


@pytest.mark.parametrize("path", [CONNECTIONS, TOOLS, REGISTRATIONS])
def test_what_aster_writes_itself_cannot_be_added_by_hand(alice: Person, path: str) -> None:
    assert alice.browser().get(f"{path}add/").status_code == 403


def test_tools_are_found_by_what_they_say(alice: Person, keyed: McpServer) -> None:
    tools: list[dict[str, Any]] = [{"name": "read_page", "description": "Reads pages"}, {"name": "weather"}]
    store_tools(keyed, tools, seen_by=None, now=timezone.now())
    words = text_of(alice.browser().get(TOOLS, {"q": "pages"}))
    assert "read_page" in words
    assert "weather" not in words
