from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aster.errors import UpstreamError
from integrations.oauth.tokens import TokenRefused, TokenSet, TokenUnavailable, parse_token_response

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def parse(body: Any, status: int = 200, headers: dict[str, str] | None = None, **options: Any) -> TokenSet:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_token_response(status, headers or {}, raw, now=NOW, **options)


def test_a_full_answer_is_read() -> None:
    answer = {"access_token": "at", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "rt", "scope": "a b"}
    assert parse({**answer, "id_token": "x", "bot_user_id": "y"}) == TokenSet(
        "at", "rt", "Bearer", NOW + timedelta(hours=1), "a b", "x"
    )


def test_the_smallest_answer_is_read() -> None:
    assert parse({"access_token": "at"}, 201) == TokenSet("at")


def test_a_token_set_shows_no_token() -> None:
    tokens = TokenSet("hush-access", "hush-refresh", scope="a")
    assert "hush" not in f"{tokens}{tokens!r}"
    assert "scope='a'" in repr(tokens)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (60, 60),
        ("60", 60),
        (" 60 ", 60),
        (59.5, 59.5),
        ("59.5", 59.5),
        (10**12, 3650 * 86400),
        ("inf", 3650 * 86400),
    ],
)
def test_a_lifetime_becomes_an_absolute_time(value: Any, seconds: float) -> None:
    assert parse({"access_token": "at", "expires_in": value}).expires_at == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("value", [None, 0, -1, "0", "", "soon", "nan", True, [], {}, 10**400])
def test_what_is_no_lifetime_leaves_the_expiry_open(value: Any) -> None:
    assert parse({"access_token": "at", "expires_in": value}).expires_at is None


def test_the_expiry_is_in_utc_whatever_the_clock_says() -> None:
    local = NOW.astimezone(datetime.strptime("+0500", "%z").tzinfo)
    tokens = parse_token_response(200, {}, b'{"access_token": "at", "expires_in": 1}', now=local)
    assert tokens.expires_at is not None
    assert tokens.expires_at.utcoffset() == timedelta(0)
    assert tokens.expires_at == NOW + timedelta(seconds=1)


@pytest.mark.parametrize("kind", ["bearer", "BEARER", "Bearer", "bot", "user", None, ""])
def test_every_spelling_of_bearer_is_understood(kind: Any) -> None:
    assert parse({"access_token": "at", "token_type": kind}).token_type == "Bearer"


@pytest.mark.parametrize("kind", ["mac", "DPoP", "N_A", ["Bearer"], 5])
def test_a_token_that_is_not_bearer_is_refused(kind: Any) -> None:
    with pytest.raises(UpstreamError, match="only Bearer works"):
        parse({"access_token": "at", "token_type": kind})


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "a\x00", "tökén", 5, ["at"], {"a": 1}])
@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_a_token_with_characters_that_no_token_has_is_refused(name: str, token: Any) -> None:
    with pytest.raises(UpstreamError) as caught:
        parse({"access_token": "at", name: token})
    assert (caught.value.step, caught.value.retryable) == ("token", False)
    assert str(token) not in str(caught.value)


@pytest.mark.parametrize("body", [{}, {"access_token": ""}, {"access_token": None}, {"refresh_token": "rt"}])
def test_an_answer_without_an_access_token_is_refused(body: Any) -> None:
    with pytest.raises(UpstreamError) as caught:
        parse(body)
    assert caught.value.step == "token"


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("a b", "a b"), ("a,b", "a,b"), (["a", 5, "b"], "a b"), ("", None), (None, None), (5, None), ("a\x01 b", "a b")],
)
def test_scopes_are_read_as_text(scope: Any, expected: str | None) -> None:
    assert parse({"access_token": "at", "scope": scope}).scope == expected


def test_a_form_encoded_answer_is_read() -> None:
    body = b"access_token=gho_x%2By&expires_in=28800&refresh_token=ghr_z&scope=repo%2Cuser&token_type=bearer"
    assert parse(body, headers={"content-type": "text/html"}) == TokenSet(
        "gho_x+y", "ghr_z", "Bearer", NOW + timedelta(hours=8), "repo,user"
    )


def test_a_slack_user_token_is_found() -> None:
    assert parse({"ok": True, "authed_user": {"id": "U1", "access_token": "xoxp", "token_type": "user"}}) == TokenSet(
        "xoxp"
    )
    bot = {"ok": True, "access_token": "xoxb", "token_type": "bot", "authed_user": {"access_token": "xoxp"}}
    assert parse(bot).access_token == "xoxb"


