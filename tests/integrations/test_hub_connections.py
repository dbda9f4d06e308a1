"""My connections, and the admins' table of people and sign-ins."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from agents.models import Agent
from agents.services.agents import save_agent
from aster.accounts.models import Membership, Role, User
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, McpServer
from integrations.services import ledger
from tests.conftest import Person
from tests.integrations.hub import MakeServer, auth_of, html_of, make_server, notes_at_nowhere, oauth_config, text_of

__all__ = ["make_server", "notes_at_nowhere"]

pytestmark = pytest.mark.django_db


def connect(person: Person | None, auth: AuthConfig, **fields: Any) -> Connection:
    now = timezone.now()
    known = {
        "access_token": "t0ken-canary", "refresh_token": "r3fresh-canary", "scopes": ["notes:read"],
        "expires_at": now + timedelta(minutes=90, seconds=30), "refresh_at": now + timedelta(minutes=80, seconds=30),
        "last_used_at": now - timedelta(hours=3, seconds=5),
    }  # fmt: skip
    user = person.user if person else None
    return Connection.objects.create(auth_config=auth, user=user, **{**known, **fields})


def test_a_connection_tells_everything_but_its_tokens(alice: Person, bob: Person, notes_at_nowhere: McpServer) -> None:
    save_agent(Agent(name="Secretary"), actor=alice.actor, server_ids=[notes_at_nowhere.pk])
    connect(bob, auth_of(notes_at_nowhere))
    page = bob.browser().get("/hub/connections/")
    words = text_of(page)
    for said in ("Acme Notes", "Connected", "notes:read", "Secretary", "3 hours ago", "Renews itself"):
        assert said in words
    assert "canary" not in html_of(page)


def test_only_ones_own_connections_are_listed_even_for_admins(
    alice: Person, bob: Person, notes_at_nowhere: McpServer
) -> None:
    connect(bob, auth_of(notes_at_nowhere))
    words = text_of(alice.browser().get("/hub/connections/"))
    assert "notes:read" not in words
    assert "Servers you can connect your account to." in words


def test_a_broken_connection_comes_first_and_asks_to_connect(bob: Person, make_server: MakeServer) -> None:
    fine, broken = make_server("Alpha", auth=oauth_config("A")), make_server("Zulu", auth=oauth_config("Z"))
    connect(bob, auth_of(fine))
    connect(
        bob, auth_of(broken), status=ConnectionStatus.ERROR, last_error="It says invalid_grant.",
        last_error_at=timezone.now(), refresh_at=None,
    )  # fmt: skip
    words = text_of(bob.browser().get("/hub/connections/"))
    assert words.index("Zulu") < words.index("Alpha")
    assert "It says invalid_grant. Connect again to keep using its tools." in words


def test_a_grant_that_still_works_while_the_provider_is_in_trouble_says_that_aster_tries_again(
    bob: Person, notes_at_nowhere: McpServer
) -> None:
    connect(bob, auth_of(notes_at_nowhere), last_error="The provider answered 503.", last_error_at=timezone.now())
    words = text_of(bob.browser().get("/hub/connections/"))
    assert "The provider answered 503. Aster tries again by itself." in words


def test_servers_one_could_connect_are_offered_unless_switched_off(bob: Person, make_server: MakeServer) -> None:
    make_server("Wanted", auth=oauth_config("One"))
    make_server("Sleeping", auth=oauth_config("Two"), is_enabled=False)
    make_server("Open")
    words = text_of(bob.browser().get("/hub/connections/"))
    assert "Wanted" in words
    assert "Sleeping" not in words
    assert "Open" not in words


def test_a_second_server_with_the_same_sign_in_is_offered_until_one_consents_to_it_too(
    bob: Person, make_server: MakeServer
) -> None:
    first = make_server("First", auth=oauth_config())
    make_server("Second", auth_config=auth_of(first), url="http://127.0.0.1:10/mcp")
    connect(bob, auth_of(first), origins=[first.origin])
    words = text_of(bob.browser().get("/hub/connections/"))
    assert "Servers you can connect your account to. S Second" in words


def test_without_any_server_there_is_nothing_to_connect(bob: Person) -> None:
    assert "Nothing to connect" in text_of(bob.browser().get("/hub/connections/"))


@pytest.mark.parametrize("count", [2, 8])
def test_the_queries_of_my_connections_do_not_grow(
    alice: Person, make_server: MakeServer, django_assert_num_queries: DjangoAssertNumQueries, count: int
) -> None:
    made = [make_server(f"Server {number}", auth=oauth_config(f"Auth {number}")) for number in range(count)]
    save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk for server in made])
    for server in made:
        connect(alice, auth_of(server))
    make_server("Free", auth=oauth_config("Free"))
    browser = alice.browser()
    browser.get("/hub/connections/")
    # Session, person, membership; connections, servers, agents, servers to connect; the shell's four.
    with django_assert_num_queries(11):
        browser.get("/hub/connections/")


# --- Everybody -------------------------------------------------------------------------------------------------------


def test_the_table_shows_who_is_connected_where(alice: Person, bob: Person, notes_at_nowhere: McpServer) -> None:
    connect(bob, auth_of(notes_at_nowhere))
    page = alice.browser().get("/hub/matrix/")
    words = text_of(page)
    for said in ("Bob", "bob@acme.test", "Acme Notes", "Used 3 hours ago", "renews itself", "Not connected"):
        assert said in words
    assert "canary" not in html_of(page)
    assert "bob@acme.test" in text_of(alice.browser().get("/hub/matrix/", {"q": "BOB"}))
    assert "Nobody matches." in text_of(alice.browser().get("/hub/matrix/", {"q": "zoe"}))


def test_errors_are_counted_and_told(alice: Person, bob: Person, notes_at_nowhere: McpServer) -> None:
    connect(bob, auth_of(notes_at_nowhere), status=ConnectionStatus.ERROR, last_error="It says invalid_grant.")
    words = text_of(alice.browser().get("/hub/matrix/"))
    assert "1 connection error" in words
    assert "It says invalid_grant." in words


def test_the_organizations_own_connections_are_apart(alice: Person, make_server: MakeServer) -> None:
    machine = AuthConfig(
        name="Machine", auth_type=AuthType.CLIENT_CREDENTIALS, client_id="m", client_secret="s3cret-canary",
        token_url="http://127.0.0.1:9/token",
    )  # fmt: skip
    connect(None, auth_of(make_server("Warehouse", auth=machine)))
    words = text_of(alice.browser().get("/hub/matrix/"))
    assert "As the organization" in words
    assert "Warehouse" in words
    assert "canary" not in words


def test_members_may_not_see_the_table_and_others_see_their_own(
    bob: Person, charlie: Person, notes_at_nowhere: McpServer
) -> None:
    assert bob.browser().get("/hub/matrix/").status_code == 403
    assert "Acme Notes" not in text_of(charlie.browser().get("/hub/matrix/"))


@pytest.mark.parametrize("count", [2, 9])
def test_the_queries_of_the_table_do_not_grow_with_people_or_servers(
    alice: Person, make_server: MakeServer, django_assert_num_queries: DjangoAssertNumQueries, count: int
) -> None:
    for number in range(count):
        auth = auth_of(make_server(f"Server {number}", auth=oauth_config(f"Auth {number}")))
        user = User.objects.create_user(f"person{number}@acme.test", None)
        Membership.objects.create(organization=alice.organization, user=user, role=Role.MEMBER)
        Connection.objects.create(auth_config=auth, user=user)
    browser = alice.browser()
    browser.get("/hub/matrix/")
    # Session, person, membership; auth configs, servers, people twice, connections, errors; organization; shell: 4.
    with django_assert_num_queries(14):
        browser.get("/hub/matrix/")


def test_a_connections_page_shows_its_ledger(bob: Person, notes_at_nowhere: McpServer) -> None:
    connection = connect(bob, auth_of(notes_at_nowhere), wanted_scopes=["notes:write"])
    ledger.write(connection, "renewed", "background", generation=2, seconds=0.4)
    ledger.write(connection, "refused", "call", generation=2, detail="The provider refused: invalid_grant")
    page = bob.browser().get(f"/hub/connections/{connection.pk}/")
    words = text_of(page)
    for said in ("Renewed", "Renewed ahead of time", "Refused", "A call needed it", "invalid_grant", "400 ms"):
        assert said in words
    assert "A tool needs more rights than were given: notes:write" in words
    assert "canary" not in html_of(page)
    assert words.index("Refused") < words.index("Renewed ahead of time")


def test_a_ledger_is_seen_by_its_person_and_the_admins_alone(
    alice: Person, bob: Person, charlie: Person, notes_at_nowhere: McpServer
) -> None:
    path = f"/hub/connections/{connect(alice, auth_of(notes_at_nowhere)).pk}/"
    assert alice.browser().get(path).status_code == 200
    assert bob.browser().get(path).status_code == 404
    assert charlie.browser().get(path).status_code == 404
    bobs = f"/hub/connections/{connect(bob, auth_of(notes_at_nowhere)).pk}/"
    admins_view = alice.browser().get(bobs)
    assert admins_view.status_code == 200
    assert "Connect again" not in text_of(admins_view)
