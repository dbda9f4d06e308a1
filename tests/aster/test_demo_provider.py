"""The demo's authorization server over real loopback: each rule a client may rely on, and each switch of the tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from starlette.responses import JSONResponse

from aster.demo.authorization_server import AuthorizationServer
from aster.demo.records import Client, Person
from aster.demo.serving import ServerThread, bind_port
from tests.aster.demo_visitor import ADA, CALLBACK, PUBLIC, Visitor, answer_of, error_of

ROBOT = Client.with_secret("robot", "robot secret: +/%", grant_types=("client_credentials",))
# RFC 6749 section 2.3.1: the secret is form-urlencoded inside the Basic header.
ROBOT_LOGIN = ("robot", "robot+secret%3A+%2B%2F%25")
NO_SECRET = {"token_endpoint_auth_method": "none"}

Serve = Callable[..., tuple[AuthorizationServer, Visitor]]


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, follow_redirects=False) as client:
        yield client


@pytest.fixture
def serve(http: httpx2.Client) -> Iterator[Serve]:
    """Start a provider with the given switches; its issuer may have a path."""
    running: list[ServerThread] = []

    def start(path: str = "", **switches: Any) -> tuple[AuthorizationServer, Visitor]:
        bound = bind_port("127.0.0.1", 0)
        issuer = f"http://127.0.0.1:{bound.getsockname()[1]}{path}"
        people = [Person(ADA, "ada@acme.example"), Person("Bø <b>", "b@acme.example")]
        server = AuthorizationServer(issuer, people=people, clients=[PUBLIC, ROBOT], **switches)
        thread = ServerThread(server.app, bound)
        thread.start()
        running.append(thread)
        return server, Visitor(issuer, http)

    http.cookies.clear()
    yield start
    for thread in running:
        thread.stop()


class TestMetadata:
    def test_it_names_every_endpoint_and_what_is_supported(self, serve: Serve) -> None:
        _, visitor = serve()
        document = visitor.http.get(f"{visitor.issuer}/.well-known/oauth-authorization-server").json()
        assert document["issuer"] == visitor.issuer
        assert document["registration_endpoint"] == f"{visitor.issuer}/register"
        assert document["code_challenge_methods_supported"] == ["S256"]
        assert document["authorization_response_iss_parameter_supported"] is True
        assert "none" in document["token_endpoint_auth_methods_supported"]

    def test_an_issuer_with_a_path_publishes_at_the_inserted_path(self, serve: Serve) -> None:
        _, visitor = serve("/tenant/a")
        root = visitor.issuer.removesuffix("/tenant/a")
        document = visitor.http.get(f"{root}/.well-known/oauth-authorization-server/tenant/a").json()
        assert document["token_endpoint"] == f"{visitor.issuer}/token"
        assert visitor.http.get(f"{root}/.well-known/oauth-authorization-server").status_code == 404
        assert visitor.sign_in()["access_token"]

    def test_openid_metadata_is_found_at_both_of_its_paths_and_only_there(self, serve: Serve) -> None:
        _, visitor = serve("/t", oidc_metadata=True)
        root = visitor.issuer.removesuffix("/t")
        assert visitor.http.get(f"{root}/.well-known/openid-configuration/t").status_code == 200
        assert visitor.http.get(f"{root}/t/.well-known/openid-configuration").status_code == 200
        assert visitor.http.get(f"{root}/.well-known/oauth-authorization-server/t").status_code == 404

    def test_what_is_switched_off_is_not_advertised(self, serve: Serve) -> None:
        server, visitor = serve(pkce=False, advertise_iss=False, dynamic_registration=False)
        document = visitor.http.get(f"{visitor.issuer}/.well-known/oauth-authorization-server").json()
        assert not {"code_challenge_methods_supported", "registration_endpoint"} & set(document)
        assert visitor.http.post(f"{visitor.issuer}/register", json={}).status_code == 404
        answer = answer_of(visitor.decide(code_challenge="", code_challenge_method=""))
        assert "iss" not in answer
        assert visitor.exchange(answer["code"], code_verifier="").status_code == 200
        assert server.token_requests[-1].status == 200

    def test_an_answer_hook_replaces_an_endpoint(self, serve: Serve) -> None:
        server, visitor = serve()
        server.answers["metadata"] = lambda document: JSONResponse({**document, "issuer": "https://evil.example"})
        document = visitor.http.get(f"{visitor.issuer}/.well-known/oauth-authorization-server").json()
        assert document["issuer"] == "https://evil.example"


class TestRegistration:
    def register(self, visitor: Visitor, **metadata: Any) -> httpx2.Response:
        return visitor.http.post(f"{visitor.issuer}/register", json={"redirect_uris": [CALLBACK], **metadata})

    def test_a_public_client_gets_an_id_and_no_secret(self, serve: Serve) -> None:
        server, visitor = serve()
        response = self.register(visitor, client_name="Aster", **NO_SECRET)
        assert response.status_code == 201
        assert "client_secret" not in response.json()
        assert server.registrations[0]["client_name"] == "Aster"
        assert "Aster" in visitor.open_page(client_id=response.json()["client_id"]).text

    def test_a_confidential_client_must_authenticate_as_registered(self, serve: Serve) -> None:
        _, visitor = serve()
        made = self.register(visitor, **{"token_endpoint_auth_method": "client_secret_post"}).json()
        assert made["client_secret_expires_at"] == 0
        secret = {"client_secret": made["client_secret"]}
        code = visitor.get_code(client_id=made["client_id"])
        assert error_of(visitor.exchange(code, client_id=made["client_id"]), 401) == "invalid_client"
        assert visitor.exchange(code, client_id=made["client_id"], **secret).status_code == 200

    def test_a_client_that_did_not_register_for_refresh_gets_no_refresh_token(self, serve: Serve) -> None:
        _, visitor = serve()
        client_id = self.register(visitor, **NO_SECRET).json()["client_id"]
        code = visitor.get_code(client_id=client_id)
        assert "refresh_token" not in visitor.exchange(code, client_id=client_id).json()

    @pytest.mark.parametrize("uri", ["javascript:alert(1)", "data:text/html,x", "http://", "https://a/#f", "/relative"])
    def test_an_unusable_redirect_uri_is_refused(self, serve: Serve, uri: str) -> None:
        _, visitor = serve()
        assert error_of(self.register(visitor, redirect_uris=[uri])) == "invalid_redirect_uri"

    def test_a_client_registered_with_a_scope_cannot_ask_for_more(self, serve: Serve) -> None:
        _, visitor = serve()
        client_id = self.register(visitor, scope="notes:read", **NO_SECRET).json()["client_id"]
        assert answer_of(visitor.open_page(client_id=client_id, scope="notes:write"))["error"] == "invalid_scope"


class TestConsent:
    def test_the_page_says_who_asks_for_what_and_where_it_leads(self, serve: Serve) -> None:
        _, visitor = serve()
        page = visitor.open_page(scope="notes:read", resource="https://notes.example/mcp").text
        for words in ("Aster", "127.0.0.1:8000", "See and search your notes", "Demo provider", ADA):
            assert words in page
        assert "Create and delete" not in page

    def test_everything_from_the_request_is_escaped(self, serve: Serve) -> None:
        server, visitor = serve()
        server.add_client(Client("x", name="<script>1</script>", redirect_uris=(CALLBACK,)))
        response = visitor.open_page(client_id="x", state='"><img src=x>', resource="https://a/<i>")
        assert response.status_code == 200
        assert not [tag for tag in ("<script", "<img", "<i>", "Bø <b>") if tag in response.text]
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]

    def test_the_last_person_is_preselected_next_time(self, serve: Serve) -> None:
        _, visitor = serve()
        assert f'value="{ADA}" required checked' in visitor.open_page().text
        visitor.decide(person="Bø <b>")
        assert 'value="Bø &lt;b&gt;" required checked' in visitor.open_page().text

    def test_allow_returns_code_state_and_issuer(self, serve: Serve) -> None:
        server, visitor = serve()
        answer = answer_of(visitor.decide())
        assert (answer["state"], answer["iss"]) == ("s1", visitor.issuer)
        grant = server.lookup(visitor.exchange(answer["code"]).json()["access_token"])
        assert grant is not None
        assert (grant.person, grant.client_id, grant.scopes) == (ADA, "app", ("notes:read", "notes:write"))

    def test_deny_returns_access_denied_with_issuer(self, serve: Serve) -> None:
        _, visitor = serve()
        answer = answer_of(visitor.decide("deny"))
        assert (answer["error"], answer["state"], answer["iss"]) == ("access_denied", "s1", visitor.issuer)
        assert "code" not in answer

    def test_somebody_unknown_cannot_sign_in(self, serve: Serve) -> None:
        _, visitor = serve()
        response = visitor.decide(person="Mallory")
        assert response.status_code == 400
        assert "Choose who to sign in as." in response.text

    @pytest.mark.parametrize(
        "changes", [{"client_id": "nobody"}, {"redirect_uri": "https://evil.example/cb"}, {"redirect_uri": ""}]
    )
    def test_a_doubtful_client_or_address_never_redirects(self, serve: Serve, changes: dict[str, str]) -> None:
        _, visitor = serve()
        for response in (visitor.open_page(**changes), visitor.decide(**changes)):
            assert response.status_code == 400
            assert "location" not in response.headers

    def test_a_form_from_another_site_is_refused(self, serve: Serve) -> None:
        _, visitor = serve()
        form = {**visitor.ask(), "decision": "allow", "person": ADA}
        headers = {"Origin": "https://evil.example"}
        assert visitor.http.post(f"{visitor.issuer}/authorize", data=form, headers=headers).status_code == 403

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"code_challenge": ""}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge_method": ""}, "invalid_request"),
            ({"scope": "notes:read root"}, "invalid_scope"),
            ({"resource": "not a url"}, "invalid_target"),
        ],
    )
    def test_other_mistakes_go_back_to_the_client(self, serve: Serve, changes: dict[str, str], error: str) -> None:
        _, visitor = serve()
        answer = answer_of(visitor.open_page(**changes))
        assert (answer["error"], answer["iss"]) == (error, visitor.issuer)

    def test_the_port_of_a_loopback_redirect_is_free(self, serve: Serve) -> None:
        _, visitor = serve()
        assert visitor.open_page(redirect_uri=CALLBACK.replace(":8000", ":51234")).status_code == 200
        assert visitor.open_page(redirect_uri=CALLBACK.replace("127.0.0.1", "127.0.0.2")).status_code == 400


class TestTokens:
    @pytest.mark.parametrize("verifier", ["w" * 43, "short", ""])
    def test_a_wrong_verifier_is_refused(self, serve: Serve, verifier: str) -> None:
        _, visitor = serve()
        assert error_of(visitor.exchange(visitor.get_code(), code_verifier=verifier)) == "invalid_grant"

    def test_a_code_works_once_and_a_second_use_revokes_the_first(self, serve: Serve) -> None:
        server, visitor = serve()
        code = visitor.get_code()
        tokens = visitor.exchange(code).json()
        assert error_of(visitor.exchange(code)) == "invalid_grant"
        assert server.lookup(tokens["access_token"]) is None
        assert error_of(visitor.refresh(tokens["refresh_token"])) == "invalid_grant"

    def test_a_code_lives_a_minute_and_an_access_token_as_long_as_it_says(self, serve: Serve) -> None:
        now = [1000.0]
        server, visitor = serve(clock=lambda: now[0], access_token_seconds=30)
        late = visitor.get_code()
        now[0] += 60
        assert error_of(visitor.exchange(late)) == "invalid_grant"
        tokens = visitor.sign_in()
        assert tokens["expires_in"] == 30
        now[0] += 29.9
        assert server.lookup(tokens["access_token"])
        now[0] += 0.2
        assert server.lookup(tokens["access_token"]) is None

    def test_a_code_is_bound_to_its_redirect_uri_and_client(self, serve: Serve) -> None:
        server, visitor = serve()
        server.add_client(Client("other", redirect_uris=(CALLBACK,)))
        assert error_of(visitor.exchange(visitor.get_code(), redirect_uri=f"{CALLBACK}2")) == "invalid_grant"
        assert error_of(visitor.exchange(visitor.get_code(), client_id="other")) == "invalid_grant"

    def test_refreshing_rotates_and_reuse_ends_the_family(self, serve: Serve) -> None:
        server, visitor = serve()
        first = visitor.sign_in()
        second = visitor.refresh(first["refresh_token"]).json()
        assert second["refresh_token"] != first["refresh_token"]
        assert server.lookup(second["access_token"])
        assert error_of(visitor.refresh(first["refresh_token"])) == "invalid_grant"
        assert server.lookup(second["access_token"]) is None
        assert error_of(visitor.refresh(second["refresh_token"])) == "invalid_grant"

    def test_reuse_without_detection_leaves_the_family_alone(self, serve: Serve) -> None:
        _, visitor = serve(detect_reuse=False)
        first = visitor.sign_in()
        second = visitor.refresh(first["refresh_token"]).json()
        assert error_of(visitor.refresh(first["refresh_token"])) == "invalid_grant"
        assert visitor.refresh(second["refresh_token"]).status_code == 200

    def test_without_rotation_the_answer_omits_the_refresh_token_and_the_old_one_stays_good(self, serve: Serve) -> None:
        _, visitor = serve(rotate_refresh_tokens=False)
        token = visitor.sign_in()["refresh_token"]
        assert "refresh_token" not in visitor.refresh(token).json()
        assert visitor.refresh(token).status_code == 200

    def test_a_refresh_may_narrow_the_scope_but_not_widen_it(self, serve: Serve) -> None:
        _, visitor = serve()
        token = visitor.sign_in(scope="notes:read")["refresh_token"]
        assert error_of(visitor.refresh(token, scope="notes:write")) == "invalid_scope"
        assert visitor.refresh(token, scope="notes:read").json()["scope"] == "notes:read"

    def test_the_resource_is_bound_and_demanded(self, serve: Serve) -> None:
        url = "https://notes.example/mcp"
        server, visitor = serve(require_resource=url)
        assert answer_of(visitor.open_page())["error"] == "invalid_target"
        code = visitor.get_code(resource=url)
        token = visitor.exchange(code, resource=url).json()["access_token"]
        grant = server.lookup(token)
        assert grant is not None
        assert grant.resource == url
        assert error_of(visitor.exchange(visitor.get_code(resource=url))) == "invalid_target"

    def test_a_refresh_for_another_resource_is_refused_and_costs_nothing(self, serve: Serve) -> None:
        _, visitor = serve()
        token = visitor.sign_in(resource="https://a.example/")["refresh_token"]
        assert error_of(visitor.refresh(token, resource="https://b.example/")) == "invalid_target"
        assert visitor.refresh(token).status_code == 200

    def test_client_credentials_need_the_right_secret_and_have_no_person(self, serve: Serve) -> None:
        server, visitor = serve()
        url, form = f"{visitor.issuer}/token", {"grant_type": "client_credentials", "scope": "notes:read"}
        response = visitor.http.post(url, data=form, auth=ROBOT_LOGIN)
        assert "refresh_token" not in response.json()
        grant = server.lookup(response.json()["access_token"])
        assert grant is not None
        assert (grant.person, grant.client_id) == ("", "robot")
        refused = visitor.http.post(url, data=form, auth=("robot", "wrong"))
        assert error_of(refused, 401) == "invalid_client"
        assert refused.headers["www-authenticate"].startswith("Basic")
        assert error_of(visitor.post_token(grant_type="client_credentials")) == "unauthorized_client"

    def test_revoking_a_refresh_token_ends_the_consent(self, serve: Serve) -> None:
        server, visitor = serve()
        tokens = visitor.sign_in()
        form = {"client_id": "app", "token": tokens["refresh_token"], "token_type_hint": "refresh_token"}
        assert visitor.http.post(f"{visitor.issuer}/revoke", data=form).status_code == 200
        assert server.lookup(tokens["access_token"]) is None
        assert visitor.http.post(f"{visitor.issuer}/revoke", data=form).status_code == 200
        assert [entry.found for entry in server.revocations] == [True, False]

    def test_introspection_answers_clients_with_a_secret_only(self, serve: Serve) -> None:
        _, visitor = serve()
        token = visitor.sign_in(resource="https://a.example/")["access_token"]
        url, auth = f"{visitor.issuer}/introspect", ROBOT_LOGIN
        told = visitor.http.post(url, data={"token": token}, auth=auth).json()
        assert (told["active"], told["sub"], told["aud"]) == (True, ADA, "https://a.example/")
        assert visitor.http.post(url, data={"token": "x"}, auth=auth).json() == {"active": False}
        assert error_of(visitor.http.post(url, data={"token": token, "client_id": "app"}), 401) == "invalid_client"


class TestSwitches:
    def test_planned_failures_are_sent_once_each_and_spend_nothing(self, serve: Serve) -> None:
        server, visitor = serve()
        token = visitor.sign_in()["refresh_token"]
        server.fail_next_token(503, "<h1>down</h1>", "text/html")
        server.fail_next_token(400, {"error": "invalid_grant"})
        assert visitor.refresh(token).headers["content-type"].startswith("text/html")
        assert error_of(visitor.refresh(token)) == "invalid_grant"
        assert visitor.refresh(token).status_code == 200
        assert [entry.status for entry in server.token_requests] == [200, 503, 400, 200]

    def test_a_blocked_token_request_is_visible_and_blocks_nobody_else(self, serve: Serve) -> None:
        server, visitor = serve()
        code = visitor.get_code()
        arrived, release = threading.Event(), threading.Event()
        answers: list[httpx2.Response] = []

        def hold(form: Any) -> None:
            arrived.set()
            release.wait(5)

        server.before_token = hold
        thread = threading.Thread(target=lambda: answers.append(visitor.exchange(code)))
        thread.start()
        assert arrived.wait(5)
        assert server.token_requests[0].status is None
        assert visitor.open_page().status_code == 200
        release.set()
        thread.join(5)
        assert answers[0].status_code == 200

    def test_of_many_simultaneous_uses_of_one_refresh_token_one_wins(self, serve: Serve) -> None:
        server, visitor = serve(detect_reuse=False)
        token = visitor.sign_in()["refresh_token"]
        barrier = threading.Barrier(6)

        def wait_for_all(form: Any) -> None:
            barrier.wait(5)

        server.before_token = wait_for_all
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(visitor.refresh(token).status_code)) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(answers) == [200, 400, 400, 400, 400, 400]

    def test_one_person_can_be_thrown_out(self, serve: Serve) -> None:
        server, visitor = serve()
        ada, other = visitor.sign_in(), visitor.exchange(answer_of(visitor.decide(person="Bø <b>"))["code"]).json()
        assert server.revoke_person(ADA) == 1
        assert server.lookup(ada["access_token"]) is None
        assert error_of(visitor.refresh(ada["refresh_token"])) == "invalid_grant"
        assert server.lookup(other["access_token"])

    def test_expired_access_tokens_can_be_refreshed(self, serve: Serve) -> None:
        server, visitor = serve()
        tokens = visitor.sign_in()
        server.expire_access_tokens()
        assert server.lookup(tokens["access_token"]) is None
        assert visitor.refresh(tokens["refresh_token"]).status_code == 200
