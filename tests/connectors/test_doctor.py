"""The doctor on a connector: what it can look at is looked at, and the provider's API is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings as Installation

from connectors.services import Settings, enable_connector
from integrations.models import Connection, ConnectionStatus, McpServer
from integrations.services.doctor import Diagnosis
from tests.conftest import Person
from tests.fakes.mcp_servers import serve
from tests.fakes.rest_catalog import KEY, stripe_api
from tests.fakes.rest_providers import TOKEN, RestProvider, slack_api
from tests.integrations.patients import look, statuses, step

pytestmark = pytest.mark.django_db(transaction=True)
# There is no MCP server, and no metadata of one.
SKIPPED = dict.fromkeys(("dial", "answer", "resource_metadata", "provider_metadata", "session"), "skipped")


@pytest.fixture
def api() -> RestProvider:
    return slack_api()


@pytest.fixture
def slack(api: RestProvider, alice: Person) -> Iterator[McpServer]:
    with serve(api) as base:
        app = Settings(client_id="1234.5678", client_secret="s3cret", url=base)
        yield enable_connector("slack", app, actor=alice.actor)


def rest_of(found: Diagnosis) -> dict[str, str]:
    assert SKIPPED.items() <= statuses(found).items()
    return {name: status for name, status in statuses(found).items() if name not in SKIPPED}


def test_one_that_works_gets_a_clean_bill_and_nobody_is_asked(
    api: RestProvider, slack: McpServer, alice: Person
) -> None:
    Connection.objects.create(
        auth_config=slack.auth_config, user=alice.user, access_token=TOKEN, refresh_token="r",
        status=ConnectionStatus.CONNECTED, token_url="https://slack.com/api/oauth.v2.user.access",
        origins=[slack.origin], connected_at=timezone.now(),
        expires_at=timezone.now() + timedelta(hours=1),
    )  # fmt: skip
    found = look(slack, alice)
    assert rest_of(found) == {"url": "ok", "client": "ok", "token": "ok", "tools": "ok"}
    assert (found.status, found.summary) == ("ok", "Everything works.")
    assert "REST API" in step(found, "answer").found and "3 tools of Aster's own" in step(found, "tools").found
    assert not api.asked


def test_before_connecting_it_offers_to_connect(api: RestProvider, slack: McpServer, bob: Person) -> None:
    found = look(slack, bob)
    assert rest_of(found) == {"url": "ok", "client": "ok", "token": "warning", "tools": "ok"}
    assert [fix.id for fix in step(found, "token").fixes] == ["reconnect"] and not api.asked


def test_an_address_that_is_not_allowed_any_more_is_named(alice: Person, settings: Installation) -> None:
    settings.ASTER_ALLOWED_HOSTS_PRIVATE = ["10.0.0.5:8443"]
    server = enable_connector("stripe", Settings(api_key=KEY, url="https://10.0.0.5:8443/v1"), actor=alice.actor)
    settings.ASTER_ALLOWED_HOSTS_PRIVATE = []
    found = look(server, alice)
    assert (statuses(found)["url"], statuses(found)["tools"]) == ("failed", "skipped")


def test_a_key_of_the_organization_is_told_without_showing_it(alice: Person, bob: Person) -> None:
    api = stripe_api()
    with serve(api) as base:
        server = enable_connector("stripe", Settings(api_key=KEY, url=base), actor=alice.actor)
        for person in (alice, bob):
            found = look(server, person)
            assert rest_of(found) == {"url": "ok", "client": "skipped", "token": "ok", "tools": "ok"}
            assert KEY not in str(found)
    assert not api.asked


def test_a_key_whose_variable_is_gone_fails_where_it_is_used(alice: Person) -> None:
    server = enable_connector("stripe", Settings(api_key=KEY), actor=alice.actor)
    assert server.auth_config
    server.auth_config.token = "${STRIPE_KEY}"
    server.auth_config.save()
    found = look(server, alice)
    assert statuses(found)["token"] == "failed" and "Ask the operator to list STRIPE_KEY" in found.summary
