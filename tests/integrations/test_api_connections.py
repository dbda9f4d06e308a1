"""The API of auth configs and connections: every way to connect, callbacks that must not work, tools, disconnecting."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pytest_django import DjangoAssertNumQueries

from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, ClientRegistration, Connection, McpServer, PendingAuthorization
from tests.aster.api_contract import ContractClient, api
from tests.conftest import Person
from tests.fakes.mcp_servers import broken_app, modern_and_legacy_app, serve
from tests.walks.conftest import callback_params, consent

pytestmark = pytest.mark.django_db(transaction=True)
SERVERS = "/api/v1/config/mcp-server"
MINE = "https://tools.acme.test/callback"


@pytest.fixture
def notes(alice: Person, world: DemoWorld) -> dict[str, Any]:
    """The demo's notes, where each person signs in."""
    auth = {"auth_type": "AUTHORIZATION_CODE", "allowed_redirect_uris": [MINE]}
    made = api(alice).post(SERVERS, {"name": "Notes", "url": world.notes_url, "auth_config": auth})
    assert made.status_code == 201
    answer: dict[str, Any] = made.json()
    return answer


def start(client: ContractClient, notes: dict[str, Any], redirect_uri: str = MINE) -> str:
    begun = client.post(f"/api/v1/oauth/{notes['auth_config_id']}/authorize?redirect_uri={redirect_uri}")
    assert (begun.status_code, begun.json()["status"]) == (200, "authorization_required")
    url: str = begun.json()["authorization_url"]
    return url


def finish(client: ContractClient, params: dict[str, str]) -> Any:
    return client.get("/api/v1/oauth/callback", params)


def connect(client: ContractClient, notes: dict[str, Any], person: str = "Ada Park") -> None:
    done = finish(client, callback_params(consent(start(client, notes), person)))
    assert (done.status_code, done.json()["status"]) == (200, "connected")


class TestAuthConfigs:
    BODY = {
        "name": "Remote", "auth_type": "AUTHORIZATION_CODE", "authorization_url": "http://127.0.0.1:9/authorize",
        "token_url": "http://127.0.0.1:9/token", "client_id": "app", "client_secret": "canary-secret",
        "allowed_redirect_uris": [MINE], "use_pkce": True,
    }  # fmt: skip

    def test_one_is_made_shown_changed_and_deleted(self, alice: Person, bob: Person) -> None:
        client = api(alice)
        made = client.post("/api/v1/auth_configs", self.BODY)
        where = f"/api/v1/auth_configs/{made.json()['id']}"
        assert (made.status_code, made.json()["client_secret"]) == (201, "[REDACTED]")
        assert made.json()["client_mode"] == "known_credentials"
        assert api(bob).get(where).json() == client.get(where).json()
        changed = client.patch(where, {"client_secret": "[REDACTED]", "scope": "a b"}).json()
        assert changed["scopes"] == ["a", "b"]
        assert AuthConfig.objects.get().client_secret == "canary-secret"
        client.patch(where, {"client_secret": "other"})
        assert AuthConfig.objects.get().client_secret == "other"
        assert client.delete(where).status_code == 204
        assert client.get(where).status_code == 404

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"name": ""}, "name"),
            ({"auth_type": "MAGIC"}, "auth_type"),
            ({"client_id": ""}, "client_id"),
            ({"token_url": "file:///etc/passwd"}, "token_url"),
            ({"authorization_url": "javascript:alert(1)"}, "authorization_url"),
            ({"allowed_redirect_uris": ["http://evil.test/x"]}, "allowed_redirect_uris"),
            ({"allowed_redirect_uris": {"a": 1}}, "allowed_redirect_uris"),
            ({"scopes": ["a b"]}, "scopes"),
            ({"use_pkce": "perhaps"}, "use_pkce"),
            ({"extra_token_params": {"a": {"b": 1}}}, "extra_token_params.a"),
            ({"clientid": "x"}, "clientid"),
        ],
    )
    def test_a_bad_one_is_refused(self, alice: Person, change: dict[str, Any], field: str) -> None:
        body = {**self.BODY, "client_mode": "known_credentials", **change}
        response = api(alice).post("/api/v1/auth_configs", body)
        assert (response.status_code, list(response.json()["fields"])) == (400, [field])
        assert not AuthConfig.objects.exists()

    def test_a_name_is_needed_and_taken_once(self, alice: Person) -> None:
        client = api(alice)
        assert list(client.post("/api/v1/auth_configs", {"auth_type": "NONE"}).json()["fields"]) == ["name"]
        client.post("/api/v1/auth_configs", self.BODY)
        taken = client.post("/api/v1/auth_configs", self.BODY)
        assert taken.status_code == 409
        assert list(taken.json()["fields"]) == ["name"]


