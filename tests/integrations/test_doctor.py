"""The doctor on the way to a server and its provider: each thing that can be wrong is named, and nothing else is."""

from __future__ import annotations

import time

import pytest
from pytest_django.fixtures import Settings

from integrations.models import AuthConfig, AuthType, ClientMode, McpServer
from integrations.services.doctor import TITLES, apply_fix, last_diagnosis
from integrations.services.servers import save_auth_config
from tests.conftest import Person
from tests.fakes.broken_providers import HANG, BrokenProvider
from tests.fakes.mcp_servers import (
    broken_app,
    guarded,
    modern_and_legacy_app,
    serve,
    sse_app,
    stdio_command,
    unused_url,
)
from tests.integrations.hub import auth_of
from tests.integrations.patients import add_server, again, fixes, look, notes, provider, sign_in, statuses, step, words

__all__ = ["notes", "provider"]

pytestmark = pytest.mark.django_db(transaction=True)


class TestTheServer:
    def test_one_that_works_gets_a_clean_bill(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        sign_in(alice, notes, provider)
        found = look(notes, alice)
        assert statuses(found) == dict.fromkeys(TITLES, "ok")
        assert (found.status, found.summary) == ("ok", "Everything works.")
        assert "9 tools" in step(found, "tools").found
        assert last_diagnosis(notes, actor=alice.actor) == found

    def test_an_open_one_needs_no_sign_in(self, alice: Person) -> None:
        with serve(modern_and_legacy_app()) as base:
            found = look(add_server(alice, f"{base}/mcp"), alice)
        assert found.status == "ok"
        assert {name for name, status in statuses(found).items() if status == "skipped"} == {
            "resource_metadata", "provider_metadata", "client", "token",
        }  # fmt: skip

    def test_a_web_page_is_no_mcp_server(self, alice: Person) -> None:
        with serve(broken_app("html")) as base:
            found = look(add_server(alice, f"{base}/mcp"), alice)
        assert statuses(found)["dial"] == "ok"
        assert "web page" in step(found, "answer").found
        assert step(found, "answer").evidence[0].status == 200
        assert found.status == "failed"

    def test_a_wrong_path_is_told_with_the_usual_one(self, alice: Person) -> None:
        with serve(modern_and_legacy_app()) as base:
            found = look(add_server(alice, f"{base}/nothing"), alice)
        assert "(404)" in step(found, "answer").found
        assert "/mcp" in step(found, "answer").advice

    def test_nobody_listening_stops_what_depends_on_it(self, alice: Person) -> None:
        found = look(add_server(alice, unused_url()), alice)
        assert "Nobody answers" in step(found, "dial").found
        rest = {name: status for name, status in statuses(found).items() if name not in ("url", "dial")}
        assert set(rest.values()) == {"skipped"}

    def test_a_forbidden_address_is_not_dialled_and_the_operators_entry_is_given(
        self, alice: Person, settings: Settings
    ) -> None:
        settings.ASTER_ALLOWED_HOSTS_PRIVATE = ["10.0.0.5:8443"]
        server = add_server(alice, "https://10.0.0.5:8443/mcp")
        settings.ASTER_ALLOWED_HOSTS_PRIVATE = []
        found = look(server, alice)
        assert statuses(found)["url"] == "failed"
        assert set(statuses(found).values()) == {"failed", "skipped"}
        (fix,) = step(found, "url").fixes
        assert (fix.id, fix.value) == ("ask_operator_allow_host", "10.0.0.5:8443")

    def test_an_sse_address_is_talked_to_with_sse_after_the_fix(self, alice: Person) -> None:
        with serve(sse_app()) as base:
            server = add_server(alice, f"{base}/sse")
            found = look(server, alice)
            assert fixes(step(found, "answer")) == ["use_transport:sse"]
            mended = apply_fix(again(server), "use_transport:sse", actor=alice.actor)
        assert mended.status == "ok"
        assert again(server).transport == "sse"

    def test_a_streamable_address_is_told_from_sse(self, alice: Person) -> None:
        with serve(modern_and_legacy_app()) as base:
            found = look(add_server(alice, f"{base}/mcp", transport="sse"), alice)
        assert fixes(step(found, "answer")) == ["use_transport:streamable_http"]

    def test_a_guarded_one_without_a_sign_in_asks_for_one(self, alice: Person, provider: BrokenProvider) -> None:
        found = look(add_server(alice, provider.mcp_url), alice)
        assert "none is set up" in step(found, "answer").found
        assert "Choose OAuth" in step(found, "provider_metadata").found
        assert statuses(found)["session"] == "skipped"

    def test_a_key_that_is_not_accepted_is_named(self, alice: Person) -> None:
        auth = AuthConfig(name="Key", auth_type=AuthType.BEARER, token="wrong-key")
        with serve(guarded(modern_and_legacy_app(), "right-key")) as base:
            found = look(add_server(alice, f"{base}/mcp", auth), alice)
        assert statuses(found)["answer"] == "ok"
        assert "does not accept the credentials" in step(found, "session").found
        assert "wrong-key" not in str(found.as_json())

    def test_one_that_hangs_costs_no_more_than_the_time_of_a_run(self, alice: Person) -> None:
        with serve(broken_app("hang")) as base:
            server = add_server(alice, f"{base}/mcp")
            started = time.monotonic()
            found = look(server, alice, seconds=3)
        assert time.monotonic() - started < 5
        assert "did not answer" in step(found, "answer").found

    def test_a_local_command_is_talked_to_at_once(self, alice: Person, settings: Settings) -> None:
        command, args = stdio_command()
        settings.ASTER_STDIO_COMMANDS = [command]
        server = add_server(alice, "", transport="stdio", command=command, args=args)
        found = look(server, alice)
        assert {name for name, status in statuses(found).items() if status == "ok"} == {"session", "tools"}
        broken = add_server(alice, "", name="Broken", transport="stdio", command=command, args=[*args, "--exit"])
        assert "ended before it answered" in step(look(broken, alice), "session").found


class TestTheMetadata:
    def test_about_another_resource_is_not_followed(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        provider.resource = {"resource": "https://other.example/mcp"}
        found = look(notes, alice)
        assert "another resource: https://other.example/mcp" in step(found, "resource_metadata").found
        assert any(each.url == provider.pointer for each in step(found, "resource_metadata").evidence)
        assert statuses(found)["provider_metadata"] == "skipped"

    def test_that_names_nobody_says_so(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        provider.resource = {"authorization_servers": []}
        provider.metadata = {"issuer": "nobody"}
        found = look(notes, alice)
        assert statuses(found)["resource_metadata"] == "failed"
        assert "names no authorization server" in step(found, "resource_metadata").found

    def test_of_a_foreign_issuer_is_refused(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        provider.metadata = {"issuer": "https://evil.example"}
        found = look(notes, alice)
        assert statuses(found)["resource_metadata"] == "ok"
        assert statuses(found)["provider_metadata"] == "failed"
        assert "names the issuer https://evil.example" in step(found, "provider_metadata").found
        assert found.summary.startswith("The sign-in provider:")

    def test_without_pkce_waits_for_an_admins_word(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        provider.metadata = {"code_challenge_methods_supported": None}
        found = look(notes, alice)
        assert "PKCE" in step(found, "provider_metadata").found
        assert fixes(step(found, "provider_metadata")) == ["assume_pkce"]
        mended = apply_fix(again(notes), "assume_pkce", actor=alice.actor)
        assert statuses(mended)["provider_metadata"] == "ok"
        assert auth_of(again(notes)).assume_pkce

    def test_with_a_script_as_endpoint_is_refused(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        provider.metadata = {"authorization_endpoint": "javascript:alert(1)"}
        found = look(notes, alice)
        assert statuses(found)["provider_metadata"] == "failed"
        assert "authorization_endpoint cannot be used" in step(found, "provider_metadata").found

    def test_at_a_private_address_names_the_entry_for_the_operator(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        provider.metadata = {"token_endpoint": "https://10.1.2.3/token"}
        (fix,) = step(look(notes, alice), "provider_metadata").fixes
        assert (fix.id, fix.value) == ("ask_operator_allow_host", "10.1.2.3:443")

    def test_that_never_comes_is_a_failure_of_the_provider(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        provider.answers["/.well-known/oauth-authorization-server/as"] = HANG
        started = time.monotonic()
        found = look(notes, alice, seconds=4)
        assert time.monotonic() - started < 6
        assert statuses(found)["provider_metadata"] == "failed"
        assert "did not answer" in step(found, "provider_metadata").found

    def test_nowhere_offers_the_old_default_endpoints_if_they_are_there(
        self, alice: Person, provider: BrokenProvider
    ) -> None:
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
            provider.answers[path] = (404, "", "text/plain")
        for name in ("oauth-authorization-server", "openid-configuration"):
            provider.answers[f"/.well-known/{name}"] = (404, "", "text/plain")
        provider.challenge = "Bearer"
        provider.answers["/authorize"] = (400, "client_id is missing", "text/plain")
        auth = AuthConfig(name="Old", auth_type=AuthType.AUTHORIZATION_CODE)
        server = add_server(alice, provider.mcp_url, auth)
        assert fixes(step(look(server, alice), "provider_metadata")) == ["allow_legacy_endpoints"]
        apply_fix(again(server), "allow_legacy_endpoints", actor=alice.actor)
        assert auth_of(again(server)).token_url == f"{provider.url}/token"

    def test_endpoints_entered_by_hand_are_good_enough(self, alice: Person, provider: BrokenProvider) -> None:
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
            provider.answers[path] = (404, "", "text/plain")
        for name in ("oauth-authorization-server", "openid-configuration"):
            provider.answers[f"/.well-known/{name}"] = (404, "", "text/plain")
        known = {"authorization_url": f"{provider.issuer}/authorize", "token_url": f"{provider.issuer}/token"}
        auth = AuthConfig(name="Typed", auth_type=AuthType.AUTHORIZATION_CODE, client_id="pasted", **known)
        server = add_server(alice, provider.mcp_url, auth)
        sign_in(alice, server, provider)
        found = look(server, alice)
        assert statuses(found)["provider_metadata"] == "warning"
        assert statuses(found)["tools"] == "ok"

    def test_of_another_issuer_than_before_is_followed_only_when_an_admin_says_so(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        moved = f"{provider.url}/new"
        provider.resource = {"authorization_servers": [moved]}
        found = look(notes, alice)
        assert fixes(step(found, "provider_metadata")) == [f"follow_issuer:{moved}"]
        assert auth_of(again(notes)).issuer == provider.issuer
        mended = apply_fix(again(notes), f"follow_issuer:{moved}", actor=alice.actor)
        assert statuses(mended)["provider_metadata"] == "ok"
        assert auth_of(again(notes)).token_url == f"{moved}/token"

    def test_of_another_issuer_never_gets_a_pasted_client(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        auth = auth_of(notes)
        auth.client_id, auth.client_secret = "pasted", "secret-of-the-old-one"
        save_auth_config(auth, actor=alice.actor)
        provider.resource = {"authorization_servers": [f"{provider.url}/new"]}
        assert fixes(step(look(notes, alice), "provider_metadata")) == ["edit_settings"]


class TestTheClient:
    def test_is_not_registered_by_looking(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        found = look(notes, alice)
        assert "will register itself" in step(found, "client").found
        assert not auth_of(notes).registrations.exists()
        assert provider.times_asked("/as/register") == 1  # with a body no client can be made of

    def test_has_to_be_made_by_hand_where_none_is_registered(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        provider.metadata = {"registration_endpoint": None}
        found = step(look(notes, alice), "client")
        assert found.status == "failed"
        assert fixes(found) == ["choose_client_mode:known", "set_callback_url"]
        assert found.fixes[1].value.endswith("/api/mcp/oauth/callback")

    def test_may_be_a_document_where_the_provider_reads_one(
        self, alice: Person, notes: McpServer, provider: BrokenProvider, settings: Settings
    ) -> None:
        settings.ASTER_CLIENT_METADATA_URL = "https://203.0.114.9/oauth/client-metadata.json"
        provider.metadata = {"client_id_metadata_document_supported": True, "registration_endpoint": None}
        auth = auth_of(notes)
        auth.client_mode = ClientMode.DYNAMIC
        save_auth_config(auth, actor=alice.actor)
        assert "choose_client_mode:cimd" in fixes(step(look(notes, alice), "client"))
        mended = apply_fix(again(notes), "choose_client_mode:cimd", actor=alice.actor)
        assert step(mended, "client").status == "ok"

    def test_is_refused_in_the_providers_own_words(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        said = {"error": "access_denied", "error_description": "Only partners may register. Ask sales."}
        provider.answers["/as/register"] = (403, said, "application/json")
        found = step(look(notes, alice), "client")
        assert found.status == "failed"
        assert "Only partners may register. Ask sales." in found.found
        assert found.evidence[0].status == 403

    def test_was_refused_when_somebody_tried_to_connect(
        self, alice: Person, bob: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        said = {"error": "invalid_redirect_uri", "error_description": "Redirect host is not on our list."}
        provider.answers["/as/register"] = (400, said, "application/json")
        refused = bob.api().post(f"/api/v1/config/mcp-server/{notes.pk}/connect")
        assert refused.status_code == 502
        found = step(look(notes, alice), "client")
        assert "Redirect host is not on our list." in found.found
        assert "set_callback_url" in fixes(found)

    def test_that_was_pasted_names_the_callback_url_to_allow(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        auth = auth_of(notes)
        auth.client_id = "pasted"
        save_auth_config(auth, actor=alice.actor)
        found = step(look(notes, alice), "client")
        assert (found.status, fixes(found)) == ("ok", ["set_callback_url"])
        assert provider.times_asked("/as/register") == 0

    def test_without_the_secret_that_the_provider_wants_is_a_warning(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_basic"]}
        auth = auth_of(notes)
        auth.client_id = "pasted"
        save_auth_config(auth, actor=alice.actor)
        found = step(look(notes, alice), "client")
        assert found.status == "warning"
        assert "takes only client_secret_basic" in words(found)
