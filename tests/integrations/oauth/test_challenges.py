from __future__ import annotations

import time

import pytest

from integrations.oauth.challenges import BearerChallenge, Challenge, bearer_challenge, parse_challenges


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        ([""], []),
        ([" , ,,"], []),
        (["Bearer"], [Challenge("bearer")]),
        (["BEARER realm=x"], [Challenge("bearer", {"realm": "x"})]),
        (['Bearer REALM = "x"'], [Challenge("bearer", {"realm": "x"})]),
        (['Bearer realm="a, b", scope="c d"'], [Challenge("bearer", {"realm": "a, b", "scope": "c d"})]),
        (['Bearer realm="say \\"hi\\" \\\\o"'], [Challenge("bearer", {"realm": 'say "hi" \\o'})]),
        (['Bearer realm=""'], [Challenge("bearer", {"realm": ""})]),
        (["Negotiate YWJj/+=="], [Challenge("negotiate", token68="YWJj/+==")]),
        (
            ["Negotiate YWJj==, Basic realm=x, Bearer"],
            [Challenge("negotiate", token68="YWJj=="), Challenge("basic", {"realm": "x"}), Challenge("bearer")],
        ),
        (["Negotiate, Bearer a=b"], [Challenge("negotiate"), Challenge("bearer", {"a": "b"})]),
        (["Basic realm=x", "Bearer a=b"], [Challenge("basic", {"realm": "x"}), Challenge("bearer", {"a": "b"})]),
        (["Bearer\trealm=x"], [Challenge("bearer", {"realm": "x"})]),
    ],
)
def test_the_grammar_of_rfc_9110_is_understood(headers: list[str], expected: list[Challenge]) -> None:
    assert parse_challenges(headers) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        # What servers send although the grammar forbids it.
        ('Bearer realm="x" scope="a b"', [Challenge("bearer", {"realm": "x", "scope": "a b"})]),
        (
            "Bearer url=https://x.example/y?a=b, c=d",
            [Challenge("bearer", {"url": "https://x.example/y?a=b", "c": "d"})],
        ),
        # Nonsense costs its own element only.
        ('realm="no scheme", Bearer a=b', [Challenge("bearer", {"a": "b"})]),
        ("Bearer/2 x=y, Basic a=b", [Challenge("basic", {"a": "b"})]),
        ('Bearer realm="x", é="y, z", a=b', [Challenge("bearer", {"realm": "x", "a": "b"})]),
        ('Bearer "stray, quoted", a=b', [Challenge("bearer", {"a": "b"})]),
        ('Bearer a=b, c=, d="e"', [Challenge("bearer", {"a": "b", "d": "e"})]),
        ('Bearer a=b, c="never closed, d=e', [Challenge("bearer", {"a": "b"})]),
        ('Bearer a="x\\', [Challenge("bearer")]),
    ],
)
def test_broken_headers_keep_what_is_readable(header: str, expected: list[Challenge]) -> None:
    assert parse_challenges([header]) == expected


def test_a_repeated_parameter_does_not_overrule_the_first() -> None:
    assert parse_challenges(['Bearer scope="a", scope="admin"'])[0].params == {"scope": "a"}


def test_the_scope_is_not_found_inside_the_description() -> None:
    found = bearer_challenge(['Bearer error="insufficient_scope", error_description="needs scope=admin", scope="a b"'])
    assert found == BearerChallenge(scope="a b", error="insufficient_scope", error_description="needs scope=admin")


def test_the_bearer_challenge_with_metadata_is_preferred() -> None:
    headers = ['Bearer realm="old", Basic realm=x', 'DPoP resource_metadata="https://no.example"']
    assert bearer_challenge(headers) == BearerChallenge()
    headers.append('bearer resource_metadata="https://mcp.example/prm"')
    assert bearer_challenge(headers) == BearerChallenge(resource_metadata="https://mcp.example/prm")


def test_no_bearer_challenge_is_none() -> None:
    assert bearer_challenge(["Basic realm=x"]) is None
    assert bearer_challenge([]) is None


def test_words_in_a_challenge_are_cleaned_and_empty_values_are_absent() -> None:
    found = bearer_challenge(['Bearer error="a\x1b[31mb", scope="  ", resource_metadata=""'])
    assert found == BearerChallenge(error="a [31mb")


@pytest.mark.parametrize("piece", ['"', "a ", "a=", 'a="', "a/", "=", "\\", 'a="b" ', "Bearer x,", ",", " \t"])
def test_hostile_headers_are_read_in_no_time(piece: str) -> None:
    started = time.process_time()
    parse_challenges([f"Bearer {piece * 20_000}"])
    assert time.process_time() - started < 1
