"""Tokens of MCP clients: exchanged once, refreshed with patience, revoked at once, good for one address only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from oauth2_provider.models import AccessToken, Grant, RefreshToken

from agents.authorization_server.connected_apps import revoke
from agents.authorization_server.tokens import holders_of
from agents.models import Agent, ConnectedApp
from agents.services.agents import save_agent
from aster.accounts.access import require_still_here
from aster.accounts.models import AuditEvent
from aster.accounts.services import add_member, remove_member
from aster.errors import NotAllowed
from integrations.models import McpServer
from tests.agents.signing_in import App, register, url
from tests.conftest import Person

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent(alice: Person) -> Agent:
    scopes = {"read_file": ["files:read"]}
    server = McpServer.objects.create(
        organization=alice.organization, name="Files", slug="files", url="https://files.test/mcp", tool_scopes=scopes
    )
    return save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk])


@pytest.fixture
def app(agent: Agent) -> App:
    return App()


def is_good(token: str) -> bool:
    return token in holders_of([token])


def refused(answer: Any, error: str = "invalid_grant", status: int = 400) -> bool:
    return (answer.status_code, answer.json()["error"]) == (status, error)


# --- Codes ----------------------------------------------------------------------------------------------------------


def test_a_code_becomes_a_pair_that_is_told_once_and_kept_as_digests(agent: Agent, app: App, bob: Person) -> None:
    answer = app.exchange(app.allow(bob.browser(), agent.gateway_url)["code"], resource=agent.gateway_url)
    told = answer.json()
    assert answer["Cache-Control"] == "no-store"
    assert (told["token_type"], told["expires_in"], told["scope"]) == ("Bearer", 3600, "aster:call")
    assert told["access_token"].startswith("aat_") and told["refresh_token"].startswith("art_")
    kept = str([*AccessToken.objects.values(), *RefreshToken.objects.values(), *AuditEvent.objects.values()])
    assert told["access_token"] not in kept and told["refresh_token"] not in kept
    holder = holders_of([told["access_token"]])[told["access_token"]]
    assert (holder.actor.user, holder.actor.role, holder.actor.via) == (bob.user, "member", "gateway")
    assert (holder.resource, holder.actor.scopes) == (agent.gateway_url, frozenset({"aster:call"}))


def test_scopes_that_the_person_added_hold_and_are_not_told_to_an_app_that_did_not_ask(
    agent: Agent, app: App, bob: Person
) -> None:
    told = app.sign_in(bob.browser(), agent.gateway_url, grant=("files:read",))
    assert told["scope"] == "aster:call"
    assert holders_of([told["access_token"]])[told["access_token"]].actor.scopes == {"aster:call", "files:read"}
    named = app.sign_in(bob.browser(), agent.gateway_url, grant=("files:read",), scope="aster:call files:read x:y")
    assert named["scope"] == "aster:call files:read"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code": "made-up"}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:33418/other"}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"resource": "https://elsewhere.test/"}, "invalid_target"),
    ],
)
def test_a_wrong_exchange_gives_nothing(
    agent: Agent, app: App, bob: Person, changes: dict[str, Any], error: str
) -> None:
    code = app.allow(bob.browser(), agent.gateway_url)["code"]
    assert refused(app.exchange(code, **changes), error)
    assert not AccessToken.objects.exists()
    assert app.exchange(code).status_code == 200


def test_a_code_is_good_once_for_its_client_and_for_five_minutes(agent: Agent, app: App, bob: Person) -> None:
    code = app.allow(bob.browser(), agent.gateway_url)["code"]
    thief = App()
    assert refused(thief.exchange(code, code_verifier=app.verifier))
    assert app.exchange(code).status_code == 200
    assert refused(app.exchange(code))
    late = app.allow(bob.browser(), agent.gateway_url)["code"]
    Grant.objects.update(expires=timezone.now())
    assert refused(app.exchange(late))


def test_a_client_with_a_secret_has_to_show_it(agent: Agent, bob: Person) -> None:
    for method in ("client_secret_post", "client_secret_basic"):
        made = register(token_endpoint_auth_method=method).json()
        app = App(made["client_id"])
        code = app.allow(bob.browser(), agent.gateway_url)["code"]
        assert refused(app.exchange(code), "invalid_client", 401)
        assert refused(app.exchange(code, client_secret="wrong"), "invalid_client", 401)
        app.secret = made["client_secret"]
        assert app.exchange(code).status_code == 200


def test_a_code_does_nothing_once_its_app_was_revoked(agent: Agent, app: App, bob: Person) -> None:
    code = app.allow(bob.browser(), agent.gateway_url)["code"]
    revoke(ConnectedApp.objects.get(), actor=bob.actor)
    assert refused(app.exchange(code))
    app.allow(bob.browser(), agent.gateway_url)
    assert refused(app.exchange(code))
    assert not AccessToken.objects.exists()


# --- Refreshing -----------------------------------------------------------------------------------------------------


def test_a_refresh_gives_a_new_pair_for_the_same_address(agent: Agent, app: App, bob: Person) -> None:
    first = app.sign_in(bob.browser(), agent.gateway_url, grant=("files:read",))
    second = app.refresh(first["refresh_token"], resource=agent.gateway_url).json()
    assert second["refresh_token"] != first["refresh_token"] and "scope" not in second
    holder = holders_of([second["access_token"]])[second["access_token"]]
    assert (holder.resource, holder.actor.scopes) == (agent.gateway_url, {"aster:call", "files:read"})
    fewer = app.refresh(second["refresh_token"], scope="aster:call").json()
    assert holders_of([fewer["access_token"]])[fewer["access_token"]].actor.scopes == {"aster:call"}
    # What was asked for once does not narrow what comes after (RFC 6749 §6).
    again = app.refresh(fewer["refresh_token"]).json()
    assert "files:read" in holders_of([again["access_token"]])[again["access_token"]].actor.scopes


def test_sessions_that_share_a_refresh_token_all_go_on(agent: Agent, app: App, bob: Person) -> None:
    first = app.sign_in(bob.browser(), agent.gateway_url)
    pairs = [app.refresh(first["refresh_token"]).json() for _ in range(3)]
    assert all(is_good(pair["access_token"]) for pair in pairs) and is_good(first["access_token"])
    assert len({pair["refresh_token"] for pair in pairs}) == 3
    assert all(app.refresh(pair["refresh_token"]).status_code == 200 for pair in pairs)


def test_a_used_refresh_token_that_comes_back_late_ends_its_sign_in_and_no_other(
    agent: Agent, app: App, bob: Person
) -> None:
    stolen, other = (app.sign_in(bob.browser(), agent.gateway_url) for _ in range(2))
    followed = app.refresh(stolen["refresh_token"]).json()
    RefreshToken.objects.exclude(revoked=None).update(revoked=timezone.now() - timedelta(seconds=61))
    assert refused(app.refresh(stolen["refresh_token"]))
    assert refused(app.refresh(followed["refresh_token"])) and not is_good(followed["access_token"])
    assert not is_good(stolen["access_token"])
    assert is_good(other["access_token"]) and app.refresh(other["refresh_token"]).status_code == 200


def test_the_last_sign_in_of_an_app_takes_the_app_with_it(agent: Agent, app: App, bob: Person) -> None:
    stolen = app.sign_in(bob.browser(), agent.gateway_url)
    app.refresh(stolen["refresh_token"])
    RefreshToken.objects.exclude(revoked=None).update(revoked=timezone.now() - timedelta(seconds=61))
    app.refresh(stolen["refresh_token"])
    assert not ConnectedApp.objects.exists()
    assert AuditEvent.objects.filter(action="revoked", object_type="connectedapp").count() == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"refresh_token": "art_made-up"}, "invalid_grant"),
        ({"refresh_token": "nul\0"}, "invalid_grant"),
        ({"resource": "https://elsewhere.test/"}, "invalid_target"),
        ({"scope": "aster:call aster:manage"}, "invalid_scope"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"client_id": None}, "invalid_client"),
    ],
)
def test_a_wrong_refresh_gives_nothing_and_costs_nothing(
    agent: Agent, app: App, bob: Person, changes: dict[str, Any], error: str
) -> None:
    token = app.sign_in(bob.browser(), agent.gateway_url)["refresh_token"]
    answer = app.token(**{"grant_type": "refresh_token", "refresh_token": token, **changes})
    assert answer.json()["error"] == error
    assert app.refresh(token).status_code == 200


def test_another_client_cannot_refresh_nor_end_it(agent: Agent, app: App, bob: Person) -> None:
    told = app.sign_in(bob.browser(), agent.gateway_url)
    other = App()
    app.refresh(told["refresh_token"])
    RefreshToken.objects.exclude(revoked=None).update(revoked=timezone.now() - timedelta(hours=1))
    assert refused(other.refresh(told["refresh_token"]))
    sent = {"client_id": other.client_id, "token": told["access_token"]}
    assert Client().post("/oauth/revoke", sent).status_code == 200
    assert is_good(told["access_token"])


def test_a_refresh_token_ends_after_90_days_without_use(agent: Agent, app: App, bob: Person) -> None:
    token = app.sign_in(bob.browser(), agent.gateway_url)["refresh_token"]
    RefreshToken.objects.update(created=timezone.now() - timedelta(days=90, seconds=1))
    assert refused(app.refresh(token))


def test_refreshes_at_the_same_moment_all_succeed(agent: Agent, app: App, bob: Person) -> None:
    token = app.sign_in(bob.browser(), agent.gateway_url)["refresh_token"]
    at_once = Barrier(4)

    def refresh() -> Any:
        at_once.wait(20)
        try:
            return app.refresh(token)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        answers = [each.result() for each in [pool.submit(refresh) for _ in range(4)]]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert all(is_good(answer.json()["access_token"]) for answer in answers)
    assert RefreshToken.objects.values("token_family").distinct().count() == 1


def test_a_code_sent_twice_at_the_same_moment_gives_one_pair(agent: Agent, app: App, bob: Person) -> None:
    code = app.allow(bob.browser(), agent.gateway_url)["code"]
    at_once = Barrier(4)

    def exchange() -> int:
        at_once.wait(20)
        try:
            return int(app.exchange(code).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        answers = sorted(each.result() for each in [pool.submit(exchange) for _ in range(4)])
    assert answers == [200, 400, 400, 400]
    assert AccessToken.objects.count() == 1


# --- Ending ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.parametrize("hint", [None, "access_token", "refresh_token", "nonsense"])
def test_giving_up_either_token_ends_the_pair(
    agent: Agent, app: App, bob: Person, which: str, hint: str | None
) -> None:
    told = app.sign_in(bob.browser(), agent.gateway_url)
    sent = {"client_id": app.client_id, "token": told[which], **({"token_type_hint": hint} if hint else {})}
    assert Client().post("/oauth/revoke", sent).status_code == 200
    assert not is_good(told["access_token"]) and refused(app.refresh(told["refresh_token"]))
    assert not ConnectedApp.objects.exists()
    assert Client().post("/oauth/revoke", sent).status_code == 200


def test_who_is_removed_or_switched_off_is_locked_out_at_once_and_for_good(
    agent: Agent, app: App, alice: Person, bob: Person
) -> None:
    told = app.sign_in(bob.browser(), agent.gateway_url)
    actor = holders_of([told["access_token"]])[told["access_token"]].actor
    bob.user.is_active = False
    bob.user.save()
    assert not is_good(told["access_token"])
    bob.user.is_active = True
    bob.user.save()
    require_still_here(actor)
    remove_member(bob.user.memberships.get(), actor=alice.actor)
    assert not is_good(told["access_token"]) and refused(app.refresh(told["refresh_token"]))
    with pytest.raises(NotAllowed, match="their app was revoked"):
        require_still_here(actor)
    # Back again, and asked anew: what was given before stays dead.
    add_member(bob.user.email, "member", actor=alice.actor)
    bob.user.refresh_from_db()
    again = app.sign_in(bob.browser(), agent.gateway_url)
    assert is_good(again["access_token"])
    assert not is_good(told["access_token"]) and refused(app.refresh(told["refresh_token"]))


def test_a_token_does_not_follow_a_name_to_another_agent(agent: Agent, app: App, alice: Person, bob: Person) -> None:
    told = app.sign_in(bob.browser(), agent.gateway_url)
    Agent.objects.filter(pk=agent.pk).update(slug="old-helper")
    assert not is_good(told["access_token"]) and refused(app.refresh(told["refresh_token"]))
    save_agent(Agent(name="Helper"), actor=alice.actor)
    assert not is_good(told["access_token"]) and refused(app.refresh(told["refresh_token"]))
    again = app.sign_in(bob.browser(), agent.gateway_url)
    assert is_good(again["access_token"]) and not is_good(told["access_token"])


def test_many_tokens_are_known_with_two_queries_and_nothing_is_written(
    agent: Agent, app: App, alice: Person, bob: Person
) -> None:
    good = [app.sign_in(person.browser(), agent.gateway_url)["access_token"] for person in (alice, bob, alice)]
    good.append(app.sign_in(alice.browser(), url("/mcp/acme/admin"), grant=("aster:manage",))["access_token"])
    late = app.sign_in(bob.browser(), agent.gateway_url)["access_token"]
    AccessToken.objects.filter(pk=AccessToken.objects.latest("pk").pk).update(expires=timezone.now())
    with CaptureQueriesContext(
        connection,
    ) as asked:
        found = holders_of({*good, late, "aat_made-up", "ask_a_key", ""})
    assert found.keys() == set(good) and len(asked) == 2
    assert all(query["sql"].startswith("SELECT") for query in asked)
    assert [found[text].actor.user for text in good] == [alice.user, bob.user, alice.user, alice.user]
    admin = found[good[-1]]
    assert (admin.resource, admin.actor.scopes) == (url("/mcp/acme/admin"), {"aster:call", "aster:manage"})
    assert "aat_" not in repr(found[good[0]])


def test_an_app_is_told_that_the_app_lacks_a_scope(agent: Agent, app: App, alice: Person) -> None:
    token = app.sign_in(alice.browser(), agent.gateway_url)["access_token"]
    actor = holders_of([token])[token].actor
    with pytest.raises(NotAllowed, match="This app lacks the scope aster:manage"):
        actor.require_admin()
    with pytest.raises(NotAllowed, match="names the scope aster:tickets"):
        actor.require_named("aster:tickets")
