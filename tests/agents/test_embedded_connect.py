"""From Connect on another app's page to the provider and back: one browser, one person, or nothing at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from django.test import Client
from django.utils import timezone

from agents.models import Agent, EmbeddedSignIn, SessionTicket
from agents.services.agents import assign_servers
from agents.services.tickets import revoke_ticket
from aster.accounts.models import AuditEvent, Membership
from aster.accounts.services import remove_member
from aster.demo.world import DemoWorld
from integrations.models import Connection, McpServer, PendingAuthorization
from tests.agents.embedded import ORIGIN, SESSION, agent_with, page, ticket_for
from tests.conftest import Person
from tests.integrations.hub import make_server, notes_at_nowhere, text_of
from tests.walks.conftest import consent, notes

__all__ = ["make_server", "notes", "notes_at_nowhere"]
pytestmark = pytest.mark.django_db(transaction=True)
CALLBACK = "/api/mcp/oauth/callback"


@dataclass
class Embedding:
    """A page that shows bob the servers of an agent."""

    ticket: str
    person: Person

    def press_connect(self) -> tuple[str, str]:
        """The address for a new window, and the proof that the page hands to it."""
        made = page(self.ticket).post(f"{SESSION}/agents/helper/servers/acme-notes/connect")
        assert made.status_code == 200, made.content
        parts = urlsplit(made.json()["url"])
        assert parts.path == "/embed/connect/"
        return f"{parts.path}?{parts.query}", made.json()["proof"]

    @property
    def status(self) -> str:
        shown: str = page(self.ticket).get(f"{SESSION}/agents/helper/servers").json()["results"][0]["status"]
        return shown


def window() -> Client:
    """A browser that is not signed in to Aster."""
    return Client(enforce_csrf_checks=True)


def press_continue(browser: Client, address: str, proof: str) -> Any:
    shown = browser.get(address)
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', shown.content.decode()))
    assert fields.pop("proof") == ""  # the page of the other app has it
    return browser.post("/embed/connect/", {**fields, "proof": proof})


def provider_of(leaving: Any) -> str:
    assert leaving.status_code == 200, text_of(leaving)
    return unescape(re.search(r'content="0; url=([^"]+)"', leaving.content.decode())[1])  # type: ignore[index]


def back(location: httpx2.URL) -> str:
    return f"{CALLBACK}?{urlsplit(str(location)).query}"


@pytest.fixture
def helper(alice: Person, notes: McpServer) -> Agent:
    return agent_with(alice, notes)


@pytest.fixture
def embedding(bob: Person, helper: Agent) -> Embedding:
    return Embedding(ticket_for(bob, helper), bob)


def test_a_person_connects_without_being_signed_in_to_aster(embedding: Embedding, helper: Agent) -> None:
    browser = window()
    address, proof = embedding.press_connect()
    shown = browser.get(address)
    for words in ("Connect Acme Notes", "bob@acme.test at Acme", "app.example"):
        assert words in text_of(shown)
    assert shown["Cross-Origin-Opener-Policy"] == "unsafe-none" and shown["Cache-Control"] == "no-store"
    assert "'unsafe-inline'" not in shown["Content-Security-Policy"] and proof not in shown.content.decode()
    leaving = press_continue(browser, address, proof)
    (name,) = (name for name in leaving.cookies if "sign-in" in name)
    cookie = leaving.cookies[name]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == (CALLBACK, True, "Lax")
    done = browser.get(back(consent(provider_of(leaving), "Ben Okafor")))
    assert done.status_code == 200 and "You can close this window." in text_of(done)
    assert f'data-origin="{ORIGIN}"' in done.content.decode() and 'data-server="acme-notes"' in done.content.decode()
    assert done["Cross-Origin-Opener-Policy"] == "unsafe-none" and done["Referrer-Policy"] == "no-referrer"
    assert done.cookies[name].value == "" and "sessionid" not in done.cookies
    assert Connection.objects.get().user == embedding.person.user
    assert embedding.status == "connected"
    event = AuditEvent.objects.get(action="connected")
    assert (event.actor, event.via) == (embedding.person.user, "embed")
    ended = page(embedding.ticket).post(f"{SESSION}/agents/helper/servers/acme-notes/disconnect")
    assert (ended.json()["revocation"]["outcome"], embedding.status) == ("revoked", "not_connected")


def test_a_secure_site_sets_a_secure_cookie(embedding: Embedding, settings: Any) -> None:
    settings.SESSION_COOKIE_SECURE = True
    leaving = press_continue(window(), *embedding.press_connect())
    (name,) = (name for name in leaving.cookies if "sign-in" in name)
    assert name.startswith("__Secure-") and leaving.cookies[name]["secure"]


def test_a_link_that_was_sent_to_somebody_else_begins_nothing(embedding: Embedding) -> None:
    """Only the window that the page opened gets the proof."""
    address, proof = embedding.press_connect()
    for guess in ("", "x", proof[:-1]):
        refused = press_continue(window(), address, guess)
        assert refused.status_code == 403 and "Nothing was connected" in text_of(refused)
    assert not PendingAuthorization.objects.exists()
    assert press_continue(window(), address, proof).status_code == 200


def test_who_is_signed_in_as_somebody_else_connects_nothing(embedding: Embedding, alice: Person, bob: Person) -> None:
    address, proof = embedding.press_connect()
    refused = alice.browser().get(address)
    assert refused.status_code == 403 and "you are signed in to Aster as alice@acme.test" in text_of(refused)
    posted = alice.browser().post("/embed/connect/", {"code": address.split("code=")[1], "proof": proof})
    assert posted.status_code == 403 and not PendingAuthorization.objects.exists()
    assert bob.browser().get(address).status_code == 200


def test_another_site_cannot_press_continue(embedding: Embedding) -> None:
    address, proof = embedding.press_connect()
    code = address.split("code=")[1]
    forged = window().post("/embed/connect/", {"code": code, "proof": proof})
    assert forged.status_code == 403 and not PendingAuthorization.objects.exists()


def test_whoever_is_lured_to_the_provider_connects_nothing(embedding: Embedding, alice: Person) -> None:
    """The attacker presses Continue and sends the provider's address on; the victim agrees there."""
    attacker, victim = window(), window()
    leaving = press_continue(attacker, *embedding.press_connect())
    answer = back(consent(provider_of(leaving), "Ada Park"))
    keyed = Client(HTTP_AUTHORIZATION=f"Bearer {embedding.person.key()}")
    for browser in (victim, alice.browser(), embedding.person.browser(), keyed):
        refused = browser.get(answer)
        assert refused.status_code == 400 and "in another browser" in text_of(refused)
    assert not Connection.objects.exists() and embedding.status == "not_connected"


