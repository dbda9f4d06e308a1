from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from aster.errors import InvalidInput, UpstreamError
from integrations.oauth.token_requests import (
    TokenEndpoint,
    ask,
    client_credentials_request,
    exchange_code,
    refresh_request,
    revoke,
)
from integrations.oauth.tokens import TokenRefused, TokenSet, TokenUnavailable
from tests.integrations.oauth.wire import Wire, json_answer

URL = "https://as.example/token"
REVOKE = "https://as.example/revoke"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CALLBACK = "https://aster.example/oauth/callback"


def answering(document: Any = None, status: int = 200) -> Wire:
    return Wire({URL: json_answer(document or {"access_token": "at", "expires_in": 60}, status)})


def endpoint(**changes: Any) -> TokenEndpoint:
    return TokenEndpoint(**{"url": URL, "client_id": "aster", **changes})


def test_a_code_is_exchanged_by_a_public_client() -> None:
    wire = answering()
    tokens = exchange_code(
        endpoint(resource="https://mcp.example/mcp", audience="api", extra={"tenant": "t&1"}),
        code="c/1",
        redirect_uri=CALLBACK,
        code_verifier="v",
        http=wire.http,
        now=NOW,
    )
    assert tokens == TokenSet("at", expires_at=NOW + timedelta(seconds=60))
    assert wire.form() == {
        "grant_type": "authorization_code",
        "code": "c/1",
        "redirect_uri": CALLBACK,
        "code_verifier": "v",
        "client_id": "aster",
        "resource": "https://mcp.example/mcp",
        "audience": "api",
        "tenant": "t&1",
    }
    (request,) = wire.requests
    assert (request.method, str(request.url)) == ("POST", URL)
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept"] == "application/json"
    assert "authorization" not in request.headers


def test_a_code_is_exchanged_without_pkce_where_the_provider_has_none() -> None:
    wire = answering()
    exchange_code(endpoint(), code="c", redirect_uri=CALLBACK, code_verifier=None, http=wire.http)
    assert "code_verifier" not in wire.form()


def test_a_refresh_sends_the_token_and_the_resource() -> None:
    wire = answering()
    ask(refresh_request(endpoint(resource="https://mcp.example"), refresh_token="rt"), wire.http)
    assert wire.form() == {
        "grant_type": "refresh_token",
        "refresh_token": "rt",
        "resource": "https://mcp.example",
        "client_id": "aster",
    }


def test_client_credentials_send_the_scope() -> None:
    wire = answering()
    ask(
        client_credentials_request(endpoint(client_secret="s", auth_method="client_secret_post"), scope="a b"),
        wire.http,
    )
    assert wire.form() == {
        "grant_type": "client_credentials",
        "scope": "a b",
        "client_id": "aster",
        "client_secret": "s",
    }


@pytest.mark.parametrize(
    ("client_id", "secret", "pair"),
    [
        ("aster", "s3cret", "aster:s3cret"),
        ("https://a.example/x", "a:b+c%d e", "https%3A%2F%2Fa.example%2Fx:a%3Ab%2Bc%25d+e"),
        ("ä", "日~", "%C3%A4:%E6%97%A5~"),
    ],
)
def test_basic_authentication_is_form_encoded_first(client_id: str, secret: str, pair: str) -> None:
    wire = answering()
    client = endpoint(client_id=client_id, client_secret=secret, auth_method="client_secret_basic")
    ask(client_credentials_request(client), wire.http)
    header = wire.requests[0].headers["authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")).decode() == pair
    assert wire.form() == {"grant_type": "client_credentials"}


@pytest.mark.parametrize("name", ["grant_type", "code", "refresh_token", "client_id", "resource", "scope"])
def test_extra_parameters_may_not_override_the_grant(name: str) -> None:
    wire = answering()
    with pytest.raises(InvalidInput, match=f"Remove {name}"):
        ask(client_credentials_request(endpoint(extra={name: "x"})), wire.http)
    assert wire.asked == []


@pytest.mark.parametrize(
    ("client", "field"),
    [
        ({"auth_method": "tls_client_auth"}, "token_endpoint_auth_method"),
        ({"auth_method": "client_secret_basic"}, "client_secret"),
        ({"auth_method": "client_secret_post", "client_secret": ""}, "client_secret"),
    ],
)
def test_client_settings_that_cannot_work_are_named(client: dict[str, Any], field: str) -> None:
    wire = answering()
    with pytest.raises(InvalidInput) as caught:
        ask(client_credentials_request(endpoint(**client)), wire.http)
    assert list(caught.value.fields) == [field]
    assert wire.asked == []


def test_a_client_shows_no_secret() -> None:
    assert "hush" not in repr(endpoint(client_secret="hush-hush", extra={"key": "hush-hush"}))


