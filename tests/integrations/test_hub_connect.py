"""Connecting in the hub: the page before the provider, the way there and back, and the end of a connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from django.http import HttpResponse
from django.test import Client

from aster.accounts.models import Membership, Role
from aster.demo.authorization_server import AuthorizationServer
from aster.demo.records import Client as OAuthClient
from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, AuthType, Connection, McpServer, PendingAuthorization
from tests.conftest import PASSWORD, Person
from tests.integrations.hub import MakeServer, auth_of, html_of, make_server, notes_at_nowhere, text_of
from tests.walks.conftest import callback_params, consent, notes

__all__ = ["make_server", "notes", "notes_at_nowhere"]

pytestmark = pytest.mark.django_db(transaction=True)

CALLBACK = "/api/mcp/oauth/callback"
CONNECT = "/hub/servers/acme-notes/connect/"


@pytest.fixture
def provider(world: DemoWorld) -> Iterator[AuthorizationServer]:
    """The demo's provider; its switches are put back afterwards."""
    server = world.authorization_server
    yield server
    server.answers.clear()
    server._failures.clear()
    server.dynamic_registration = True


def begin(browser: Client, **form: str) -> str:
    """Press Connect; returns the provider's address."""
    response: Any = browser.post(CONNECT, form)
    assert response.status_code == 200
    url: str = response.context["url"]
    return url


def come_back(browser: Client, authorization_url: str, **decision: str) -> HttpResponse:
    return cast(HttpResponse, browser.get(CALLBACK, callback_params(consent(authorization_url, **decision))))


# --- There -----------------------------------------------------------------------------------------------------------


def test_the_page_explains_what_connecting_means(bob: Person, notes: McpServer) -> None:
    words = text_of(bob.browser().get(CONNECT))
    assert "Your connection is yours alone: nobody else in Acme can use it." in words
    assert "notes:read" in words
    assert not PendingAuthorization.objects.exists()


def test_a_link_of_another_organization_asks_those_who_belong_and_opens_there(
    bob: Person, charlie: Person, notes: McpServer
) -> None:
    Membership.objects.create(organization=charlie.organization, user=bob.user, role=Role.MEMBER)
    browser = bob.browser()
    switch_to(browser, "globex")
    link = f"{CONNECT}?organization=acme"
    page = browser.get(link)
    assert "This link belongs to Acme. You are working in Globex now." in text_of(page)
    # The link alone has changed nothing, wherever it came from.
    assert browser.get(CONNECT).status_code == 404
    asked: Any = page
    answer = {name: asked.context[name] for name in ("organization", "next")}
    opened: Any = browser.post(asked.context["action"], answer, follow=True)
    assert opened.redirect_chain == [(link, 302)]
    assert "Connect to Acme Notes" in text_of(opened)


def test_a_link_of_an_organization_of_strangers_changes_nothing(bob: Person, charlie: Person, notes: McpServer) -> None:
    page = bob.browser().get(f"{CONNECT}?organization=globex")
    assert "Connect to Acme Notes" in text_of(page)


def switch_to(browser: Client, organization: str) -> None:
    assert browser.post("/hub/switch-organization/", {"organization": organization}).status_code == 302


def test_connect_says_where_it_leads_and_leads_there_without_javascript(bob: Person, notes: McpServer) -> None:
    page = bob.browser().post(CONNECT)
    html = html_of(page)
    assert "<script src=" in html
    assert f'http-equiv="refresh" content="0; url={notes_url(page)}"' in html
    assert f'href="{notes_url(page)}"' in html
    assert page["Cache-Control"] == "no-store"
    assert page["Referrer-Policy"] == "no-referrer"


def notes_url(page: Any) -> str:
    url: str = page.context["url"]
    assert url.startswith("http://127.0.0.1")
    return url


