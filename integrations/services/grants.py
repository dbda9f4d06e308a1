"""What is asked of a provider with a grant: new tokens, and their end. Each grant asks the endpoint it is bound to."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.utils import timezone

from aster import crypto, egress
from aster.errors import UpstreamError
from integrations.models import AuthConfig, AuthType, Connection, PendingAuthorization, ResourceMode
from integrations.oauth import token_requests, tokens
from integrations.services.clients import client_of, known_auth_method

TOKEN_REQUEST_SECONDS = 15.0


@dataclass(frozen=True)
class Subject:
    """The token of another sign-in that a derived grant is obtained with (RFC 8693 §2.1).

    `source` is the sign-in it belongs to: its client and token endpoint vouch for the person (ID-JAG).
    """

    token: str = field(repr=False)
    token_type: str
    source: AuthConfig


def request_token(auth: AuthConfig, connection: Connection, subject: Subject | None = None) -> tokens.TokenSet:
    """New tokens for a grant: by its refresh token, as the client itself, or for the `subject` of a derived one."""
    if subject is not None:
        return _derive(auth, connection, subject)
    return token_requests.ask(renewal_request(auth, connection), egress.client())


def renewal_request(auth: AuthConfig, connection: Connection) -> token_requests.TokenRequest:
    """What renews a grant of its own (not a derived one). Raises AsterError if there is nothing to renew it with."""
    endpoint, now = endpoint_of(auth, connection), timezone.now()
    if auth.auth_type == AuthType.CLIENT_CREDENTIALS:
        return token_requests.client_credentials_request(endpoint, scope=" ".join(auth.scopes) or None, now=now)
    if crypto.is_unreadable(connection.refresh_token):
        # Not the provider's no: once the operator has put the key back, the grant is as good as ever.
        raise UpstreamError(
            "Aster cannot decrypt this sign-in. Ask the operator to restore the key in ASTER_ENCRYPTION_KEYS.",
            step="token", code="secret_unreadable",
        )  # fmt: skip
    if not connection.refresh_token:
        words = "The access token no longer works, and the provider gave no refresh token to renew it with."
        raise tokens.TokenRefused(words, error="invalid_grant")
    scope = " ".join(connection.scopes) or None if auth.scope_on_refresh else None
    return token_requests.refresh_request(endpoint, refresh_token=connection.refresh_token, scope=scope, now=now)


def _derive(auth: AuthConfig, connection: Connection, subject: Subject) -> tokens.TokenSet:
    endpoint, scope = endpoint_of(auth, connection), " ".join(auth.scopes) or None
    http, now = egress.client(), timezone.now()
    if auth.auth_type == AuthType.TOKEN_EXCHANGE:
        return token_requests.exchange_token(
            endpoint, subject_token=subject.token, subject_token_type=subject.token_type,
            scope=scope, http=http, now=now,
        )  # fmt: skip
    # The company's own provider signs an assertion for the server's authorization server, which gives a token for it.
    assertion = token_requests.exchange_token(
        _client_endpoint(subject.source, resource=auth.resource or None),
        subject_token=subject.token, subject_token_type=subject.token_type, scope=scope,
        requested_token_type=token_requests.ID_JAG, audience=auth.issuer or auth.token_url, http=http, now=now,
    )  # fmt: skip
    return token_requests.assert_identity(endpoint, assertion=assertion.access_token, scope=scope, http=http, now=now)


def _client_endpoint(auth: AuthConfig, *, resource: str | None) -> token_requests.TokenEndpoint:
    """The token endpoint of an auth config as its own client, without a grant."""
    client = client_of(auth)
    return token_requests.TokenEndpoint(
        url=auth.token_url,
        client_id=client.client_id,
        client_secret=client.client_secret or None,
        auth_method=client.auth_method,
        private_key=auth.client_private_key or None,
        issuer=auth.issuer,
        resource=resource,
        extra=auth.extra_token_params,
    )


def endpoint_of(auth: AuthConfig, bound: Connection | PendingAuthorization) -> token_requests.TokenEndpoint:
    """The token endpoint and client a grant is bound to, with the provider's quirks from the auth config."""
    secret, method = bound.client_secret, bound.token_endpoint_auth_method
    pasted = is_pasted_client(auth, bound)
    if pasted:
        # The secret belongs to the client, not to the grant: after a new one is pasted, old grants need it too.
        secret, method = auth.client_secret, known_auth_method(auth)
    return token_requests.TokenEndpoint(
        url=bound.token_url,
        client_id=bound.client_id,
        client_secret=secret or None,
        auth_method=method or "none",
        private_key=(auth.client_private_key or None) if pasted else None,
        issuer=bound.issuer,
        resource=bound.resource if auth.resource_mode == ResourceMode.SEND and bound.resource else None,
        audience=auth.audience or None,
        extra=auth.extra_token_params,
    )


def is_pasted_client(auth: AuthConfig, bound: Connection | PendingAuthorization) -> bool:
    return bool(auth.client_id) and auth.client_id == bound.client_id and auth.token_url == bound.token_url


def forget_client(bound: Connection | PendingAuthorization) -> None:
    """The provider does not know this client. If Aster registered it, the next sign-in registers a new one."""
    bound.auth_config.registrations.filter(client_id=bound.client_id).delete()


def revoke_tokens(
    auth: AuthConfig, bound: Connection, *, access_token: str, refresh_token: str | None
) -> token_requests.Revocation:
    """RFC 7009: tell the provider to forget the grant. The refresh token first: it usually takes the rest with it."""
    endpoint, url = endpoint_of(auth, bound), bound.revocation_url
    outcome = token_requests.Revocation("unsupported", "There was no token to revoke.")
    with egress.deadline(TOKEN_REQUEST_SECONDS):
        if refresh_token:
            outcome = token_requests.revoke(
                endpoint, url=url, token=refresh_token, token_type_hint="refresh_token", http=egress.client()
            )
        if access_token and outcome.outcome != "failed":
            outcome = token_requests.revoke(
                endpoint, url=url, token=access_token, token_type_hint="access_token", http=egress.client()
            )
    return outcome