def test_nothing_that_was_sent_comes_back_in_an_error() -> None:
    client = endpoint(client_secret="hush-secret", auth_method="client_secret_post")
    echo = {"error": "invalid_grant", "error_description": "hush-code hush-verifier hush-secret"}
    with pytest.raises(TokenRefused) as caught:
        exchange_code(
            client,
            code="hush-code",
            code_verifier="hush-verifier",
            redirect_uri=CALLBACK,
            http=answering(echo, 400).http,
        )
    assert caught.value.message == "The provider refused: invalid_grant: [hidden] [hidden] [hidden]"
    with pytest.raises(TokenRefused) as refused:
        ask(refresh_request(client, refresh_token="hush-refresh"), answering({"error": "x: hush-refresh"}, 400).http)
    assert "hush" not in f"{refused.value!r}{vars(refused.value)}"


@pytest.mark.parametrize(
    "fault", [httpx2.ReadTimeout("x"), httpx2.ConnectError("x"), httpx2.RemoteProtocolError("disconnected")]
)
def test_a_network_fault_keeps_the_tokens(fault: Exception) -> None:
    with pytest.raises(TokenUnavailable) as caught:
        ask(refresh_request(endpoint(), refresh_token="rt"), Wire({URL: fault}).http)
    assert (caught.value.retryable, caught.value.step, caught.value.retry_after) == (True, "token", None)


def test_a_fault_that_stays_is_not_called_passing() -> None:
    with pytest.raises(UpstreamError) as caught:
        ask(refresh_request(endpoint(), refresh_token="rt"), Wire({URL: httpx2.LocalProtocolError("x")}).http)
    assert not isinstance(caught.value, TokenUnavailable)
    assert (caught.value.retryable, caught.value.step) == (False, "token")


def test_a_redirect_of_the_token_endpoint_is_not_followed() -> None:
    wire = Wire({URL: httpx2.Response(307, headers={"location": "https://evil.example/"})})
    with pytest.raises(UpstreamError, match="a redirect"):
        ask(refresh_request(endpoint(), refresh_token="rt"), wire.http)
    assert wire.asked == [URL]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (httpx2.Response(200), "revoked"),
        (httpx2.Response(204), "revoked"),
        (json_answer({"ok": True}), "revoked"),
        (json_answer({"error": "unsupported_token_type"}, 400), "unsupported"),
        (httpx2.Response(404), "unsupported"),
        (httpx2.Response(405), "unsupported"),
        (json_answer({"error": "invalid_client"}, 401), "failed"),
        (json_answer({"ok": False, "error": "token hush-token"}), "failed"),
        (httpx2.Response(503), "failed"),
        (httpx2.Response(302, headers={"location": "https://evil.example"}), "failed"),
        (httpx2.ReadTimeout("hush-token"), "failed"),
    ],
)
def test_a_revocation_ends_with_an_outcome_and_words(answer: httpx2.Response | Exception, outcome: str) -> None:
    result = revoke(endpoint(), url=REVOKE, token="hush-token", http=Wire({REVOKE: answer}).http)
    assert result.outcome == outcome
    assert result.words
    assert "hush" not in result.words


def test_a_revocation_is_authenticated_and_says_which_token_it_is() -> None:
    wire = Wire({REVOKE: httpx2.Response(200)})
    client = endpoint(client_secret="s", auth_method="client_secret_basic", extra={"not": "sent"})
    revoke(client, url=REVOKE, token="rt/1", token_type_hint="refresh_token", http=wire.http)
    assert wire.form() == {"token": "rt/1", "token_type_hint": "refresh_token"}
    assert wire.requests[0].headers["authorization"].startswith("Basic ")
    assert wire.requests[0].headers["content-type"] == "application/x-www-form-urlencoded"


def test_githubs_tokens_are_deleted_as_it_wants_it() -> None:
    wire = Wire({"https://api.github.test/applications/a%2Fb/token": httpx2.Response(204)})
    client = endpoint(client_id="a/b", client_secret="s")
    url = "https://api.github.test/applications/{client_id}/token"
    outcomes = [
        revoke(client, url=url, token="t-1", token_type_hint=hint, http=wire.http).outcome
        for hint in ("refresh_token", "access_token")
    ]
    assert outcomes == ["unsupported", "revoked"]
    (request,) = wire.requests
    assert (request.method, request.content) == ("DELETE", b'{"access_token": "t-1"}')
    assert request.headers["authorization"] == "Basic YS9iOnM="


def test_a_provider_without_revocation_is_not_asked() -> None:
    wire = Wire()
    assert revoke(endpoint(), url=None, token="t", http=wire.http).outcome == "unsupported"
    assert wire.asked == []


def test_unusable_client_settings_do_not_stop_a_disconnect() -> None:
    assert revoke(endpoint(auth_method="magic"), url=REVOKE, token="t", http=Wire().http).outcome == "failed"
