"""The fake provider does what its switches say: a fake that is wrong would make other tests true for nothing."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from joserfc import jwk

from aster.demo.records import Client
from aster.errors import UpstreamError
from integrations.oauth import token_requests
from integrations.oauth.client_assertion import sign_assertion
from integrations.oauth.token_requests import TokenEndpoint
from tests.fakes.provider import BROKEN_TOKEN_ANSWERS, Site, site

KEY = jwk.generate_key("EC", "P-256")
PEM = KEY.as_pem(private=True).decode()


@pytest.fixture
def place() -> Iterator[Site]:
    with site() as served:
        yield served


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client() as client:
        yield client


def test_a_whole_sdk_server_waits_behind_the_gate(place: Site, http: httpx2.Client) -> None:
    refused = http.post(place.mcp.url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert refused.status_code == 401
    assert "/.well-known/oauth-protected-resource/mcp" in refused.headers["www-authenticate"]
    document = http.get(f"{place.origin}/.well-known/oauth-protected-resource/mcp").json()
    assert document["authorization_servers"] == [place.origin]
    assert place.asked() == ["/.well-known/oauth-protected-resource/mcp"]


@pytest.mark.parametrize("claims", [{"client_id": "other"}, {"audience": "https://other.example"}])
def test_an_assertion_of_another_client_or_for_another_server_is_refused(
    place: Site, http: httpx2.Client, claims: dict[str, str]
) -> None:
    place.provider.add_key_client("robot", KEY.as_dict(private=False), grant_types=("client_credentials",))
    good = sign_assertion(PEM, client_id="robot", audience=place.provider.issuer)
    bad = sign_assertion(PEM, **{"client_id": "robot", "audience": place.provider.issuer, **claims})
    form = {"grant_type": "client_credentials", "client_id": "robot"}
    proof = {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
    url = f"{place.origin}/token"
    assert http.post(url, data={**form, **proof, "client_assertion": bad}).json()["error"] == "invalid_client"
    assert "access_token" in http.post(url, data={**form, **proof, "client_assertion": good}).json()
    assert http.post(url, data={**form, **proof, "client_assertion": good}).status_code == 401, "used before"
    assert http.post(url, data=form).status_code == 401, "no assertion"


@pytest.mark.parametrize("kind", sorted(set(BROKEN_TOKEN_ANSWERS) - {"drip", "NaN expires_in"}))
def test_a_broken_answer_is_broken(place: Site, http: httpx2.Client, kind: str) -> None:
    place.provider.break_token(kind)
    endpoint = TokenEndpoint(f"{place.origin}/token", "x")
    with pytest.raises(UpstreamError):
        token_requests.ask(token_requests.refresh_request(endpoint, refresh_token="rt"), http)


@pytest.mark.parametrize("sent", [None, "https://evil.example"])
def test_the_redirect_carries_the_issuer_it_is_told_to(place: Site, http: httpx2.Client, sent: str | None) -> None:
    place.provider.sends_iss = sent
    place.provider.add_client(Client("app", redirect_uris=("http://127.0.0.1/back",)))
    asked = {"response_type": "code", "client_id": "app", "redirect_uri": "http://127.0.0.1/back", "state": "s"}
    place.provider.pkce = False
    answer = http.post(f"{place.origin}/authorize", data={**asked, "person": "Ada Park", "decision": "allow"})
    assert httpx2.URL(answer.headers["location"]).params.get("iss") == sent
