"""From a server's address to a working sign-in: what is asked, in which order, and what is refused on the way."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from starlette.responses import RedirectResponse, Response

from aster.accounts.models import AuditEvent
from aster.demo.records import Client
from aster.errors import ConnectionTestFailed
from integrations.models import AuthType, Connection, McpServer
from integrations.services.discovery import discover_url
from integrations.services.servers import save_auth_config
from tests.conftest import Person
from tests.fakes.provider import OIDC_APPENDED, OIDC_INSERTED, RFC8414, Ground, Site, padded
from tests.integrations.hub import auth_of
from tests.integrations.sign_in import add_server, begin, fresh, sign_in, why_not
from tests.walks.conftest import callback_params

pytestmark = pytest.mark.django_db

RESOURCE = "/.well-known/oauth-protected-resource"
OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"


def refusal(place: Site, person: Person) -> str:
    """What adding the server of `place` is refused with; nothing is stored then."""
    problem = why_not(add_server, place, person)
    assert isinstance(problem, ConnectionTestFailed)
    assert not McpServer.objects.exists()
    return problem.message


# --- What is asked ----------------------------------------------------------------------------------------------------


def test_the_challenge_leads_to_the_documents_and_nothing_else_is_asked(place: Site, alice: Person) -> None:
    server = add_server(place, alice)
    assert place.asked() == [f"{RESOURCE}/mcp", OAUTH]
    auth = auth_of(server)
    assert (auth.issuer, auth.token_url) == (place.origin, f"{place.origin}/token")
    assert (auth.resource, auth.scopes) == (place.mcp.url, ["read"])


def test_a_person_signs_in_with_what_was_found(place: Site, alice: Person) -> None:
    connection = sign_in(add_server(place, alice), alice)
    assert place.provider.is_live(connection.access_token, connection.refresh_token)
    assert place.provider.forms[0]["resource"] == place.mcp.url
    assert place.asked("POST") == ["/register", "/authorize", "/token"]


def test_without_a_pointer_the_path_is_asked_before_the_root(place: Site, alice: Person) -> None:
    place.mcp.points_at_metadata, place.mcp.prm_at = False, {RESOURCE}
    add_server(place, alice)
    assert place.asked() == [f"{RESOURCE}/mcp", RESOURCE, OAUTH]


@pytest.mark.parametrize(
    ("at", "asked"),
    [
        (RFC8414, [f"{OAUTH}/tenant/v2"]),
        (OIDC_INSERTED, [f"{OAUTH}/tenant/v2", f"{OPENID}/tenant/v2"]),
        (OIDC_APPENDED, [f"{OAUTH}/tenant/v2", f"{OPENID}/tenant/v2", f"/tenant/v2{OPENID}"]),
    ],
)
def test_an_issuer_with_a_path_is_looked_for_in_three_places_in_order(
    grounds: tuple[Ground, Ground], alice: Person, at: str, asked: list[str]
) -> None:
    place = grounds[0].build(issuer_path="/tenant/v2", metadata_at={at})
    server = add_server(place, alice)
    assert place.asked() == [f"{RESOURCE}/mcp", *asked]
    connection = sign_in(server, alice)
    assert connection.issuer == f"{place.origin}/tenant/v2"
    assert place.provider.is_live(connection.access_token)


def test_an_issuer_without_a_path_is_looked_for_in_two_places(place: Site, alice: Person) -> None:
    place.provider.metadata_at = {OIDC_INSERTED}
    add_server(place, alice)
    assert place.asked() == [f"{RESOURCE}/mcp", OAUTH, OPENID]


@pytest.mark.parametrize(
    "others",
    [
        ['Basic realm="fake, Bearer scope=admin"'],
        ['Bearer realm="old", scope="everything"'],
        ["Negotiate abc==", 'Digest qop="auth,auth-int", nonce="x"'],
    ],
)
def test_among_several_challenges_the_one_that_points_at_metadata_counts(
    place: Site, alice: Person, others: list[str]
) -> None:
    place.mcp.other_challenges = others
    auth = auth_of(add_server(place, alice))
    assert place.asked() == [f"{RESOURCE}/mcp", OAUTH]
    assert auth.scopes == ["read"], "not those of the other challenge"


def test_an_open_server_is_not_asked_for_metadata(place: Site) -> None:
    place.mcp.is_open = True
    found = discover_url(place.mcp.url)
    assert (found.requires_auth, found.oauth, place.asked()) == (False, None, [])


# --- What is refused --------------------------------------------------------------------------------------------------


def test_metadata_that_lies_about_its_issuer_is_refused(place: Site, alice: Person) -> None:
    place.provider.metadata_changes = {"issuer": "https://evil.example"}
    assert "names the issuer https://evil.example" in refusal(place, alice)
    assert place.asked("POST") == []


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,hi", "https://169.254.169.254/token"])
def test_an_endpoint_that_no_person_or_code_may_be_sent_to_is_refused(
    place: Site, alice: Person, name: str, url: str
) -> None:
    place.provider.metadata_changes = {name: url}
    assert name in refusal(place, alice)


def test_a_bad_optional_endpoint_costs_only_what_it_is_for(place: Site, alice: Person) -> None:
    place.provider.metadata_changes = {"revocation_endpoint": "javascript:alert(1)"}
    server = add_server(place, alice)
    assert auth_of(server).revocation_url == ""
    assert sign_in(server, alice).status == "connected"


@pytest.mark.parametrize("megabytes", [2, 10])
def test_a_document_without_end_is_not_read_to_its_end(place: Site, alice: Person, megabytes: int) -> None:
    place.provider.answers["metadata"] = padded(megabytes)
    assert "sent more than 1024 KiB" in refusal(place, alice)


def test_redirects_of_metadata_are_not_followed(place: Site, alice: Person) -> None:
    loop: Response = RedirectResponse(OAUTH)
    place.provider.metadata_at = {RFC8414, OIDC_INSERTED}
    place.provider.answers["metadata"] = lambda params: loop
    assert "publishes no metadata" in refusal(place, alice)
    assert place.asked() == [f"{RESOURCE}/mcp", OAUTH, OPENID], "each place once"


def test_metadata_about_another_server_is_refused_before_its_provider_is_asked(place: Site, alice: Person) -> None:
    place.mcp.prm_changes = {"resource": "https://bank.example/mcp"}
    assert "about another resource" in refusal(place, alice)
    assert OAUTH not in place.asked()


def test_a_server_that_names_no_provider_is_refused_with_a_way_out(place: Site, alice: Person) -> None:
    place.mcp.prm_at = set()
    place.provider.metadata_at = set()
    assert "enter the authorization URL and token URL yourself" in refusal(place, alice)
    assert "/authorize" not in place.asked()


# --- PKCE -------------------------------------------------------------------------------------------------------------


def test_a_provider_that_does_not_promise_pkce_is_refused_until_an_admin_vouches_for_it(
    place: Site, alice: Person
) -> None:
    place.provider.metadata_changes = {"code_challenge_methods_supported": None}
    server = add_server(place, alice)
    problem = why_not(begin, server, alice)
    assert (problem.code, problem.http_status) == ("pkce_unsupported", 502)
    assert "Provider supports PKCE" in problem.hint  # type: ignore[attr-defined]
    assert place.asked("POST") == [], "nothing was registered"
    auth = fresh(auth_of(server))
    auth.assume_pkce = True
    save_auth_config(auth, actor=alice.actor)
    event = AuditEvent.objects.get(action="updated", object_type="authconfig")
    assert (event.actor, event.changes["assume_pkce"]) == (alice.user, [False, True])
    assert "code_challenge_method=S256" in begin(server, alice)
    assert sign_in(server, alice).status == "connected"


@pytest.mark.parametrize("methods", [["plain"], [], "S256", None])
def test_only_a_list_with_s256_is_a_promise(place: Site, alice: Person, methods: Any) -> None:
    place.provider.metadata_changes = {"code_challenge_methods_supported": methods}
    assert why_not(begin, add_server(place, alice), alice).code == "pkce_unsupported"


def test_members_cannot_vouch_for_pkce(place: Site, alice: Person, bob: Person) -> None:
    server = add_server(place, alice)
    answer = bob.api().patch(f"/api/v1/auth_configs/{auth_of(server).pk}", {"assume_pkce": True})
    assert answer.status_code == 403
    assert fresh(auth_of(server)).assume_pkce is False


# --- 2025-03-26 -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ancient(place: Site) -> Site:
    """A server of 2025-03-26 without any metadata: its endpoints are where that revision says."""
    place.mcp.prm_at, place.mcp.points_at_metadata = set(), False
    place.provider.metadata_at, place.provider.advertise_iss = set(), False
    return place


def test_the_default_endpoints_of_2025_03_26_are_used_only_if_an_admin_opts_in(ancient: Site, alice: Person) -> None:
    assert "does not say who protects it" in refusal(ancient, alice)
    assert ancient.asked("POST") == []
    connection = sign_in(add_server(ancient, alice, allow_legacy_endpoints=True), alice)
    assert ancient.provider.is_live(connection.access_token, connection.refresh_token)
    assert ancient.asked("POST") == ["/register", "/authorize", "/token"]
    assert "code_verifier" in ancient.provider.forms[0], "that revision demands PKCE without announcing it"


def test_a_server_of_2025_03_26_that_publishes_its_metadata_needs_the_opt_in_too(ancient: Site, alice: Person) -> None:
    ancient.provider.metadata_at = {RFC8414}
    assert "its own authorization server" in str(why_not(add_server, ancient, alice))
    connection = sign_in(add_server(ancient, alice, allow_legacy_endpoints=True), alice)
    assert connection.issuer == ancient.origin


def test_the_opt_in_does_not_hide_a_provider_that_is_in_trouble(ancient: Site, alice: Person) -> None:
    ancient.provider.metadata_at = {RFC8414}
    ancient.provider.answers["metadata"] = lambda params: Response("busy", 503)
    assert "answered 503" in str(why_not(add_server, ancient, alice, allow_legacy_endpoints=True))


def test_a_server_that_outgrows_the_default_endpoints_is_followed(ancient: Site, alice: Person) -> None:
    server = add_server(ancient, alice, allow_legacy_endpoints=True)
    Connection.objects.filter(pk=sign_in(server, alice).pk).update(status="connection_error")
    ancient.provider.metadata_at = {RFC8414}
    ancient.provider.metadata_changes = {"token_endpoint": f"{ancient.origin}/token?v=2"}
    ancient.mcp.prm_at = {f"{RESOURCE}/mcp"}
    assert sign_in(server, alice).token_url == f"{ancient.origin}/token?v=2"


# --- Resource indicators ----------------------------------------------------------------------------------------------


def test_a_provider_that_refuses_the_resource_parameter_works_without_it(place: Site, alice: Person) -> None:
    place.provider.refuse_resource = True
    server = add_server(place, alice)
    refused = consent_refusal(begin(server, alice))
    assert "not supported" in refused["error_description"]
    auth = fresh(auth_of(server))
    auth.resource_mode = "omit"
    save_auth_config(auth, actor=alice.actor)
    place.provider.forms.clear()
    connection = sign_in(server, alice)
    assert place.provider.is_live(connection.access_token)
    assert all("resource" not in form for form in place.provider.forms)


def consent_refusal(url: str) -> dict[str, str]:
    """What the provider sends a person back with who never saw its consent page."""
    return callback_params(httpx2.URL(httpx2.get(url, follow_redirects=False).headers["location"]))


def test_client_credentials_find_their_token_endpoint_too(place: Site, alice: Person) -> None:
    place.provider.add_client(Client.with_secret("robot", "s3cret", grant_types=("client_credentials",)))
    server = add_server(place, alice, auth_type=AuthType.CLIENT_CREDENTIALS, client_id="robot", client_secret="s3cret")
    assert auth_of(server).token_url == f"{place.origin}/token"
    assert server.tools.filter(name="echo").exists()
    assert "/register" not in place.asked() and "/authorize" not in place.asked()
