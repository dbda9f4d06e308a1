"""Session tickets: who may make one, for whom and what for, who sees it, and what ends it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent, Conversation, SessionTicket
from agents.services.agents import save_agent, set_enabled
from agents.tasks import delete_old
from aster import crypto
from aster.accounts.models import ApiKey, AuditEvent, Membership, Role
from aster.accounts.services import remove_member, revoke_api_key
from tests.agents.embedded import ORIGIN, SESSION, TICKETS, agent_with, asked, client_with, page, ticket_for
from tests.aster.api_contract import api
from tests.conftest import Person

pytestmark = pytest.mark.django_db


@pytest.fixture
def helper(alice: Person) -> Agent:
    return agent_with(alice)


def test_a_ticket_is_shown_once_and_stored_as_a_digest(bob: Person, helper: Agent) -> None:
    made = api(bob).post(TICKETS, asked(helper))
    assert made.status_code == 201 and made["Cache-Control"] == "no-store"
    shown, row = made.json(), SessionTicket.objects.get()
    assert (shown["user"], shown["made_by"], shown["origin"]) == (bob.user.email, bob.user.email, ORIGIN)
    assert (shown["state"], shown["scopes"]) == ("active", ["aster:call", "aster:connect"])
    assert [agent["slug"] for agent in shown["agents"]] == ["helper"]
    assert row.digest == crypto.digest(shown["ticket"]) and shown["ticket"].startswith("ast_")
    assert timedelta(minutes=14) < row.expires_at - timezone.now() <= timedelta(minutes=15)
    listed = api(bob).get(TICKETS).content.decode() + api(bob).get(f"{TICKETS}/{row.pk}").content.decode()
    assert shown["ticket"] not in listed + repr(row) + str(row) and row.digest not in listed


def test_the_audit_trail_says_who_made_it_for_whom_and_which_page(alice: Person, bob: Person, helper: Agent) -> None:
    text = ticket_for(alice, helper, user=bob.user.email)
    event = AuditEvent.objects.get(object_type="sessionticket")
    assert (event.actor, event.action, event.api_key_id) == (
        alice.user,
        "created",
        SessionTicket.objects.get().api_key_id,
    )
    assert event.changes["for"] == [None, bob.user.email]
    assert event.changes["origin"] == [None, ORIGIN] and event.changes["agents"] == [None, ["Helper"]]
    assert text not in str(AuditEvent.objects.values())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        *[({"origin": each}, "origin") for each in (
            "", "app.example", "https://", "https://app.example/", "https://app.example/page", "https://app.example:443",
            "http://app.example", "HTTPS://app.example", "https://APP.example", "https://me@app.example", "null", "*",
            "https://*.example", "https://app.example:x", "https://app.example?a", "https://bücher.example", "file://x",
            "http://127.0.0.1:80", "http://10.0.0.1", "https://a b",
        )],
        ({"scopes": []}, "scopes"), ({"scopes": ["*"]}, "scopes.0"), ({"scopes": ["aster:manage"]}, "scopes.0"),
        ({"scopes": ["files:read"]}, "scopes.0"),
        ({"agents": []}, "agents"), ({"agents": ["nobody"]}, "agents"), ({"agents": [0]}, "agents"),
        ({"seconds": 59}, "seconds"), ({"seconds": 12 * 3600 + 1}, "seconds"),
        ({"user": "nobody@acme.test"}, "user"), ({"user": "x"}, "user"), ({"usr": "x"}, "usr"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(alice: Person, helper: Agent, change: dict[str, Any], field: str) -> None:
    refused = api(alice, "*", "aster:tickets").post(TICKETS, asked(helper, **change))
    assert refused.status_code == 400
    assert [name.partition(".")[0] for name in refused.json()["fields"]] == [field.partition(".")[0]]
    assert not SessionTicket.objects.exists()


@pytest.mark.parametrize(
    "origin", ["https://app.example:8443", "http://localhost:5173", "http://127.0.0.1:9", "http://[::1]"]
)
def test_pages_with_https_and_on_this_machine_may_embed(bob: Person, helper: Agent, origin: str) -> None:
    assert page(ticket_for(bob, helper, origin=origin), origin).get(SESSION).status_code == 200


def test_a_key_gives_no_more_than_it_holds(bob: Person, helper: Agent) -> None:
    caller = api(bob, "aster:call")
    refused = caller.post(TICKETS, asked(helper))
    assert (refused.status_code, refused.json()["scope"]) == (403, "aster:connect")
    assert caller.post(TICKETS, asked(helper, scopes=["aster:call"])).status_code == 201
    assert api(bob, "aster:read").post(TICKETS, asked(helper, scopes=["aster:call"])).status_code == 403


def test_a_ticket_for_somebody_else_takes_an_admins_key_with_the_scope_for_it(
    alice: Person, bob: Person, helper: Agent
) -> None:
    for_alice, for_bob = asked(helper, user=alice.user.email), asked(helper, user=bob.user.email)
    refused = api(bob).post(TICKETS, for_alice)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    manager = api(alice, "aster:manage", "aster:connect", "aster:call").post(TICKETS, for_bob)
    assert (manager.status_code, manager.json()["scope"]) == (403, "aster:tickets")
    everything = api(alice, "*").post(TICKETS, for_bob)
    assert (everything.status_code, everything.json()["scope"]) == (403, "aster:tickets")
    lacking = api(alice, "aster:tickets").post(TICKETS, for_bob)
    assert (lacking.status_code, lacking.json()["scope"]) == (403, "aster:call")
    made = api(alice, "aster:tickets", "aster:connect", "aster:call").post(TICKETS, for_bob)
    assert (made.status_code, made.json()["user"]) == (201, bob.user.email)
    assert page(made.json()["ticket"]).get(SESSION).json()["user"]["email"] == bob.user.email


def test_nobody_makes_a_key_for_tickets_that_is_somebody_elses(alice: Person, bob: Person) -> None:
    body = {"name": "x", "scopes": ["aster:tickets"], "user": bob.user.email}
    client = api(alice, "*", "aster:tickets")
    assert list(client.post("/api/v1/api_keys", body).json()["fields"]) == ["scopes"]


def test_a_key_that_does_not_name_the_scope_makes_no_key_that_does(alice: Person) -> None:
    body = {"name": "x", "scopes": ["aster:tickets"]}
    assert api(alice, "*").post("/api/v1/api_keys", body).json()["scope"] == "aster:tickets"
    assert api(alice, "*", "aster:tickets").post("/api/v1/api_keys", body).status_code == 201


def test_it_is_made_with_a_key_and_not_in_a_browser(alice: Person, helper: Agent) -> None:
    browser = alice.browser()
    refused = browser.post(TICKETS, asked(helper), content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (403, "key_needed")


def test_another_organization_is_out_of_reach(alice: Person, charlie: Person, helper: Agent) -> None:
    theirs = agent_with(charlie, name="Theirs")
    assert list(api(alice).post(TICKETS, asked(theirs)).json()["fields"]) == ["agents"]
    for_charlie = asked(helper, user=charlie.user.email)
    assert list(api(alice, "*", "aster:tickets").post(TICKETS, for_charlie).json()["fields"]) == ["user"]
    ticket_for(alice, helper)
    row = SessionTicket.objects.get()
    stranger = api(charlie)
    assert stranger.get(TICKETS).json()["results"] == []
    assert [stranger.get(f"{TICKETS}/{row.pk}").status_code, stranger.delete(f"{TICKETS}/{row.pk}").status_code] == [
        404
    ] * 2
    assert page(ticket_for(alice, helper)).get(f"{SESSION}/agents/{theirs.slug}/servers").status_code == 404


def test_members_see_their_own_tickets_and_admins_all(alice: Person, bob: Person, helper: Agent) -> None:
    ticket_for(alice, helper)
    ticket_for(bob, helper)
    ticket_for(alice, helper, user=bob.user.email)
    assert [row["made_by"] for row in api(alice).get(TICKETS).json()["results"]] == [
        alice.user.email, bob.user.email, alice.user.email
    ]  # fmt: skip
    assert [row["user"] for row in api(bob).get(TICKETS).json()["results"]] == [bob.user.email] * 2
    first = SessionTicket.objects.order_by("pk")[0]
    assert api(bob).delete(f"{TICKETS}/{first.pk}").status_code == 404


def test_a_revoked_ticket_stops_at_once(alice: Person, bob: Person, helper: Agent) -> None:
    text = ticket_for(bob, helper)
    where = f"{TICKETS}/{SessionTicket.objects.get().pk}"
    assert api(bob, "aster:read").delete(where).status_code == 403
    assert page(text).get(SESSION).status_code == 200
    assert [api(alice).delete(where).status_code, api(bob).delete(where).status_code] == [204, 204]
    refused = page(text).get(SESSION)
    assert (refused.status_code, refused.json()["code"]) == (401, "ticket_revoked")
    assert AuditEvent.objects.filter(object_type="sessionticket", action="revoked").count() == 1
    assert api(bob).get(where).json()["state"] == "revoked"


def test_revoking_a_ticket_ends_the_answers_on_its_pages_and_no_others(bob: Person, helper: Agent) -> None:
    ticket_for(bob, helper)
    ticket = SessionTicket.objects.get()
    there, in_the_hub = (
        Conversation.objects.create(
            organization=bob.organization, agent=helper, user=bob.user, origin=origin, turn=uuid.uuid4()
        )
        for origin in (ticket.origin, "")
    )
    assert api(bob).delete(f"{TICKETS}/{ticket.pk}").status_code == 204
    assert Conversation.objects.get(pk=there.pk).stop_requested
    assert not Conversation.objects.get(pk=in_the_hub.pk).stop_requested


def _key_is_revoked(alice: Person, bob: Person) -> None:
    revoke_api_key(SessionTicket.objects.get().api_key, actor=alice.actor)


def _key_expires(alice: Person, bob: Person) -> None:
    ApiKey.objects.filter(pk=SessionTicket.objects.get().api_key_id).update(expires_at=timezone.now())


def _person_leaves(alice: Person, bob: Person) -> None:
    remove_member(Membership.objects.get(user=bob.user), actor=alice.actor)


def _person_is_suspended(alice: Person, bob: Person) -> None:
    bob.user.is_active = False
    bob.user.save()


def _maker_is_suspended(alice: Person, bob: Person) -> None:
    alice.user.is_active = False
    alice.user.save()


def _maker_is_no_admin_any_more(alice: Person, bob: Person) -> None:
    Membership.objects.filter(user=alice.user).update(role=Role.MEMBER)


@pytest.mark.parametrize(
    "happens",
    [
        _key_is_revoked,
        _key_expires,
        _person_leaves,
        _person_is_suspended,
        _maker_is_suspended,
        _maker_is_no_admin_any_more,
    ],
)
def test_a_ticket_ends_with_its_key_its_person_and_its_maker(
    alice: Person, bob: Person, helper: Agent, happens: Any
) -> None:
    text = ticket_for(alice, helper, user=bob.user.email)
    assert page(text).get(SESSION).status_code == 200
    happens(alice, bob)
    refused = page(text).get(SESSION)
    assert (refused.status_code, refused.json()["code"]) == (401, "ticket_ended")


def test_an_agent_that_is_switched_off_is_out_of_every_ticket(alice: Person, helper: Agent) -> None:
    other = save_agent(Agent(name="Other"), actor=alice.actor)
    text = ticket_for(alice, helper, agents=["helper", "other"])
    set_enabled(helper, False, actor=alice.actor)
    assert [agent["slug"] for agent in page(text).get(SESSION).json()["agents"]] == [other.slug]
    refused = page(text).get(f"{SESSION}/agents/helper/servers")
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_disabled")
    assert list(api(alice).post(TICKETS, asked(helper)).json()["fields"]) == ["agents"]


def test_tickets_are_forgotten_a_week_after_their_end(alice: Person, helper: Agent) -> None:
    for days in (6, 8):
        ticket_for(alice, helper)
        newest = SessionTicket.objects.order_by("-pk")[:1].get()
        SessionTicket.objects.filter(pk=newest.pk).update(expires_at=timezone.now() - timedelta(days=days))
    delete_old()
    assert SessionTicket.objects.count() == 1


def test_a_ticket_opens_nothing_else(alice: Person, aster: str, helper: Agent) -> None:
    text = ticket_for(alice, helper)
    client = client_with(text, ORIGIN)
    for path in ("config/agent", "connections", "session-tickets", "agents/helper/conversations", "organization"):
        refused = client.get(f"/api/v1/{path}")
        assert (refused.status_code, refused.json()["code"]) == (401, "authentication_failed"), path
        assert "Access-Control-Allow-Origin" not in refused
    assert client.post("/api/v1/agents/helper/messages", {"text": "x"}).status_code == 401
    assert client.post(helper.gateway_path, {}).status_code in (401, 404)
    assert client.get("/hub/agents/").status_code == 302
