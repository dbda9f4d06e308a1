"""The pieces together, over real sockets and the guarded client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from aster.egress import Policy, client
from integrations.oauth.authorization import (
    add_offline_access,
    authorization_url,
    check_callback,
    new_pkce,
    new_state,
)
from integrations.oauth.challenges import bearer_challenge
from integrations.oauth.discovery import Discovery, DiscoveryFailed, discover
from integrations.oauth.registration import choose_auth_method, register_client, registration_request
from integrations.oauth.token_requests import TokenEndpoint, ask, exchange_code, refresh_request, revoke
from integrations.oauth.tokens import TokenRefused
from tests.integrations.oauth.loopback_provider import Provider, run_provider

CALLBACK = "https://aster.example/oauth/callback"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with run_provider() as running:
        yield running


@pytest.fixture
def http(settings: Any) -> httpx2.Client:
    settings.DEBUG = True  # the provider is on loopback, with plain http
    return client(policy=Policy(debug=True))


def find(provider: Provider, http: httpx2.Client) -> Discovery:
    unauthorized = http.get(f"{provider.url}/mcp")
    challenge = bearer_challenge(unauthorized.headers.get_list("www-authenticate"))
    return discover(f"{provider.url}/mcp", http=http, challenge=challenge)


def sign_in(found: Discovery, endpoint: TokenEndpoint, http: httpx2.Client) -> tuple[dict[str, str], str]:
    """Send the person away and catch what comes back: the callback's parameters and the verifier."""
    pkce, state = new_pkce(), new_state()
    url = authorization_url(
        str(found.authorization_endpoint),
        client_id=endpoint.client_id,
        redirect_uri=CALLBACK,
        scope=" ".join(add_offline_access(found.scopes, found.scopes_supported)),
        state=state,
        code_challenge=pkce.challenge,
        resource=found.resource,
    )
    params = dict(parse_qsl(urlsplit(http.get(url).headers["location"]).query))
    assert params["state"] == state
    return params, pkce.verifier


def register(found: Discovery, http: httpx2.Client) -> TokenEndpoint:
    method = choose_auth_method(found.token_endpoint_auth_methods, prefer_public=True)
    request = registration_request(redirect_uris=[CALLBACK], token_endpoint_auth_method=method)
    registered = register_client(str(found.registration_endpoint), request, http=http)
    return TokenEndpoint(
        url=found.token_endpoint,
        client_id=registered.client_id,
        client_secret=registered.client_secret,
        auth_method=registered.token_endpoint_auth_method,
        resource=found.resource,
    )


def test_a_person_signs_in_stays_signed_in_and_leaves(provider: Provider, http: httpx2.Client) -> None:
    found = find(provider, http)
    assert (found.issuer, found.scopes, found.supports_pkce) == (f"{provider.url}/as", ("mcp:read",), True)
    endpoint = register(found, http)

    params, verifier = sign_in(found, endpoint, http)
    asked = provider.codes[params["code"]]
    assert asked["scope"] == "mcp:read offline_access"
    code = check_callback(params, issuer=found.issuer, iss_required=found.iss_parameter_supported)
    first = exchange_code(endpoint, code=code, redirect_uri=CALLBACK, code_verifier=verifier, http=http)

    second = ask(refresh_request(endpoint, refresh_token=str(first.refresh_token)), http).merged_with(first)
    assert second.access_token != first.access_token
    with pytest.raises(TokenRefused) as caught:
        ask(refresh_request(endpoint, refresh_token=str(first.refresh_token)), http)
    assert (caught.value.error, caught.value.permanent) == ("invalid_grant", True)

    ended = revoke(endpoint, url=found.revocation_endpoint, token=str(second.refresh_token), http=http)
    assert ended.outcome == "revoked"
    with pytest.raises(TokenRefused):
        ask(refresh_request(endpoint, refresh_token=str(second.refresh_token)), http)


def test_a_stolen_code_is_worth_nothing_without_the_verifier(provider: Provider, http: httpx2.Client) -> None:
    found = find(provider, http)
    endpoint = register(found, http)
    params, _verifier = sign_in(found, endpoint, http)
    with pytest.raises(TokenRefused, match="invalid_grant"):
        exchange_code(
            endpoint, code=params["code"], redirect_uri=CALLBACK, code_verifier=new_pkce().verifier, http=http
        )


def test_a_provider_on_loopback_is_out_of_reach_in_production(provider: Provider) -> None:
    with pytest.raises(DiscoveryFailed) as caught:
        discover(f"{provider.url}/mcp", http=client(policy=Policy()))
    assert caught.value.code == "forbidden_address"
