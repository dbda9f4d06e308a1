from __future__ import annotations

from typing import Any

import httpx2
import pytest

from integrations.oauth.challenges import BearerChallenge
from integrations.oauth.discovery import Discovery, DiscoveryFailed, covers, discover, discover_issuer
from tests.integrations.oauth.wire import Wire, json_answer

SERVER = "https://mcp.example/team/mcp"
POINTER = "https://mcp.example/custom/prm.json"
PRM_PATH = "https://mcp.example/.well-known/oauth-protected-resource/team/mcp"
PRM_ROOT = "https://mcp.example/.well-known/oauth-protected-resource"
ISSUER = "https://as.example"
AS_OAUTH = "https://as.example/.well-known/oauth-authorization-server"
AS_OIDC = "https://as.example/.well-known/openid-configuration"
TENANT = "https://as.example/t1"
TENANT_URLS = [f"{AS_OAUTH}/t1", f"{AS_OIDC}/t1", f"{TENANT}/.well-known/openid-configuration"]
LEGACY = "https://mcp.example/.well-known/oauth-authorization-server"


def prm(**changes: Any) -> httpx2.Response:
    return json_answer({"resource": SERVER, "authorization_servers": [ISSUER], **changes})


def asm(issuer: str = ISSUER, **changes: Any) -> httpx2.Response:
    base = issuer.rstrip("/")
    return json_answer(
        {"issuer": issuer, "authorization_endpoint": f"{base}/authorize", "token_endpoint": f"{base}/token", **changes}
    )


def find(answers: dict[str, Any], **options: Any) -> tuple[Discovery, list[str]]:
    wire = Wire(answers)
    return discover(options.pop("server", SERVER), http=wire.http, **options), wire.asked


def fail(answers: dict[str, Any], **options: Any) -> tuple[DiscoveryFailed, list[str]]:
    wire = Wire(answers)
    with pytest.raises(DiscoveryFailed) as caught:
        discover(options.pop("server", SERVER), http=wire.http, **options)
    assert caught.value.step == "discovery"
    return caught.value, wire.asked


def test_everything_a_sign_in_needs_is_read() -> None:
    metadata = asm(
        registration_endpoint="https://as.example/register",
        revocation_endpoint="https://as.example/revoke",
        scopes_supported=["a", "offline_access"],
        token_endpoint_auth_methods_supported=["none", 7],
        code_challenge_methods_supported=["S256"],
        authorization_response_iss_parameter_supported=True,
        client_id_metadata_document_supported=True,
        unknown_to_us={"kept": True},
    )
    found, asked = find({PRM_PATH: prm(scopes_supported=["a", "b", "a", "not one"]), AS_OAUTH: metadata})
    assert asked == [PRM_PATH, AS_OAUTH]
    assert (found.issuer, found.resource, found.resource_metadata_url) == (ISSUER, SERVER, PRM_PATH)
    assert found.authorization_endpoint == "https://as.example/authorize"
    assert found.token_endpoint == "https://as.example/token"
    assert found.registration_endpoint == "https://as.example/register"
    assert found.revocation_endpoint == "https://as.example/revoke"
    assert (found.scopes, found.scopes_supported) == (("a", "b"), ("a", "offline_access"))
    assert found.token_endpoint_auth_methods == ("none",)
    assert found.supports_pkce
    assert found.iss_parameter_supported
    assert found.client_id_metadata_document_supported
    assert found.authorization_servers == (ISSUER,)
    assert found.metadata["unknown_to_us"] == {"kept": True}
    assert found.protected_resource and found.protected_resource["resource"] == SERVER
    assert [(step.url, step.status) for step in found.steps] == [(PRM_PATH, 200), (AS_OAUTH, 200)]


def test_what_the_metadata_leaves_out_is_empty() -> None:
    found, _asked = find({PRM_PATH: prm(), AS_OAUTH: asm(scopes_supported="a b", authorization_endpoint="")})
    assert (found.scopes, found.scopes_supported, found.code_challenge_methods) == ((), (), ())
    assert (found.authorization_endpoint, found.registration_endpoint, found.revocation_endpoint) == (None, None, None)
    assert not (found.supports_pkce or found.iss_parameter_supported or found.uses_legacy_defaults)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_resource_metadata_is_asked_for_in_order_until_the_first_hit(at: int) -> None:
    order = [POINTER, PRM_PATH, PRM_ROOT]
    _found, asked = find(
        {**{url: prm() for url in order[at:]}, AS_OAUTH: asm()}, challenge=BearerChallenge(resource_metadata=POINTER)
    )
    assert asked == [*order[: at + 1], AS_OAUTH]


