"""The page on which a person lets an app in: who gets to see it, what it says, and what comes back."""

from __future__ import annotations

from html import unescape
from typing import Any
from urllib.parse import parse_qsl

import pytest
from django.test import Client
from oauth2_provider.models import Application, Grant

from agents.models import Agent, ConnectedApp
from agents.services.agents import save_agent
from aster.accounts.models import AuditEvent
from integrations.models import McpServer
from tests.agents.signing_in import LOOPBACK, App, answer_of, left_for, register, url
from tests.conftest import Person

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(alice: Person) -> McpServer:
    scopes = {"read_file": ["files:read"], "write_file": ["files:write"]}
    return McpServer.objects.create(
        organization=alice.organization, name="Files", slug="files", url="https://files.test/mcp", tool_scopes=scopes
    )


@pytest.fixture
def agent(alice: Person, server: McpServer) -> Agent:
    return save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk])


@pytest.fixture
def app(db: None) -> App:
    return App()


# --- Works ----------------------------------------------------------------------------------------------------------


def test_somebody_who_is_not_signed_in_signs_in_first_and_comes_back(agent: Agent, app: App) -> None:
    address = app.asking(agent.gateway_url)
    sent = Client().get(address)
    assert sent.status_code == 302 and sent["Location"].startswith("/hub/login/?next=/oauth/authorize%3F")
    assert "Let Trial in?" not in sent.content.decode()


