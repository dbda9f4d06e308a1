"""The front page of cards and the page of one server: state, tools, who is connected, and the buttons."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from agents.models import Agent
from agents.services.agents import save_agent
from aster.accounts.models import AuditEvent
from integrations.models import AuthConfig, AuthType, Connection, McpServer, Tool
from integrations.services.catalogue import store_tools
from tests.conftest import Person, body
from tests.integrations.hub import MakeServer, auth_of, html_of, make_server, notes_at_nowhere, oauth_config, text_of
from tests.walks.conftest import weather

__all__ = ["make_server", "notes_at_nowhere", "weather"]

pytestmark = pytest.mark.django_db

TOOLS: list[dict[str, Any]] = [
    {
        "name": "read_page", "title": "Read a page", "description": "Reads <b>one</b> page.",
        "annotations": {"readOnlyHint": True},
        "inputSchema": {"type": "object", "required": ["url"], "properties": {
            "url": {"type": "string", "description": "Which page"}, "depth": {"enum": [1, 2]},
            "odd": "not a schema", "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        }},
    },
    {"name": "delete_page", "annotations": {"destructiveHint": True}, "inputSchema": "nonsense"},
]  # fmt: skip


def test_an_empty_organization_invites_admins_to_add_a_server_and_members_to_wait(alice: Person, bob: Person) -> None:
    assert "/hub/servers/add/" in html_of(alice.browser().get("/hub/integrations/"))
    page = bob.browser().get("/hub/integrations/")
    assert "An admin of your organization adds MCP servers" in text_of(page)
    assert "/hub/servers/add/" not in html_of(page)


def test_a_stranger_is_sent_to_sign_in(client: Any, db: None) -> None:
    response = client.get("/hub/integrations/")
    assert (response.status_code, response["Location"]) == (302, "/hub/login/?next=/hub/integrations/")


@pytest.mark.parametrize("count", [3, 12])
def test_the_number_of_queries_does_not_grow_with_the_servers(
    alice: Person, make_server: MakeServer, django_assert_num_queries: DjangoAssertNumQueries, count: int
) -> None:
    made = [make_server(f"Server {number}") for number in range(count - 1)]
    made.append(make_server("Signed in", auth=oauth_config()))
    Connection.objects.create(auth_config=auth_of(made[-1]), user=alice.user, access_token="t")
    save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk for server in made])
    browser = alice.browser()
    browser.get("/hub/integrations/")
    # Session, person, membership; servers, connections, tool counts; organizations, broken connections, approvals and
    # changed tools of the shell.
    with django_assert_num_queries(10):
        page = browser.get("/hub/integrations/")
    assert page.content.count(b"item-card") >= count


@pytest.mark.parametrize(
    ("auth_type", "headers", "word"),
    [("NONE", {}, "Ready"), ("NONE", {"X-Key": "k"}, "Connected"), ("BEARER", {}, "Connected")],
)
def test_a_server_that_works_is_connected_only_where_somebody_signs_in(
    alice: Person, make_server: MakeServer, auth_type: str, headers: dict[str, str], word: str
) -> None:
    config = AuthConfig(name="Key", auth_type=auth_type, token="k" * (auth_type == "BEARER"), custom_headers=headers)
    server = make_server("Docs", auth=config)
    McpServer.objects.filter(pk=server.pk).update(test_status="ok", tested_at=timezone.now())
    card = re.search(r'id="server-docs".*?</li>\s*</ul>', html_of(alice.browser().get("/hub/integrations/")), re.DOTALL)
    assert card
    said = {"Ready", "Connected"} & set(re.findall(r"[A-Z][a-z]+", card[0]))
    assert said == {word}
    assert body(alice.api().get("/api/v1/config/mcp-server/docs"))["status"] == "connected"


def test_each_card_says_its_state_to_the_person_who_looks(
    alice: Person, bob: Person, make_server: MakeServer, notes_at_nowhere: McpServer
) -> None:
    make_server("Docs")
    Connection.objects.create(
        auth_config=auth_of(notes_at_nowhere), user=alice.user, status="connection_error",
        last_error="The provider says invalid_grant.",
    )  # fmt: skip
    mine = text_of(alice.browser().get("/hub/integrations/"))
    assert "Connection error" in mine
    assert "The provider says invalid_grant. Connect again to keep using its tools." in mine
    assert "Untested" in mine
    theirs = text_of(bob.browser().get("/hub/integrations/"))
    assert "Not connected" in theirs
    assert "invalid_grant" not in theirs


def test_members_see_no_button_that_only_admins_may_press(bob: Person, make_server: MakeServer) -> None:
    server = make_server("Docs")
    for path in ("/hub/integrations/", f"/hub/servers/{server.slug}/"):
        page = html_of(bob.browser().get(path))
        for action in ("edit", "delete", "enable", "disable"):
            assert f"/hub/servers/docs/{action}/" not in page
        assert "/hub/servers/docs/test/" in page


def test_a_long_list_can_be_searched_and_narrowed_by_state(alice: Person, make_server: MakeServer) -> None:
    for number in range(6):
        make_server(f"Server {number}")
    browser = alice.browser()
    assert 'name="q"' not in html_of(browser.get("/hub/integrations/"))
    off = make_server("Special docs")
    browser.post(f"/hub/servers/{off.slug}/disable/")
    found = text_of(browser.get("/hub/integrations/", {"q": "special DOCS"}))
    assert "Special docs" in found
    assert "Server 3" not in found
    assert "1 of 7" in text_of(browser.get("/hub/integrations/", {"state": "disabled"}))
    assert "No server matches" in text_of(browser.get("/hub/integrations/", {"q": "nothing like it"}))


# --- One server ------------------------------------------------------------------------------------------------------


def test_the_page_of_a_server_shows_its_tools_and_their_inputs(
    alice: Person, bob: Person, make_server: MakeServer
) -> None:
    server = make_server("Docs")
    store_tools(server, TOOLS, seen_by=None, now=timezone.now())
    page = alice.browser().get("/hub/servers/docs/")
    words = text_of(page)
    for said in ("Read a page", "read_page", "Read-only", "Destructive", "Which page", "1 | 2 optional"):
        assert said in words
    assert "string | null" in words
    assert "Reads &lt;b&gt;one&lt;/b&gt; page." in page.content.decode()
    assert "/hub/playground/?server=docs&tool=read_page" in html_of(page)
    seen_by_member = bob.browser().get("/hub/servers/docs/")
    assert "read_page" in text_of(seen_by_member) and "playground/?" not in html_of(seen_by_member)
    assert "No tool matches" in text_of(alice.browser().get("/hub/servers/docs/", {"q": "translate"}))


def test_a_tool_that_is_gone_is_not_listed(alice: Person, make_server: MakeServer) -> None:
    server = make_server("Docs")
    store_tools(server, TOOLS, seen_by=None, now=timezone.now())
    Tool.objects.filter(name="delete_page").update(gone_at=timezone.now())
    assert "delete_page" not in text_of(alice.browser().get("/hub/servers/docs/"))


def test_members_see_their_own_connection_and_admins_everybodys(
    alice: Person, bob: Person, notes_at_nowhere: McpServer
) -> None:
    auth = auth_of(notes_at_nowhere)
    for person in (alice, bob):
        Connection.objects.create(auth_config=auth, user=person.user, scopes=[f"scope:{person.user.name.lower()}"])
    path = f"/hub/servers/{notes_at_nowhere.slug}/"
    everybody, own = text_of(alice.browser().get(path)), text_of(bob.browser().get(path))
    assert "scope:alice" in everybody
    assert "scope:bob" in everybody
    assert "scope:bob" in own
    assert "scope:alice" not in own
    assert "127.0.0.1:9/authorize" in everybody
    assert "127.0.0.1:9/authorize" not in own


def test_the_page_names_the_agents_that_use_the_server(alice: Person, make_server: MakeServer) -> None:
    server = make_server("Docs")
    save_agent(Agent(name="Librarian"), actor=alice.actor, server_ids=[server.pk])
    assert "Librarian" in text_of(alice.browser().get("/hub/servers/docs/"))


@pytest.mark.parametrize("page", ["", "edit/", "connect/", "delete/", "test/"])
def test_the_server_of_another_organization_does_not_exist(charlie: Person, make_server: MakeServer, page: str) -> None:
    make_server("Docs")
    assert charlie.browser().get(f"/hub/servers/docs/{page}").status_code == 404


# --- Buttons ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_testing_says_what_was_found_and_keeps_it(bob: Person, weather: McpServer) -> None:
    page = bob.browser().post(f"/hub/servers/{weather.slug}/test/", follow=True)
    assert page.redirect_chain[-1][0] == f"/hub/servers/{weather.slug}/"
    assert "Acme Weather works. 3 tools found." in text_of(page)
    weather.refresh_from_db()
    assert weather.test_status == "ok"


@pytest.mark.django_db(transaction=True)
def test_htmx_gets_the_card_with_the_result_in_it(alice: Person, weather: McpServer) -> None:
    card = alice.browser().post(f"/hub/servers/{weather.slug}/test/", headers={"HX-Request": "true"})
    assert "It works. 3 tools found." in text_of(card)
    assert "<html" not in card.content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_test_that_fails_says_what_to_do(alice: Person, make_server: MakeServer) -> None:
    make_server("Docs")
    page = alice.browser().post("/hub/servers/docs/test/", follow=True)
    assert "Docs: Nobody answers at 127.0.0.1:9" in text_of(page)
    assert "Connection error" in text_of(page)
    assert "Reaching the server" in text_of(page)


def test_testing_without_a_sign_in_asks_for_one(alice: Person, notes_at_nowhere: McpServer) -> None:
    page = alice.browser().post(f"/hub/servers/{notes_at_nowhere.slug}/test/", follow=True)
    assert "Connect your account first" in text_of(page)


@pytest.mark.django_db(transaction=True)
def test_refreshing_the_tools_says_how_many_there_are(bob: Person, weather: McpServer) -> None:
    Tool.objects.all().delete()
    page = bob.browser().post(f"/hub/servers/{weather.slug}/refresh-tools/", follow=True)
    assert "Acme Weather offers 3 tools." in text_of(page)
    assert Tool.objects.count() == 3


def test_a_disabled_server_lists_no_tools(alice: Person, make_server: MakeServer) -> None:
    make_server("Docs")
    browser = alice.browser()
    assert "Docs is switched off." in text_of(browser.post("/hub/servers/docs/disable/", follow=True))
    assert "An admin can switch it on" in text_of(browser.post("/hub/servers/docs/refresh-tools/", follow=True))
    assert "Docs is on again." in text_of(browser.post("/hub/servers/docs/enable/", follow=True))
    actions = AuditEvent.objects.filter(object_type="mcpserver").values_list("action", flat=True)
    assert {"disabled", "enabled"} <= set(actions)


@pytest.mark.parametrize("action", ["enable", "disable", "delete", "edit"])
def test_members_may_not_change_servers(bob: Person, make_server: MakeServer, action: str) -> None:
    server = make_server("Docs")
    response = bob.browser().post(f"/hub/servers/docs/{action}/")
    assert response.status_code == 403
    assert "Only an admin" in text_of(response)
    server.refresh_from_db()
    assert server.is_enabled


def test_an_action_opened_as_a_link_shows_the_server(alice: Person, make_server: MakeServer) -> None:
    make_server("Docs")
    for action in ("test", "disable", "disconnect", "refresh-tools"):
        assert alice.browser().get(f"/hub/servers/docs/{action}/")["Location"] == "/hub/servers/docs/"
    assert McpServer.objects.get().is_enabled


def test_deleting_asks_first_and_names_what_goes_with_the_server(alice: Person, make_server: MakeServer) -> None:
    key = AuthConfig(name="Docs key", auth_type=AuthType.BEARER, token="k")
    server = make_server("Docs", auth=key)
    save_agent(Agent(name="Librarian"), actor=alice.actor, server_ids=[server.pk])
    browser = alice.browser()
    asked = text_of(browser.get("/hub/servers/docs/delete/"))
    assert "Librarian can no longer use it." in asked
    assert "The auth config Docs key" in asked
    assert McpServer.objects.exists()
    done = browser.post("/hub/servers/docs/delete/", follow=True)
    assert "Docs is deleted." in text_of(done)
    assert not McpServer.objects.exists()
    assert not AuthConfig.objects.exists()


def test_the_buttons_lead_back_to_the_page_they_were_on_but_to_no_other_site(
    alice: Person, make_server: MakeServer
) -> None:
    make_server("Docs")
    browser = alice.browser()
    back = browser.post("/hub/servers/docs/disable/", {"next": "/hub/integrations/"})
    assert back["Location"] == "/hub/integrations/"
    away = browser.post("/hub/servers/docs/enable/", {"next": "https://evil.example/"})
    assert away["Location"] == "/hub/servers/docs/"


def test_a_derived_sign_in_is_shown_like_any_other(alice: Person, bob: Person, make_server: MakeServer) -> None:
    source = oauth_config("Company")
    make_server("Portal", auth=source)
    derived = oauth_config("Vouched", client_id="aster", client_secret="s3cret")
    derived.auth_type, derived.subject_config = AuthType.ID_JAG, source
    make_server("CRM", auth=derived)
    assert "OAuth, vouched for" in text_of(bob.browser().get("/hub/integrations/"))
    server_page = text_of(alice.browser().get("/hub/servers/crm/"))
    assert "Derived from" in server_page
    assert "Company" in server_page
    assert "CRM" in text_of(bob.browser().get("/hub/connections/"))
    assert "CRM" in text_of(alice.browser().get("/hub/matrix/"))
