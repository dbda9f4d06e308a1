from __future__ import annotations

from typing import Any

import pytest

from integrations.oauth.wording import MAX_SHOWN, clean_words, describe_error, name_host, read_error


def test_words_become_one_line_without_control_characters() -> None:
    assert clean_words(" a\x00b\r\n\tc\x1b[2J \u202edown\u2028 ") == "a b c [2J down"


@pytest.mark.parametrize("value", [None, 7, b"x", ["x"], {}, "", "\x00\u200b"])
def test_what_is_no_text_is_empty(value: object) -> None:
    assert clean_words(value) == ""


def test_long_words_are_cut() -> None:
    assert len(clean_words("x" * 10_000_000)) == MAX_SHOWN
    assert clean_words("abc def", limit=5) == "abc…"
    assert clean_words("abcde", limit=5) == "abcde"


@pytest.mark.parametrize("echo", ["s3cr/t+x y", "s3cr%2Ft%2Bx%20y", "s3cr%2Ft%2Bx+y"])
def test_a_secret_that_is_echoed_is_hidden(echo: str) -> None:
    assert clean_words(f"bad value {echo}!", hide=["s3cr/t+x y", None, ""]) == "bad value [hidden]!"


def test_a_secret_across_the_cut_is_hidden_whole() -> None:
    secret = "verysecret" * 3
    assert "very" not in clean_words("x" * (MAX_SHOWN - 10) + secret, hide=[secret])


def test_a_secret_too_short_to_recognise_blanks_no_words() -> None:
    assert clean_words("a cat", hide=["a"]) == "a cat"


@pytest.mark.parametrize(
    ("document", "code", "words"),
    [
        ({"error": "invalid_grant", "error_description": "Gone."}, "invalid_grant", "invalid_grant: Gone."),
        ({"error": "invalid_grant"}, "invalid_grant", "invalid_grant"),
        ({"error": {"code": "E1", "message": "No."}}, "E1", "E1: No."),
        ({"error": {"code": 17, "status": "DENIED"}}, "DENIED", "DENIED"),
        ({"error": {}}, "error", "error"),
        ({"error": 5}, "error", "error"),
        ({"ok": False}, "error", "error"),
        ({"ok": False, "error": "invalid_code"}, "invalid_code", "invalid_code"),
        ({"message": "Bad credentials"}, "", "Bad credentials"),
        ({"error": "", "ok": True}, "", ""),
        ({"error": None}, "", ""),
        ({}, "", ""),
    ],
)
def test_errors_are_read_in_all_their_forms(document: dict[str, Any], code: str, words: str) -> None:
    assert read_error(document) == code
    assert describe_error(document) == words


def test_an_error_description_never_shows_what_we_sent() -> None:
    document = {"error": "bad:tok-secret", "error_description": f"{'x' * 290} tok-secret"}
    assert "tok-secret"[:5] not in describe_error(document, hide=["tok-secret"])


@pytest.mark.parametrize(
    ("url", "name"),
    [("https://u:p@as.example:8443/x?key=1", "as.example"), ("nonsense", "the provider"), ("http://[", "the provider")],
)
def test_only_the_host_of_a_url_is_named(url: str, name: str) -> None:
    assert name_host(url) == name