def test_a_provider_that_refuses_to_register_is_explained_on_the_page(
    alice: Person, bob: Person, notes: McpServer, provider: AuthorizationServer
) -> None:
    AuthConfig.objects.update(registration_url="")
    page = bob.browser().post(CONNECT)
    assert page.status_code == 502
    assert "The provider does not register clients automatically." in text_of(page)
    assert "Create an OAuth app at the provider with the callback URL" in text_of(page)
    assert "/hub/servers/acme-notes/edit/" not in html_of(page)
    assert "/hub/servers/acme-notes/edit/" in html_of(alice.browser().post(CONNECT))
    assert not PendingAuthorization.objects.exists()


def test_a_server_that_needs_no_sign_in_says_so(bob: Person, make_server: MakeServer) -> None:
    make_server("Docs")
    assert "it is open to everyone" in text_of(bob.browser().get("/hub/servers/docs/connect/"))
    page = bob.browser().post("/hub/servers/docs/connect/", follow=True)
    assert "Docs needs no sign-in of yours." in text_of(page)


def test_an_admin_connects_the_organization_and_a_member_may_not(
    alice: Person, bob: Person, make_server: MakeServer, world: DemoWorld, provider: AuthorizationServer
) -> None:
    client = OAuthClient.with_secret("machine", "s3cret", grant_types=("client_credentials",))
    provider.add_client(client)
    auth = AuthConfig(
        name="Machine", auth_type=AuthType.CLIENT_CREDENTIALS, client_id="machine", client_secret="s3cret",
        token_url=f"{world.issuer}/token", resource=world.notes_url,
    )  # fmt: skip
    make_server("Acme Notes", auth=auth, url=world.notes_url)
    assert bob.browser().post(CONNECT).status_code == 403
    assert "Connected to Acme Notes." in text_of(alice.browser().post(CONNECT, follow=True))
    assert Connection.objects.get().user is None
    members_view = bob.browser().post("/hub/servers/acme-notes/disconnect/", follow=True)
    assert members_view.status_code == 403
    done = text_of(alice.browser().post("/hub/servers/acme-notes/disconnect/", follow=True))
    assert "Disconnected the organization from Acme Notes." in done


# --- And back --------------------------------------------------------------------------------------------------------


def test_consent_leads_back_to_where_the_button_was(bob: Person, notes: McpServer) -> None:
    browser = bob.browser()
    page = come_back(browser, begin(browser, next="/hub/integrations/?state=not_connected"))
    assert page["Location"] == "/hub/integrations/?state=not_connected"
    assert (page["Referrer-Policy"], page["Cache-Control"]) == ("no-referrer", "no-store")
    assert "Connected to Acme Notes." in text_of(browser.get("/hub/integrations/"))
    assert Connection.objects.get().user == bob.user


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example/x", "javascript:alert(1)", "/\\evil"])
def test_nobody_is_led_to_another_site(bob: Person, notes: McpServer, elsewhere: str) -> None:
    browser = bob.browser()
    assert come_back(browser, begin(browser, next=elsewhere))["Location"] == "/hub/servers/acme-notes/"


def test_pressing_connect_twice_is_harmless(bob: Person, notes: McpServer, provider: AuthorizationServer) -> None:
    browser = bob.browser()
    first, second = begin(browser), begin(browser)
    assert come_back(browser, second).status_code == 302
    assert come_back(browser, first).status_code == 302
    assert Connection.objects.count() == 1
    assert "You are connected already" in text_of(browser.get(CONNECT))


def test_declining_is_a_calm_page_with_a_way_to_try_again(bob: Person, notes: McpServer) -> None:
    browser = bob.browser()
    page = come_back(browser, begin(browser), decision="deny")
    assert page.status_code == 400
    assert "Access was declined at the provider." in text_of(page)
    assert "It says: The person chose Deny." in text_of(page)
    assert f'href="{CONNECT}?organization=acme"' in html_of(page)
    assert not Connection.objects.exists()


