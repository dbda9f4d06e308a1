"""private_key_jwt (RFC 7523 §2.2): the client proves itself with a signed assertion instead of a shared secret."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jwk, jwt
from joserfc.errors import JoseError

from aster.errors import InvalidInput

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME_SECONDS = 120
_EC_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_ALLOWED = [*_RSA_ALGORITHMS, *_EC_ALGORITHMS.values(), "Ed25519"]
# What the libraries raise for texts that are none.
_NO_KEY = (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, RecursionError)
_UNREADABLE = "This is not a private key that Aster can read. Paste a PEM or JWK of type RSA, EC or Ed25519."


def read_private_key(text: str) -> tuple[Any, str]:
    """The key in `text` (PEM, or a JWK as JSON) and the algorithm to sign with. Raises InvalidInput."""
    try:
        key = _import(text.strip())
        algorithm = _algorithm_of(key)
        if not key.is_private or algorithm is None:
            raise ValueError
        # A JWK may name an algorithm or use that is not its own kind's: better refused here than at every sign-in.
        jwt.encode({"alg": algorithm}, {}, key, algorithms=_ALLOWED)
    except _NO_KEY:
        raise InvalidInput(_UNREADABLE, fields={"client_private_key": [_UNREADABLE]}) from None
    return key, algorithm


def _import(text: str) -> Any:
    if text.startswith("{"):
        return jwk.import_key(_read_json(text))
    for kind in ("RSA", "EC", "OKP"):
        try:
            return jwk.import_key(text, kind)
        except _NO_KEY:
            continue
    raise ValueError


def _read_json(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict) or value.get("kty") not in ("RSA", "EC", "OKP"):
        raise ValueError
    return value


def _algorithm_of(key: Any) -> str | None:
    stated = key.get("alg")
    if stated:
        return str(stated) if stated in _ALLOWED else None
    match key.key_type:
        case "RSA":
            return "RS256"
        case "EC":
            return _EC_ALGORITHMS.get(key.get("crv") or key.curve_name)
        case "OKP":
            return "Ed25519" if key.curve_name == "Ed25519" else None  # RFC 9864: no longer called EdDSA
    return None


def sign_assertion(private_key: str, *, client_id: str, audience: str) -> str:
    """A JWT that says who asks and whom, good for two minutes and once (RFC 7523 §3)."""
    key, algorithm = read_private_key(private_key)
    now = int(time.time())
    claims = {
        **{"iss": client_id, "sub": client_id, "aud": audience, "jti": secrets.token_urlsafe(24)},
        **{"iat": now, "exp": now + LIFETIME_SECONDS},
    }
    header = {"alg": algorithm, **({"kid": key.kid} if key.get("kid") else {})}
    return str(jwt.encode(header, claims, key, algorithms=_ALLOWED))


def encode_private_key_jwt(
    client: Any, method: str, uri: str, headers: dict[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    """The form of authlib's client authentication methods; `client.audience` names the authorization server."""
    assertion = sign_assertion(client.client_secret, client_id=client.client_id, audience=client.audience)
    proof = {"client_id": client.client_id, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    return uri, headers, f"{body}&{urlencode(proof)}" if body else urlencode(proof)
