from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from aster.errors import InvalidInput
from integrations.oauth.authorization import (
    AuthorizationRefused,
    add_offline_access,
    authorization_url,
    check_callback,
    new_pkce,
    new_state,
)

ISSUER = "https://as.example"


def build(endpoint: str = "https://as.example/authorize", **changes: Any) -> str:
    values: dict[str, Any] = {
        "client_id": "aster",
        "redirect_uri": "https://aster.example/oauth/callback",
        "scope": "read write",
        "state": "st",
        "code_challenge": "ch",
    }
    return authorization_url(endpoint, **{**values, **changes})


def query(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query, keep_blank_values=True)


def test_a_pkce_pair_belongs_together_and_is_new_each_time() -> None:
    pkce = new_pkce()
    digest = hashlib.sha256(pkce.verifier.encode()).digest()
    assert pkce.challenge == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert 43 <= len(pkce.verifier) <= 128
    assert pkce.verifier not in repr(pkce)
    assert new_pkce().verifier != pkce.verifier


def test_a_state_has_256_bits_and_is_new_each_time() -> None:
    assert len(base64.urlsafe_b64decode(new_state() + "=")) == 32
    assert new_state() != new_state()


def test_the_authorization_request_has_every_parameter_once() -> None:
    url = build(resource="https://mcp.example/mcp", audience="api", extra={"prompt": "consent"})
    assert url.startswith("https://as.example/authorize?")
    assert sorted(query(url)) == [
        ("audience", "api"),
        ("client_id", "aster"),
        ("code_challenge", "ch"),
        ("code_challenge_method", "S256"),
        ("prompt", "consent"),
        ("redirect_uri", "https://aster.example/oauth/callback"),
        ("resource", "https://mcp.example/mcp"),
        ("response_type", "code"),
        ("scope", "read write"),
        ("state", "st"),
    ]


def test_what_is_not_set_is_left_out() -> None:
    names = [name for name, _value in query(build(scope=None, code_challenge=None, resource=None, audience=None))]
    assert sorted(names) == ["client_id", "redirect_uri", "response_type", "state"]


def test_the_query_of_the_endpoint_is_kept() -> None:
    url = build("https://as.example/a;v=1/authorize?p=policy&x=1&x=2&empty=&uml=%C3%A4#frag")
    assert query(url)[:5] == [("p", "policy"), ("x", "1"), ("x", "2"), ("empty", ""), ("uml", "ä")]
    assert url.startswith("https://as.example/a;v=1/authorize?")
    assert "#" not in url


def test_the_query_of_the_endpoint_cannot_set_the_protocol() -> None:
    hostile = "redirect_uri=https%3A%2F%2Fevil.example&response_type=token&state=fixed&resource=other&prompt=none"
    found = query(build(f"https://as.example/authorize?{hostile}", extra={"prompt": "consent"}))
    assert ("redirect_uri", "https://aster.example/oauth/callback") in found
    assert ("prompt", "consent") in found
    assert len(found) == len(dict(found))
    assert not {"token", "fixed", "other", "none"} & {value for _name, value in found}


@pytest.mark.parametrize("name", ["state", "redirect_uri", "code_challenge_method", "resource", "scope"])
def test_extra_parameters_may_not_override_the_protocol(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"Remove {name}") as caught:
        build(extra={name: "x", "prompt": "consent"})
    assert list(caught.value.fields) == ["extra_parameters"]


def test_extra_parameters_may_have_any_other_name() -> None:
    assert ("uri", "x") in query(build(extra={"uri": "x", "kwargs": "y"}))


@pytest.mark.parametrize(
    ("scopes", "supported", "expected"),
    [
        (["a"], ["a", "offline_access"], ("a", "offline_access")),
        (["offline_access"], ["offline_access"], ("offline_access",)),
        (["a"], ["a"], ("a",)),
        ([], ["offline_access"], ()),
    ],
)
def test_offline_access_is_asked_for_where_it_exists(scopes: Any, supported: Any, expected: Any) -> None:
    assert add_offline_access(scopes, supported) == expected


@pytest.mark.parametrize(
    ("params", "issuer", "required"),
    [
        ({"code": "c"}, ISSUER, False),
        ({"code": "c", "iss": ISSUER}, ISSUER, True),
        ({"code": "c", "iss": ISSUER}, ISSUER, False),
        ({"code": "c", "iss": "https://who.example"}, None, False),
        ({"code": "c", "error": ""}, ISSUER, False),
    ],
)
def test_a_callback_with_a_code_is_accepted(params: dict[str, str], issuer: str | None, required: bool) -> None:
    assert check_callback(params, issuer=issuer, iss_required=required) == "c"


@pytest.mark.parametrize("iss", ["https://evil.example", f"{ISSUER}/", "HTTPS://as.example", ""])
@pytest.mark.parametrize("outcome", [{"code": "c"}, {"error": "evil_words", "error_description": "evil_words"}])
def test_an_answer_of_another_issuer_is_refused_and_not_quoted(iss: str, outcome: dict[str, str]) -> None:
    with pytest.raises(AuthorizationRefused, match="another provider") as caught:
        check_callback({**outcome, "iss": iss}, issuer=ISSUER, iss_required=False)
    assert caught.value.code == "issuer_mismatch"
    assert "evil" not in f"{caught.value}{vars(caught.value)}"


@pytest.mark.parametrize("outcome", [{"code": "c"}, {"error": "evil_words"}])
def test_a_promised_issuer_that_is_missing_is_refused(outcome: dict[str, str]) -> None:
    with pytest.raises(AuthorizationRefused, match="which provider") as caught:
        check_callback(outcome, issuer=ISSUER, iss_required=True)
    assert (caught.value.code, caught.value.error) == ("issuer_missing", "")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"error": "access_denied"}, "Access was declined at the provider. Start again if that was not intended."),
        ({"error": "access_denied", "error_description": "Ask\nIT."}, "not intended. It says: Ask IT."),
        ({"error": "invalid_scope", "error_description": "x\x00y"}, "The provider refused: invalid_scope: x y"),
        ({"error": "invalid_scope", "code": "c"}, "The provider refused: invalid_scope"),
    ],
)
def test_a_refusal_is_told_in_words(params: dict[str, str], words: str) -> None:
    with pytest.raises(AuthorizationRefused) as caught:
        check_callback({**params, "iss": ISSUER}, issuer=ISSUER, iss_required=True)
    assert caught.value.message.endswith(words)
    assert (caught.value.step, caught.value.error) == ("auth", params["error"])
    assert not caught.value.retryable


def test_a_passing_fault_of_the_provider_can_be_retried() -> None:
    with pytest.raises(AuthorizationRefused) as caught:
        check_callback({"error": "temporarily_unavailable"}, issuer=ISSUER, iss_required=False)
    assert caught.value.retryable


@pytest.mark.parametrize("code", [None, "", "a\nb", "cödé", "x" * 9000])
def test_a_callback_without_a_usable_code_is_refused(code: str | None) -> None:
    params = {} if code is None else {"code": code}
    with pytest.raises(AuthorizationRefused, match="without an authorization code"):
        check_callback(params, issuer=ISSUER, iss_required=False)