def test_a_link_works_once_and_for_five_minutes(embedding: Embedding) -> None:
    address, proof = embedding.press_connect()
    press_continue(window(), address, proof)
    again = window().get(address)
    assert again.status_code == 404 and "Press Connect again" in text_of(again)
    late, _ = embedding.press_connect()
    EmbeddedSignIn.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert window().get(late).status_code == 404
    first, _ = embedding.press_connect()
    second, _ = embedding.press_connect()
    assert [window().get(each).status_code for each in (first, second)] == [404, 200]
    assert window().get("/embed/connect/").status_code == 404


def test_the_providers_answer_is_taken_once(embedding: Embedding) -> None:
    browser = window()
    answer = back(consent(provider_of(press_continue(browser, *embedding.press_connect()))))
    assert browser.get(answer).status_code == 200
    again = browser.get(answer)
    assert again.status_code == 400 and "already finished" in text_of(again)
    assert "/hub/login" not in str(again.headers)


def test_a_person_who_says_no_is_told_so(embedding: Embedding) -> None:
    browser = window()
    leaving = press_continue(browser, *embedding.press_connect())
    refused = browser.get(back(consent(provider_of(leaving), decision="deny")))
    assert refused.status_code >= 400 and "Not connected" in text_of(refused) and "app.example" in text_of(refused)
    assert "data-embed" not in refused.content.decode()
    assert embedding.status == "not_connected"


def test_a_provider_that_is_down_is_said_in_the_window(alice: Person, bob: Person, notes_at_nowhere: McpServer) -> None:
    embedding = Embedding(ticket_for(bob, agent_with(alice, notes_at_nowhere)), bob)
    failed = press_continue(window(), *embedding.press_connect())
    assert failed.status_code >= 400 and "Not connected" in text_of(failed)
    assert not PendingAuthorization.objects.exists()


def _ticket_is_revoked(alice: Person, bob: Person, helper: Agent) -> None:
    revoke_ticket(SessionTicket.objects.get(), actor=bob.actor)


def _person_leaves(alice: Person, bob: Person, helper: Agent) -> None:
    remove_member(Membership.objects.get(user=bob.user), actor=alice.actor)


def _agent_loses_the_server(alice: Person, bob: Person, helper: Agent) -> None:
    assign_servers(helper, [], actor=alice.actor)


@pytest.mark.parametrize("happens", [_ticket_is_revoked, _person_leaves, _agent_loses_the_server])
def test_what_ends_a_ticket_ends_the_sign_ins_begun_with_it(
    embedding: Embedding, alice: Person, bob: Person, helper: Agent, happens: Any
) -> None:
    browser = window()
    answer = back(consent(provider_of(press_continue(browser, *embedding.press_connect()))))
    open_link, _ = embedding.press_connect()
    happens(alice, bob, helper)
    assert browser.get(answer).status_code in (401, 403)
    assert browser.get(open_link).status_code in (401, 403)
    assert not Connection.objects.filter(user=bob.user).exists()


def test_a_ticket_that_runs_out_at_the_provider_lets_the_sign_in_end(embedding: Embedding) -> None:
    browser = window()
    answer = back(consent(provider_of(press_continue(browser, *embedding.press_connect()))))
    SessionTicket.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert browser.get(answer).status_code == 200
    assert Connection.objects.filter(user=embedding.person.user).exists()


def test_two_windows_do_not_take_each_others_sign_in(bob: Person, embedding: Embedding, world: DemoWorld) -> None:
    browser = window()
    answers = [back(consent(provider_of(press_continue(browser, *embedding.press_connect())))) for _ in range(2)]
    assert [browser.get(answer).status_code for answer in answers] == [200, 200]


def test_the_hub_still_finishes_its_own_sign_ins(alice: Person, notes: McpServer) -> None:
    browser = alice.browser()
    leaving = browser.post("/hub/servers/acme-notes/connect/")
    done = browser.get(back(consent(provider_of(leaving))))
    assert done.status_code == 302 and Connection.objects.filter(user=alice.user).exists()


def test_the_script_is_small_public_and_kept(client: Client) -> None:
    script = client.get("/embed/aster.js")
    assert script.status_code == 200 and script["Content-Type"].startswith("text/javascript")
    assert script["Cross-Origin-Resource-Policy"] == "cross-origin" and "public" in script["Cache-Control"]
    assert len(script.content) <= 8192 and not script.cookies
    assert client.get("/embed/aster.js", HTTP_IF_NONE_MATCH=script["ETag"]).status_code == 304
    assert not re.search(rb"\b(import|require|eval|innerHTML|localStorage|document\.cookie)\b", script.content)