def test_the_page_says_who_asks_where_the_answer_goes_and_what_for(agent: Agent, app: App, bob: Person) -> None:
    page = bob.browser().get(app.asking(agent.gateway_url))
    words = page.content.decode()
    for said in ("Let Trial in?", "It names itself so; nobody has checked.", "127.0.0.1:33418", "Helper", "Files",
                 "bob@acme.test", "Acme", "A program on your own computer", "files:write"):  # fmt: skip
        assert said in words
    # With less, browsers send the form without its origin, and it would be refused.
    assert page["Referrer-Policy"] == "same-origin"
    assert page["Cache-Control"] == "no-store" and page["X-Frame-Options"] == "DENY"
    assert "form-action 'self'" in page["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]


def test_allowing_gives_a_code_with_state_and_issuer_and_is_on_record(agent: Agent, app: App, bob: Person) -> None:
    answer = app.allow(bob.browser(), agent.gateway_url)
    assert answer["state"] == app.state and answer["iss"] == url("") and answer["code"]
    stored = ConnectedApp.objects.get()
    assert (stored.membership.user, stored.agent, stored.scopes) == (bob.user, agent, ["aster:call"])
    assert stored.redirect_host == "127.0.0.1:33418"
    event = AuditEvent.objects.get(action="allowed")
    assert (event.actor, event.object_type, event.object_label) == (bob.user, "connectedapp", "Trial")
    assert event.changes["for"] == [None, "Helper"]
    # The code is nowhere but in the answer.
    assert answer["code"] not in str(list(Grant.objects.values())) + str(event.changes)


def test_cancelling_tells_the_app_and_stores_nothing(agent: Agent, app: App, bob: Person) -> None:
    answer = answer_of(bob.browser().post(app.asking(agent.gateway_url), {"decision": "cancel"}))
    assert (answer["error"], answer["state"], answer["iss"]) == ("access_denied", app.state, url(""))
    assert not ConnectedApp.objects.exists() and not Grant.objects.exists()


def test_the_person_chooses_the_scopes_of_tools_and_no_others(agent: Agent, app: App, bob: Person) -> None:
    app.allow(bob.browser(), agent.gateway_url, grant=("files:read", "aster:manage", "*", "made:up"))
    assert ConnectedApp.objects.get().scopes == ["aster:call", "files:read"]
    before = ConnectedApp.objects.get().pk
    app.allow(bob.browser(), agent.gateway_url, grant=("files:write",))
    again = ConnectedApp.objects.get()
    assert (again.pk, again.scopes) == (before, ["aster:call", "files:write"])


def test_scopes_that_the_app_names_are_the_chosen_ones(agent: Agent, app: App, bob: Person) -> None:
    words = bob.browser().get(app.asking(agent.gateway_url, scope="aster:call files:read")).content.decode()
    assert 'value="files:read" checked' in words and 'value="files:write">' in words
    words = bob.browser().get(app.asking(agent.gateway_url, scope=None)).content.decode()
    assert 'value="files:read" checked' in words and 'value="files:write" checked' in words


@pytest.mark.parametrize("path", ["/mcp/acme/helper", "/mcp/acme/helper/files", "/mcp/acme/admin", "/a2a/acme/helper"])
def test_each_address_of_the_gateway_can_be_asked_for(agent: Agent, app: App, alice: Person, path: str) -> None:
    app.allow(alice.browser(), url(path))
    assert ConnectedApp.objects.get().resource == url(path)


def test_only_admins_are_asked_for_the_administration(agent: Agent, app: App, alice: Person, bob: Person) -> None:
    assert "aster:manage" in alice.browser().get(app.asking(url("/mcp/acme/admin"))).content.decode()
    app.allow(bob.browser(), url("/mcp/acme/admin"), grant=("aster:manage",))
    assert ConnectedApp.objects.get().scopes == ["aster:call"]


@pytest.mark.parametrize("path", ["callback", "callback?from=aster"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_the_port_of_a_loopback_address_is_free(agent: Agent, bob: Person, host: str, path: str) -> None:
    app = App(redirect_uri=f"http://{host}/{path}")
    app.redirect_uri = f"http://{host}:61234/{path}"
    shown = bob.browser().post(app.asking(agent.gateway_url), {"decision": "allow"})
    assert left_for(shown).startswith(f"{app.redirect_uri}{'&' if '?' in path else '?'}code=")
    assert app.exchange(answer_of(shown)["code"]).status_code == 200


# --- Bad input: nobody is sent anywhere -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("registered", "asked"),
    [
        ("https://app.test/cb", "https://evil.test/cb"),
        ("https://app.test/cb", "https://app.test/cb/"),
        ("https://app.test/cb", "https://app.test/cb?more=1"),
        ("https://app.test/cb", "https://app.test:8443/cb"),
        ("https://app.test/cb", "https://app.test/cb#x"),
        ("https://app.test/cb", "https://app.test@evil.test/cb"),
        ("http://127.0.0.1/cb", "http://localhost/cb"),
        ("http://127.0.0.1/cb", "http://127.0.0.1:80/other"),
        ("http://127.0.0.1/cb", "https://127.0.0.1/cb"),
        ("http://127.0.0.1/cb", "http://127.0.0.1:5@evil.test/cb"),
        ("http://localhost/cb", "http://localhost.evil.test:80/cb"),
        ("https://app.test/cb", "javascript:alert(1)"),
    ],
)
def test_an_answer_goes_to_a_registered_address_only(agent: Agent, bob: Person, registered: str, asked: str) -> None:
    app = App(redirect_uri=registered)
    app.redirect_uri = asked
    for answer in (
        bob.browser().get(app.asking(agent.gateway_url)),
        bob.browser().post(app.asking(agent.gateway_url), {"decision": "allow"}),
        bob.browser().post(app.asking(agent.gateway_url), {"decision": "cancel"}),
    ):
        words = answer.content.decode()
        assert answer.status_code == 400 and "not an address it was registered with" in words
        assert "http-equiv" not in words and 'href="javascript' not in words
    assert not Grant.objects.exists()


def test_an_unknown_app_gets_no_page_to_allow_it(agent: Agent, app: App, bob: Person) -> None:
    app.client_id = "nobody"
    answer = bob.browser().get(app.asking(agent.gateway_url))
    assert answer.status_code == 400 and "Aster does not know this app" in answer.content.decode()
    assert bob.browser().get("/oauth/authorize").status_code == 400
    assert bob.browser().get("/oauth/authorize?client_id=%zz&state=%ff").status_code == 400


def test_what_is_sent_twice_is_not_guessed_at(agent: Agent, app: App, bob: Person) -> None:
    address = app.asking(agent.gateway_url)
    assert bob.browser().get(f"{address}&redirect_uri={LOOPBACK}").status_code == 400
    assert bob.browser().get(f"{address}&client_id=other").status_code == 400


# --- Bad input: the app is told -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unauthorized_client"),
        ({"response_type": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "x" * 500}, "invalid_request"),
    ],
)
def test_a_request_that_is_not_safe_is_answered_with_an_error(
    agent: Agent, app: App, bob: Person, changes: dict[str, Any], error: str
) -> None:
    for send in (bob.browser().get, bob.browser().post):
        shown = send(app.asking(agent.gateway_url, **changes))
        page = shown.content.decode()
        # Anybody may register an app: nobody is sent to its address without having seen where they go.
        assert shown.status_code == 400 and "http-equiv" not in page and "cannot be used" in page
        back = unescape(page.split('href="http://127.0.0.1:33418/')[1].split('"')[0])
        answer = dict(parse_qsl(back.removeprefix("?")))
        assert (answer["error"], answer["state"], answer["iss"]) == (error, app.state, url(""))
        assert "code" not in answer


