"""Connected apps: people see theirs, admins everybody's; revoking works at once; what nobody uses goes by itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, Grant, RefreshToken
from rest_framework.test import APIClient

from agents.authorization_server.tokens import holders_of, note_use
from agents.models import Agent, ConnectedApp
from agents.services.agents import save_agent
from agents.tasks import delete_old
from aster.accounts.models import AuditEvent
from tests.agents.signing_in import App, register, url
from tests.aster.api_contract import ContractClient
from tests.conftest import Person, body

pytestmark = pytest.mark.django_db


@pytest.fixture
def agent(alice: Person) -> Agent:
    return save_agent(Agent(name="Helper"), actor=alice.actor)


def connect(person: Person, agent: Agent, name: str = "Trial") -> str:
    app = App(register(client_name=name).json()["client_id"])
    token: str = app.sign_in(person.browser(), agent.gateway_url)["access_token"]
    return token


def is_good(token: str) -> bool:
    return token in holders_of([token])


# --- The page -------------------------------------------------------------------------------------------------------


def test_the_page_is_empty_at_first_and_says_how_to_begin(bob: Person) -> None:
    assert "Give Claude Code, VS Code, Cursor" in bob.browser().get("/hub/connected-apps/").content.decode()


def test_people_see_their_own_apps_and_admins_everybodys(agent: Agent, alice: Person, bob: Person) -> None:
    connect(bob, agent, "Bobs editor")
    connect(alice, agent, "Alices editor")
    shown = bob.browser().get("/hub/connected-apps/").content.decode()
    assert "Bobs editor" in shown and "Alices editor" not in shown
    for said in ("Helper", "127.0.0.1:33418", "aster:call"):
        assert said in shown
    everybody = alice.browser().get("/hub/connected-apps/").content.decode()
    assert "Bobs editor" in everybody and "Alices editor" in everybody and "bob@acme.test" in everybody
    mine = alice.browser().get("/hub/connected-apps/?whose=mine").content.decode()
    assert "Bobs editor" not in mine and "Alices editor" in mine


def test_an_app_whose_address_has_changed_is_marked(agent: Agent, bob: Person) -> None:
    connect(bob, agent)
    assert "Address changed" not in bob.browser().get("/hub/connected-apps/").content.decode()
    Agent.objects.update(slug="renamed")
    assert "Address changed" in bob.browser().get("/hub/connected-apps/").content.decode()


def test_revoking_asks_first_and_then_locks_out_at_once(agent: Agent, bob: Person) -> None:
    token = connect(bob, agent)
    path = f"/hub/connected-apps/{ConnectedApp.objects.get().pk}/revoke/"
    asked = bob.browser().get(path)
    assert "Revoke “Trial”?" in asked.content.decode() and is_good(token)
    shown = bob.browser().post(path, follow=True)
    assert "“Trial” was locked out." in shown.content.decode()
    assert not is_good(token) and not AccessToken.objects.exists() and not RefreshToken.objects.exists()
    event = AuditEvent.objects.get(action="revoked")
    assert (event.actor, event.object_type, event.changes["for"]) == (
        bob.user, "connectedapp", [agent.gateway_url, None],
    )  # fmt: skip
    assert bob.browser().post(path).status_code == 404


def test_an_admin_locks_out_anybodys_app_and_nobody_else_does(
    agent: Agent, alice: Person, bob: Person, charlie: Person
) -> None:
    mine, theirs = connect(alice, agent), connect(bob, agent)
    own, other = (ConnectedApp.objects.get(membership__user=person.user).pk for person in (alice, bob))
    assert charlie.browser().post(f"/hub/connected-apps/{other}/revoke/").status_code == 404
    assert bob.browser().post(f"/hub/connected-apps/{own}/revoke/").status_code == 404
    assert is_good(mine) and is_good(theirs)
    alice.browser().post(f"/hub/connected-apps/{other}/revoke/")
    assert is_good(mine) and not is_good(theirs)


def test_the_activity_says_it_in_words(agent: Agent, alice: Person, bob: Person) -> None:
    connect(bob, agent)
    words = alice.browser().get("/hub/activity/").content.decode()
    assert "let in" in words and "Trial" in words


# --- The API --------------------------------------------------------------------------------------------------------


def test_the_api_lists_shows_and_revokes(agent: Agent, alice: Person, bob: Person) -> None:
    tokens = connect(bob, agent), connect(alice, agent)
    strict = ContractClient()  # what it hears is what the document says
    strict.credentials(HTTP_AUTHORIZATION=f"Bearer {alice.key()}")
    assert len(body(strict.get("/api/v1/connected_apps"))["results"]) == 2
    (shown,) = body(bob.api().get("/api/v1/connected_apps"))["results"]
    assert shown.items() >= {
        "name": "Trial", "user": "bob@acme.test", "agent": "helper", "server": None, "scopes": ["aster:call"],
        "resource": agent.gateway_url, "redirect_host": "127.0.0.1:33418",
    }.items()  # fmt: skip
    assert not any(token in str(shown) for token in tokens)
    one = f"/api/v1/connected_apps/{shown['id']}"
    assert body(strict.get(one)) == shown
    assert bob.api().delete(one).status_code == 204
    assert not is_good(tokens[0]) and is_good(tokens[1])
    assert bob.api().delete(one).status_code == 404


def test_the_api_refuses_what_the_key_or_the_role_does_not_allow(
    agent: Agent, alice: Person, bob: Person, charlie: Person
) -> None:
    token = connect(bob, agent)
    one = f"/api/v1/connected_apps/{ConnectedApp.objects.get().pk}"
    assert bob.api("aster:read").get(one).status_code == 200
    for keys in (bob.api("aster:read"), bob.api("aster:call"), alice.api("aster:read"), alice.api("aster:connect")):
        assert keys.delete(one).status_code == 403
    assert charlie.api().delete(one).status_code == charlie.api().get(one).status_code == 404
    assert is_good(token)
    assert bob.api("aster:connect").delete(one).status_code == 204


def test_an_access_token_opens_no_other_door(agent: Agent, alice: Person) -> None:
    app = App()
    token = app.sign_in(alice.browser(), url("/mcp/acme/admin"), grant=("aster:manage",))["access_token"]
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert client.get("/api/v1/connected_apps").status_code == 401
    assert client.get("/api/v1/members").status_code == 401


# --- By itself ------------------------------------------------------------------------------------------------------


def test_use_is_noted_every_five_minutes_at_most(agent: Agent, bob: Person) -> None:
    token = connect(bob, agent)
    before = timezone.now() - timedelta(minutes=4)
    ConnectedApp.objects.update(last_used_at=before)
    note_use(holders_of([token]).values())
    assert ConnectedApp.objects.get().last_used_at == before
    ConnectedApp.objects.update(last_used_at=before - timedelta(minutes=2))
    note_use(holders_of([token]).values())
    assert ConnectedApp.objects.get().last_used_at > before


def test_what_has_ended_is_deleted_and_what_is_used_stays(agent: Agent, bob: Person) -> None:
    app = App()
    told = app.sign_in(bob.browser(), agent.gateway_url)
    app.refresh(told["refresh_token"])
    app.allow(bob.browser(), agent.gateway_url)
    delete_old()
    assert (Grant.objects.count(), AccessToken.objects.count(), RefreshToken.objects.count()) == (1, 2, 2)
    Grant.objects.update(expires=timezone.now())
    AccessToken.objects.update(expires=timezone.now())
    RefreshToken.objects.exclude(revoked=None).update(revoked=timezone.now() - timedelta(days=31))
    delete_old()
    assert (Grant.objects.count(), AccessToken.objects.count(), RefreshToken.objects.count()) == (0, 0, 1)
    assert ConnectedApp.objects.count() == Application.objects.count() == 1
    # The refresh token outlives its access token by far.
    RefreshToken.objects.update(created=timezone.now() - timedelta(days=91))
    ConnectedApp.objects.update(last_used_at=timezone.now() - timedelta(days=91))
    delete_old()
    assert not RefreshToken.objects.exists() and not ConnectedApp.objects.exists()


def test_clients_that_nobody_let_in_or_nobody_uses_any_more_are_deleted(agent: Agent, bob: Person) -> None:
    connect(bob, agent, "in use")
    register(client_name="new")
    ago = {"never": timedelta(days=3, hours=1), "in use": timedelta(days=200), "gone": timedelta(days=200)}
    for name in ("never", "gone", "revoked"):
        register(client_name=name)
    Application.objects.create(name="by hand", client_type="public", authorization_grant_type="authorization-code")
    for name, age in {**ago, "by hand": timedelta(days=200), "revoked": timedelta(days=100)}.items():
        moment = timezone.now() - age
        Application.objects.filter(name=name).update(created=moment, updated=moment)
    Application.objects.filter(name="revoked").update(updated=timezone.now() - timedelta(days=50))
    delete_old()
    assert set(Application.objects.values_list("name", flat=True)) == {"in use", "new", "revoked", "by hand"}
