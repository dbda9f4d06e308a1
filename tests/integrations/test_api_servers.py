"""The API of MCP servers: create, test, discover, update, put, delete."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from aster.accounts.models import AuditEvent
from aster.demo.world import DemoWorld
from aster.errors import NotFound
from integrations.models import AuthConfig, McpServer
from integrations.services.servers import test_server as try_and_keep
from integrations.tasks import sync_due_servers
from tests.aster.api_contract import api
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, broken_app, guarded, modern_and_legacy_app, serve, sse_app, unused_url

pytestmark = pytest.mark.django_db
SERVERS = "/api/v1/config/mcp-server"
S6 = {
    *("requires_auth", "recommended_auth_mode", "auth_url", "token_url", "register_url", "resource", "scopes"),
    *("token_endpoint_auth_methods_supported", "authorization_servers", "resource_metadata_url"),
}
UNTESTED = {"name": "Notes", "url": "http://127.0.0.1:9/mcp", "test_connection": False}


def nothing_is_stored() -> bool:
    return not McpServer.objects.exists() and not AuthConfig.objects.exists()


def is_due(name: str) -> bool:
    return McpServer.objects.filter(name=name, sync_due_at__lte=timezone.now()).exists()


class TestCreating:
    def test_an_open_server_is_tested_and_stored_with_its_tools(self, alice: Person, world: DemoWorld) -> None:
        response = api(alice).post(SERVERS, {"name": "Weather", "description": "d", "url": world.weather_url})
        made = response.json()
        assert response.status_code == 201
        assert (made["slug"], made["status"], made["transport"]) == ("weather", "connected", "streamable_http")
        result = made["connection_test_result"]
        assert (result["status"], result["tool_count"]) == ("ok", made["tool_count"])
        names = [tool["name"] for tool in result["tools"]]
        assert "get_forecast" in names and names == result["tool_names"]
        assert made["discovery_result"] is None

    def test_the_other_products_shape_of_the_body_is_taken_too(self, alice: Person) -> None:
        with serve(guarded(modern_and_legacy_app(), "k")) as base:
            nested = {"endpoint": f"{base}/mcp", "auth": {"type": "token", "auth_token": "k"}}
            made = api(alice).post(SERVERS, {"name": "Nested", "config": nested})
        assert made.status_code == 201, made.json()
        assert (made.json()["url"], made.json()["auth_type"]) == (f"{base}/mcp", "BEARER")

    @pytest.mark.parametrize(
        "auth",
        [
            {"name": "Header", "auth_type": "NONE", "custom_headers": {"Authorization": "Bearer k"}},
            {"auth_type": "BEARER", "token": "k"},
        ],
    )
    def test_an_auth_config_may_come_with_the_server(self, alice: Person, auth: dict[str, Any]) -> None:
        with serve(guarded(modern_and_legacy_app(), "k")) as base:
            made = api(alice).post(SERVERS, {"name": "Inline", "url": f"{base}/mcp", "auth_config": auth})
        assert made.status_code == 201
        assert made.json()["auth_config"]["name"] == auth.get("name", "Inline sign-in")
        assert made.json()["auth_config"]["id"] == made.json()["auth_config_id"] == AuthConfig.objects.get().pk

    @pytest.mark.parametrize("kind", ["html", "error", "missing", "denied", "forbidden", "redirect"])
    def test_a_server_that_fails_its_test_is_not_stored_nor_is_its_auth_config(self, alice: Person, kind: str) -> None:
        auth = {"name": "Key", "auth_type": "BEARER", "token": "canary-token"}
        with serve(broken_app(kind)) as base:
            response = api(alice).post(SERVERS, {"name": "Broken", "url": f"{base}/mcp", "auth_config": auth})
        body = response.json()
        assert (response.status_code, body["code"]) == (422, "connection_test_failed")
        assert body["connection_test_result"]["status"] == "failed"
        assert body["connection_test_result"]["step"] and body["fields"]["url"]
        assert nothing_is_stored()
        assert "secret-of-the-server" not in response.content.decode()

    def test_a_server_that_is_down_is_stored_only_untested(self, alice: Person) -> None:
        body = {"name": "Down", "url": unused_url()}
        refused = api(alice).post(SERVERS, body)
        assert refused.json()["connection_test_result"]["step"] == "dial"
        assert nothing_is_stored()
        stored = api(alice).post(SERVERS, {**body, "test_connection": False})
        assert (stored.status_code, stored.json()["status"]) == (201, "untested")
        assert stored.json()["connection_test_result"] is None

    def test_a_server_with_personal_sign_in_is_hydrated_by_discovery(self, alice: Person, world: DemoWorld) -> None:
        body = {"name": "Notes", "url": world.notes_url, "auth_config": {"auth_type": "authorization_code"}}
        made = api(alice).post(SERVERS, body).json()
        found = made["discovery_result"]
        assert set(found) == S6
        assert found["recommended_auth_mode"] == "AUTHORIZATION_CODE" and found["requires_auth"] is True
        auth = made["auth_config"]
        assert auth["authorization_url"] == found["auth_url"] == f"{world.issuer}/authorize"
        assert (auth["token_url"], auth["registration_url"]) == (found["token_url"], found["register_url"])
        assert (auth["resource"], auth["issuer"]) == (world.notes_url, world.issuer)
        assert (made["status"], made["connection_test_result"]) == ("not_connected", None)

    def test_personal_sign_in_at_a_server_without_any_is_refused(self, alice: Person, world: DemoWorld) -> None:
        body = {"name": "Weather", "url": world.weather_url, "auth_config": {"auth_type": "AUTHORIZATION_CODE"}}
        response = api(alice).post(SERVERS, body)
        assert response.status_code == 422
        assert response.json()["connection_test_result"]["step"] == "discovery"
        assert set(response.json()["discovery_result"]) == S6
        assert nothing_is_stored()

    def test_sse_servers_are_a_transport_of_their_own(self, alice: Person) -> None:
        with serve(sse_app()) as base:
            made = api(alice).post(SERVERS, {"name": "Old", "url": f"{base}/sse", "transport": "SSE"})
        assert (made.status_code, made.json()["transport"]) == (201, "sse")

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"nmae": "x"}, "nmae"),
            ({"name": ""}, "name"),
            ({"name": None}, "name"),
            ({"name": "x" * 101}, "name"),
            ({"name": ["x"]}, "name"),
            ({"url": ""}, "url"),
            ({"url": "ftp://127.0.0.1/mcp"}, "url"),
            ({"url": "http://user:pass@127.0.0.1/mcp"}, "url"),
            ({"transport": "carrier-pigeon"}, "transport"),
            ({"timeout_seconds": 0}, "timeout_seconds"),
            ({"timeout_seconds": 601}, "timeout_seconds"),
            ({"retry_attempts": "many"}, "retry_attempts"),
            ({"slug": "No Slug"}, "slug"),
            ({"endpoint": "http://127.0.0.1:9/other"}, "endpoint"),
            ({"auth_config_id": 4711}, "auth_config_id"),
            ({"auth_config": {"auth_type": "MAGIC"}}, "auth_config.auth_type"),
            ({"auth_config": {"auth_type": {"client_credentials": 1}}}, "auth_config.auth_type"),
            ({"auth_config": {"auth_type": "BEARER", "tokn": "x"}}, "auth_config.tokn"),
            ({"auth_config": {"auth_type": "NONE"}, "auth_config_id": 1}, "auth_config"),
        ],
    )
    def test_a_bad_body_is_refused_by_the_name_of_its_field(
        self, alice: Person, change: dict[str, Any], field: str
    ) -> None:
        response = api(alice).post(SERVERS, {**UNTESTED, **change})
        assert response.status_code == 400
        assert list(response.json()["fields"]) == [field]
        assert nothing_is_stored()

    @pytest.mark.parametrize(
        ("auth", "field"),
        [
            ({"auth_type": "BEARER"}, "token"),
            ({"auth_type": "BASIC"}, "username"),
            ({"auth_type": "CLIENT_CREDENTIALS", "client_id": "x"}, "client_secret"),
            ({"auth_type": "NONE", "custom_headers": {"Host": "x"}}, "custom_headers"),
            ({"auth_type": "NONE", "custom_headers": {"X-Key": "${HOME}"}}, "custom_headers"),
            ({"auth_type": "BEARER", "token": "[REDACTED]"}, "token"),
            ({"auth_type": "NONE", "custom_headers": {"X-Key": "[REDACTED]"}}, "custom_headers"),
            ({"auth_type": "NONE", "password": "[REDACTED]"}, "password"),
        ],
    )
    def test_a_bad_inline_auth_config_keeps_the_server_out_too(
        self, alice: Person, auth: dict[str, Any], field: str
    ) -> None:
        response = api(alice).post(SERVERS, {**UNTESTED, "auth_config": auth})
        assert (response.status_code, list(response.json()["fields"])) == (400, [field])
        assert nothing_is_stored()

    def test_addresses_that_aster_must_not_reach_are_refused(self, alice: Person, settings: Settings) -> None:
        settings.DEBUG = False
        for url in (
            "https://127.0.0.1/mcp",
            "https://169.254.169.254/latest",
            "http://[::1]/mcp",
            "https://10.0.0.1/mcp",
        ):
            response = api(alice).post(SERVERS, {"name": "x", "url": url, "test_connection": False})
            assert response.status_code in (400, 422), url
            assert list(response.json()["fields"]) == ["url"]
        assert nothing_is_stored()

    def test_a_command_that_the_operator_has_not_allowed_is_refused(self, alice: Person) -> None:
        response = api(alice).post(SERVERS, {"name": "Local", "transport": "stdio", "command": "/bin/sh"})
        assert (response.status_code, response.json()["code"]) == (400, "command_not_allowed")
        assert list(response.json()["fields"]) == ["command"]
        assert nothing_is_stored()

    def test_the_slug_may_be_chosen_and_is_then_taken(self, alice: Person) -> None:
        client = api(alice)
        assert client.post(SERVERS, {**UNTESTED, "slug": "mine"}).json()["slug"] == "mine"
        taken = client.post(SERVERS, {**UNTESTED, "name": "Other", "slug": "mine"})
        assert (taken.status_code, list(taken.json()["fields"])) == (409, ["slug"])
        assert client.get(f"{SERVERS}/mine").status_code == 200
        assert client.post(SERVERS, {**UNTESTED, "name": "Notes!"}).json()["slug"] == "notes"
        assert client.post(SERVERS, {**UNTESTED, "name": "Notes?"}).json()["slug"] == "notes-2"

    @pytest.mark.parametrize("name", ["Bücher", " BÜCHER "])
    def test_a_name_is_taken_once_in_an_organization_whatever_its_case(
        self, alice: Person, charlie: Person, name: str
    ) -> None:
        client = api(alice)
        client.post(SERVERS, {**UNTESTED, "name": "Bücher"})
        for refused in (
            client.post(SERVERS, {**UNTESTED, "name": name}),
            client.put(f"{SERVERS}/other", {**UNTESTED, "name": name}),
        ):
            assert (refused.status_code, list(refused.json()["fields"])) == (409, ["name"])
            assert "called Bücher already" in refused.json()["detail"]
        assert McpServer.objects.count() == 1
        assert api(charlie).post(SERVERS, {**UNTESTED, "name": name}).status_code == 201


class TestUpdating:
    def test_what_is_left_out_or_redacted_is_kept(self, alice: Person) -> None:
        client = api(alice)
        auth = {"auth_type": "NONE", "custom_headers": {"X-Key": "canary"}}
        made = client.post(SERVERS, {**UNTESTED, "auth_config": auth}).json()
        assert made["auth_config"]["custom_headers"] == {"X-Key": "[REDACTED]"}
        changed = client.patch(f"{SERVERS}/{made['id']}", {"timeout_seconds": 99})
        assert (changed.status_code, changed.json()["timeout_seconds"]) == (200, 99)
        headers = {"X-Key": "[REDACTED]", "X-More": "m"}
        client.patch(f"{SERVERS}/{made['slug']}", {"auth_config": {"custom_headers": headers}})
        assert AuthConfig.objects.get().custom_headers == {"X-Key": "canary", "X-More": "m"}

    @pytest.mark.parametrize("method", ["patch", "put"])
    def test_an_answer_can_be_sent_back_as_it_came(self, alice: Person, method: str) -> None:
        client = api(alice)
        auth = {"auth_type": "BEARER", "token": "canary", "custom_headers": {"X-Key": "canary"}}
        made = client.post(SERVERS, {**UNTESTED, "auth_config": auth}).json()
        events = AuditEvent.objects.count()
        again = getattr(client, method)(f"{SERVERS}/{made['slug']}", client.get(f"{SERVERS}/{made['id']}").json())
        assert again.status_code == 200, again.json()
        stored = AuthConfig.objects.get()
        assert (stored.token, stored.custom_headers) == ("canary", {"X-Key": "canary"})
        assert AuditEvent.objects.count() == events

    def test_the_auth_config_can_be_changed_for_another_or_for_none(self, alice: Person) -> None:
        client = api(alice)
        made = client.post(SERVERS, {**UNTESTED, "auth_config": {"auth_type": "BEARER", "token": "t"}}).json()
        other = client.post("/api/v1/auth_configs", {"name": "Other", "auth_type": "NONE"}).json()["id"]
        where = f"{SERVERS}/{made['id']}"
        for sent, expected in ((other, other), (str(made["auth_config_id"]), made["auth_config_id"]), (None, None)):
            assert client.patch(where, {"auth_config_id": sent}).json()["auth_config_id"] == expected
        assert client.patch(where, {"auth_config_id": other}).json()["auth_config"]["name"] == "Other"
        assert client.patch(where, {"auth_config": None}).json()["auth_config"] is None

    def test_renaming_takes_no_name_that_is_taken(self, alice: Person) -> None:
        client = api(alice)
        for name in ("Notes", "Docs"):
            client.post(SERVERS, {**UNTESTED, "name": name})
        refused = client.patch(f"{SERVERS}/docs", {"name": "NOTES"})
        assert (refused.status_code, list(refused.json()["fields"])) == (409, ["name"])
        assert client.patch(f"{SERVERS}/docs", {"name": "DOCS"}).json()["name"] == "DOCS"
        assert client.put(f"{SERVERS}/docs", {**UNTESTED, "name": "DOCS"}).status_code == 200

    def test_servers_that_had_the_same_name_before_can_still_be_changed(self, alice: Person) -> None:
        client = api(alice)
        for name in ("Notes", "Docs"):
            client.post(SERVERS, {**UNTESTED, "name": name})
        McpServer.objects.update(name="Notes")
        assert client.patch(f"{SERVERS}/docs", {"name": "Notes", "timeout_seconds": 9}).status_code == 200

    def test_the_slug_stays(self, alice: Person) -> None:
        client = api(alice)
        client.post(SERVERS, UNTESTED)
        response = client.patch(f"{SERVERS}/notes", {"slug": "other"})
        assert (response.status_code, list(response.json()["fields"])) == (400, ["slug"])

    def test_put_by_slug_creates_once(self, alice: Person, world: DemoWorld) -> None:
        client, body = api(alice), {"name": "Weather", "url": world.weather_url}
        first, second = client.put(f"{SERVERS}/w", body), client.put(f"{SERVERS}/w", body)
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json()["connection_test_result"]["status"] == "ok"
        assert second.json()["id"] == first.json()["id"] and McpServer.objects.count() == 1
        assert client.put(f"{SERVERS}/Not A Slug", body).status_code == 400
        failing = client.put(f"{SERVERS}/down", {"name": "x", "url": unused_url()})
        assert (failing.status_code, McpServer.objects.count()) == (422, 1)

    def test_a_server_can_be_switched_off(self, alice: Person) -> None:
        client = api(alice)
        client.post(SERVERS, UNTESTED)
        assert client.patch(f"{SERVERS}/notes", {"enabled": False}).json()["status"] == "disabled"

    def test_switching_off_and_on_keeps_what_was_learned(self, alice: Person, world: DemoWorld) -> None:
        client = api(alice)
        client.post(SERVERS, {"name": "Weather", "url": world.weather_url})
        client.patch(f"{SERVERS}/weather", {"is_enabled": False})
        again = client.patch(f"{SERVERS}/weather", {"is_enabled": True}).json()
        assert (again["status"], again["era"]) == ("connected", "modern")
        assert is_due("Weather")

    @pytest.mark.parametrize("how", ["page", "api"])
    def test_a_server_that_was_added_switched_off_is_listed_once_it_is_on(
        self, alice: Person, world: DemoWorld, how: str
    ) -> None:
        client = api(alice)
        client.post(SERVERS, {"name": "Weather", "url": world.weather_url, "enabled": False, "test_connection": False})
        assert not is_due("Weather")
        if how == "page":
            alice.browser().post("/hub/servers/weather/enable/")
        else:
            client.patch(f"{SERVERS}/weather", {"is_enabled": True})
        assert is_due("Weather")
        sync_due_servers()
        assert client.get(f"{SERVERS}/weather").json()["tool_count"] == 3

    def test_a_new_key_is_tried_at_every_server_that_uses_it(self, alice: Person) -> None:
        client = api(alice)
        with serve(guarded(modern_and_legacy_app(), "right")) as base:
            body = {**UNTESTED, "url": f"{base}/mcp"}
            made = client.post(SERVERS, {**body, "auth_config": {"auth_type": "BEARER", "token": "wrong"}}).json()
            client.post(SERVERS, {**body, "name": "Docs", "auth_config_id": made["auth_config_id"]})
            sync_due_servers()
            assert [row["status"] for row in client.get(SERVERS).json()["results"]] == ["connection_error"] * 2
            client.patch(f"/api/v1/auth_configs/{made['auth_config_id']}", {"name": "Renamed"})
            assert not is_due("Docs")
            client.patch(f"{SERVERS}/notes", {"auth_config": {"auth_type": "BEARER", "token": "right"}})
            sync_due_servers()
        assert [row["status"] for row in client.get(SERVERS).json()["results"]] == ["connected"] * 2


class TestTrying:
    def test_a_stored_server_is_tested_by_members_too(self, alice: Person, bob: Person, world: DemoWorld) -> None:
        api(alice).post(SERVERS, {"name": "Weather", "url": world.weather_url, "test_connection": False})
        result = api(bob).post(f"{SERVERS}/weather/test").json()
        assert (result["status"], result["tool_count"]) == ("ok", len(result["tools"]))
        assert api(bob).get(f"{SERVERS}/weather").json()["status"] == "connected"

    def test_a_failed_test_says_what_failed_and_how_to_fix_it(self, alice: Person) -> None:
        client = api(alice)
        with serve(broken_app("missing")) as base:
            client.post(SERVERS, {"name": "x", "url": f"{base}/mcp", "test_connection": False})
            result = client.post(f"{SERVERS}/x/test").json()
        assert (result["status"], result["tools"]) == ("failed", [])
        assert "404" in result["message"] and "/mcp" in result["hint"]
        assert client.get(f"{SERVERS}/x").json()["last_test"]["message"] == result["message"]

    def test_a_server_that_is_deleted_during_its_test_is_not_found(self, alice: Person, world: DemoWorld) -> None:
        api(alice).post(SERVERS, {**UNTESTED, "url": world.weather_url})
        found = McpServer.objects.get()
        McpServer.objects.all().delete()
        with pytest.raises(NotFound):
            try_and_keep(found, actor=alice.actor)

    def test_an_unsaved_server_is_tried_without_a_trace(self, alice: Person, world: DemoWorld) -> None:
        result = api(alice).post(f"{SERVERS}/test", {"url": world.weather_url})
        assert (result.status_code, result.json()["status"]) == (200, "ok")
        auth = {"auth_type": "BEARER", "token": "wrong"}
        failed = api(alice).post(f"{SERVERS}/test", {"url": world.notes_url, "auth_config": auth}).json()
        assert (failed["status"], failed["step"]) == ("failed", "auth")
        assert nothing_is_stored()
        api(alice).post(SERVERS, {**UNTESTED, "name": "Weather"})
        again = api(alice).post(f"{SERVERS}/test", {"name": "Weather", "url": world.weather_url})
        assert again.json()["status"] == "ok"

    def test_an_unsaved_server_with_personal_sign_in_says_so(self, alice: Person, world: DemoWorld) -> None:
        body = {"url": world.notes_url, "auth_config": {"auth_type": "AUTHORIZATION_CODE"}}
        assert api(alice).post(f"{SERVERS}/test", body).json()["status"] == "sign_in"
        assert nothing_is_stored()

    @pytest.mark.parametrize("field", ["url", "endpoint"])
    def test_discovery_tells_how_to_sign_in(self, alice: Person, world: DemoWorld, field: str) -> None:
        found = api(alice).post(f"{SERVERS}/discover", {field: world.notes_url}).json()
        assert set(found) == S6
        assert (found["requires_auth"], found["token_url"]) == (True, f"{world.issuer}/token")

    def test_discovery_of_open_keyed_and_dead_servers(self, alice: Person, world: DemoWorld) -> None:
        client = api(alice)
        found = client.post(f"{SERVERS}/discover", {"url": world.weather_url}).json()
        assert (found["requires_auth"], found["recommended_auth_mode"]) == (False, "NONE")
        with serve(guarded(modern_and_legacy_app(), "k")) as base:
            found = client.post(f"{SERVERS}/discover", {"url": f"{base}/mcp"}).json()
        assert (found["requires_auth"], found["recommended_auth_mode"]) == (True, "BEARER")
        dead = client.post(f"{SERVERS}/discover", {"url": unused_url()})
        assert (dead.status_code, dead.json()["step"]) == (502, "discovery")
        bad = client.post(f"{SERVERS}/discover", {"url": "nonsense"})
        assert (bad.status_code, list(bad.json()["fields"])) == (400, ["url"])


class TestListing:
    def test_many_servers_cost_as_many_queries_as_few(
        self, alice: Person, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        client = api(alice)
        for number in range(12):
            auth = {"name": f"A{number}", "auth_type": "BEARER", "token": "t"}
            client.post(SERVERS, {**UNTESTED, "name": f"S{number}", "auth_config": auth})
        with django_assert_max_num_queries(5):
            assert len(client.get(SERVERS).json()["results"]) == 12
        with django_assert_max_num_queries(3):
            assert len(client.get("/api/v1/auth_configs").json()["results"]) == 12

    def test_pages_follow_one_another(self, alice: Person) -> None:
        client = api(alice)
        for number in range(5):
            client.post(SERVERS, {**UNTESTED, "name": f"S{number}"})
        page, seen = client.get(f"{SERVERS}?page_size=2").json(), []
        while True:
            seen += [row["name"] for row in page["results"]]
            if not page["next"]:
                break
            page = client.get(page["next"]).json()
        assert seen == [f"S{number}" for number in range(5)]
        assert page["previous"]


class TestDeleting:
    def test_a_server_goes_with_the_auth_config_that_was_its_own(self, alice: Person) -> None:
        client = api(alice)
        client.post(SERVERS, {**UNTESTED, "auth_config": {"auth_type": "BEARER", "token": "t"}})
        response = client.delete(f"{SERVERS}/notes")
        assert (response.status_code, response.content) == (204, b"")
        assert nothing_is_stored()
        assert client.get(f"{SERVERS}/notes").status_code == 404

    def test_an_auth_config_that_others_use_stays(self, alice: Person) -> None:
        client = api(alice)
        auth = client.post("/api/v1/auth_configs", {"name": "Shared", "auth_type": "NONE"}).json()["id"]
        for name in ("One", "Two"):
            client.post(SERVERS, {**UNTESTED, "name": name, "auth_config_id": auth})
        client.delete(f"{SERVERS}/one")
        in_use = client.delete(f"/api/v1/auth_configs/{auth}")
        assert (in_use.status_code, in_use.json()["code"]) == (409, "in_use")
        assert AuthConfig.objects.exists()


def test_a_fake_server_sees_the_header_it_was_given(alice: Person) -> None:
    fake: FakeServer = modern_and_legacy_app()
    with serve(fake) as base:
        auth = {"auth_type": "BASIC", "username": "user", "password": "pass word"}
        api(alice).post(SERVERS, {"name": "Basic", "url": f"{base}/mcp", "auth_config": auth})
    assert fake.requests[0].headers["authorization"] == "Basic dXNlcjpwYXNzIHdvcmQ="
