"""Who may use the API: keys and sessions, scopes and roles, and the wall between organizations."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from aster.accounts.models import ApiKey, Membership, Role
from aster.accounts.services import create_api_key
from tests.aster.api_contract import ContractClient, api
from tests.conftest import Person

pytestmark = pytest.mark.django_db
SERVERS = "/api/v1/config/mcp-server"
UNTESTED = {"url": "http://127.0.0.1:9/mcp", "test_connection": False}


def with_headers(**headers: str) -> ContractClient:
    client = ContractClient()
    client.credentials(**headers)
    return client


class TestKeys:
    def test_both_headers_carry_a_key(self, alice: Person) -> None:
        key = alice.key()
        assert with_headers(HTTP_AUTHORIZATION=f"Bearer {key}").get(SERVERS).status_code == 200
        assert with_headers(HTTP_AUTHORIZATION=f"bearer  {key}").get(SERVERS).status_code == 200
        assert with_headers(HTTP_X_API_KEY=key).get(SERVERS).status_code == 200

    def test_nobody_is_asked_to_sign_in(self, db: None) -> None:
        response = ContractClient().get(SERVERS)
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == 'Bearer realm="aster"'
        assert response.json()["code"] == "not_authenticated"

    @pytest.mark.parametrize(
        "key", ["x", "ask_", "ask_000000000000_x", "ask_é", "ask_" + "0" * 12 + "_" + "y" * 9000, "ask_\x00_x"]
    )
    def test_a_wrong_key_is_refused(self, alice: Person, key: str) -> None:
        for headers in ({"HTTP_AUTHORIZATION": f"Bearer {key}"}, {"HTTP_X_API_KEY": key}):
            response = with_headers(**headers).get(SERVERS)
            assert (response.status_code, response.json()["code"]) == (401, "authentication_failed")
            assert response["WWW-Authenticate"].startswith("Bearer")

    def test_an_expired_a_revoked_and_a_former_members_key_are_refused(self, alice: Person, bob: Person) -> None:
        key = bob.key()
        client, row = with_headers(HTTP_X_API_KEY=key), ApiKey.objects.get()
        assert client.get(SERVERS).status_code == 200
        for change in (
            {"expires_at": timezone.now() - timedelta(1)},
            {"expires_at": None, "revoked_at": timezone.now()},
        ):
            ApiKey.objects.filter(pk=row.pk).update(**change)
            assert client.get(SERVERS).status_code == 401
        ApiKey.objects.filter(pk=row.pk).update(revoked_at=None)
        Membership.objects.filter(user=bob.user).delete()
        assert client.get(SERVERS).status_code == 401

    def test_an_inactive_persons_key_is_refused(self, bob: Person) -> None:
        client = api(bob)
        bob.user.is_active = False
        bob.user.save()
        assert client.get(SERVERS).status_code == 401

    def test_the_role_is_that_of_the_keys_own_organization(self, alice: Person, bob: Person, charlie: Person) -> None:
        Membership.objects.create(user=bob.user, organization=charlie.organization, role=Role.ADMIN)
        here = api(bob)
        assert here.get("/api/v1/organization").json()["role"] == "member"
        assert here.post(SERVERS, {"name": "x", **UNTESTED}).status_code == 403
        elsewhere = Person(bob.user, charlie.organization, Role.ADMIN)
        assert api(elsewhere).get("/api/v1/organization").json()["role"] == "admin"


class TestSessions:
    def test_reading_takes_the_cookie_alone(self, alice: Person) -> None:
        assert alice.browser().get(SERVERS).status_code == 200

    def test_changing_takes_a_csrf_token_too(self, alice: Person) -> None:
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(alice.user)
        body = {"name": "Notes", **UNTESTED}
        refused = browser.post(SERVERS, body, content_type="application/json")
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
        browser.get("/api/docs/")
        token = browser.cookies["csrftoken"].value
        made = browser.post(SERVERS, body, content_type="application/json", headers={"X-CSRFToken": token})
        assert made.status_code == 201

    def test_a_key_needs_no_csrf_token(self, alice: Person) -> None:
        client = APIClient(enforce_csrf_checks=True)
        client.credentials(HTTP_X_API_KEY=alice.key())
        assert client.post(SERVERS, {"name": "Notes", **UNTESTED}, format="json").status_code == 201

    def test_somebody_without_an_organization_may_do_nothing(self, bob: Person) -> None:
        Membership.objects.all().delete()
        assert bob.browser().get(SERVERS).status_code == 403


SCOPE_CASES: list[tuple[str, str, str, Any]] = [
    ("aster:read", "get", SERVERS, None),
    ("aster:read", "get", "/api/v1/auth_configs", None),
    ("aster:read", "get", "/api/v1/connections", None),
    ("aster:read", "get", "/api/v1/members", None),
    ("aster:read", "get", "/api/v1/tool_calls", None),
    ("aster:manage", "post", SERVERS, {"name": "x", **UNTESTED}),
    ("aster:manage", "put", f"{SERVERS}/notes", {"name": "x", **UNTESTED}),
    ("aster:manage", "patch", f"{SERVERS}/notes", {"description": "x"}),
    ("aster:manage", "delete", f"{SERVERS}/notes", None),
    ("aster:manage", "post", f"{SERVERS}/discover", {"url": "http://127.0.0.1:9/mcp"}),
    ("aster:manage", "post", f"{SERVERS}/test", UNTESTED),
    ("aster:manage", "post", "/api/v1/auth_configs", {"name": "x", "auth_type": "NONE"}),
    ("aster:manage", "post", "/api/v1/config/agent", {"name": "x"}),
    ("aster:manage", "post", "/api/v1/api_keys", {"name": "x", "scopes": ["aster:read"]}),
    ("aster:connect", "post", f"{SERVERS}/notes/connect", {}),
    ("aster:connect", "post", f"{SERVERS}/notes/disconnect", {}),
    ("aster:connect", "post", f"{SERVERS}/notes/test", {}),
    ("aster:connect", "get", "/api/v1/oauth/callback?state=x", None),
    ("aster:call", "post", "/api/v1/config/agent/helper/tools/call", {"name": "x"}),
]  # fmt: skip


@pytest.fixture
def notes(alice: Person) -> dict[str, Any]:
    made: dict[str, Any] = api(alice).post(SERVERS, {"name": "Notes", **UNTESTED}).json()
    return made


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("scope", "method", "path", "body"), SCOPE_CASES)
def test_a_key_does_what_its_scope_says_and_no_more(
    alice: Person, notes: dict[str, Any], scope: str, method: str, path: str, body: Any
) -> None:
    every = {"aster:read", "aster:manage", "aster:connect", "aster:call"}
    # Each scope includes reading.
    lacking = api(alice, "files:read") if scope == "aster:read" else api(alice, *sorted(every - {scope}))
    refused = getattr(lacking, method)(path, body)
    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")
    assert refused.json()["scope"] == scope
    assert getattr(api(alice, scope), method)(path, body).status_code not in (401, 403)


ADMINS_ONLY: list[tuple[str, str, Any]] = [
    ("post", SERVERS, {"name": "x", **UNTESTED}),
    ("put", f"{SERVERS}/notes", {"name": "x", **UNTESTED}),
    ("put", f"{SERVERS}/new", {"name": "x", **UNTESTED}),
    ("patch", f"{SERVERS}/notes", {"description": "x"}),
    ("delete", f"{SERVERS}/notes", None),
    ("post", f"{SERVERS}/discover", {"url": "http://127.0.0.1:9/mcp"}),
    ("post", f"{SERVERS}/test", UNTESTED),
    ("post", "/api/v1/auth_configs", {"name": "x", "auth_type": "NONE"}),
    ("post", "/api/v1/config/agent", {"name": "x"}),
    ("put", "/api/v1/config/agent/x", {"name": "x"}),
    ("post", "/api/v1/config/llm", {"name": "x", "base_url": "http://127.0.0.1:9/", "model": "m"}),
    ("patch", "/api/v1/organization", {"name": "x"}),
    ("post", "/api/v1/members", {"email": "x@acme.test"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), ADMINS_ONLY)
@pytest.mark.parametrize("bad", [False, True])
def test_a_member_may_not_do_what_admins_do_whatever_the_body(
    notes: dict[str, Any], bob: Person, method: str, path: str, body: Any, bad: bool
) -> None:
    response = getattr(api(bob), method)(path, {"nonsense": 1} if bad and body else body)
    assert (response.status_code, response.json()["code"]) == (403, "not_allowed")


def everything_of(person: Person) -> list[str]:
    """The addresses of one of everything, as an admin makes them."""
    client = api(person)
    auth = client.post("/api/v1/auth_configs", {"name": "A", "auth_type": "AUTHORIZATION_CODE"}).json()["id"]
    body = {"name": "Notes", "slug": "theirs", "auth_config_id": auth, **UNTESTED}
    server = client.post(SERVERS, body).json()["id"]
    agent = client.post("/api/v1/config/agent", {"name": "Bot", "slug": "theirs"}).json()["id"]
    llm = client.post("/api/v1/config/llm", {"name": "L", "base_url": "http://127.0.0.1:9/", "model": "m"}).json()["id"]
    member = Membership.objects.get(user=person.user).pk
    key = create_api_key(person.user, name="k", actor=person.actor)[0].pk
    return [
        *(f"{SERVERS}/{server}", f"{SERVERS}/theirs", f"/api/v1/auth_configs/{auth}", f"/api/v1/config/agent/{agent}"),
        *("/api/v1/config/agent/theirs", f"/api/v1/config/llm/{llm}", f"/api/v1/members/{member}"),
        f"/api/v1/api_keys/{key}",
    ]


@pytest.mark.parametrize("stranger", ["alice", "bob"])
def test_another_organizations_things_do_not_exist(
    request: pytest.FixtureRequest, charlie: Person, stranger: str
) -> None:
    client = api(request.getfixturevalue(stranger))
    for address in everything_of(charlie):
        assert client.get(address).status_code == 404
        assert client.delete(address).status_code == 404
        assert client.patch(address, {"name": "x"}).status_code in (404, 405)
        if address.startswith(SERVERS):
            for verb in ("test", "connect", "disconnect", "tools/refresh"):
                assert client.post(f"{address}/{verb}", {}).status_code == 404
            assert client.post(f"{address}/tools/call", {"name": "x"}).status_code == 404
            assert client.get(f"{address}/tools").status_code == 404
            assert client.get(f"{address}/connection").status_code == 404
        if address.startswith("/api/v1/auth"):
            assert client.post(address.replace("auth_configs", "oauth") + "/authorize", {}).status_code == 404
        if address.startswith("/api/v1/config/agent"):
            assert client.get(f"{address}/tools").status_code == 404
            assert client.post(f"{address}/tools/call", {"name": "x"}).status_code == 404
            chat = address.replace("config/agent", "agents")
            assert client.post(f"{chat}/messages", {"text": "x"}).status_code == 404
            assert client.get(f"{chat}/conversations").status_code == 404


def test_lists_show_ones_own_organization_alone(alice: Person, charlie: Person) -> None:
    everything_of(charlie)
    client = api(alice)
    for path in (SERVERS, "/api/v1/auth_configs", "/api/v1/config/agent", "/api/v1/config/llm", "/api/v1/connections"):
        assert client.get(path).json()["results"] == []
    assert [row["email"] for row in client.get("/api/v1/members").json()["results"]] == ["alice@acme.test"]
    assert {row["user"] for row in client.get("/api/v1/api_keys").json()["results"]} == {"alice@acme.test"}
    events = client.get("/api/v1/audit_events").json()["results"]
    assert {row["actor"] for row in events} == {"alice@acme.test"}


def test_another_organizations_things_cannot_be_referred_to(alice: Person, charlie: Person) -> None:
    theirs = {address.rsplit("/", 2)[1]: address.rsplit("/", 1)[1] for address in everything_of(charlie)}
    client = api(alice)
    foreign_auth, foreign_llm = theirs["auth_configs"], theirs["llm"]
    server = client.post(SERVERS, {"name": "x", "auth_config_id": foreign_auth, **UNTESTED})
    assert (server.status_code, list(server.json()["fields"])) == (400, ["auth_config_id"])
    agent = client.post("/api/v1/config/agent", {"name": "x", "llm_config_id": foreign_llm})
    assert (agent.status_code, list(agent.json()["fields"])) == (400, ["llm_config_id"])
    foreign_server = charlie.organization.mcp_servers.get().pk
    for ids in ([foreign_server], [str(foreign_server)], ["theirs"], [10**30]):
        agent = client.post("/api/v1/config/agent", {"name": "x", "mcp_server_config_ids": ids})
        assert (agent.status_code, list(agent.json()["fields"])) == (400, ["mcp_server_config_ids"])
    assert client.get("/api/v1/config/agent").json()["results"] == []