@pytest.mark.parametrize("server", ["https://mcp.example", "https://mcp.example/"])
def test_a_server_at_the_root_has_one_place_for_resource_metadata(server: str) -> None:
    found, asked = find({PRM_ROOT: prm(resource="https://mcp.example"), AS_OAUTH: asm()}, server=server)
    assert asked == [PRM_ROOT, AS_OAUTH]
    assert found.resource == "https://mcp.example"


def test_a_place_is_not_asked_twice() -> None:
    challenge = BearerChallenge(resource_metadata=PRM_PATH)
    _error, asked = fail({}, challenge=challenge)
    assert asked == [PRM_PATH, PRM_ROOT, LEGACY]


@pytest.mark.parametrize("at", [0, 1])
def test_an_issuer_without_a_path_has_two_places(at: int) -> None:
    order = [AS_OAUTH, AS_OIDC]
    _found, asked = find({PRM_PATH: prm(), **{url: asm() for url in order[at:]}})
    assert asked == [PRM_PATH, *order[: at + 1]]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_issuer_with_a_path_has_three_places(at: int) -> None:
    found, asked = find(
        {PRM_PATH: prm(authorization_servers=[TENANT]), **{url: asm(TENANT) for url in TENANT_URLS[at:]}}
    )
    assert asked == [PRM_PATH, *TENANT_URLS[: at + 1]]
    assert found.issuer == TENANT


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(401),
        httpx2.Response(404),
        httpx2.Response(405),
        httpx2.Response(302, headers={"location": POINTER}),
        httpx2.Response(200, html="<html>all paths lead here</html>"),
        httpx2.Response(200, content=b"[]"),
        json_answer({"resource": SERVER}),
        json_answer({"resource": SERVER, "authorization_servers": []}),
        json_answer({"resource": SERVER, "authorization_servers": "https://as.example"}),
        json_answer({"resource": 5, "authorization_servers": [ISSUER]}),
    ],
)
def test_what_is_no_resource_metadata_means_the_next_place(answer: httpx2.Response) -> None:
    found, asked = find({PRM_PATH: answer, PRM_ROOT: prm(), AS_OAUTH: asm()})
    assert asked == [PRM_PATH, PRM_ROOT, AS_OAUTH]
    assert (found.steps[0].url, found.steps[0].status) == (PRM_PATH, answer.status_code)


@pytest.mark.parametrize("answer", [httpx2.Response(500), httpx2.Response(503), httpx2.Response(429)])
@pytest.mark.parametrize("place", [PRM_PATH, AS_OAUTH])
def test_a_failing_server_ends_the_search_and_may_be_asked_again(answer: httpx2.Response, place: str) -> None:
    good = {PRM_PATH: prm(), PRM_ROOT: prm(authorization_servers=[TENANT]), AS_OAUTH: asm(), AS_OIDC: asm()}
    error, asked = fail({**good, place: answer})
    assert error.retryable
    assert asked[-1] == place
    assert error.steps[-1].status == answer.status_code


def test_a_network_fault_ends_the_search_with_evidence() -> None:
    error, asked = fail({PRM_PATH: prm(), AS_OAUTH: httpx2.ConnectTimeout("slow")})
    assert error.retryable
    assert asked == [PRM_PATH, AS_OAUTH]
    assert (error.steps[-1].url, error.steps[-1].status) == (AS_OAUTH, None)


@pytest.mark.parametrize(
    "resource",
    [
        "https://mcp.example/team/mcp",
        "https://mcp.example/team/mcp/",
        "https://mcp.example/team",
        "https://mcp.example/",
        "https://mcp.example",
        "https://MCP.example:443/team",
    ],
)
def test_the_resource_may_be_the_server_or_a_parent_and_stays_as_written(resource: str) -> None:
    found, _asked = find({PRM_PATH: prm(resource=resource), AS_OAUTH: asm()})
    assert found.resource == resource


@pytest.mark.parametrize(
    "resource",
    [
        "https://evil.example/team/mcp",
        "https://mcp.example.evil.example/",
        "https://mcp.example:8443/team/mcp",
        "http://mcp.example/team/mcp",
        "https://mcp.example/team/mcp/deeper",
        "https://mcp.example/tea",
        "https://mcp.example/other",
        "https://mcp.example/team?tenant=2",
        "https://mcp.example/team#x",
        "https://mcp.example:port/team",
        "https://[oops",
        "",
    ],
)
def test_metadata_about_another_resource_is_refused(resource: str) -> None:
    error, asked = fail({PRM_PATH: prm(resource=resource), PRM_ROOT: prm(), AS_OAUTH: asm()})
    assert error.code == "resource_mismatch"
    assert asked == [PRM_PATH]