def test_a_provider_that_fails_at_the_last_step_is_said_to_have_failed(
    bob: Person, notes: McpServer, provider: AuthorizationServer
) -> None:
    browser = bob.browser()
    provider.fail_next_token(503, "<h1>down</h1>", "text/html", times=5)
    page = come_back(browser, begin(browser))
    assert page.status_code >= 400
    assert "Not connected" in text_of(page)
    assert "<h1>down" not in html_of(page)
    assert not Connection.objects.exists()


def test_the_callback_page_opened_again_says_that_it_is_finished(bob: Person, notes: McpServer) -> None:
    browser = bob.browser()
    params = callback_params(consent(begin(browser)))
    assert browser.get(CALLBACK, params).status_code == 302
    again = browser.get(CALLBACK, params)
    assert again.status_code == 400
    assert "already finished" in text_of(again)
    assert "/hub/connections/" in html_of(again)


def test_another_person_or_browser_cannot_finish_a_sign_in(alice: Person, bob: Person, notes: McpServer) -> None:
    browser = bob.browser()
    params = callback_params(consent(begin(browser)))
    for stranger in (alice.browser(), bob.browser()):
        page = stranger.get(CALLBACK, params)
        assert page.status_code == 400
        assert "started by somebody else or in another browser" in text_of(page)
    assert CONNECT not in html_of(alice.browser().get(CALLBACK, params))
    assert browser.get(CALLBACK, params).status_code == 302


@pytest.mark.parametrize("params", [{}, {"state": "nonsense", "code": "x"}, {"error": "<script>alert(1)</script>"}])
def test_a_callback_of_nobodys_shows_nothing_of_what_it_carries(bob: Person, params: dict[str, str]) -> None:
    page = bob.browser().get(CALLBACK, params)
    assert page.status_code == 400
    assert "alert(1)" not in html_of(page)


def test_who_is_signed_out_meanwhile_signs_in_and_goes_on(bob: Person, notes: McpServer, client: Client) -> None:
    params = callback_params(consent(begin(bob.browser())))
    away: Any = client.get(CALLBACK, params)
    assert away["Location"].startswith("/hub/login/?next=/api/mcp/oauth/callback%3F")
    assert away["Referrer-Policy"] == "no-referrer"
    page = client.post(away["Location"], {"username": bob.user.email, "password": PASSWORD})
    assert page["Location"].startswith(CALLBACK)
    # Another browser began it: finishing here would be finishing somebody else's journey.
    assert client.get(page["Location"]).status_code == 400


def test_the_connection_lands_in_the_organization_it_was_begun_in(
    bob: Person, charlie: Person, notes: McpServer
) -> None:
    Membership.objects.create(organization=charlie.organization, user=bob.user, role=Role.MEMBER)
    browser = bob.browser()
    switch_to(browser, "acme")
    url = begin(browser)
    switch_to(browser, "globex")
    page = come_back(browser, url)
    assert page["Location"] == "/hub/servers/acme-notes/"
    assert browser.get(page["Location"]).status_code == 200
    assert Connection.objects.get().auth_config.organization == bob.organization


def test_who_has_left_the_organization_cannot_finish(bob: Person, notes: McpServer) -> None:
    browser = bob.browser()
    url = begin(browser)
    Membership.objects.filter(user=bob.user).delete()
    page = come_back(browser, url)
    assert page.status_code == 403
    assert not Connection.objects.exists()