@pytest.mark.parametrize(
    "resource",
    [
        "https://elsewhere.test/mcp/acme/helper", "/mcp/acme/helper", "{}/mcp/acme/helper/", "{}/mcp/acme/nobody",
        "{}/mcp/acme/helper/notes", "{}/mcp/globex/helper", "{}/mcp/globex/admin", "{}/mcp/acme/helper?x=1",
        "{}/mcp/acme/admin/files", "{}/a2a/acme/helper/files", "{}/mcp/ACME/helper", "{}.evil.test/mcp/acme/helper",
    ],
)  # fmt: skip
def test_only_an_address_that_the_person_may_use_is_given_away(
    agent: Agent, app: App, bob: Person, charlie: Person, resource: str
) -> None:
    answer = bob.browser().get(app.asking(resource.format(url(""))))
    words = answer.content.decode()
    assert answer.status_code == 400 and "there is nothing at this address that you may use" in words
    # The app is told, once the person has read why.
    assert "http-equiv" not in words and "error=invalid_target" in words and "iss=" in words
    assert bob.browser().post(app.asking(resource.format(url(""))), {"decision": "allow"}).status_code == 400
    assert not ConnectedApp.objects.exists() and not Grant.objects.exists()


def test_an_app_that_names_no_resource_is_told_what_to_do(agent: Agent, app: App, bob: Person) -> None:
    answer = bob.browser().get(app.asking(None))
    assert answer.status_code == 400 and "give it the URL of an agent" in answer.content.decode()
    two = bob.browser().get(app.asking([agent.gateway_url, url("/mcp/acme/admin")]))
    assert two.status_code == 400 and "did not say which address" in two.content.decode()


def test_an_agent_that_is_switched_off_cannot_be_asked_for(agent: Agent, app: App, bob: Person) -> None:
    Agent.objects.update(is_enabled=False)
    assert bob.browser().get(app.asking(agent.gateway_url)).status_code == 400


# --- Forged ---------------------------------------------------------------------------------------------------------


def test_another_site_cannot_press_allow(agent: Agent, app: App, bob: Person) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(bob.user)
    assert browser.post(app.asking(agent.gateway_url), {"decision": "allow"}).status_code == 403
    assert not Grant.objects.exists()


def test_the_form_adds_nothing_to_what_was_asked(agent: Agent, app: App, bob: Person) -> None:
    more = {"decision": "allow", "redirect_uri": "https://evil.test/", "code_challenge": "x" * 43, "resource": "x"}
    sent = bob.browser().post(app.asking(agent.gateway_url), more)
    assert left_for(sent).startswith(LOOPBACK)
    assert app.exchange(answer_of(sent)["code"]).status_code == 200


def test_a_name_is_shown_as_text_and_cut(agent: Agent, bob: Person) -> None:
    name = "<b>Evil</b>\nline\u202e " + "x" * 300
    made = register(client_name=name).json()
    assert "\n" not in made["client_name"] and "\u202e" not in made["client_name"]
    words = bob.browser().get(App(made["client_id"]).asking(agent.gateway_url)).content.decode()
    assert "<b>Evil" not in words and "&lt;b&gt;Evil" in words
    assert len(Application.objects.get().name) == 100
