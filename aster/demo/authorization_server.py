"""A complete small OAuth authorization server for one process: the demo's sign-in provider and the tests' counterpart.

What a client meets is real (RFC 6749, 7009, 7591, 7636, 7662, 8414, 8707, 9207); only the people sign in without a
password. Every switch is a plain attribute that may be turned while it serves, from any thread.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aster.demo import oauth_checks as checks
from aster.demo.consent import Consent
from aster.demo.ledger import Ledger, LedgerFull
from aster.demo.oauth_checks import OAuthError
from aster.demo.records import DEMO_SCOPES, Client, Grant, Person, Revocation, TokenRequest, digest

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}

Answer = Callable[[Mapping[str, Any]], Response | None]


@dataclass(eq=False, repr=False, kw_only=True)
class AuthorizationServer:
    """The provider. `app` serves it; put it at the root of its host, wherever the issuer's path leads.

    issuer: the exact string that metadata and `iss` carry; a path in it moves the endpoints below that path.
    people, clients, scopes: who may sign in, who is pre-registered, and scope name → words for the consent page.
    access_token_seconds: lifetime of access tokens; refresh tokens do not expire.
    rotate_refresh_tokens: a refresh answers with a new refresh token (True) or with none (False).
    detect_reuse: a spent refresh token revokes everything from the same consent.
    dynamic_registration: offer and serve `/register`.
    pkce: demand and advertise S256. advertise_iss: advertise and send `iss` (RFC 9207).
    oidc_metadata: publish the metadata at the OpenID Connect well-known paths instead of RFC 8414's.
    require_resource: if set, the only `resource` accepted, and demanded in every request; otherwise bound as sent.
    state_path: a file that carries clients, tokens and refresh tokens (as digests) over a restart.
    answers: endpoint name (metadata, authorize, token, register, revoke, introspect) → a function that gets the
        request's parameters and may return the Response to send in place of the real one.
    clock: seconds since the epoch.
    before_token: called with each token request's form before it is answered, in a thread: it may block.
    token_delay: seconds by which every token answer is late.
    """

    issuer: str = field(kw_only=False)
    people: Sequence[Person]
    clients: Sequence[Client] = ()
    scopes: Mapping[str, str] = field(default_factory=lambda: dict(DEMO_SCOPES))
    access_token_seconds: float = 60
    rotate_refresh_tokens: bool = True
    detect_reuse: bool = True
    dynamic_registration: bool = True
    pkce: bool = True
    advertise_iss: bool = True
    oidc_metadata: bool = False
    require_resource: str | None = None
    state_path: Path | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    before_token: Callable[[Mapping[str, str]], None] | None = None
    token_delay: float = 0.0

    def __post_init__(self) -> None:
        self.token_requests: list[TokenRequest] = []
        self.registrations: list[dict[str, Any]] = []
        self.revocations: list[Revocation] = []
        self.ledger = Ledger(clock=self.clock, path=self.state_path)
        for client in self.clients:
            self.ledger.add_client(client)
        self._failures: deque[Response] = deque()
        self.routes = self._build_routes()
        self.app = Starlette(routes=self.routes)

    # What tests and the demo's MCP servers call in process

    def lookup(self, access_token: str) -> Grant | None:
        """Return what a live access token stands for, else None (introspection without HTTP)."""
        return self.ledger.lookup(access_token)

    def add_client(self, client: Client) -> None:
        """Pre-register a client."""
        self.ledger.add_client(client)

    def fail_next_token(
        self, status: int, body: str | Mapping[str, Any], content_type: str = "application/json", times: int = 1
    ) -> None:
        """Answer the next `times` token requests with this instead; no code or refresh token is spent by them."""
        text = body if isinstance(body, str) else json.dumps(body)
        self._failures.extend(Response(text, status, media_type=content_type) for _ in range(times))

    def revoke_person(self, name: str) -> int:
        """End everything this person ever allowed; returns how many consents that were."""
        return self.ledger.revoke_person(name)

    def expire_access_tokens(self) -> None:
        """Make every access token useless now; refresh tokens stay good."""
        self.ledger.expire_access_tokens()

    # Endpoints

    def _build_routes(self) -> list[Route]:
        base, well_known = urlsplit(self.issuer).path.rstrip("/"), "/.well-known"
        oidc_paths = {f"{well_known}/openid-configuration{base}", f"{base}{well_known}/openid-configuration"}
        return [
            Route(f"{well_known}/oauth-authorization-server{base}", self._oauth_metadata),
            *(Route(path, self._openid_metadata) for path in sorted(oidc_paths)),
            Route(f"{base}/authorize", Consent(self).endpoint, methods=["GET", "POST"]),
            Route(f"{base}/token", self._token, methods=["POST"]),
            Route(f"{base}/register", self._register, methods=["POST"]),
            Route(f"{base}/revoke", self._revoke, methods=["POST"]),
            Route(f"{base}/introspect", self._introspect, methods=["POST"]),
        ]

    def scripted(self, endpoint: str, params: Mapping[str, Any]) -> Response | None:
        """Return the answer that `answers` wants sent from this endpoint, if any."""
        hook = self.answers.get(endpoint)
        return hook(params) if hook else None

    async def _oauth_metadata(self, request: Request) -> Response:
        return self._metadata_response(served=not self.oidc_metadata)

    async def _openid_metadata(self, request: Request) -> Response:
        return self._metadata_response(served=self.oidc_metadata)

    def _metadata_response(self, *, served: bool) -> Response:
        if not served:
            return JSONResponse({"detail": "Not found"}, 404)
        document = self.metadata()
        return self.scripted("metadata", document) or JSONResponse(document)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata document (RFC 8414 section 2)."""
        base = self.issuer.rstrip("/")
        document: dict[str, Any] = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "revocation_endpoint": f"{base}/revoke",
            "introspection_endpoint": f"{base}/introspect",
            "scopes_supported": list(self.scopes),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": list(checks.GRANT_TYPES),
            "token_endpoint_auth_methods_supported": list(checks.AUTH_METHODS),
            "revocation_endpoint_auth_methods_supported": list(checks.AUTH_METHODS),
        }
        if self.dynamic_registration:
            document["registration_endpoint"] = f"{base}/register"
        if self.pkce:
            document["code_challenge_methods_supported"] = ["S256"]
        if self.advertise_iss:
            document["authorization_response_iss_parameter_supported"] = True
        return document

    async def _token(self, request: Request) -> Response:
        try:
            form = await checks.read_form(request)
        except OAuthError as error:
            return self._refusal(error)
        entry = self._log_token_request(request, form)
        if self.before_token:
            # In a thread: a test may hold the request there on an Event while the server goes on serving.
            await to_thread.run_sync(self.before_token, form, abandon_on_cancel=True)
        if self.token_delay:
            await asyncio.sleep(self.token_delay)
        response = self.scripted("token", form) or self._next_failure()
        if response is None:
            try:
                client = self._authenticate(request, form)
                response = JSONResponse(self._answer_grant(client, form), headers=NO_STORE)
            except OAuthError as error:
                entry.error = error.error
                response = self._refusal(error)
        entry.status = response.status_code
        return response

    def _log_token_request(self, request: Request, form: Mapping[str, str]) -> TokenRequest:
        try:
            client_id = checks.presented_credentials(request.headers.get("authorization", ""), form)[0]
        except OAuthError:
            client_id = ""
        token = form.get("refresh_token", "")
        entry = TokenRequest(
            grant_type=form.get("grant_type", ""),
            client_id=client_id,
            refresh_token_id=digest(token)[:12] if token else "",
            resource=form.get("resource", ""),
            scope=form.get("scope", ""),
        )
        self.token_requests.append(entry)
        return entry

    def _next_failure(self) -> Response | None:
        return self._failures.popleft() if self._failures else None

    def _authenticate(self, request: Request, form: Mapping[str, str]) -> Client:
        return checks.authenticate_client(self.ledger.clients, request.headers.get("authorization", ""), form)

    def _refusal(self, error: OAuthError) -> Response:
        # RFC 6749 section 5.2: a client that failed to authenticate is told how.
        challenge = {"WWW-Authenticate": 'Basic realm="Acme ID"'} if error.error == "invalid_client" else {}
        return JSONResponse(error.as_dict(), error.status, headers={**NO_STORE, **challenge})

    def _answer_grant(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        grant_type = form.get("grant_type", "")
        handlers = {
            "authorization_code": self._exchange_code,
            "refresh_token": self._refresh,
            "client_credentials": self._grant_client_credentials,
        }
        if grant_type not in handlers:
            raise OAuthError("unsupported_grant_type", "This grant type is not supported.")
        if grant_type not in client.grant_types:
            raise OAuthError("unauthorized_client", "This client is not registered for this grant type.")
        return handlers[grant_type](client, form)

    def _exchange_code(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        code = self.ledger.redeem_code(form.get("code", ""))
        if code is None or code.grant.client_id != client.client_id:
            raise OAuthError("invalid_grant", "The code is unknown, expired or already used.")
        if form.get("redirect_uri", "") != code.redirect_uri:
            raise OAuthError("invalid_grant", "The redirect_uri is not the one the code was sent to.")
        checks.check_verifier(code.challenge, form.get("code_verifier", ""))
        self._check_bound_resource(code.grant, form)
        return self._issue_tokens(code.grant, client, refreshable="refresh_token" in client.grant_types)

    def _refresh(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        token = form.get("refresh_token", "")
        narrowed: tuple[str, ...] = ()
        if held := self.ledger.peek_refresh_token(token):
            self._check_bound_resource(held, form)
            narrowed = checks.chosen_scopes(form.get("scope", ""), held.scopes)
        grant = self.ledger.use_refresh_token(
            token, client.client_id, rotate=self.rotate_refresh_tokens, detect_reuse=self.detect_reuse
        )
        if grant is None:
            raise OAuthError("invalid_grant", "The refresh token is unknown, revoked or already used.")
        return self._issue_tokens(grant, client, refreshable=self.rotate_refresh_tokens, scopes=narrowed)

    def _grant_client_credentials(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        if client.auth_method == "none":
            raise OAuthError("unauthorized_client", "Client credentials need a client with a secret.")
        scopes = checks.chosen_scopes(form.get("scope", ""), self.scopes_for(client))
        resource = self.checked_resource(form)
        return self._issue_tokens(Grant("", client.client_id, scopes, resource, secrets.token_hex(8)), client)

    def _issue_tokens(
        self, grant: Grant, client: Client, *, refreshable: bool = False, scopes: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Issue an access token (for `scopes`, if narrower) and, if asked, a refresh token for the whole grant."""
        shown = scopes or grant.scopes
        narrowed = Grant(grant.person, client.client_id, shown, grant.resource, grant.family)
        body: dict[str, Any] = {
            "access_token": self.ledger.issue_access_token(narrowed, self.access_token_seconds),
            "token_type": "Bearer",
            "expires_in": int(self.access_token_seconds),
            "scope": " ".join(shown),
        }
        if refreshable:
            body["refresh_token"] = self.ledger.issue_refresh_token(grant)
        return body

    def scopes_for(self, client: Client) -> tuple[str, ...]:
        """Return the scopes this client may ever get."""
        registered = client.scope.split()
        return tuple(name for name in self.scopes if not registered or name in registered)

    def checked_resource(self, params: Mapping[str, str]) -> str:
        """Return the `resource` parameter, "" if absent and allowed to be. Raises OAuthError `invalid_target`."""
        resource = params.get("resource", "")
        if self.require_resource is not None and resource != self.require_resource:
            raise OAuthError("invalid_target", f"The resource must be {self.require_resource}")
        if resource and ("#" in resource or not urlsplit(resource).scheme):
            raise OAuthError("invalid_target", "The resource must be an absolute URL without a fragment.")
        return resource

    def _check_bound_resource(self, grant: Grant, form: Mapping[str, str]) -> None:
        resource = self.checked_resource(form)
        if resource and resource != grant.resource:
            raise OAuthError("invalid_target", "The resource is not the one that was consented to.")

    async def _register(self, request: Request) -> Response:
        try:
            metadata = await checks.read_json(request)
            if answer := self.scripted("register", metadata):
                return answer
            if not self.dynamic_registration:
                return JSONResponse({"detail": "Not found"}, 404)
            client, secret = checks.read_client_metadata(metadata, now=self.clock())
            self.ledger.add_client(client)
        except OAuthError as error:
            return self._refusal(error)
        except LedgerFull:
            return self._refusal(OAuthError("temporarily_unavailable", "Too many clients are registered.", status=503))
        self.registrations.append({**metadata, "client_id": client.client_id})
        body = {
            **{name: value for name, value in metadata.items() if name in ("application_type", "client_uri", "scope")},
            "client_id": client.client_id,
            "client_id_issued_at": client.issued_at,
            "client_name": client.name,
            "redirect_uris": list(client.redirect_uris),
            "grant_types": list(client.grant_types),
            "response_types": ["code"],
            "token_endpoint_auth_method": client.auth_method,
        }
        if secret:
            body.update(client_secret=secret, client_secret_expires_at=0)
        return JSONResponse(body, 201, headers=NO_STORE)

    async def _revoke(self, request: Request) -> Response:
        try:
            form = await checks.read_form(request)
            if answer := self.scripted("revoke", form):
                return answer
            client = self._authenticate(request, form)
        except OAuthError as error:
            return self._refusal(error)
        token = form.get("token", "")
        found = self.ledger.revoke_token(token, client.client_id)
        hint = form.get("token_type_hint", "")
        self.revocations.append(Revocation(client.client_id, hint, digest(token)[:12], found))
        # RFC 7009 section 2.2: an unknown token is not an error.
        return Response(status_code=200, headers=NO_STORE)

    async def _introspect(self, request: Request) -> Response:
        try:
            form = await checks.read_form(request)
            if answer := self.scripted("introspect", form):
                return answer
            if self._authenticate(request, form).auth_method == "none":
                raise OAuthError("invalid_client", "Introspection needs a client with a secret.", status=401)
        except OAuthError as error:
            return self._refusal(error)
        found = self.ledger.lookup_with_expiry(form.get("token", ""))
        if found is None:
            return JSONResponse({"active": False}, headers=NO_STORE)
        grant, expires_at = found
        claims = {"sub": grant.person, "aud": grant.resource, "client_id": grant.client_id, "iss": self.issuer}
        known = {name: value for name, value in claims.items() if value}
        body = {"active": True, "scope": " ".join(grant.scopes), "exp": int(expires_at), "token_type": "Bearer"}
        return JSONResponse({**body, **known}, headers=NO_STORE)