def test_a_script_follows_the_redirect_with_its_key(bob: Person, notes: McpServer, client: Client) -> None:
    begun = bob.api().post("/api/v1/config/mcp-server/acme-notes/connect").json()
    params = callback_params(consent(begun["authorization_url"]))
    wrong = client.get(CALLBACK, params, headers={"X-API-Key": "ask_wrong"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "authentication_failed")
    weak = client.get(CALLBACK, params, headers={"X-API-Key": bob.key("aster:read")})
    assert (weak.status_code, weak.json()["code"]) == (403, "missing_scope")
    done = client.get(CALLBACK, params, headers={"Authorization": f"Bearer {bob.key()}"})
    assert (done.status_code, done.json()["status"]) == (200, "connected")
    assert done["Cache-Control"] == "no-store"
    again = client.get(CALLBACK, params, headers={"X-API-Key": bob.key()})
    assert (again.status_code, again.json()["code"]) == (400, "state_unknown")


def test_a_script_hears_of_a_failed_callback_what_the_api_would_say(
    bob: Person, notes: McpServer, provider: AuthorizationServer, client: Client
) -> None:
    begun = bob.api().post("/api/v1/config/mcp-server/acme-notes/connect").json()
    params = callback_params(consent(begun["authorization_url"]))
    provider.fail_next_token(503, "down", "text/plain", times=5)
    failed = client.get(CALLBACK, params, headers={"X-API-Key": bob.key()})
    assert (failed.status_code, failed.json()["step"]) == (502, "token")
    assert {"hint", "retryable"} < failed.json().keys()


def test_a_server_that_is_switched_off_is_not_connected_to(bob: Person, notes: McpServer) -> None:
    McpServer.objects.update(is_enabled=False)
    page = bob.browser().post(CONNECT)
    assert page.status_code == 409
    assert "Acme Notes is switched off. An admin can switch it on." in text_of(page)
    assert not PendingAuthorization.objects.exists()


def test_only_get_reaches_the_callback(bob: Person) -> None:
    browser = bob.browser()
    assert browser.post(CALLBACK).status_code == 405
    assert browser.head(CALLBACK).status_code == 405


# --- The end ---------------------------------------------------------------------------------------------------------


def test_disconnecting_says_that_the_provider_forgot(bob: Person, notes: McpServer) -> None:
    browser = bob.browser()
    come_back(browser, begin(browser))
    page = browser.post("/hub/servers/acme-notes/disconnect/", follow=True)
    assert "Disconnected from Acme Notes. The provider revoked the access." in text_of(page)
    assert not Connection.objects.exists()
    twice = browser.post("/hub/servers/acme-notes/disconnect/", follow=True)
    assert "You were not connected to Acme Notes." in text_of(twice)


def test_a_provider_that_cannot_revoke_does_not_keep_the_tokens_here(bob: Person, notes_at_nowhere: McpServer) -> None:
    auth = auth_of(notes_at_nowhere)
    Connection.objects.create(
        auth_config=auth, user=bob.user, access_token="t", refresh_token="r", token_url="http://127.0.0.1:9/token",
        revocation_url="http://127.0.0.1:9/revoke", client_id="app",
    )  # fmt: skip
    page = bob.browser().post("/hub/servers/acme-notes/disconnect/", follow=True)
    assert "The tokens are deleted here, but the provider did not confirm" in text_of(page)
    assert not Connection.objects.exists()


def test_an_admin_ends_a_members_connection_and_a_member_nobody_elses(
    alice: Person, bob: Person, notes_at_nowhere: McpServer
) -> None:
    own = Connection.objects.create(auth_config=auth_of(notes_at_nowhere), user=alice.user)
    bobs = Connection.objects.create(auth_config=auth_of(notes_at_nowhere), user=bob.user)
    assert bob.browser().post(f"/hub/connections/{own.pk}/disconnect/").status_code == 404
    page = alice.browser().post(f"/hub/connections/{bobs.pk}/disconnect/", follow=True)
    assert "Disconnected Bob from Acme ID." in text_of(page)
    assert list(Connection.objects.all()) == [own]


def test_a_connection_of_another_organization_does_not_exist(charlie: Person, notes_at_nowhere: McpServer) -> None:
    row = Connection.objects.create(auth_config=auth_of(notes_at_nowhere), user=charlie.user)
    assert charlie.browser().post(f"/hub/connections/{row.pk}/disconnect/").status_code == 404
    assert Connection.objects.filter(pk=row.pk).exists()