def test_a_resource_with_the_query_of_the_server_covers_it() -> None:
    assert covers("https://mcp.example/mcp?t=1", "https://mcp.example/mcp?t=1")
    assert covers("http://mcp.example:80/", "http://mcp.example/mcp")


def test_a_resource_that_is_no_clean_url_is_refused() -> None:
    error, _asked = fail({PRM_PATH: prm(resource=f"{SERVER}\n"), AS_OAUTH: asm()})
    assert error.code == "invalid_url"


@pytest.mark.parametrize(("named", "stated"), [(f"{ISSUER}/", ISSUER), (ISSUER, f"{ISSUER}/"), (ISSUER, ISSUER)])
def test_a_slash_at_the_root_does_not_make_another_issuer(named: str, stated: str) -> None:
    found, _asked = find({PRM_PATH: prm(authorization_servers=[named]), AS_OAUTH: asm(stated)})
    assert found.issuer == stated


@pytest.mark.parametrize(
    ("named", "stated"),
    [
        (ISSUER, "https://AS.example"),
        (ISSUER, "https://evil.example"),
        (TENANT, f"{TENANT}/"),
        (f"{TENANT}/", TENANT),
        (TENANT, ISSUER),
        (ISSUER, None),
    ],
)
def test_metadata_of_another_issuer_is_not_used(named: str, stated: str | None) -> None:
    wrong = json_answer({"issuer": stated, "token_endpoint": "https://as.example/token"})
    places = [AS_OAUTH, AS_OIDC, *TENANT_URLS, f"{TENANT}/.well-known/openid-configuration"]
    error, _asked = fail({PRM_PATH: prm(authorization_servers=[named]), **dict.fromkeys(places, wrong)})
    assert "names the issuer" in error.message


def test_a_catch_all_document_of_another_issuer_does_not_hide_the_right_one() -> None:
    answers = {PRM_PATH: prm(authorization_servers=[TENANT]), TENANT_URLS[0]: asm(), TENANT_URLS[2]: asm(TENANT)}
    found, _asked = find(answers)
    assert found.token_endpoint == f"{TENANT}/token"


@pytest.mark.parametrize("endpoint", [None, "", 5])
def test_metadata_without_a_token_endpoint_is_not_used(endpoint: Any) -> None:
    error, _asked = fail({PRM_PATH: prm(), AS_OAUTH: asm(token_endpoint=endpoint)})
    assert "names no token endpoint" in error.message
    assert "by hand" in error.hint


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("javascript:alert(1)//", "invalid_url"),
        ("data:text/html,x", "invalid_url"),
        ("https://as.example/x#y", "invalid_url"),
        ("https://user:pass@as.example/x", "invalid_url"),
        ("http://as.example/x", "forbidden_address"),
        ("https://127.0.0.1/x", "forbidden_address"),
        ("https://169.254.169.254/x", "forbidden_address"),
    ],
)
def test_an_endpoint_that_is_not_public_https_is_refused(name: str, url: str, code: str) -> None:
    error, _asked = fail({PRM_PATH: prm(), AS_OAUTH: asm(**{name: url})})
    assert error.code == code
    assert name in error.message
    assert name in error.steps[-1].outcome


@pytest.mark.parametrize("name", ["registration_endpoint", "revocation_endpoint"])
def test_a_bad_endpoint_that_is_not_needed_is_left_out_and_noted(name: str) -> None:
    found, _asked = find({PRM_PATH: prm(), AS_OAUTH: asm(**{name: "https://10.0.0.1/x"})})
    assert getattr(found, name) is None
    assert name in found.steps[-1].outcome


@pytest.mark.parametrize("pointer", ["http://mcp.example/prm", "https://10.0.0.1/prm", "file:///etc/passwd", "/prm"])
def test_a_pointer_to_where_aster_may_not_go_is_refused(pointer: str) -> None:
    error, asked = fail({PRM_PATH: prm(), AS_OAUTH: asm()}, challenge=BearerChallenge(resource_metadata=pointer))
    assert asked == []
    assert error.code in ("forbidden_address", "invalid_url")


@pytest.mark.parametrize("issuer", ["https://192.168.0.1", "javascript:1", "http://as.example"])
def test_an_issuer_where_aster_may_not_go_is_refused(issuer: str) -> None:
    error, asked = fail({PRM_PATH: prm(authorization_servers=[issuer])})
    assert asked == [PRM_PATH]
    assert "issuer" in error.message


