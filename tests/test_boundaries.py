"""What somebody who may sign in tries, and must not get: other people's tokens, accounts, hashes or machines."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from rest_framework.test import APIClient

from agents.models import ToolCall
from agents.services.calls import prepare_call
from aster.accounts import services
from aster.accounts.access import MANAGE
from aster.accounts.models import Membership
from aster.errors import Conflict, ConnectionRequired, InvalidInput
from integrations.models import AuthConfig, AuthType, Connection, McpServer, PendingAuthorization
from integrations.oauth.discovery import Discovery
from integrations.services.access import token_source
from integrations.services.connections import begin_connection
from integrations.services.discovery import apply_discovery
from integrations.services.servers import save_server
from tests.conftest import Person

pytestmark = pytest.mark.django_db(transaction=True)

URLS = {"authorization_url": "http://127.0.0.1:1/authorize", "token_url": "http://127.0.0.1:1/token"}


def machine(alice: Person) -> AuthConfig:
    return AuthConfig.objects.create(
        organization=alice.organization, name="Machine", auth_type=AuthType.CLIENT_CREDENTIALS, client_id="m", **URLS
    )


def test_the_organizations_token_goes_only_where_it_was_granted_for(alice: Person) -> None:
    auth = machine(alice)
    Connection.objects.create(auth_config=auth, access_token="t", origins=["http://127.0.0.1:5000"])
    evil = save_server(
        McpServer(name="Evil", url="http://127.0.0.1:6000/mcp"), auth=auth, actor=alice.actor, test=False
    ).server
    with pytest.raises(ConnectionRequired):
        prepare_call(evil, "x", actor=alice.actor)
    source = token_source(evil, alice.actor)
    assert source is not None
    with pytest.raises(ConnectionRequired):
        source(None)


def test_a_grant_made_before_any_server_belongs_to_the_first_one_and_no_later_one(alice: Person) -> None:
    auth = AuthConfig.objects.create(
        organization=alice.organization, name="Early", auth_type=AuthType.AUTHORIZATION_CODE, **URLS
    )
    Connection.objects.create(auth_config=auth, user=alice.user, access_token="t")
    first, second = (
        save_server(McpServer(name=n, url=f"http://127.0.0.1:{p}/mcp"), auth=auth, actor=alice.actor, test=False).server
        for n, p in (("First", 5000), ("Second", 6000))
    )
    assert token_source(first, alice.actor) is not None
    assert token_source(second, alice.actor) is None


def test_a_typed_issuer_or_endpoint_is_never_mixed_with_what_a_server_names() -> None:
    found = Discovery(
        issuer="https://evil.test", token_endpoint="https://evil.test/t", authorization_endpoint="https://evil.test/a"
    )
    for typed in ({"issuer": "https://good.test"}, {"authorization_url": "https://good.test/a"}):
        auth = AuthConfig(name="x", auth_type=AuthType.AUTHORIZATION_CODE, client_id="c", client_secret="s", **typed)
        apply_discovery(auth, found)
        assert auth.token_url == ""
        assert "evil" not in f"{auth.issuer} {auth.authorization_url}"


def test_an_account_made_by_another_organization_cannot_be_let_in(alice: Person, charlie: Person) -> None:
    services.add_member("victim@corp.test", "member", actor=charlie.actor)
    with pytest.raises(Conflict, match="account in another organization"):
        services.add_member("victim@corp.test", "admin", actor=alice.actor)
    call_command("add_member", "victim@corp.test", "--organization", "acme", verbosity=0)
    assert Membership.objects.filter(user__email="victim@corp.test").count() == 2


def test_an_account_that_belongs_nowhere_starts_anew(alice: Person, charlie: Person) -> None:
    planted = services.add_member("victim@corp.test", "member", actor=charlie.actor).membership
    planted.user.set_password("known-to-charlie")
    planted.user.save()
    services.remove_member(planted, actor=charlie.actor)
    added = services.add_member("victim@corp.test", "member", actor=alice.actor)
    assert added.set_password_path
    assert not added.membership.user.has_usable_password()


def test_an_admin_cannot_make_a_key_that_uses_somebody_elses_accounts(alice: Person, bob: Person) -> None:
    with pytest.raises(InvalidInput, match="only its owner"):
        services.create_api_key(bob.user, name="x", actor=alice.actor)
    services.create_api_key(bob.user, name="x", scopes=[MANAGE], actor=alice.actor)


def test_a_limited_key_cannot_make_an_admin(alice: Person) -> None:
    refused = alice.api(MANAGE).post("/api/v1/members", {"email": "me@evil.test", "role": "admin"})
    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")


@pytest.mark.parametrize(
    "query",
    [
        "accounts/user/?password__startswith=md5", "accounts/apikey/?digest__startswith=a",
        "agents/toolcall/?tool_name__regex=^(a%2B)%2B$", "integrations/mcpserver/?env__isnull=0",
    ],
)  # fmt: skip
def test_change_lists_answer_only_the_questions_on_the_page(alice: Person, query: str) -> None:
    ToolCall.objects.create(organization=alice.organization, tool_name="a" * 30 + "!", user_label="x", via="api")
    assert alice.browser().get(f"/hub/{query}").status_code == 400


def test_change_lists_still_filter(alice: Person) -> None:
    for query in ("integrations/mcpserver/?transport__exact=sse", "accounts/auditevent/?at__year=2026"):
        assert alice.browser().get(f"/hub/{query}").status_code == 200


def test_clicking_connect_over_and_over_leaves_a_few_journeys(alice: Person) -> None:
    auth = AuthConfig.objects.create(
        organization=alice.organization, name="x", auth_type=AuthType.AUTHORIZATION_CODE, client_id="c", **URLS
    )
    for _ in range(15):
        begin_connection(auth, actor=alice.actor)
    assert PendingAuthorization.objects.count() == 10


def test_a_member_cannot_make_aster_talk_to_a_server_that_is_switched_off(alice: Person, bob: Person) -> None:
    server = save_server(
        McpServer(name="Off", url="http://127.0.0.1:1/mcp", is_enabled=False), actor=alice.actor, test=False
    )
    refused = bob.api().post(f"/api/v1/config/mcp-server/{server.server.pk}/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "server_disabled")


@pytest.mark.parametrize(
    "path",
    [
        "/hub/activity/?until=9999-12-31",
        "/hub/playground/?agent=" + "9" * 5000,
        "/hub/members/?q=%00",
        "/hub/agent/%00/",
    ],
)
def test_odd_addresses_are_refused_calmly(alice: Person, path: str) -> None:
    assert alice.browser().get(path).status_code in (200, 400, 404)


def test_a_tool_with_nonsense_in_it_does_not_hide_the_others(alice: Person, aster: str) -> None:
    from agents.gateway.eras import tool_for_client

    plain = {"name": "x", "inputSchema": {"type": "object"}}
    for odd in (
        {"title": 5},
        {"icons": "x"},
        {"_meta": 3},
        {"annotations": [1]},
        {"outputSchema": []},
        {"description": []},
    ):
        tool = tool_for_client({**plain, **odd}, modern=True)
        assert tool is not None and tool["name"] == "x"
    assert APIClient().get("/healthz").status_code == 200