class TestConnecting:
    def test_consent_makes_a_connection_of_the_caller_alone(
        self, alice: Person, bob: Person, notes: dict[str, Any]
    ) -> None:
        client = api(alice)
        connect(client, notes)
        assert client.get(f"{SERVERS}/notes").json()["status"] == "connected"
        shown = client.get(f"{SERVERS}/notes/connection").json()
        assert (shown["status"], shown["connection"]["user"]) == ("connected", "alice@acme.test")
        assert api(bob).get(f"{SERVERS}/notes/connection").json()["status"] == "not_connected"
        assert api(bob).get("/api/v1/connections").json()["results"] == []
        stored = Connection.objects.get()
        everything = client.get("/api/v1/connections").content + client.get(f"/api/v1/connections/{stored.pk}").content
        assert stored.access_token.encode() not in everything and stored.refresh_token.encode() not in everything

    def test_admins_see_everybodys_and_may_ask_for_their_own(
        self, alice: Person, bob: Person, notes: dict[str, Any]
    ) -> None:
        connect(api(bob), notes, "Ben Okafor")
        client, pk = api(alice), Connection.objects.get().pk
        assert [row["user"] for row in client.get("/api/v1/connections").json()["results"]] == ["bob@acme.test"]
        assert client.get("/api/v1/connections?mine=true").json()["results"] == []
        assert client.delete(f"/api/v1/connections/{pk}").json()["revocation"]["outcome"] == "revoked"
        assert not Connection.objects.exists()

    def test_a_member_cannot_touch_another_persons(self, alice: Person, bob: Person, notes: dict[str, Any]) -> None:
        connect(api(alice), notes)
        where = f"/api/v1/connections/{Connection.objects.get().pk}"
        assert api(bob).get(where).status_code == api(bob).delete(where).status_code == 404
        assert api(bob).post(f"{SERVERS}/notes/disconnect").json() == {"status": "not_connected", "revocation": None}
        assert Connection.objects.exists()

    def test_the_servers_own_verb_uses_asters_callback(self, alice: Person, notes: dict[str, Any]) -> None:
        begun = api(alice).post(f"{SERVERS}/notes/connect", {}).json()
        asked = parse_qs(urlsplit(begun["authorization_url"]).query)
        assert asked["redirect_uri"] == [notes["auth_config"]["callback_url"]]
        assert asked["code_challenge_method"] == ["S256"]

    def test_a_redirect_uri_must_be_allowed_and_one_allowed_later_works(
        self, alice: Person, notes: dict[str, Any]
    ) -> None:
        client, later = api(alice), "https://later.acme.test/callback"
        where = f"/api/v1/oauth/{notes['auth_config_id']}/authorize"
        for address in ("https://evil.test/", f"{MINE}/", "javascript:alert(1)", "x" * 300):
            refused = client.post(where, {"redirect_uri": address})
            assert (refused.status_code, list(refused.json()["fields"])) == (400, ["redirect_uri"])
        start(client, notes)
        client.patch(f"/api/v1/auth_configs/{notes['auth_config_id']}", {"allowed_redirect_uris": [MINE, later]})
        location = consent(start(client, notes, later))
        assert str(location).startswith(later)
        assert finish(client, callback_params(location)).status_code == 200
        assert ClientRegistration.objects.count() == 1

    @pytest.mark.parametrize("body", [{"redirect_uri": 1.5}, {"redirect_uri": ["x"]}, {"redirekt": "x"}, []])
    def test_a_bad_body_starts_nothing(self, alice: Person, notes: dict[str, Any], body: Any) -> None:
        for where in (f"/api/v1/oauth/{notes['auth_config_id']}/authorize", f"{SERVERS}/notes/connect"):
            assert api(alice).post(where, body).status_code == 400
        assert not PendingAuthorization.objects.exists()

    def test_shared_credentials_need_no_connecting(self, alice: Person, bob: Person, world: DemoWorld) -> None:
        api(alice).post(SERVERS, {"name": "Weather", "url": world.weather_url})
        assert api(bob).post(f"{SERVERS}/weather/connect").json()["status"] == "connected"
        assert api(bob).get(f"{SERVERS}/weather/connection").json()["connection"] is None
        auth = api(alice).post("/api/v1/auth_configs", {"name": "K", "auth_type": "NONE"}).json()["id"]
        refused = api(bob).post(f"/api/v1/oauth/{auth}/authorize")
        assert (refused.status_code, refused.json()["code"]) == (400, "no_sign_in_needed")

    def test_a_server_that_is_switched_off_is_not_connected_to(self, alice: Person, notes: dict[str, Any]) -> None:
        client = api(alice)
        client.patch(f"{SERVERS}/notes", {"is_enabled": False})
        refused = client.post(f"{SERVERS}/notes/connect")
        assert (refused.status_code, refused.json()["code"]) == (409, "server_disabled")

    def test_a_provider_that_is_gone_is_an_upstream_error(self, alice: Person) -> None:
        client = api(alice)
        auth = {
            "auth_type": "AUTHORIZATION_CODE", "authorization_url": "http://127.0.0.1:9/a",
            "token_url": "http://127.0.0.1:9/t", "registration_url": "http://127.0.0.1:9/r",
        }  # fmt: skip
        body = {"name": "Gone", "url": "http://127.0.0.1:9/mcp", "auth_config": auth, "test_connection": False}
        assert client.post(SERVERS, body).status_code == 201
        failed = client.post(f"{SERVERS}/gone/connect")
        assert failed.status_code == 502
        assert failed.json()["step"] and failed.json()["retryable"] in (True, False)
        assert not PendingAuthorization.objects.exists()

    def test_known_credentials_are_sent_as_they_were_pasted(self, alice: Person, world: DemoWorld) -> None:
        auth = {"auth_type": "AUTHORIZATION_CODE", "client_id": "pasted", "client_secret": "s"}
        made = api(alice).post(SERVERS, {"name": "Notes", "url": world.notes_url, "auth_config": auth}).json()
        begun = api(alice).post(f"{SERVERS}/notes/connect").json()
        assert parse_qs(urlsplit(begun["authorization_url"]).query)["client_id"] == ["pasted"]
        assert made["auth_config"]["client_mode"] == "known_credentials"
        assert not ClientRegistration.objects.exists()