def test_a_listed_private_host_may_use_http(settings: Any) -> None:
    settings.ASTER_ALLOWED_HOSTS_PRIVATE = ["mcp.lan"]
    server = "http://mcp.lan/mcp"
    answers = {
        "http://mcp.lan/.well-known/oauth-protected-resource/mcp": prm(
            resource=server, authorization_servers=["http://mcp.lan"]
        ),
        "http://mcp.lan/.well-known/oauth-authorization-server": asm("http://mcp.lan"),
    }
    found, _asked = find(answers, server=server)
    assert found.token_endpoint == "http://mcp.lan/token"


@pytest.mark.parametrize(
    ("challenged", "listed", "expected"),
    [
        ("x y x", ["a"], ("x", "y")),
        (None, ["a", "b"], ("a", "b")),
        (None, None, ()),
        ('x "q" \\', ["a"], ("x",)),
    ],
)
def test_scopes_are_the_challenges_then_the_resources(challenged: Any, listed: Any, expected: Any) -> None:
    found, _asked = find(
        {PRM_PATH: prm(scopes_supported=listed), AS_OAUTH: asm(scopes_supported=["never"])},
        challenge=BearerChallenge(scope=challenged),
    )
    assert found.scopes == expected


def test_the_first_authorization_server_is_chosen_or_the_pinned_one() -> None:
    answers = {
        PRM_PATH: prm(authorization_servers=[TENANT, f"{ISSUER}/"]),
        TENANT_URLS[0]: asm(TENANT),
        AS_OAUTH: asm(),
    }
    assert find(answers)[0].issuer == TENANT
    found, asked = find(answers, issuer=ISSUER)
    assert (found.issuer, found.authorization_servers) == (ISSUER, (TENANT, f"{ISSUER}/"))
    assert asked == [PRM_PATH, AS_OAUTH]


def test_a_pinned_issuer_that_is_no_longer_named_is_an_error() -> None:
    error, asked = fail({PRM_PATH: prm(), AS_OAUTH: asm()}, issuer="https://old.example")
    assert error.code == "issuer_changed"
    assert asked == [PRM_PATH]


def test_a_pinned_issuer_stands_in_for_missing_resource_metadata() -> None:
    found, asked = find({AS_OAUTH: asm()}, issuer=ISSUER, challenge=BearerChallenge(scope="x"))
    assert asked == [PRM_PATH, PRM_ROOT, AS_OAUTH]
    assert (found.issuer, found.resource, found.scopes) == (ISSUER, SERVER, ("x",))


def test_without_resource_metadata_the_origin_is_asked_as_in_the_first_revision() -> None:
    metadata = {LEGACY: asm("https://mcp.example")}
    found, asked = find(metadata, challenge=BearerChallenge(scope="x"), allow_legacy=True)
    assert asked == [PRM_PATH, PRM_ROOT, LEGACY]
    assert (found.issuer, found.resource, found.scopes) == ("https://mcp.example", SERVER, ("x",))
    assert found.protected_resource is None
    assert not found.uses_legacy_defaults


def test_a_server_is_its_own_provider_only_if_an_admin_says_so() -> None:
    error, _asked = fail({LEGACY: asm("https://mcp.example")})
    assert error.code == "legacy_server"
    assert "allow the 2025-03-26 revision" in error.hint


def test_without_any_metadata_the_search_fails_and_says_what_to_do() -> None:
    error, asked = fail({})
    assert asked == [PRM_PATH, PRM_ROOT, LEGACY]
    assert [step.outcome for step in error.steps] == ["not here"] * 3
    assert "by hand" in error.hint
    assert not error.retryable


def test_default_endpoints_are_used_only_if_allowed() -> None:
    found, asked = find({}, server="https://MCP.example/", allow_legacy=True)
    assert asked == [PRM_ROOT, LEGACY]
    assert found.uses_legacy_defaults
    assert (found.issuer, found.resource) == ("https://mcp.example", "https://mcp.example")
    assert found.authorization_endpoint == "https://mcp.example/authorize"
    assert found.token_endpoint == "https://mcp.example/token"
    assert found.registration_endpoint == "https://mcp.example/register"
    assert found.supports_pkce


def test_a_failing_origin_does_not_lead_to_default_endpoints() -> None:
    error, _asked = fail({LEGACY: httpx2.Response(502)}, allow_legacy=True)
    assert error.retryable


def test_a_known_issuer_is_read_without_a_server() -> None:
    wire = Wire({TENANT_URLS[2]: asm(TENANT)})
    found = discover_issuer(TENANT, http=wire.http)
    assert wire.asked == TENANT_URLS
    assert (found.issuer, found.resource, found.authorization_servers) == (TENANT, None, (TENANT,))


def test_metadata_requests_name_the_protocol_version() -> None:
    wire = Wire({AS_OAUTH: asm()})
    discover_issuer(ISSUER, http=wire.http)
    assert wire.requests[0].headers["mcp-protocol-version"] == "2026-07-28"
