from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from aster.errors import UpstreamError
from integrations.oauth.registration import RegisteredClient, choose_auth_method, register_client, registration_request
from tests.integrations.oauth.wire import Wire, json_answer

ENDPOINT = "https://as.example/register"
CALLBACK = "https://aster.example/oauth/callback"


def ask(method: str = "none") -> dict[str, Any]:
    return registration_request(redirect_uris=[CALLBACK], token_endpoint_auth_method=method)


def register(document: Any, *, method: str = "none", status: int = 201) -> RegisteredClient:
    wire = Wire({ENDPOINT: json_answer(document, status)})
    return register_client(ENDPOINT, ask(method), http=wire.http)


def refuse(answer: httpx2.Response | Exception, method: str = "none") -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        register_client(ENDPOINT, ask(method), http=Wire({ENDPOINT: answer}).http)
    assert caught.value.step == "registration"
    return caught.value


def test_the_registration_says_who_aster_is_and_asks_for_no_scope() -> None:
    assert ask("client_secret_basic") == {
        "client_name": "Aster",
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "application_type": "web",
        "token_endpoint_auth_method": "client_secret_basic",
    }


def test_a_callback_on_plain_http_is_a_native_application() -> None:
    request = registration_request(
        redirect_uris=["http://127.0.0.1:8000/oauth/callback"],
        token_endpoint_auth_method="none",
        client_uri="http://127.0.0.1:8000",
    )
    assert (request["application_type"], request["client_uri"]) == ("native", "http://127.0.0.1:8000")


@pytest.mark.parametrize(
    ("supported", "prefer_public", "expected"),
    [
        ([], True, "none"),
        ([], False, "client_secret_basic"),
        (["client_secret_post", "client_secret_basic", "none"], True, "none"),
        (["none", "client_secret_post", "client_secret_basic"], False, "client_secret_basic"),
        (["private_key_jwt", "client_secret_post"], True, "client_secret_post"),
        (["private_key_jwt", "client_secret_post"], False, "client_secret_post"),
        (["client_secret_post", "client_secret_basic"], True, "client_secret_basic"),
        (["none"], False, "none"),
    ],
)
def test_the_first_common_method_is_chosen(supported: list[str], prefer_public: bool, expected: str) -> None:
    assert choose_auth_method(supported, prefer_public=prefer_public) == expected


def test_no_common_method_is_said_in_words() -> None:
    with pytest.raises(UpstreamError, match="only private_key_jwt, tls_client_auth") as caught:
        choose_auth_method(["private_key_jwt", "tls_client_auth"], prefer_public=True)
    assert (caught.value.step, caught.value.code) == ("registration", "registration_failed")


def test_the_registration_is_sent_as_json() -> None:
    wire = Wire({ENDPOINT: json_answer({"client_id": "c1"}, 201)})
    register_client(ENDPOINT, ask(), http=wire.http)
    (request,) = wire.requests
    assert (request.method, request.headers["content-type"]) == ("POST", "application/json")
    assert json.loads(request.content) == ask()


def test_a_confidential_client_is_read_and_its_secret_is_not_shown() -> None:
    answer = {
        "client_id": "c1",
        "client_secret": "hush-hush",
        "client_secret_expires_at": 1800000000,
        "registration_access_token": "hush-token",
        "token_endpoint_auth_method": "client_secret_post",
        "client_name": "Aster",
    }
    client = register(answer, status=200)
    assert (client.client_id, client.client_secret) == ("c1", "hush-hush")
    assert client.token_endpoint_auth_method == "client_secret_post"
    assert client.client_secret_expires_at == datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
    assert client.raw["client_name"] == "Aster"
    assert "hush" not in f"{client}{client!r}{client.raw}"


@pytest.mark.parametrize(
    ("asked", "answer", "method"),
    [
        ("none", {}, "none"),
        ("none", {"client_secret": ""}, "none"),
        ("none", {"client_secret": None, "token_endpoint_auth_method": ""}, "none"),
        ("none", {"client_secret": "s"}, "client_secret_basic"),
        ("none", {"client_secret": "s", "token_endpoint_auth_method": "none"}, "none"),
        ("none", {"client_secret": "s", "token_endpoint_auth_method": "client_secret_post"}, "client_secret_post"),
        ("client_secret_post", {"client_secret": "s"}, "client_secret_post"),
        ("client_secret_basic", {}, "none"),
        ("client_secret_basic", {"token_endpoint_auth_method": "none"}, "none"),
    ],
)
def test_the_method_is_what_the_server_assigned(asked: str, answer: dict[str, Any], method: str) -> None:
    assert register({"client_id": "c", **answer}, method=asked).token_endpoint_auth_method == method


@pytest.mark.parametrize("value", [0, "0", None, "soon", [], 1e300, float("-1e300")])
def test_a_secret_without_a_readable_expiry_does_not_expire(value: Any) -> None:
    answer = {"client_id": "c", "client_secret": "s", "client_secret_expires_at": value}
    assert register(answer).client_secret_expires_at is None


def test_an_assigned_method_that_aster_lacks_is_refused() -> None:
    error = refuse(json_answer({"client_id": "c", "token_endpoint_auth_method": "private_key_jwt"}, 201))
    assert "private_key_jwt" in error.message
    assert error.code == "registration_failed"


@pytest.mark.parametrize("answer", [{"client_id": 5}, {"client_id": "c\n"}, {"client_id": "c", "client_secret": ["x"]}])
def test_a_registration_that_holds_no_text_is_refused(answer: dict[str, Any]) -> None:
    assert "not text" in refuse(json_answer(answer, 201)).message


def test_a_refusal_is_quoted_and_names_the_redirect_uri_to_allow() -> None:
    error = refuse(
        json_answer({"error": "invalid_redirect_uri", "error_description": f"Not\x1b\nlisted. {'x' * 999}"}, 400)
    )
    assert error.message.startswith("as.example refused to register Aster: invalid_redirect_uri: Not listed. xxx")
    assert len(error.message) < 400
    assert CALLBACK in error.hint
    assert (error.code, error.retryable) == ("registration_failed", False)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx2.Response(403, text="Redirect host\nnot allowed"), "Redirect host not allowed"),
        (httpx2.Response(403, html="<h1>Forbidden</h1>"), "no reason given (HTTP 403)"),
        (httpx2.Response(404), "no reason given (HTTP 404)"),
        (httpx2.Response(302, headers={"location": "https://evil.example"}), "no reason given (HTTP 302)"),
        (json_answer({"client_name": "Aster"}, 201), "no reason given (HTTP 201)"),
        (json_answer({"error": "invalid_client_metadata"}, 200), "invalid_client_metadata"),
        (json_answer(["client_id"], 201), "no reason given (HTTP 201)"),
    ],
)
def test_every_other_refusal_says_what_is_known(answer: httpx2.Response, words: str) -> None:
    error = refuse(answer)
    assert error.message == f"as.example refused to register Aster: {words}"
    assert not error.retryable


@pytest.mark.parametrize("answer", [httpx2.Response(429), httpx2.Response(503), httpx2.ReadTimeout("slow")])
def test_a_provider_that_is_busy_may_be_asked_again(answer: Any) -> None:
    assert refuse(answer).retryable
