"""Adding and editing a server in the hub: every kind of sign-in, refusals beside their fields, secrets never shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, AuthType, ClientMode, McpServer, Transport
from tests.conftest import Person
from tests.fakes.mcp_servers import guarded, modern_and_legacy_app, serve
from tests.integrations.hub import NOWHERE, MakeServer, html_of, make_server, oauth_config, server_fields, text_of

__all__ = ["make_server"]

pytestmark = pytest.mark.django_db(transaction=True)

ADD, DISCOVER, TRY = "/hub/servers/add/", "/hub/servers/discover/", "/hub/servers/try/"
HTMX = {"HX-Request": "true"}
KEY = "k3y-canary"


@pytest.fixture
def keyed() -> Iterator[str]:
    """The address of a server that answers only those who bring the key."""
    with serve(guarded(modern_and_legacy_app(), KEY)) as base:
        yield f"{base}/mcp"


@pytest.fixture
def admin(alice: Person) -> Client:
    return alice.browser()


def test_an_open_server_is_tested_and_stored_with_its_tools(admin: Client, world: DemoWorld) -> None:
    fields = server_fields(name="Weather", url=world.weather_url, description="Forecasts")
    page = admin.post(ADD, fields, follow=True)
    assert page.redirect_chain == [("/hub/servers/weather/", 302)]
    assert "Weather is saved. 3 tools found." in text_of(page)
    server = McpServer.objects.get()
    assert (server.auth_config, server.test_status, server.description) == (None, "ok", "Forecasts")


def test_a_key_is_stored_encrypted_and_never_shown(admin: Client, keyed: str) -> None:
    fields = server_fields(url=keyed, auth_type=AuthType.BEARER, token=KEY, custom_headers="X-Team: h34der-canary")
    page = admin.post(ADD, fields, follow=True)
    auth = AuthConfig.objects.get()
    assert (auth.name, auth.token, auth.custom_headers) == ("Docs sign-in", KEY, {"X-Team": "h34der-canary"})
    edit = admin.get("/hub/servers/docs/edit/")
    assert "Set. Leave empty to keep it." in text_of(edit)
    assert "X-Team: [REDACTED]" in html_of(edit)
    for response in (page, edit):
        assert "canary" not in html_of(response)


def test_a_server_for_each_person_leads_straight_to_connecting(admin: Client, world: DemoWorld) -> None:
    fields = server_fields(name="Notes", url=world.notes_url, auth_type=AuthType.AUTHORIZATION_CODE)
    page = admin.post(ADD, fields, follow=True)
    assert page.redirect_chain == [("/hub/servers/notes/connect/", 302)]
    assert "Notes is saved. Connect your account" in text_of(page)
    assert AuthConfig.objects.get().token_url == f"{world.issuer}/token"


def test_a_pre_created_app_needs_its_client_id(admin: Client, world: DemoWorld) -> None:
    fields = server_fields(url=world.notes_url, auth_type=AuthType.AUTHORIZATION_CODE, client_mode=ClientMode.KNOWN)
    page = admin.post(ADD, {**fields, "client_secret": "s3cret-canary"})
    assert page.status_code == 400
    assert page.context["auth"].errors["client_id"] == ["Paste the client ID from the provider's app."]
    assert page.context["auth"].errors["client_secret"] == ["Enter it again: what you typed was not kept."]
    assert "canary" not in html_of(page)
    assert not McpServer.objects.exists()


def test_every_field_of_the_provider_is_kept(admin: Client, world: DemoWorld) -> None:
    fields = server_fields(
        url=world.notes_url, auth_type=AuthType.AUTHORIZATION_CODE, client_mode=ClientMode.KNOWN,
        client_id="app", client_secret="s", scopes="notes:read\nnotes:write", resource_mode="omit", audience="aud",
        authorization_url=f"{world.issuer}/authorize", token_url=f"{world.issuer}/token", use_pkce="",
        extra_authorize_params="prompt=consent\naccess_type=offline", extra_token_params="team=blue",
        allowed_redirect_uris="https://app.example/callback", token_endpoint_auth_method="client_secret_post",
        timeout_seconds="45", retry_attempts="3", scope_on_refresh="on", takes_changes="on",
        expose_as_skills="on",
    )  # fmt: skip
    del fields["use_pkce"]
    assert admin.post(ADD, fields).status_code == 302
    auth, server = AuthConfig.objects.get(), McpServer.objects.get()
    assert auth.scopes == ["notes:read", "notes:write"]
    assert auth.extra_authorize_params == {"prompt": "consent", "access_type": "offline"}
    assert auth.extra_token_params == {"team": "blue"}
    assert auth.allowed_redirect_uris == ["https://app.example/callback"]
    assert (auth.resource_mode, auth.audience, auth.use_pkce, auth.scope_on_refresh) == ("omit", "aud", False, True)
    assert auth.token_endpoint_auth_method == "client_secret_post"
    assert (server.timeout_seconds, server.retry_attempts, server.takes_changes) == (45, 3, True)
    assert server.expose_as_skills


def test_a_local_command_is_offered_only_when_the_operator_allows_one(admin: Client, settings: Settings) -> None:
    page = admin.get(ADD)
    assert 'value="stdio"' not in html_of(page)
    assert "ASTER_STDIO_COMMANDS" in text_of(page)
    settings.ASTER_STDIO_COMMANDS = ["/bin/true"]
    assert 'value="stdio"' in html_of(admin.get(ADD))
    command = {"command": "/bin/true", "args": "--one\ntwo words", "env": "KEY=3nv-canary"}
    fields = server_fields(url="", transport="stdio", test="skip", **command)
    assert admin.post(ADD, fields).status_code == 302
    server = McpServer.objects.get()
    assert (server.transport, server.args) == (Transport.STDIO, ["--one", "two words"])
    assert server.env == {"KEY": "3nv-canary"}
    edit = html_of(admin.get("/hub/servers/docs/edit/"))
    assert "KEY=[REDACTED]" in edit
    assert "canary" not in edit


# --- Refusals --------------------------------------------------------------------------------------------------------


def test_a_failed_test_stores_nothing_keeps_the_input_and_offers_to_save_anyway(admin: Client) -> None:
    fields = server_fields(auth_type=AuthType.BEARER, token="t0ken-canary", custom_headers="X-Key: h34der-canary")
    page = admin.post(ADD, fields)
    assert page.status_code == 422
    words, html = text_of(page), html_of(page)
    assert "Nobody answers at 127.0.0.1:9" in words
    assert page.context["form"].errors["url"]
    assert "Save without testing" in words
    assert f'value="{NOWHERE}"' in html
    assert "X-Key: " in html
    assert "canary" not in html
    assert words.count("Enter it again: what you typed was not kept.") == 2
    assert not McpServer.objects.exists()
    assert not AuthConfig.objects.exists()

    assert admin.post(ADD, {**fields, "test": "skip"}).status_code == 302
    assert McpServer.objects.get().test_status == ""


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "", "This field is required."),
        ("url", "", "Enter the server's address"),
        ("url", "ftp://files.example", "http"),
        ("timeout_seconds", "0", "greater than or equal to 1"),
        ("token", "", "Enter the key"),
        ("custom_headers", "just text", "Line 1 is not written as name: value."),
        ("custom_headers", "Host: evil", "set by Aster itself"),
        ("custom_headers", "X-Key:", "Enter the value of X-Key."),
        ("custom_headers", "X-Key: [REDACTED]", "There is no stored value for X-Key"),
        ("auth_type", "MAGIC", "Select a valid choice"),
    ],
)
def test_a_mistake_is_named_beside_its_field(admin: Client, field: str, value: str, words: str) -> None:
    page = admin.post(ADD, {**server_fields(auth_type=AuthType.BEARER, token=""), field: value})
    assert page.status_code == 400
    errors = {**page.context["form"].errors, **page.context["auth"].errors}
    assert words in " ".join(errors[field])
    assert not McpServer.objects.exists()


def test_a_name_that_is_taken_is_said_beside_the_name(admin: Client, make_server: MakeServer) -> None:
    make_server("Docs")
    page = admin.post(ADD, server_fields(name="docs", test="skip"))
    assert page.status_code == 400
    assert "There is an MCP server called Docs already" in str(page.context["form"].errors["name"])
    assert McpServer.objects.count() == 1


def test_mistakes_in_fields_of_another_kind_of_sign_in_do_not_count(admin: Client, world: DemoWorld) -> None:
    fields = server_fields(url=world.weather_url, custom_headers="junk", extra_token_params="junk", token_url="junk")
    assert admin.post(ADD, fields).status_code == 302
    assert McpServer.objects.get().auth_config is None


@pytest.mark.parametrize("path", [ADD, DISCOVER, TRY])
def test_members_may_not_add_look_up_or_try(bob: Person, world: DemoWorld, path: str) -> None:
    assert bob.browser().get(ADD).status_code == 403
    assert bob.browser().post(path, server_fields(url=world.weather_url)).status_code == 403
    assert not McpServer.objects.exists()


# --- Editing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def docs(make_server: MakeServer) -> McpServer:
    auth = AuthConfig(name="Docs key", auth_type=AuthType.BEARER, token="old", custom_headers={"X-A": "1", "X-B": "2"})
    return make_server("Docs", auth=auth)


def edit_fields(**changes: Any) -> dict[str, Any]:
    kept = "X-A: [REDACTED]\nX-B: [REDACTED]"
    return server_fields(server="docs", auth_type=AuthType.BEARER, custom_headers=kept, **changes)


def test_an_empty_secret_keeps_the_stored_one(admin: Client, docs: McpServer) -> None:
    assert admin.post("/hub/servers/docs/edit/", edit_fields(name="Docs 2")).status_code == 302
    auth = AuthConfig.objects.get()
    assert (auth.token, auth.custom_headers) == ("old", {"X-A": "1", "X-B": "2"})
    assert McpServer.objects.get().name == "Docs 2"


def test_a_secret_is_replaced_and_a_header_removed_by_deleting_its_line(admin: Client, docs: McpServer) -> None:
    fields = {**edit_fields(token="new"), "custom_headers": "X-B: 3"}
    assert admin.post("/hub/servers/docs/edit/", fields).status_code == 302
    auth = AuthConfig.objects.get()
    assert (auth.token, auth.custom_headers) == ("new", {"X-B": "3"})


def test_no_stale_secret_stays_when_the_kind_of_sign_in_changes(admin: Client, docs: McpServer) -> None:
    fields = {**edit_fields(), "auth_type": AuthType.BASIC, "username": "ada", "password": "p", "custom_headers": ""}
    assert admin.post("/hub/servers/docs/edit/", fields).status_code == 302
    auth = AuthConfig.objects.get()
    assert (auth.auth_type, auth.token, auth.username, auth.password) == (AuthType.BASIC, "", "ada", "p")


def test_choosing_none_takes_the_auth_config_away_but_keeps_it_for_others(admin: Client, docs: McpServer) -> None:
    admin.post("/hub/servers/docs/edit/", {**edit_fields(), "auth_type": AuthType.NONE})
    assert McpServer.objects.get().auth_config is None
    assert AuthConfig.objects.get().token == "old"


def test_an_existing_auth_config_is_shared_and_says_so(
    admin: Client, make_server: MakeServer, world: DemoWorld
) -> None:
    shared = make_server("Calendar", auth=oauth_config()).auth_config
    assert shared
    missing = admin.post(ADD, server_fields(url=world.notes_url, auth_type="EXISTING"))
    assert missing.context["form"].errors["auth_config"] == ["Choose which auth config to use."]
    fields = server_fields(url=world.notes_url, auth_type="EXISTING", auth_config=shared.pk)
    assert admin.post(ADD, fields).status_code == 302
    assert McpServer.objects.get(name="Docs").auth_config == shared
    assert "Calendar uses the auth config “Acme ID” too" in text_of(admin.get("/hub/servers/docs/edit/"))


def test_the_auth_config_of_another_organization_cannot_be_chosen(
    admin: Client, alice: Person, charlie: Person, world: DemoWorld
) -> None:
    theirs = AuthConfig.objects.create(organization=charlie.organization, name="Theirs")
    AuthConfig.objects.create(organization=alice.organization, name="Ours")
    fields = server_fields(url=world.weather_url, auth_type="EXISTING", auth_config=theirs.pk)
    page = admin.post(ADD, fields)
    assert page.status_code == 400
    assert "Select a valid choice" in str(page.context["form"].errors["auth_config"])


def test_the_server_of_another_organization_cannot_be_edited_or_tried(charlie: Person, docs: McpServer) -> None:
    browser = charlie.browser()
    assert browser.post("/hub/servers/docs/edit/", edit_fields()).status_code == 404
    for path in (DISCOVER, TRY):
        assert browser.post(path, edit_fields()).status_code == 404


# --- Look up and try -------------------------------------------------------------------------------------------------


def test_looking_up_a_server_with_sign_in_fills_the_form(admin: Client, world: DemoWorld) -> None:
    fields = server_fields(name="Notes", url=world.notes_url, token="t0ken-canary")
    page = admin.post(DISCOVER, fields)
    words, html = text_of(page), html_of(page)
    assert f"Each person signs in at {world.issuer.removeprefix('http://')}" in words
    assert "registers Aster automatically" in words
    assert f'value="{world.issuer}/authorize"' in html
    assert 'value="Notes"' in html
    assert page.context["form"]["auth_type"].value() == AuthType.AUTHORIZATION_CODE
    assert "Enter it again" in words
    assert "canary" not in html
    assert f'action="{ADD}"' in html
    assert not McpServer.objects.exists()


def test_htmx_gets_only_the_parts_that_change(admin: Client, world: DemoWorld) -> None:
    part = admin.post(DISCOVER, server_fields(url=world.notes_url), headers=HTMX)
    html = html_of(part)
    assert "<html" not in html
    assert 'id="auth-choice" hx-swap-oob="true"' in html
    assert 'name="token"' not in html
    assert part["HX-Trigger-After-Settle"] == '{"change": {}}'


def test_looking_up_an_open_server_and_one_that_wants_a_key(admin: Client, world: DemoWorld, keyed: str) -> None:
    assert "No sign-in needed" in text_of(admin.post(DISCOVER, server_fields(url=world.weather_url)))
    page = admin.post(DISCOVER, server_fields(url=keyed))
    assert "It wants credentials, but names no provider" in text_of(page)
    assert page.context["form"]["auth_type"].value() == AuthType.BEARER


@pytest.mark.parametrize("url", [NOWHERE, "", "http://169.254.169.254/mcp", "nonsense"])
def test_an_address_that_cannot_be_looked_up_says_why(admin: Client, url: str) -> None:
    page = admin.post(DISCOVER, server_fields(url=url, auth_type=AuthType.BASIC))
    assert page.status_code == 200
    assert "Could not look it up" in text_of(page)
    assert page.context["form"]["auth_type"].value() == AuthType.BASIC


def test_trying_stores_nothing_and_says_what_was_found(admin: Client, world: DemoWorld, keyed: str) -> None:
    works = admin.post(TRY, server_fields(url=keyed, auth_type=AuthType.BEARER, token=KEY), headers=HTMX)
    assert "It works" in text_of(works)
    assert "echo" in text_of(works)
    wrong = admin.post(TRY, server_fields(url=keyed, auth_type=AuthType.BEARER, token="wr0ng-canary"), headers=HTMX)
    assert "The test failed" in text_of(wrong)
    wants = server_fields(url=world.notes_url, auth_type=AuthType.AUTHORIZATION_CODE)
    assert "Ready to connect" in text_of(admin.post(TRY, wants, headers=HTMX))
    for response in (works, wrong):
        assert "canary" not in html_of(response)
    assert not McpServer.objects.exists()
    assert not AuthConfig.objects.exists()


def test_trying_without_javascript_shows_the_whole_form_again(admin: Client, world: DemoWorld) -> None:
    page = admin.post(TRY, server_fields(name="Weather", url=world.weather_url))
    assert "It works" in text_of(page)
    assert 'value="Weather"' in html_of(page)


def test_trying_an_incomplete_form_names_what_is_missing(admin: Client) -> None:
    part = admin.post(TRY, server_fields(name="", url=""), headers=HTMX)
    assert "Name: This field is required." in text_of(part)


def test_trying_a_stored_server_uses_its_stored_key(admin: Client, keyed: str, make_server: MakeServer) -> None:
    make_server("Docs", auth=AuthConfig(name="Key", auth_type=AuthType.BEARER, token=KEY), url=keyed)
    part = admin.post(TRY, server_fields(server="docs", url=keyed, auth_type=AuthType.BEARER), headers=HTMX)
    assert "It works" in text_of(part)


def test_a_server_may_be_called_like_one_of_the_forms_addresses(admin: Client, make_server: MakeServer) -> None:
    for name in ("Add", "Discover", "Try"):
        assert make_server(name).slug == f"{name.lower()}-2"
        assert name in text_of(admin.get(f"/hub/servers/{name.lower()}-2/"))


def test_another_provider_forgets_what_the_first_ones_metadata_said(admin: Client, make_server: MakeServer) -> None:
    auth = oauth_config(provider_metadata={"authorization_response_iss_parameter_supported": True})
    make_server("Docs", auth=auth)
    fields = server_fields(
        server="docs", auth_type=AuthType.AUTHORIZATION_CODE, token_url="http://127.0.0.1:9/other",
        authorization_url="http://127.0.0.1:9/authorize",
    )  # fmt: skip
    assert admin.post("/hub/servers/docs/edit/", fields).status_code == 302
    assert not AuthConfig.objects.get().iss_required


def test_the_addresses_of_the_forms_buttons_lead_to_the_form_when_opened_as_links(admin: Client) -> None:
    for path in (DISCOVER, TRY):
        assert admin.get(path)["Location"] == ADD
