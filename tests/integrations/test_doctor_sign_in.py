"""The doctor on the acting person's token: what the provider and the server say about it, and what helps."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, McpServer, ResourceMode
from integrations.services.doctor import apply_fix
from integrations.services.refresh import fresh_access_token, refresh_if_due
from integrations.services.servers import save_auth_config
from tests.conftest import Person
from tests.fakes.broken_providers import HANG, HTML, BrokenProvider
from tests.integrations.hub import auth_of
from tests.integrations.patients import (
    add_server,
    again,
    fixes,
    look,
    notes,
    provider,
    ran_out,
    sign_in,
    statuses,
    step,
    words,
)

__all__ = ["notes", "provider"]

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = "/as/token"


def paste_client(notes: McpServer, alice: Person, **fields: Any) -> AuthConfig:
    auth = auth_of(notes)
    for name, value in {"client_id": "pasted", "client_secret": "pasted-secret-4711", **fields}.items():
        setattr(auth, name, value)
    save_auth_config(auth, actor=alice.actor)
    return auth


class TestLooking:
    def test_at_a_good_token_asks_the_provider_for_none(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        connection = sign_in(alice, notes, provider)
        found = step(look(notes, alice), "token")
        assert found.status == "ok"
        assert "not renewed yet" in found.found
        assert provider.times_asked(TOKEN) == 0
        assert Connection.objects.get(pk=connection.pk).generation == 1

    def test_at_one_that_ran_out_renews_it_once_as_a_call_would(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider, **ran_out())
        found = look(notes, alice)
        assert found.status == "ok"
        assert "renewed just now" in step(found, "token").found
        assert "Renewed · call" in words(step(found, "token"))
        assert provider.times_asked(TOKEN) == 1
        assert "last renewed" in step(look(notes, alice), "token").found
        assert provider.times_asked(TOKEN) == 1

    def test_before_connecting_offers_to_connect(self, alice: Person, notes: McpServer) -> None:
        found = look(notes, alice)
        assert statuses(found)["token"] == "warning"
        assert fixes(step(found, "token")) == ["reconnect"]
        assert (statuses(found)["session"], statuses(found)["tools"]) == ("skipped", "skipped")

    def test_at_a_token_made_for_another_address_does_not_send_it(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider, origins=["https://elsewhere.example"])
        found = look(notes, alice)
        assert "another address" in step(found, "token").found
        assert statuses(found)["session"] == "skipped"

    def test_at_one_that_cannot_be_renewed_says_until_when(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider, refresh_token="")
        found = step(look(notes, alice), "token")
        assert found.status == "warning"
        assert "no refresh token" in found.found

    def test_at_the_organizations_own_gets_a_token_as_any_call_does(
        self, alice: Person, provider: BrokenProvider
    ) -> None:
        machine = AuthConfig(
            name="Machine", auth_type=AuthType.CLIENT_CREDENTIALS, client_id="machine", client_secret="s3cret-machine"
        )
        server = add_server(alice, provider.mcp_url, machine)
        found = look(server, alice)
        assert found.status == "ok"
        assert "The organization is connected" in step(found, "token").found


class TestTheTokenEndpoint:
    def test_that_answers_with_a_web_page(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        sign_in(alice, notes, provider, **ran_out())
        provider.answers[TOKEN] = HTML
        found = step(look(notes, alice), "token")
        assert found.status == "failed"
        assert "not an OAuth answer (HTTP 200)" in found.found
        assert fixes(found) == ["edit_settings"]
        assert Connection.objects.get().status == ConnectionStatus.CONNECTED

    def test_that_refuses_the_client(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        paste_client(notes, alice)
        sign_in(alice, notes, provider, **ran_out())
        provider.refuse_tokens("invalid_client", 401, error_description="Wrong secret pasted-secret-4711")
        found = step(look(notes, alice), "token")
        assert "client ID or its secret" in found.advice
        assert "Wrong secret [hidden]" in found.found
        assert fixes(found) == ["edit_settings"]

    def test_that_forgot_the_client_aster_registered(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider, **ran_out())
        provider.refuse_tokens("invalid_client", 401)
        found = step(look(notes, alice), "token")
        assert "no longer knows the client" in found.advice
        assert fixes(found) == ["reconnect"]

    @pytest.mark.parametrize(
        "said",
        [
            {"error": "invalid_target", "description": "Unknown resource."},
            {
                "error": "invalid_request",
                "description": "AADSTS901002: The 'resource' request parameter is not supported.",
            },
        ],
    )
    def test_that_refuses_the_resource(
        self, alice: Person, notes: McpServer, provider: BrokenProvider, said: dict[str, str]
    ) -> None:
        sign_in(alice, notes, provider, **ran_out())
        provider.refuse_tokens(said["error"], error_description=said["description"])
        found = step(look(notes, alice), "token")
        assert said["description"] in words(found)
        assert fixes(found) == ["omit_resource"]
        mended = apply_fix(again(notes), "omit_resource", actor=alice.actor)
        assert auth_of(again(notes)).resource_mode == ResourceMode.OMIT
        assert fixes(step(mended, "token")) == ["reconnect"]

    def test_where_the_grant_was_revoked(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        sign_in(alice, notes, provider, **ran_out())
        provider.refresh_tokens.clear()
        found = step(look(notes, alice), "token")
        assert "Token was revoked." in found.found
        assert "Only a new sign-in helps" in found.advice
        assert fixes(found) == ["reconnect"]
        assert "Refused" in words(found)

    def test_that_does_not_answer_is_not_cut_short(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        connection = sign_in(alice, notes, provider, **ran_out())
        may_answer = threading.Event()
        provider.before_token = lambda: may_answer.wait(20)
        found = look(notes, alice, seconds=2)
        assert "goes on in the background" in step(found, "token").found
        assert statuses(found)["session"] == "skipped"
        may_answer.set()
        # Whoever needs the token now waits for the process that is at it, and asks nobody.
        assert fresh_access_token(connection) in provider.tokens
        assert provider.times_asked(TOKEN) == 1

    def test_in_trouble_is_not_asked_again_at_once(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        connection = sign_in(alice, notes, provider, refresh_at=timezone.now() - timedelta(seconds=1), **ran_out())
        provider.answers[TOKEN] = (503, "", "text/plain")
        assert refresh_if_due(connection.pk)
        found = step(look(notes, alice), "token")
        assert "keeps trying" in found.found
        assert "HTTP 503" in found.found
        assert provider.times_asked(TOKEN) == 1

    def test_of_a_machine_that_is_refused(self, alice: Person, provider: BrokenProvider) -> None:
        machine = AuthConfig(
            name="Machine", auth_type=AuthType.CLIENT_CREDENTIALS, client_id="machine", client_secret="s3cret-machine"
        )
        server = add_server(alice, provider.mcp_url, machine)
        provider.refuse_tokens("invalid_client", 401, error_description="No such client: s3cret-machine")
        found = look(server, alice)
        assert fixes(step(found, "token")) == ["edit_settings"]
        assert "s3cret-machine" not in str(again(server).diagnosis)


class TestASignInThatFailed:
    """Nothing is stored of it but what was said; the page that says so leads to the doctor."""

    def come_back(self, person: Person, notes: McpServer, **params: str) -> None:
        api = person.api()
        begun = api.post(f"/api/v1/config/mcp-server/{notes.pk}/connect").json()
        state = begun["authorization_url"].split("state=")[1].split("&")[0]
        assert api.get("/api/v1/oauth/callback", {"state": state, **params}).status_code >= 400

    def test_at_the_token_endpoint_is_explained(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        provider.refuse_tokens("invalid_target", error_description="AADSTS9010010: The resource does not match.")
        self.come_back(alice, notes, code="c0de-canary")
        found = step(look(notes, alice), "token")
        assert found.status == "failed"
        assert fixes(found) == ["omit_resource"]
        assert "c0de-canary" not in str(again(notes).diagnosis)

    def test_at_the_consent_page_is_explained(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        self.come_back(alice, notes, error="invalid_request", error_description="redirect_uri is not registered")
        assert "set_callback_url" in fixes(step(look(notes, alice), "token"))

    def test_of_somebody_else_is_theirs(
        self, alice: Person, bob: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        self.come_back(bob, notes, error="access_denied", error_description="Bob said no")
        assert "Bob said no" not in str(look(notes, alice).as_json())
        assert "Bob said no" in step(look(notes, bob), "token").found

    def test_is_forgotten_when_the_settings_changed_since(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        self.come_back(alice, notes, error="invalid_target", error_description="no")
        apply_fix_after_looking(notes, alice, "omit_resource")
        assert step(look(notes, alice), "token").status == "warning"


def apply_fix_after_looking(server: McpServer, person: Person, fix: str) -> None:
    look(server, person)
    apply_fix(again(server), fix, actor=person.actor)


class TestTheServer:
    def test_that_rejects_a_fresh_token_is_asked_with_a_renewed_one_first(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        connection = sign_in(alice, notes, provider)
        provider.tokens.discard(connection.access_token)
        found = look(notes, alice)
        assert "after a renewal it works" in step(found, "session").found
        assert provider.times_asked(TOKEN) == 1

    def test_that_rejects_a_renewed_token_too_disagrees_with_the_provider(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider, **ran_out())
        provider.refusal = (401, 'Bearer error="invalid_token", error_description="Unknown signing key"')
        found = step(look(notes, alice), "session")
        assert "renewed just now" in found.found
        assert "Unknown signing key" in found.found
        assert provider.times_asked(TOKEN) == 1
        assert "reconnect" in fixes(found)

    def test_that_rejects_the_token_of_a_grant_that_was_revoked(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        connection = sign_in(alice, notes, provider)
        provider.tokens.discard(connection.access_token)
        provider.refresh_tokens.clear()
        found = step(look(notes, alice), "session")
        assert "did not renew it" in found.found
        assert "Token was revoked." in found.found
        assert fixes(found) == ["reconnect"]

    def test_that_got_a_token_for_another_resource_is_explained(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider, resource=f"{provider.url}/other", **ran_out())
        provider.refusal = (401, 'Bearer error="invalid_token"')
        assert f"for {provider.url}/other" in step(look(notes, alice), "session").advice

    def test_that_wants_more_rights_names_them_and_the_next_consent_asks_for_them(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider)
        provider.refusal = (403, 'Bearer error="insufficient_scope", scope="tools admin"')
        found = step(look(notes, alice), "session")
        assert "tools, admin" in found.found
        assert fixes(found) == ["reconnect"]
        assert Connection.objects.get().wanted_scopes == ["tools", "admin"]

    def test_that_refuses_the_account_says_whom_to_ask(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider)
        provider.refusal = (403, 'Bearer realm="x"')
        found = step(look(notes, alice), "session")
        assert "refuses access (403)" in found.found
        assert fixes(found) == []

    def test_that_repeats_the_token_is_quoted_without_it(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        connection = sign_in(alice, notes, provider, refresh_token="")
        provider.refusal = (401, f'Bearer error="invalid_token", error_description="{connection.access_token}?"')
        look(notes, alice)
        stored = str(again(notes).diagnosis)
        assert connection.access_token not in stored
        assert "[hidden]" in stored


def test_a_provider_that_hangs_leaves_time_for_the_rest(
    alice: Person, notes: McpServer, provider: BrokenProvider
) -> None:
    sign_in(alice, notes, provider)
    provider.answers["/.well-known/oauth-authorization-server/as"] = HANG
    found = look(notes, alice, seconds=6)
    assert statuses(found)["provider_metadata"] == "failed"
    assert statuses(found)["tools"] == "ok"
