"""The doctor's page, API and command: who may run it, who sees what, who may fix, and no secret anywhere."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from aster.accounts.models import AuditEvent
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, McpServer, ResourceMode
from integrations.services.doctor import TITLES
from integrations.services.servers import save_auth_config
from tests.aster.api_contract import api
from tests.conftest import Person
from tests.fakes.broken_providers import BrokenProvider
from tests.integrations.hub import auth_of, html_of, text_of
from tests.integrations.patients import add_server, again, look, notes, provider, ran_out, sign_in

__all__ = ["notes", "provider"]

pytestmark = pytest.mark.django_db(transaction=True)


def at(server: McpServer, what: str) -> str:
    return f"/api/v1/config/mcp-server/{server.pk}/{what}"


def page(server: McpServer, what: str = "") -> str:
    return f"/hub/servers/{server.slug}/doctor/{what}"


def refuse_resource(person: Person, server: McpServer, provider: BrokenProvider) -> Connection:
    connection = sign_in(person, server, provider, **ran_out())
    provider.refuse_tokens("invalid_target", error_description="Unknown resource.")
    return connection


class TestTheApi:
    def test_runs_shows_and_fixes(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        refuse_resource(alice, notes, provider)
        client = api(alice)
        assert client.get(at(notes, "diagnosis")).status_code == 404
        ran = client.post(at(notes, "diagnose"))
        assert (ran.status_code, ran.json()["status"]) == (200, "failed")
        assert [each["name"] for each in ran.json()["steps"]] == list(TITLES)
        assert client.get(at(notes, "diagnosis")).json() == ran.json()
        fixed = client.post(at(notes, "fix"), {"fix": "omit_resource"})
        assert fixed.status_code == 200
        assert auth_of(again(notes)).resource_mode == ResourceMode.OMIT
        assert AuditEvent.objects.filter(action="updated", object_type="authconfig").exists()

    def test_fixes_only_what_the_last_run_offered(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider)
        client = api(alice)
        assert client.post(at(notes, "fix"), {"fix": "assume_pkce"}).json()["code"] == "fix_not_offered"
        client.post(at(notes, "diagnose"))
        for fix in ("assume_pkce", "choose_client_mode:known", "follow_issuer:http://127.0.0.1:9", "__class__"):
            assert client.post(at(notes, "fix"), {"fix": fix}).status_code == 409
        assert not auth_of(again(notes)).assume_pkce

    def test_leaves_to_people_what_is_theirs(self, alice: Person, notes: McpServer) -> None:
        client = api(alice)
        client.post(at(notes, "diagnose"))
        refused = client.post(at(notes, "fix"), {"fix": "reconnect"})
        assert (refused.status_code, refused.json()["code"]) == (409, "fix_by_hand")

    def test_lets_members_look_but_not_fix(
        self, alice: Person, bob: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        refuse_resource(bob, notes, provider)
        client = api(bob)
        ran = client.post(at(notes, "diagnose")).json()
        fixes = [fix for each in ran["steps"] for fix in each["fixes"]]
        assert {fix["kind"] for fix in fixes} == {"ask"}
        assert "An admin can do this" in fixes[0]["text"]
        assert client.post(at(notes, "fix"), {"fix": "omit_resource"}).status_code == 403
        assert auth_of(again(notes)).resource_mode == ResourceMode.SEND

    def test_needs_the_scope_to_connect_for_a_run_and_to_read_for_the_last_one(
        self, alice: Person, notes: McpServer
    ) -> None:
        assert api(alice, "aster:read").post(at(notes, "diagnose")).status_code == 403
        assert api(alice, "aster:connect").post(at(notes, "diagnose")).status_code == 200
        assert api(alice, "aster:read").get(at(notes, "diagnosis")).status_code == 200
        assert api(alice, "aster:connect").post(at(notes, "fix"), {"fix": "assume_pkce"}).status_code == 403

    def test_does_not_know_the_server_of_another_organization(self, charlie: Person, notes: McpServer) -> None:
        client = api(charlie)
        assert client.post(at(notes, "diagnose")).status_code == 404
        assert client.get(at(notes, "diagnosis")).status_code == 404
        assert client.post(at(notes, "fix"), {"fix": "omit_resource"}).status_code == 404
        assert again(notes).diagnosis is None

    def test_forgets_the_run_when_the_server_is_pointed_elsewhere(self, alice: Person, notes: McpServer) -> None:
        client = api(alice)
        client.post(at(notes, "diagnose"))
        assert client.patch(at(notes, "")[:-1], {"url": "http://127.0.0.1:9/elsewhere"}).status_code == 200
        assert client.get(at(notes, "diagnosis")).status_code == 404

    def test_of_a_disabled_server_is_for_admins(self, alice: Person, bob: Person, notes: McpServer) -> None:
        McpServer.objects.update(is_enabled=False)
        assert api(bob).post(at(notes, "diagnose")).json()["code"] == "server_disabled"
        assert api(alice).post(at(notes, "diagnose")).status_code == 200


class TestWhatMembersSee:
    def test_is_not_the_sign_in_of_somebody_else(
        self, alice: Person, bob: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider, **ran_out())
        provider.refuse_tokens("invalid_grant", error_description="Alice left the company.")
        look(notes, alice)
        seen = api(bob).get(at(notes, "diagnosis")).json()
        assert "Alice left the company" not in json.dumps(seen)
        assert seen["by"] is None
        assert {each["status"] for each in seen["steps"] if each["name"] in ("token", "session", "tools")} == {
            "skipped"
        }
        assert "another person" in text_of(bob.browser().get(page(notes)))

    def test_is_not_where_the_provider_is_inside_the_house(
        self, alice: Person, bob: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        inside = "http://127.0.0.1:9/realms/secret-project"
        provider.resource = {"authorization_servers": [inside]}
        auth = auth_of(notes)
        auth.issuer = ""
        save_auth_config(auth, actor=alice.actor)
        own, admins = api(bob).post(at(notes, "diagnose")).json(), api(alice).post(at(notes, "diagnose")).json()
        assert "127.0.0.1:9/" in json.dumps(admins)
        assert "secret-project" in json.dumps(admins)
        assert "127.0.0.1:9" not in json.dumps(own)
        assert "secret-project" not in json.dumps(own)
        assert provider.mcp_url in json.dumps(own)

    def test_is_an_organizations_sign_in_as_far_as_it_concerns_them(
        self, alice: Person, bob: Person, provider: BrokenProvider
    ) -> None:
        machine = AuthConfig(name="M", auth_type=AuthType.CLIENT_CREDENTIALS, client_id="m", client_secret="s3cret-m")
        server = add_server(alice, provider.mcp_url, machine)
        look(server, alice)
        assert api(bob).get(at(server, "diagnosis")).json()["status"] == "ok"


class TestThePage:
    def test_runs_on_post_and_shows_on_get(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        sign_in(alice, notes, provider)
        browser = alice.browser()
        assert "Not run yet" in text_of(browser.get(page(notes)))
        ran = browser.post(page(notes), follow=True)
        assert ran.redirect_chain == [(page(notes), 302)]
        assert "Everything works." in text_of(ran)
        assert "9 tools" in text_of(browser.get(page(notes)))

    def test_offers_admins_the_button_that_fixes(
        self, alice: Person, bob: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        refuse_resource(alice, notes, provider)
        browser = alice.browser()
        shown = browser.post(page(notes), follow=True)
        assert "This is why it does not work" in text_of(shown)
        assert 'value="omit_resource"' in html_of(shown)
        assert page(notes, "fix/") not in html_of(bob.browser().get(page(notes)))
        done = browser.post(page(notes, "fix/"), {"fix": "omit_resource"}, follow=True)
        assert "Done, and looked again." in text_of(done)
        assert auth_of(again(notes)).resource_mode == ResourceMode.OMIT

    def test_tells_a_member_who_tries_the_button_whose_it_is(
        self, alice: Person, bob: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        refuse_resource(alice, notes, provider)
        look(notes, alice)
        assert bob.browser().post(page(notes, "fix/"), {"fix": "omit_resource"}).status_code == 403
        assert auth_of(again(notes)).resource_mode == ResourceMode.SEND

    def test_of_another_organizations_server_is_not_there(self, charlie: Person, notes: McpServer) -> None:
        browser = charlie.browser()
        assert browser.get(page(notes)).status_code == 404
        assert browser.post(page(notes)).status_code == 404
        assert browser.post(page(notes, "fix/"), {"fix": "omit_resource"}).status_code == 404

    def test_opens_from_wherever_something_is_broken(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider, status=ConnectionStatus.ERROR, last_error="It broke.")
        browser = alice.browser()
        for path in ("integrations/", f"servers/{notes.slug}/", f"servers/{notes.slug}/connect/", "connections/"):
            assert f'href="{page(notes)}"' in html_of(browser.get(f"/hub/{path}")), path

    def test_opens_from_a_sign_in_that_failed(self, alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
        browser = alice.browser()
        sent = html_of(browser.post(f"/hub/servers/{notes.slug}/connect/"))
        state = sent.split("state=")[1].split("&")[0].split('"')[0]
        back = browser.get("/api/mcp/oauth/callback", {"state": state, "error": "invalid_target"})
        assert f'href="{page(notes)}?organization=acme"' in html_of(back)
        provider.answers["/as/register"] = (403, {"error": "access_denied"}, "application/json")
        auth_of(notes).registrations.all().delete()
        assert f'href="{page(notes)}"' in html_of(browser.post(f"/hub/servers/{notes.slug}/connect/"))

    def test_quotes_a_hostile_provider_without_running_it(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        sign_in(alice, notes, provider)
        provider.refusal = (401, 'Bearer error="invalid_token", error_description="<script>alert(1)</script>"')
        shown = alice.browser().post(page(notes), follow=True).content.decode()
        assert "<script>alert" not in shown
        assert "&lt;script&gt;alert" in shown


class TestTheCommand:
    def run(self, *args: str) -> tuple[str, int]:
        out = StringIO()
        try:
            call_command("mcp", "doctor", *args, stdout=out)
        except SystemExit as ended:
            return out.getvalue(), int(ended.code or 0)
        return out.getvalue(), 0

    def test_tells_each_step_and_ends_with_1_if_one_failed(
        self, alice: Person, notes: McpServer, provider: BrokenProvider
    ) -> None:
        who = ("--organization", "Acme", "--email", "alice@acme.test")
        sign_in(alice, notes, provider)
        said, code = self.run("notes", *who)
        assert code == 0
        assert "Everything works." in said
        provider.resource = {"resource": "https://other.example/mcp"}
        said, code = self.run("notes", *who)
        assert code == 1
        assert "another resource" in said
        assert provider.pointer in said

    def test_prints_one_json_object(self, alice: Person, notes: McpServer) -> None:
        said, code = self.run("notes", "--organization", "acme", "--json")
        found: dict[str, Any] = json.loads(said)
        assert code == 0
        assert found["by"] is None
        assert [each["name"] for each in found["steps"]] == list(TITLES)
        token = next(each for each in found["steps"] if each["name"] == "token")
        assert (token["status"], "nobody's" in token["found"]) == ("skipped", True)

    def test_knows_neither_strangers_nor_their_servers(self, alice: Person, charlie: Person, notes: McpServer) -> None:
        for args in (
            ("notes", "--organization", "Globex"),
            ("notes", "--organization", "Acme", "--email", "charlie@globex.test"),
            ("notes", "--organization", "Nowhere"),
        ):
            with pytest.raises(CommandError):
                self.run(*args)


def test_no_secret_is_in_a_diagnosis(alice: Person, notes: McpServer, provider: BrokenProvider) -> None:
    """Everybody on the other side repeats whatever could have been sent to them."""
    auth = auth_of(notes)
    hidden = {
        "client_secret": "canary-secret-4711", "custom_headers": {"X-Key": "canary-header-4711"},
        "extra_token_params": {"key": "canary-extra-4711"}, "client_id": "pasted",
    }  # fmt: skip
    for name, value in hidden.items():
        setattr(auth, name, value)
    save_auth_config(auth, actor=alice.actor)
    echo = "canary-secret-4711 canary-header-4711 canary-extra-4711"
    connection = sign_in(alice, notes, provider, id_token="canary-id-4711")
    tokens = f"{connection.access_token} {connection.refresh_token} canary-id-4711"
    provider.challenge = f'Bearer error="x", error_description="{echo} {tokens}"'
    provider.refusal = (401, f'Bearer error="invalid_token", error_description="{echo} {tokens}"')
    provider.refuse_tokens("invalid_grant", error_description=f"{echo} {tokens}")
    provider.answers["/.well-known/oauth-authorization-server/as"] = (
        200, {"issuer": f"http://x.test/{tokens.split()[0]}"}, "application/json",
    )  # fmt: skip
    shown = alice.browser().post(page(notes), follow=True).content.decode()
    stored = json.dumps(again(notes).diagnosis)
    assert "[hidden]" in stored
    for secret in (*echo.split(), *tokens.split()):
        assert secret not in stored
        assert secret not in shown
