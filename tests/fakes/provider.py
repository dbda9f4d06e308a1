"""A sign-in provider with switches for everything real ones do wrong, and the MCP server it protects, on loopback.

    with site() as place:
        place.provider.pkce = False            # a switch: plain attributes, turned while it serves
        place.mcp.tool_scopes = {"add": "write"}
        ...
    assert place.asked("GET") == ["/.well-known/oauth-protected-resource/mcp", …]

The provider is the demo's (rotation, reuse detection, PKCE, consent pages; see aster/demo/authorization_server.py) with
what a demo has no use for added: key clients, exchange of tokens, ID-JAG, client metadata documents, and lies.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2
from joserfc import jwk, jwt
from joserfc.errors import JoseError
from joserfc.jwt import JWTClaimsRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from aster.demo.authorization_server import AuthorizationServer
from aster.demo.bearer_gate import metadata_path
from aster.demo.consent import Consent
from aster.demo.oauth_checks import OAuthError, chosen_scopes
from aster.demo.records import DEMO_PEOPLE, Client, Grant
from aster.demo.serving import ServerThread, bind_port
from tests.fakes.mcp_servers import FakeServer, Receive, Send, modern_and_legacy_app

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"
ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "Ed25519"]
SCOPES = {"read": "Read", "write": "Write", "openid": "Know who you are"}
# The places of authorization server metadata, as `Provider.metadata_at` names them
RFC8414, OIDC_INSERTED, OIDC_APPENDED = "rfc8414", "oidc-inserted", "oidc-appended"
_SIGNING_KEY = jwk.generate_key("EC", "P-256")


# --- The provider -----------------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False, kw_only=True)
class Provider(AuthorizationServer):
    """The demo's authorization server with more features and faults.

    metadata_at: the well-known places that answer. metadata_changes: what the document says instead (None: nothing).
    cimd: announce client metadata documents and fetch them. registration_methods: what `/register` accepts; others are
    refused. client_secret_seconds: how long a registered secret lasts (0: for ever). client_keys: client id → its
    public JWK, for private_key_jwt. refuse_resource: as Entra, answer `resource` with an error. granted: the scopes
    that people can be brought to grant (None: all they are asked for). sends_iss: the `iss` of the redirect, whatever
    is announced (None: leave it out). trusts: issuer → key whose assertions are taken (ID-JAG). names_elsewhere: other
    authorization server → what this one calls the client there. loses_answers: how many of the next token answers
    are lost on the way, after what was asked has been done. registrations_meet: where registrations wait.
    """

    people: Sequence[Any] = DEMO_PEOPLE
    scopes: Mapping[str, str] = field(default_factory=lambda: dict(SCOPES))
    metadata_at: set[str] = field(default_factory=lambda: {RFC8414})
    metadata_changes: dict[str, Any] = field(default_factory=dict)
    cimd: bool = False
    registration_methods: Sequence[str] = ("none", "client_secret_basic", "client_secret_post")
    client_secret_seconds: float = 0
    client_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuse_resource: bool = False
    granted: Sequence[str] | None = None
    sends_iss: str | None = "its own"
    trusts: dict[str, Any] = field(default_factory=dict)
    names_elsewhere: dict[str, str] = field(default_factory=dict)
    loses_answers: int = 0
    registrations_meet: asyncio.Barrier | None = None

    def __post_init__(self) -> None:
        self.forms: list[dict[str, str]] = []  # what the token endpoint was asked, in order
        self.registration_attempts: list[dict[str, Any]] = []
        self.seen_jtis: set[str] = set()
        self.key = _SIGNING_KEY
        super().__post_init__()

    # For tests

    def purge_clients(self) -> None:
        """Forget every client, as providers do that clean up unused registrations."""
        self.ledger.clients.clear()

    def add_key_client(self, client_id: str, public_key: Mapping[str, Any], **fields: Any) -> None:
        """A client that proves itself with this key alone (RFC 7523 §2.2)."""
        self.client_keys[client_id] = dict(public_key)
        self.add_client(Client(client_id, **{"auth_method": "private_key_jwt", **fields}))

    def break_token(self, kind: str, times: int = 1) -> None:
        """Answer the next token requests with one of BROKEN_TOKEN_ANSWERS."""
        self._failures.extend(BROKEN_TOKEN_ANSWERS[kind]() for _ in range(times))

    def is_live(self, access_token: str, refresh_token: str = "") -> bool:
        known = not refresh_token or self.ledger.peek_refresh_token(refresh_token) is not None
        return known and self.lookup(access_token) is not None

    # Metadata

    def metadata(self) -> dict[str, Any]:
        document = super().metadata()
        methods = [*document["token_endpoint_auth_methods_supported"], "private_key_jwt"]
        document |= {"token_endpoint_auth_methods_supported": methods}
        if self.cimd:
            document["client_id_metadata_document_supported"] = True
        changed = {**document, **self.metadata_changes}
        return {name: value for name, value in changed.items() if value is not None}

    def _build_routes(self) -> list[Route]:
        consent = _Consent(self).endpoint
        return [
            Route(route.path, consent, methods=["GET", "POST"]) if route.path.endswith("/authorize") else route
            for route in super()._build_routes()
        ]

    async def _oauth_metadata(self, request: Request) -> Response:
        return self._metadata_response(served=RFC8414 in self.metadata_at)

    async def _openid_metadata(self, request: Request) -> Response:
        place = OIDC_INSERTED if request.url.path.startswith("/.well-known/") else OIDC_APPENDED
        return self._metadata_response(served=place in self.metadata_at)

    def scripted(self, endpoint: str, params: Mapping[str, Any]) -> Response | None:
        if endpoint == "authorize" and self.cimd:
            self._fetch_client(params.get("client_id", ""))
        if endpoint == "token":
            self.forms.append(dict(params))
        if endpoint == "register":
            self.registration_attempts.append(dict(params))
        return super().scripted(endpoint, params)

    # Clients

    def _fetch_client(self, client_id: str) -> None:
        """The client whose metadata document lives at `client_id`; whoever it names itself must be that URL."""
        if not client_id.startswith("http") or client_id in self.ledger.clients:
            return
        document = httpx2.get(client_id).json()
        if document["client_id"] == client_id and document["token_endpoint_auth_method"] == "none":
            uris, grants = tuple(document["redirect_uris"]), tuple(document["grant_types"])
            self.add_client(Client(client_id, name=document["client_name"], redirect_uris=uris, grant_types=grants))

    async def _register(self, request: Request) -> Response:
        asked = json.loads(await request.body())
        if self.registrations_meet:
            await self.registrations_meet.wait()
        if asked.get("token_endpoint_auth_method") not in self.registration_methods:
            self.registration_attempts.append(asked)
            words = f"Use {' or '.join(self.registration_methods)}."
            return JSONResponse({"error": "invalid_client_metadata", "error_description": words}, 400)
        response = await super()._register(request)
        if self.client_secret_seconds and response.status_code == 201:
            made = json.loads(bytes(response.body))
            made["client_secret_expires_at"] = int(time.time() + self.client_secret_seconds)
            return JSONResponse(made, 201)
        return response

    def _authenticate(self, request: Request, form: Mapping[str, str]) -> Client:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            return super()._authenticate(request, form)
        client_id = form.get("client_id", "")
        claims = self._verified(form.get("client_assertion", ""), self.client_keys.get(client_id), aud=self.issuer)
        if {claims["iss"], claims["sub"]} != {client_id} or claims["jti"] in self.seen_jtis:
            raise OAuthError("invalid_client", "The assertion is somebody else's or was used before.", status=401)
        if "client_secret" in form or request.headers.get("authorization"):
            raise OAuthError("invalid_request", "Authenticate in one way only.")
        self.seen_jtis.add(claims["jti"])
        return self.ledger.clients[client_id]

    def _verified(self, token: str, key: Any, *, aud: str) -> dict[str, Any]:
        """The claims of a JWT for `aud` (exactly that) that is signed and not expired. Raises OAuthError."""
        try:
            claims = jwt.decode(token, jwk.import_key(key) if isinstance(key, dict) else key, ALGORITHMS).claims
            needed = JWTClaimsRegistry(
                iss={"essential": True}, sub={"essential": True}, jti={"essential": True}, exp={"essential": True}
            )
            needed.validate(claims)
        except (JoseError, ValueError, TypeError, AttributeError) as error:
            raise OAuthError("invalid_client", f"The assertion cannot be verified: {error}", status=401) from None
        if claims.get("aud") != aud or claims["exp"] > time.time() + 600:
            raise OAuthError("invalid_client", f"The assertion is for {claims.get('aud')}, not for {aud}.", status=401)
        return dict(claims)

    # Grants

    async def _token(self, request: Request) -> Response:
        response = await super()._token(request)
        if not self.loses_answers:
            return response
        self.loses_answers -= 1
        return _HangUp()

    def checked_resource(self, params: Mapping[str, str]) -> str:
        if self.refuse_resource and "resource" in params:
            raise OAuthError("invalid_request", "The 'resource' request parameter is not supported.")
        return super().checked_resource(params)

    def _answer_grant(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        more = {TOKEN_EXCHANGE: self._exchange_token, JWT_BEARER: self._take_assertion}
        answer = more.get(form.get("grant_type", ""))
        return answer(client, form) if answer else super()._answer_grant(client, form)

    def _issue_tokens(self, grant: Grant, client: Client, **how: Any) -> dict[str, Any]:
        body = super()._issue_tokens(grant, client, **how)
        if "openid" in grant.scopes and grant.person:
            body["id_token"] = self.sign(sub=grant.person, aud=client.client_id)
        return body

    def sign(self, *, seconds: float = 300, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A JWT of this issuer."""
        now = int(time.time())
        known = {"iss": self.issuer, "iat": now, "exp": int(now + seconds), "jti": f"jti-{time.perf_counter_ns()}"}
        return str(jwt.encode({"alg": "ES256", **(header or {})}, {**known, **claims}, self.key))

    def _person_of(self, client: Client, form: Mapping[str, str]) -> str:
        """Whom a subject token is about: an access token or ID token of this issuer (RFC 8693 §2.1)."""
        token, kind = form.get("subject_token", ""), form.get("subject_token_type", "").removeprefix(TOKEN_TYPE)
        if kind == "access_token" and (grant := self.lookup(token)):
            return grant.person
        if kind == "id_token":
            return self._subject_of_id_token(token, client)
        raise OAuthError("invalid_grant", f"The subject token is not a live {kind}.")

    def _subject_of_id_token(self, token: str, client: Client) -> str:
        try:
            return str(self._verified(token, self.key, aud=client.client_id)["sub"])
        except OAuthError as error:
            # RFC 8693 §2.2.2 is about the token, not about the client that shows it.
            raise OAuthError("invalid_grant", error.description) from None

    def _exchange_token(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        person = self._person_of(client, form)
        if form.get("requested_token_type") == f"{TOKEN_TYPE}id-jag":
            return self._assert_identity(person, form)
        scopes = chosen_scopes(form.get("scope", ""), self.scopes_for(client))
        grant = Grant(person, client.client_id, scopes, self.checked_resource(form), f"exchange-{time.time_ns()}")
        return {**self._issue_tokens(grant, client), "issued_token_type": f"{TOKEN_TYPE}access_token"}

    def _assert_identity(self, person: str, form: Mapping[str, str]) -> dict[str, Any]:
        """The IdP's half of ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant): an assertion for the other AS."""
        audience = form.get("audience", "")
        if audience not in self.names_elsewhere:
            raise OAuthError("invalid_target", f"People here may not use {audience}.")
        claims = {"sub": person, "aud": audience, "client_id": self.names_elsewhere[audience]}
        claims |= {name: form[name] for name in ("resource", "scope") if name in form}
        signed = self.sign(header={"typ": "oauth-id-jag+jwt"}, **claims)
        issued = {"issued_token_type": f"{TOKEN_TYPE}id-jag", "token_type": "N_A", "expires_in": 300}
        return {"access_token": signed, **issued}

    def _take_assertion(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        """The resource's half: a token for whom a trusted IdP names to this client."""
        assertion = form.get("assertion", "")
        try:
            issuer = str(jwt.decode(assertion, self.key, ALGORITHMS).claims["iss"])
        except (JoseError, ValueError, KeyError):
            raise OAuthError("invalid_grant", "The assertion is not signed by anybody known here.") from None
        if issuer not in self.trusts:
            raise OAuthError("invalid_grant", f"Nobody here trusts {issuer}.")
        claims = self._verified(assertion, self.trusts[issuer], aud=self.issuer)
        if claims.get("client_id") != client.client_id or claims["jti"] in self.seen_jtis:
            raise OAuthError("invalid_grant", "The assertion is another client's, or was used before.")
        self.seen_jtis.add(claims["jti"])
        scopes = chosen_scopes(str(claims.get("scope", "")), self.scopes_for(client))
        resource = str(claims.get("resource", ""))
        grant = Grant(str(claims["sub"]), client.client_id, scopes, resource, f"jag-{time.time_ns()}")
        return self._issue_tokens(grant, client)


class _Consent(Consent):
    """The consent page, with the switches `granted` and `sends_iss`."""

    server: Provider

    def _requested_grant(self, client: Client, params: Mapping[str, str]) -> Grant:
        asked = super()._requested_grant(client, params)
        kept = tuple(s for s in asked.scopes if self.server.granted is None or s in self.server.granted)
        return Grant(asked.person, asked.client_id, kept, asked.resource, asked.family)

    def _redirect_back(self, params: Mapping[str, str], answer: Mapping[str, str]) -> Response:
        response = super()._redirect_back(params, answer)
        if self.server.sends_iss != "its own":
            location = httpx2.URL(response.headers["location"]).copy_remove_param("iss")
            if self.server.sends_iss is not None:
                location = location.copy_set_param("iss", self.server.sends_iss)
            response.headers["location"] = str(location)
        return response


# --- Broken answers ---------------------------------------------------------------------------------------------------


class _HangUp(Response):
    """Promises more than it sends: the connection closes in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"500")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"access_token": "', "more_body": True})


async def _drops() -> AsyncIterator[bytes]:
    for _ in range(600):
        yield b" "
        await asyncio.sleep(0.05)


def _token(**changes: Any) -> dict[str, Any]:
    return {"access_token": "at-broken", "token_type": "Bearer", "expires_in": 60, **changes}


def _text(body: str, status: int = 200, kind: str = "application/json", **headers: str) -> Callable[[], Response]:
    return lambda: Response(body, status, headers, kind)


BROKEN_TOKEN_ANSWERS: dict[str, Callable[[], Response]] = {
    "html": _text("<!doctype html><title>Welcome</title>", kind="text/html"),
    "error with 200": _text(json.dumps({"error": "invalid_grant", "error_description": "Token was revoked"})),
    "no access token": _text(json.dumps({"token_type": "Bearer", "expires_in": 60})),
    "NaN expires_in": _text('{"access_token": "at-broken", "token_type": "Bearer", "expires_in": NaN}'),
    "newline in token": _text(json.dumps(_token(access_token="at-broken\r\nX-Evil: 1"))),
    "mac token": _text(json.dumps(_token(token_type="mac"))),
    "429": _text("slow down", 429, "text/plain", **{"Retry-After": "90"}),
    "500": _text("Traceback: secret-of-the-provider", 500, "text/plain"),
    "redirect": lambda: RedirectResponse("/elsewhere", 307),
    "huge": lambda: Response(b" " * 10_000_000, media_type="application/json"),
    "drip": lambda: StreamingResponse(_drops(), media_type="application/json"),
    "hang-up": _HangUp,
}


def padded(megabytes: int) -> Callable[[Mapping[str, Any]], Response]:
    """For `answers["metadata"]`: the true document, made this long."""
    return lambda document: JSONResponse({**document, "padding": "x" * megabytes * 1_000_000})


# --- The protected MCP server -----------------------------------------------------------------------------------------


@dataclass
class ProtectedServer:
    """A real MCP server (tests/fakes/mcp_servers.py, both eras) behind a bearer gate.

    issuers: the authorization servers its metadata names. accepts: those whose tokens it takes. prm_at: the paths where
    its metadata is served; prm_changes: what it says instead (None: nothing). points_at_metadata: whether a 401 says
    where that is. is_open: take everybody. scope: what every request needs; tool_scopes: tool → what its calls need as
    well. never_content: a scope it demands for calls, granted or not. other_challenges: WWW-Authenticate lines sent
    before its own.
    """

    url: str
    issuers: list[str]
    accepts: list[Provider]
    prm_at: set[str]
    prm_changes: dict[str, Any] = field(default_factory=dict)
    points_at_metadata: bool = True
    scopes_supported: Sequence[str] = ("read",)
    is_open: bool = False
    scope: str = ""
    tool_scopes: dict[str, str] = field(default_factory=dict)
    never_content: str = ""
    other_challenges: Sequence[str] = ()
    fake: FakeServer = field(default_factory=modern_and_legacy_app)

    def move_to(self, provider: Provider) -> None:
        """Another authorization server protects it from now on; the first one's tokens are worth nothing."""
        self.issuers, self.accepts = [provider.issuer], [provider]

    def metadata(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "resource": self.url, "authorization_servers": self.issuers,
            "scopes_supported": list(self.scopes_supported), **self.prm_changes,
        }  # fmt: skip
        return {name: value for name, value in document.items() if value is not None}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if self.is_open:
            await self.fake(scope, receive, send)
            return
        token = Request(scope).headers.get("authorization", "").partition(" ")[2]
        grant = next((found for provider in self.accepts if (found := provider.lookup(token))), None)
        if grant is None or grant.resource not in ("", self.url):
            problem = {"error": "invalid_token", "error_description": "Unknown or expired"} if token else {}
            await self._challenge(401, **problem)(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        missing = [name for name in self._needed(body) if name not in grant.scopes or name == self.never_content]
        if missing:
            refusal = self._challenge(403, error="insufficient_scope", scope=" ".join(missing))
            await refusal(scope, receive, send)
            return
        await self.fake(scope, _played_again(body, receive), send)

    def _needed(self, body: bytes) -> list[str]:
        message = json.loads(body or b"{}")
        needed = self.scope.split()
        if message.get("method") == "tools/call":
            needed += [*self.tool_scopes.get(message["params"]["name"], "").split(), *self.never_content.split()]
        return needed

    def _challenge(self, status: int, **fields: str) -> Response:
        if self.points_at_metadata:
            fields["resource_metadata"] = f"{_origin(self.url)}{metadata_path(self.url)}"
        line = ", ".join(f'{name}="{value}"' for name, value in fields.items())
        response = JSONResponse({"error": "no"}, status)
        for challenge in (*self.other_challenges, f"Bearer {line}".strip()):
            response.headers.append("www-authenticate", challenge)
        return response


def _played_again(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return again


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


# --- Both on one port -------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """A provider and an MCP server on one origin. It remembers everything it was asked."""

    origin: str
    provider: Provider
    mcp: ProtectedServer
    log: list[tuple[str, str]] = field(default_factory=list)

    def asked(self, method: str = "") -> list[str]:
        """The paths that were asked for, in order, without those of the MCP server itself."""
        own = urlsplit(self.mcp.url).path
        return [path for asked, path in self.log if path != own and method in ("", asked)]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.log.append((scope["method"], path))
        app: Any = self.provider.app
        if path == urlsplit(self.mcp.url).path:
            app = self.mcp
        elif path.startswith("/.well-known/oauth-protected-resource"):
            found = path in self.mcp.prm_at
            app = JSONResponse(self.mcp.metadata() if found else {}, 200 if found else 404)
        await app(scope, receive, send)


class Ground:
    """A loopback port that serves one Site after another: starting and stopping threads would cost more than tests."""

    def __init__(self) -> None:
        bound = bind_port("127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{bound.getsockname()[1]}"
        self.current: Site | None = None
        self._fake = modern_and_legacy_app()
        self._thread = ServerThread(self, bound)

    def build(self, *, issuer_path: str = "", **switches: Any) -> Site:
        """A provider with these switches and its MCP server, in the place of those before."""
        self._fake.requests.clear()
        provider, url = Provider(f"{self.origin}{issuer_path}", **switches), f"{self.origin}/mcp"
        server = ProtectedServer(url, [provider.issuer], [provider], {metadata_path(url)}, fake=self._fake)
        self.current = Site(self.origin, provider, server)
        return self.current

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        app = self._fake.app if scope["type"] == "lifespan" else self.current
        assert app is not None
        await app(scope, receive, send)


@contextmanager
def site(**switches: Any) -> Iterator[Site]:
    """Serve one Site (see Ground.build) from a thread of its own."""
    ground = Ground()
    ground.start()
    try:
        yield ground.build(**switches)
    finally:
        ground.stop()