class TestCallbacks:
    def test_a_state_works_once(self, alice: Person, notes: dict[str, Any]) -> None:
        client = api(alice)
        params = callback_params(consent(start(client, notes)))
        assert finish(client, params).status_code == 200
        again = finish(client, params)
        assert (again.status_code, again.json()["code"]) == (400, "state_unknown")
        assert Connection.objects.get().generation == 1

    def test_somebody_elses_sign_in_cannot_be_finished_or_spoilt(
        self, alice: Person, bob: Person, charlie: Person, notes: dict[str, Any]
    ) -> None:
        params = callback_params(consent(start(api(alice), notes)))
        for stranger in (bob, charlie):
            refused = finish(api(stranger), params)
            assert (refused.status_code, refused.json()["code"]) == (400, "state_foreign")
        assert not Connection.objects.exists()
        assert finish(api(alice), params).status_code == 200

    @pytest.mark.parametrize("params", [{}, {"state": ""}, {"state": "made-up", "code": "c"}, {"state": "x" * 5000}])
    def test_a_made_up_state_is_refused(self, alice: Person, notes: dict[str, Any], params: dict[str, str]) -> None:
        refused = finish(api(alice), params)
        assert (refused.status_code, refused.json()["code"]) == (400, "state_unknown")

    def test_a_person_who_declines_is_not_connected(self, alice: Person, notes: dict[str, Any]) -> None:
        client = api(alice)
        refused = finish(client, callback_params(consent(start(client, notes), decision="deny")))
        assert refused.status_code in (400, 502)
        assert "code" in refused.json() and not Connection.objects.exists()

    def test_a_code_or_issuer_that_is_not_the_providers_is_refused(self, alice: Person, notes: dict[str, Any]) -> None:
        client = api(alice)
        for change in ({"code": "made-up"}, {"iss": "http://evil.test"}):
            params = callback_params(consent(start(client, notes)))
            assert finish(client, {**params, **change}).status_code in (400, 502)
        assert not Connection.objects.exists()


