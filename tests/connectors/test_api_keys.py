"""Connectors with one key of the organization: enabled on the page or over the API, and called by any member."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings as Installation

from agents.models import Agent
from agents.runtime.session import call_once
from agents.services.agents import save_agent
from aster.errors import ConnectionRequired, InvalidInput, UpstreamError
from connectors.services import Settings, disable_connector, enable_connector, update_connector
from integrations.models import AuthConfig, AuthType, Connection, McpServer
from tests.conftest import Person, body
from tests.fakes.mcp_servers import serve
from tests.fakes.rest_catalog import KEY, stripe_api
from tests.fakes.rest_providers import RestProvider

pytestmark = pytest.mark.django_db(transaction=True)
PAGE, API = "/hub/connectors/stripe/", "/api/v1/connectors/stripe"


@pytest.fixture
def api() -> RestProvider:
    return stripe_api()


@pytest.fixture
def base(api: RestProvider) -> Iterator[str]:
    with serve(api) as base:
        yield f"{base}/v1"


@pytest.fixture
def agent(base: str, alice: Person) -> Agent:
    server = enable_connector("stripe", Settings(api_key=KEY, url=base), actor=alice.actor)
    return save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk])


def balance(agent: Agent, person: Person) -> object:
    name = f"stripe_{McpServer.objects.get(command='stripe').pk}__stripe_get_balance"
    return asyncio.run(call_once(agent, name, {}, actor=person.actor))["structuredContent"]


def test_a_member_without_an_account_there_calls_with_the_organizations_key(
    api: RestProvider, agent: Agent, bob: Person
) -> None:
    assert balance(agent, bob) == {"available": [{"currency": "usd", "amount": 666670}], "pending": []}
    assert api.asked[-1].headers["authorization"] == f"Bearer {KEY}"
    assert not Connection.objects.exists()


def test_a_key_that_stripe_refuses_is_named_as_the_cause(agent: Agent, alice: Person, bob: Person) -> None:
    update_connector("stripe", Settings(api_key="rk_test_wrong"), actor=alice.actor)
    with pytest.raises(UpstreamError) as caught:
        balance(agent, bob)
    assert not isinstance(caught.value, ConnectionRequired) and caught.value.code == "key_refused"
    assert "the organization's API key" in caught.value.message and "An admin can enter" in caught.value.message
    assert "rk_test_wrong" not in caught.value.message
    update_connector("stripe", Settings(api_key=KEY), actor=alice.actor)
    assert balance(agent, bob)


def test_a_key_may_be_a_variable_of_the_installation(
    agent: Agent, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch, settings: Installation
) -> None:
    settings.ASTER_ENV_VARS = ["STRIPE_KEY"]
    monkeypatch.setenv("STRIPE_KEY", KEY)
    update_connector("stripe", Settings(api_key="${STRIPE_KEY}"), actor=alice.actor)
    assert balance(agent, bob)


def test_a_key_is_needed_to_begin_with_and_cannot_be_emptied(base: str, alice: Person) -> None:
    with pytest.raises(InvalidInput) as caught:
        enable_connector("stripe", Settings(url=base), actor=alice.actor)
    assert "api_key" in caught.value.fields and not McpServer.objects.exists() and not AuthConfig.objects.exists()
    enable_connector("stripe", Settings(api_key=KEY, url=base), actor=alice.actor)
    with pytest.raises(InvalidInput):
        update_connector("stripe", Settings(api_key=""), actor=alice.actor)
    assert AuthConfig.objects.get().token == KEY


class TestThePage:
    def test_asks_for_the_key_alone(self, alice: Person) -> None:
        page = alice.browser().get(PAGE).content.decode()
        assert 'name="api_key"' in page and 'name="client_id"' not in page and "Redirect URI" not in page
        assert "restricted key" in page

    def test_enables_with_the_key_and_never_shows_it_again(self, base: str, alice: Person) -> None:
        browser = alice.browser()
        done = browser.post(PAGE, {"api_key": KEY, "url": base}, follow=True).content.decode()
        assert "Stripe is enabled. Assign it to agents." in done and KEY not in done
        auth = AuthConfig.objects.get()
        assert (auth.auth_type, auth.token, auth.needs_person) == (AuthType.BEARER, KEY, False)

    def test_keeps_the_key_that_was_left_empty(self, agent: Agent, base: str, alice: Person) -> None:
        assert alice.browser().post(PAGE, {"api_key": "", "url": base, "is_enabled": "on"}).status_code == 302
        assert AuthConfig.objects.get().token == KEY

    def test_says_beside_the_field_that_a_key_is_needed(self, alice: Person) -> None:
        answer = alice.browser().post(PAGE, {"api_key": "", "url": "https://api.stripe.com/v1"})
        assert answer.status_code == 400 and "This field is required" in answer.content.decode()
        assert not McpServer.objects.exists()

    def test_tells_before_disabling_that_the_key_stays_valid_there(self, agent: Agent, alice: Person) -> None:
        browser = alice.browser()
        page = browser.get(f"{PAGE}disable/").content.decode()
        assert "at Stripe it stays valid" in page and "accounts" not in page
        assert "Stripe is disabled" in browser.post(f"{PAGE}disable/", follow=True).content.decode()
        assert not McpServer.objects.exists() and not AuthConfig.objects.exists()


class TestTheApi:
    def test_enables_with_the_key_and_never_shows_it(self, base: str, alice: Person) -> None:
        answer = alice.api().post(API, {"api_key": KEY, "url": base})
        shown = body(answer)
        assert answer.status_code == 201 and (shown["kind"], shown["has_secret"]) == ("api_key", True)
        assert KEY not in answer.content.decode() and shown["redirect_uri"] is None

    @pytest.mark.parametrize(("sent", "field"), [({}, "api_key"), ({"api_key": "x", "client_id": "y"}, "client_id")])
    def test_names_the_field_that_is_wrong(self, alice: Person, sent: dict[str, str], field: str) -> None:
        answer = alice.api().post(API, sent)
        assert answer.status_code == 400 and field in body(answer)["fields"] and not McpServer.objects.exists()

    def test_is_for_admins(self, alice: Person, bob: Person) -> None:
        assert bob.api().post(API, {"api_key": KEY}).status_code == 403
        assert alice.api("aster:read").post(API, {"api_key": KEY}).status_code == 403


def test_disabling_forgets_the_key(agent: Agent, alice: Person) -> None:
    outcome = disable_connector("stripe", actor=alice.actor)
    assert (outcome.revoked, outcome.not_revoked) == (0, [])
    assert not AuthConfig.objects.exists()
