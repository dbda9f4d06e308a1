"""Connectors of an organization: enabling, changing, disabling, and calls with each person's own token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.utils import timezone

from agents.models import Agent
from agents.runtime.session import call_once
from agents.services.agents import save_agent
from aster.accounts.models import AuditEvent
from aster.errors import AsterError, Conflict, ConnectionRequired, InvalidInput, NotAllowed, NotFound
from connectors.services import Settings, disable_connector, enable_connector, find_enabled, update_connector
from integrations.models import AuthConfig, Connection, ConnectionStatus, McpServer, PendingAuthorization
from integrations.services.connections import begin_connection
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.mcp_servers import serve
from tests.fakes.rest_providers import TOKEN, RestProvider, slack_api

pytestmark = pytest.mark.django_db(transaction=True)
APP = Settings(client_id="1234.5678", client_secret="s3cret")


@pytest.fixture
def api() -> RestProvider:
    return slack_api()


@pytest.fixture
def slack(api: RestProvider, alice: Person) -> Iterator[McpServer]:
    with serve(api) as base:
        yield enable_connector(
            "slack", Settings(client_id="1234.5678", client_secret="s3cret", url=base), actor=alice.actor
        )


@pytest.fixture
def agent(slack: McpServer, alice: Person) -> Agent:
    return save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[slack.pk])


def connect(person: Person, server: McpServer, token: str = TOKEN) -> Connection:
    return Connection.objects.create(
        auth_config=server.auth_config, user=person.user, access_token=token, status=ConnectionStatus.CONNECTED,
        token_url=server.auth_config.token_url, origins=[server.origin], connected_at=timezone.now(),
    )  # fmt: skip


def call(agent: Agent, person: Person, name: str, **arguments: object) -> dict[str, object]:
    import asyncio

    prefix = f"slack_{McpServer.objects.get(command='slack').pk}__slack_"
    return asyncio.run(call_once(agent, f"{prefix}{name}", arguments, actor=person.actor))


def test_enabling_makes_a_server_whose_tools_are_known_at_once(slack: McpServer, alice: Person) -> None:
    assert [tool.name for tool in slack.tools.order_by("name")] == [
        *("slack_list_channels", "slack_search_messages", "slack_send_message"),
    ]
    auth = slack.auth_config
    assert auth and auth.needs_person and auth.scopes == ["channels:read", "chat:write", "search:read"]
    assert find_enabled("slack", actor=alice.actor) == slack
    assert "s3cret" not in repr(APP) and AuditEvent.objects.filter(action="created").exists()


def test_enabling_twice_is_refused_and_stores_nothing(slack: McpServer, alice: Person) -> None:
    with pytest.raises(Conflict, match="enabled already"):
        enable_connector("slack", APP, actor=alice.actor)
    assert AuthConfig.objects.count() == 1


def test_enabling_without_credentials_says_what_is_missing(alice: Person) -> None:
    with pytest.raises(InvalidInput) as caught:
        enable_connector("slack", Settings(), actor=alice.actor)
    assert "client_id" in caught.value.fields and not McpServer.objects.exists() and not AuthConfig.objects.exists()


@pytest.mark.parametrize("slug", ["unknown", ""])
def test_what_is_not_in_the_catalogue_cannot_be_enabled(alice: Person, slug: str) -> None:
    with pytest.raises(NotFound):
        enable_connector(slug, APP, actor=alice.actor)


def test_members_and_other_organizations_change_nothing(slack: McpServer, bob: Person, charlie: Person) -> None:
    with pytest.raises(NotAllowed):
        update_connector("slack", Settings(client_id="mine"), actor=bob.actor)
    with pytest.raises(NotAllowed):
        disable_connector("slack", actor=bob.actor)
    with pytest.raises(NotFound):
        disable_connector("slack", actor=charlie.actor)


def test_a_call_takes_the_callers_own_token(api: RestProvider, agent: Agent, slack: McpServer, bob: Person) -> None:
    with pytest.raises(ConnectionRequired):
        call(agent, bob, "list_channels")
    assert not api.asked
    connect(bob, slack)
    assert call(agent, bob, "list_channels")["structuredContent"]
    assert api.asked[-1].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_tool_that_needs_more_scopes_asks_for_them(
    api: RestProvider, agent: Agent, slack: McpServer, bob: Person
) -> None:
    from tests.fakes.rest_providers import Said

    connect(bob, slack)
    api.next_answers = [Said({"ok": False, "error": "missing_scope", "needed": "search:read"})]
    with pytest.raises(ConnectionRequired):
        call(agent, bob, "search_messages", query="x")
    assert Connection.objects.get().wanted_scopes == ["search:read"]


def test_where_nobody_has_to_sign_in_calls_go_out_without_a_token(
    api: RestProvider, agent: Agent, slack: McpServer, alice: Person, bob: Person
) -> None:
    update_connector("slack", Settings(require_auth=False), actor=alice.actor)
    api.tokens = {""}
    assert call(agent, bob, "list_channels")["structuredContent"]
    assert "authorization" not in api.asked[-1].headers


def test_members_may_be_kept_from_connecting(slack: McpServer, alice: Person, bob: Person) -> None:
    server = update_connector("slack", Settings(allow_end_user_auth=False), actor=alice.actor)
    assert server.auth_config
    with pytest.raises(NotAllowed, match="Ask an admin"):
        begin_connection(server.auth_config, actor=bob.actor)
    assert begin_connection(server.auth_config, actor=alice.actor).authorization_url


def test_new_credentials_keep_what_was_not_given(slack: McpServer, alice: Person) -> None:
    update_connector("slack", Settings(client_id="new.app", scopes=["channels:read"]), actor=alice.actor)
    auth = AuthConfig.objects.get()
    assert (auth.client_id, auth.client_secret, auth.scopes) == ("new.app", "s3cret", ["channels:read"])


def test_disabling_ends_every_connection_and_says_what_happened(
    slack: McpServer, agent: Agent, alice: Person, bob: Person
) -> None:
    for person in (alice, bob):
        connect(person, slack)
    outcome = disable_connector("slack", actor=alice.actor)
    assert outcome.revoked + len(outcome.not_revoked) == 2
    assert not McpServer.objects.exists() and not Connection.objects.exists() and not AuthConfig.objects.exists()
    assert AuditEvent.objects.filter(action="disconnected").count() == 2


# --- Disabling, and what may happen meanwhile -------------------------------------------------------------------------


def test_a_key_that_may_not_disconnect_changes_nothing(slack: McpServer, alice: Person) -> None:
    answer = alice.api("aster:manage").delete("/api/v1/connectors/slack")
    assert answer.status_code == 403
    slack.refresh_from_db()
    assert slack.is_enabled


def test_who_is_at_the_provider_while_it_is_disabled_comes_back_to_nothing(slack: McpServer, alice: Person) -> None:
    begin_connection(slack.auth_config, actor=alice.actor)
    assert PendingAuthorization.objects.exists()
    disable_connector("slack", actor=alice.actor)
    assert not PendingAuthorization.objects.exists() and not AuthConfig.objects.exists()


def test_nobody_connects_to_what_is_switched_off(slack: McpServer, alice: Person) -> None:
    update_connector("slack", Settings(is_enabled=False), actor=alice.actor)
    with pytest.raises(Conflict, match="switched off"):
        begin_connection(find_enabled("slack", actor=alice.actor).auth_config, actor=alice.actor)


def test_a_sign_in_that_another_server_uses_is_kept(slack: McpServer, alice: Person) -> None:
    connect(alice, slack)
    other = McpServer(name="Other", url="http://127.0.0.1:9/mcp", auth_config=slack.auth_config)
    save_server(other, actor=alice.actor, test=False)
    assert "Other uses the same sign-in" in str(disable_connector("slack", actor=alice.actor))
    assert Connection.objects.count() == 1 and McpServer.objects.get() == other


def test_a_sign_in_that_another_is_derived_from_is_kept(slack: McpServer, alice: Person) -> None:
    connect(alice, slack)
    derived = AuthConfig(
        organization=alice.organization, name="Derived", auth_type="TOKEN_EXCHANGE", subject_config=slack.auth_config
    )  # fmt: skip
    derived.save()
    assert "Derived uses the same sign-in" in str(disable_connector("slack", actor=alice.actor))
    assert Connection.objects.count() == 1 and not McpServer.objects.exists()


def test_a_slug_that_is_taken_does_not_keep_it_from_being_enabled_once(alice: Person) -> None:
    save_server(McpServer(name="Mine", slug="slack", url="http://127.0.0.1:9/mcp"), actor=alice.actor, test=False)
    assert enable_connector("slack", APP, actor=alice.actor).slug == "slack-2"
    again = McpServer(name="Again", url="http://127.0.0.1:9/mcp", source="catalog:slack")
    with pytest.raises(AsterError, match="enabled already"):
        save_server(again, actor=alice.actor, test=False)


def test_an_address_with_a_query_is_refused(alice: Person) -> None:
    with pytest.raises(InvalidInput) as caught:
        enable_connector(
            "slack", Settings(client_id="a", client_secret="b", url="https://x.test/?a=b"), actor=alice.actor
        )
    assert "url" in caught.value.fields and not McpServer.objects.exists()