class TestTools:
    def test_they_are_listed_as_the_server_gave_them(self, alice: Person, notes: dict[str, Any]) -> None:
        client = api(alice)
        connect(client, notes)
        shown = client.get(f"{SERVERS}/notes/tools").json()["results"]
        create = next(tool for tool in shown if tool["name"] == "create_note")
        assert create["title"] == "Create note" and create["inputSchema"]["required"]
        assert create["annotations"]["destructiveHint"] is False

    def test_without_a_connection_the_way_to_one_is_shown(self, alice: Person, notes: dict[str, Any]) -> None:
        client = api(alice)
        for response in (client.get(f"{SERVERS}/notes/tools"), client.post(f"{SERVERS}/notes/tools/refresh")):
            body = response.json()
            assert (response.status_code, body["code"]) == (409, "connection_required")
            assert body["authorization_url"].startswith(notes["auth_config"]["authorization_url"])
            assert "/hub/servers/notes/connect/" in body["connect_url"]

    def test_a_key_that_may_only_read_starts_nothing(self, alice: Person, notes: dict[str, Any]) -> None:
        response = api(alice, "aster:read").get(f"{SERVERS}/notes/tools")
        assert (response.status_code, response.json()["authorization_url"]) == (409, None)
        assert not PendingAuthorization.objects.exists()

    def test_a_dead_server_empties_no_list(self, alice: Person) -> None:
        client, fake = api(alice), modern_and_legacy_app()
        with serve(fake) as base:
            client.post(SERVERS, {"name": "Fake", "url": f"{base}/mcp"})
            before = client.get(f"{SERVERS}/fake/tools").json()["results"]
            fake.serve_instead(broken_app("error").app)
            refused = client.post(f"{SERVERS}/fake/tools/refresh")
        assert (refused.status_code, refused.json()["code"]) == (502, "upstream_error")
        assert client.get(f"{SERVERS}/fake/tools").json()["results"] == before != []

    def test_a_server_that_never_answered_is_no_empty_list(self, alice: Person) -> None:
        client = api(alice)
        client.post(SERVERS, {"name": "Down", "url": "http://127.0.0.1:9/mcp", "test_connection": False})
        assert client.get(f"{SERVERS}/down/tools").status_code == 502
        client.patch(f"{SERVERS}/down", {"is_enabled": False})
        assert client.get(f"{SERVERS}/down/tools").json()["results"] == []
        assert client.post(f"{SERVERS}/down/tools/refresh").json()["code"] == "server_disabled"

    def test_refreshing_finds_new_ones(self, alice: Person, world: DemoWorld) -> None:
        client = api(alice)
        client.post(SERVERS, {"name": "Weather", "url": world.weather_url})
        McpServer.objects.get().tools.first().delete()  # type: ignore[union-attr]
        refreshed = client.post(f"{SERVERS}/weather/tools/refresh").json()
        assert refreshed["tool_count"] == len(refreshed["results"]) == len(refreshed["tool_names"])


class TestEnding:
    def test_disconnecting_revokes_at_the_provider(
        self, alice: Person, notes: dict[str, Any], world: DemoWorld
    ) -> None:
        client = api(alice)
        connect(client, notes)
        ended = client.post(f"{SERVERS}/notes/disconnect").json()
        assert (ended["status"], ended["revocation"]["outcome"]) == ("not_connected", "revoked")
        assert not Connection.objects.exists()
        assert client.post(f"{SERVERS}/notes/disconnect").json() == {"status": "not_connected", "revocation": None}

    def test_a_broken_sign_in_is_said_to_its_person_and_is_no_fault_of_the_server(
        self, alice: Person, bob: Person, notes: dict[str, Any]
    ) -> None:
        client = api(alice)
        connect(client, notes)
        assert client.post(f"{SERVERS}/notes/test").json()["status"] == "ok"
        Connection.objects.update(status="connection_error", last_error="The provider refused.", refresh_at=None)
        assert client.post(f"{SERVERS}/notes/test").json()["status"] == "sign_in"
        assert client.get(f"{SERVERS}/notes").json()["status"] == "connection_error"
        assert client.get(f"{SERVERS}/notes").json()["last_test"]["status"] == "ok"
        assert client.get(f"{SERVERS}/notes/connection").json()["error"] == "The provider refused."

    def test_an_auth_config_in_use_stays(self, alice: Person, notes: dict[str, Any]) -> None:
        client = api(alice)
        connect(client, notes)
        refused = client.delete(f"/api/v1/auth_configs/{notes['auth_config_id']}")
        assert (refused.status_code, refused.json()["code"]) == (409, "in_use")


def test_many_connections_cost_as_many_queries_as_few(
    alice: Person, notes: dict[str, Any], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client, auth = api(alice), AuthConfig.objects.get()
    connect(client, notes)
    Connection.objects.create(auth_config=auth, user=None)
    with django_assert_max_num_queries(4):
        assert len(client.get("/api/v1/connections").json()["results"]) == 2
    client.get(f"{SERVERS}/notes/tools")
    with django_assert_max_num_queries(5):
        assert client.get(f"{SERVERS}/notes/tools").json()["results"]
