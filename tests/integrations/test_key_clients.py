"""Clients that prove themselves with a private key (private_key_jwt, RFC 7523) instead of a shared secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.utils import timezone
from joserfc import jwk

from integrations.models import AuthConfig, AuthType, Connection, callback_url
from integrations.services.connections import begin_connection
from integrations.services.disconnection import disconnect
from integrations.services.refresh import fresh_access_token
from integrations.services.servers import save_auth_config
from tests.conftest import Person, body
from tests.fakes.provider import Site
from tests.integrations.hub import auth_of
from tests.integrations.sign_in import add_server, fresh, sign_in, why_not

pytestmark = pytest.mark.django_db

KINDS = {"RSA": 2048, "EC": "P-256", "EC-384": "P-384", "OKP": "Ed25519"}
KEYS: dict[str, Any] = {name: jwk.generate_key(name.partition("-")[0], kind) for name, kind in KINDS.items()}  # type: ignore[call-overload]


def pem(key: Any) -> str:
    return str(key.as_pem(private=True).decode())


def as_jwk(key: Any, **members: Any) -> str:
    return json.dumps({**key.as_dict(private=True), **members})


def known(place: Site, key: Any, client_id: str = "keyed") -> dict[str, str]:
    """A client whose public key the provider has; returns what an admin pastes."""
    grants = ("authorization_code", "refresh_token", "client_credentials")
    public = key.as_dict(private=False)
    place.provider.add_key_client(client_id, public, redirect_uris=(callback_url(),), grant_types=grants)
    return {"client_id": client_id, "client_private_key": pem(key)}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("form", [pem, as_jwk])
def test_every_kind_of_key_signs_in_and_renews(place: Site, alice: Person, kind: str, form: Any) -> None:
    app = {**known(place, KEYS[kind]), "client_private_key": form(KEYS[kind])}
    connection = sign_in(add_server(place, alice, **app), alice)
    assert connection.token_endpoint_auth_method == "private_key_jwt"
    Connection.objects.update(expires_at=timezone.now())
    assert place.provider.lookup(fresh_access_token(connection))
    assert [form["grant_type"] for form in place.provider.forms] == ["authorization_code", "refresh_token"]
    assert len(place.provider.seen_jtis) == 2, "each assertion is good for one request"
    assert not any("client_secret" in form for form in place.provider.forms)


def test_a_key_works_for_client_credentials(place: Site, alice: Person) -> None:
    server = add_server(place, alice, auth_type=AuthType.CLIENT_CREDENTIALS, **known(place, KEYS["EC"]))
    assert server.tools.filter(name="echo").exists()
    made = begin_connection(fresh(auth_of(server)), actor=alice.actor).connection
    assert made and place.provider.lookup(made.access_token)


def test_the_algorithm_a_jwk_names_is_used(place: Site, alice: Person) -> None:
    app = {**known(place, KEYS["RSA"]), "client_private_key": as_jwk(KEYS["RSA"], alg="PS256", kid="2026")}
    assert sign_in(add_server(place, alice, **app), alice).status == "connected"


def test_the_grant_is_revoked_with_the_key_too(place: Site, alice: Person) -> None:
    connection = sign_in(add_server(place, alice, **known(place, KEYS["EC"])), alice)
    assert disconnect(connection, actor=alice.actor).outcome == "revoked"
    assert not place.provider.is_live(connection.access_token)


def test_a_key_the_provider_does_not_know_is_refused_in_its_words_and_kept_out_of_ours(
    place: Site, alice: Person
) -> None:
    wrong = {**known(place, KEYS["EC"]), "client_private_key": pem(KEYS["RSA"])}
    problem = why_not(sign_in, add_server(place, alice, **wrong), alice)
    assert "cannot be verified" in problem.message
    assert "PRIVATE" not in str(vars(problem))
    assert not Connection.objects.exists()


def test_a_new_key_heals_the_grants_of_the_old_one(place: Site, alice: Person) -> None:
    server = add_server(place, alice, **known(place, KEYS["EC"]))
    connection = sign_in(server, alice)
    Connection.objects.update(expires_at=timezone.now())
    known(place, KEYS["OKP"])  # the provider's side is changed first
    assert why_not(fresh_access_token, connection).retryable
    connection.refresh_from_db()
    assert connection.status == "connected", "an admin can put this right; nobody has to sign in again"
    auth = fresh(auth_of(server))
    auth.client_private_key = pem(KEYS["OKP"])
    save_auth_config(auth, actor=alice.actor)
    Connection.objects.update(failures=0)
    assert place.provider.lookup(fresh_access_token(connection))


# --- What is no key ---------------------------------------------------------------------------------------------------

_SECP = jwk.generate_key("EC", "secp256k1")
BAD_KEYS = {
    "words": "my-secret-words",
    "half a PEM": pem(KEYS["EC"])[:120],
    "a public PEM": KEYS["EC"].as_pem(private=False).decode(),
    "a public JWK": json.dumps(KEYS["EC"].as_dict(private=False)),
    "an encrypted PEM": KEYS["EC"].as_pem(private=True, password="words").decode(),
    "a symmetric JWK": json.dumps({"kty": "oct", "k": "c2VjcmV0LWtleS13b3Jkcw"}),
    "a JWK without its parts": json.dumps({"kty": "EC", "crv": "P-256", "d": "c2VjcmV0LWtleS13b3Jkcw"}),
    "a JWK that is a list": json.dumps([KEYS["EC"].as_dict(private=True)]),
    "JSON without end": '{"kty":' * 20_000,
    "a PEM of nothing known": pem(KEYS["RSA"]).replace("BgkqhkiG9w0BAQ", "BgkBhkiG9w0BAQ", 1),
    "a JWK set": json.dumps({"keys": [KEYS["EC"].as_dict(private=True)]}),
    "JSON that ends early": as_jwk(KEYS["EC"])[:-9],
    "a curve nobody signs with": pem(_SECP),
    "a key for agreement": pem(jwk.generate_key("OKP", "X25519")),
    "an algorithm that is none": as_jwk(KEYS["RSA"], alg="none"),
    "an algorithm of secrets": as_jwk(KEYS["RSA"], alg="HS256"),
    "an algorithm of another key": as_jwk(KEYS["RSA"], alg="ES256"),
    "a key for encryption": as_jwk(KEYS["RSA"], use="enc"),
    "a key for checking": as_jwk(KEYS["EC"], key_ops=["verify"]),
    "a curve that contradicts its algorithm": as_jwk(KEYS["EC"], alg="ES384"),
}


@pytest.mark.parametrize("kind", BAD_KEYS)
def test_what_is_no_usable_key_is_refused_beside_the_field_and_never_echoed(alice: Person, kind: str) -> None:
    text = BAD_KEYS[kind]
    sent = {"name": "Keyed", "auth_type": "CLIENT_CREDENTIALS", "client_id": "keyed", "client_private_key": text}
    answer = alice.api().post("/api/v1/auth_configs", {**sent, "token_url": "http://127.0.0.1:9/token"})
    assert answer.status_code == 400, kind
    assert list(body(answer)["fields"]) == ["client_private_key"]
    pieces = [text[at : at + 16] for at in range(0, len(text) - 16, 16)] or [text]
    assert not any(piece in answer.content.decode() for piece in pieces)
    assert not AuthConfig.objects.exists()


def test_a_method_that_needs_a_key_asks_for_one(alice: Person) -> None:
    sent = {"name": "Keyed", "auth_type": "AUTHORIZATION_CODE", "token_endpoint_auth_method": "private_key_jwt"}
    answer = alice.api().post("/api/v1/auth_configs", sent)
    assert (answer.status_code, list(body(answer)["fields"])) == (400, ["client_private_key"])


def test_a_stored_key_is_shown_as_redacted_and_kept_when_sent_back(place: Site, alice: Person) -> None:
    auth = auth_of(add_server(place, alice, **known(place, KEYS["EC"])))
    shown = body(alice.api().get(f"/api/v1/auth_configs/{auth.pk}"))
    assert shown["client_private_key"] == "[REDACTED]"
    answer = alice.api().patch(f"/api/v1/auth_configs/{auth.pk}", {"client_private_key": "[REDACTED]", "name": "New"})
    assert answer.status_code == 200
    assert (fresh(auth).name, fresh(auth).client_private_key) == ("New", pem(KEYS["EC"]))