@pytest.mark.parametrize("status", [200, 302, 400, 401])
@pytest.mark.parametrize("body", [b"", b"<html>error=1</html>", b"[]", b"null", b"\xff\xfe", b"a=b&c=d", b"a&" * 200])
def test_garbage_is_an_error_of_this_step(status: int, body: bytes) -> None:
    with pytest.raises(UpstreamError, match=rf"HTTP {status}") as caught:
        parse(body, status)
    assert not isinstance(caught.value, (TokenRefused, TokenUnavailable))
    assert (caught.value.step, caught.value.retryable) == ("token", False)


def test_tokens_in_an_answer_that_failed_are_not_used() -> None:
    with pytest.raises(UpstreamError, match="HTTP 403: no reason given"):
        parse({"access_token": "at"}, 403)
    with pytest.raises(UpstreamError, match="HTTP 401: Bad credentials"):
        parse({"message": "Bad credentials"}, 401)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": "invalid_grant"}, "invalid_grant"),
        (401, {"error": "invalid_client"}, "invalid_client"),
        (400, {"error": "invalid_scope"}, "invalid_scope"),
        (200, {"ok": False, "error": "invalid_code"}, "invalid_grant"),
        (200, {"error": "bad_verification_code"}, "invalid_grant"),
        (200, {"error": "bad_refresh_token"}, "invalid_grant"),
        (200, b"error=incorrect_client_credentials&error_description=No", "invalid_client"),
        (200, {"ok": False}, "error"),
        (400, {"error": {"code": "E1", "message": "No."}}, "E1"),
        (200, {"access_token": "at", "error": "invalid_request"}, "invalid_request"),
    ],
)
def test_a_refusal_is_permanent_and_has_the_code_of_the_rfc(status: int, body: Any, error: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        parse(body, status)
    assert (caught.value.error, caught.value.permanent) == (error, True)
    assert (caught.value.step, caught.value.retryable) == ("token", False)


@pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error", "ratelimited"])
def test_a_refusal_for_now_is_not_permanent(error: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        parse({"error": error}, 400)
    assert not caught.value.permanent
    assert caught.value.retryable


def test_a_refusal_is_quoted_and_says_what_to_do() -> None:
    with pytest.raises(TokenRefused) as caught:
        parse({"error": "bad_refresh_token", "error_description": "It\nexpired."}, 200)
    assert caught.value.message == "The provider refused: bad_refresh_token: It expired."
    assert caught.value.hint == "Sign in again."


def test_a_refusal_never_repeats_what_we_sent() -> None:
    with pytest.raises(TokenRefused) as caught:
        parse(
            {"error": "rt-hush", "error_description": "Bad token rt-hush for s%2Fecret"},
            400,
            hide=["rt-hush", "s/ecret"],
        )
    text = f"{caught.value}{caught.value.error}{caught.value.message}{caught.value!r}"
    assert "hush" not in text
    assert "ecret" not in text


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
def test_a_busy_endpoint_keeps_the_tokens_whatever_its_body_says(status: int) -> None:
    with pytest.raises(TokenUnavailable) as caught:
        parse({"error": "invalid_grant"}, status)
    assert (caught.value.retryable, caught.value.retry_after, caught.value.step) == (True, None, "token")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        ("0", 0),
        ("999999999", 86400),
        ("Sat, 21 Nov 2026 12:01:00 GMT", 60),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("Sat, 21 Nov 2026 12:01:00 -0000", None),
        ("soon", None),
        ("-5", None),
        ("²", None),
        ("", None),
    ],
)
def test_the_time_to_wait_is_read(value: str, seconds: float | None) -> None:
    with pytest.raises(TokenUnavailable) as caught:
        parse(b"", 429, {"Retry-After": value})
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("answer", "merged"),
    [
        (TokenSet("new"), TokenSet("new", "old-rt", scope="old")),
        (TokenSet("new", "new-rt", scope="less"), TokenSet("new", "new-rt", scope="less")),
        (TokenSet("new", expires_at=None), TokenSet("new", "old-rt", expires_at=None, scope="old")),
    ],
)
def test_a_refresh_keeps_only_what_it_may_leave_out(answer: TokenSet, merged: TokenSet) -> None:
    assert answer.merged_with(TokenSet("old", "old-rt", expires_at=NOW, scope="old")) == merged
