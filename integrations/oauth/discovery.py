"""From the URL of an MCP server to the endpoints of the authorization server that protects it.

The order of the documents is the specification's (RFC 9728 §3, RFC 8414 §3, OpenID Connect Discovery §4): asking one
that was not due makes strict servers refuse the client, and the first that answers counts. Every URL in a document was
written by a stranger and is vetted before anything is done with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, urlsplit

from mcp.client.auth.utils import (
    build_oauth_authorization_server_metadata_discovery_urls,
    build_protected_resource_metadata_discovery_urls,
    issuers_match,
)
from mcp.shared.auth_utils import resource_url_from_server_url
from mcp_types import LATEST_PROTOCOL_VERSION

from aster import egress
from aster.errors import AsterError, UpstreamError
from integrations.oauth.challenges import BearerChallenge, scope_tokens
from integrations.oauth.sender import Http, read_json_object, send
from integrations.oauth.wording import clean_words, name_host

TOTAL_SECONDS = 30.0
_HEADERS = {"mcp-protocol-version": LATEST_PROTOCOL_VERSION}
_HINT_BY_HAND = "Enter the provider's issuer or endpoints by hand in the sign-in settings."


@dataclass(frozen=True)
class Step:
    """One document that was asked for. `status` is None when there was no answer."""

    url: str
    status: int | None
    outcome: str


class DiscoveryFailed(UpstreamError):
    """No usable authorization server was found; `steps` says what was tried."""

    code = "discovery_failed"

    def __init__(self, message: str, *, steps: Iterable[Step] = (), **kw: Any) -> None:
        super().__init__(message, step="discovery", **kw)
        self.steps = tuple(steps)


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What was found. Identifiers and endpoints are the documents' own strings; lists are empty if not stated."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str | None = None  # absent where only client credentials are served (RFC 8414 §2)
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    resource: str | None = None  # what to send as `resource` (RFC 8707)
    resource_metadata_url: str | None = None
    authorization_servers: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()  # what to ask for: the challenge's, otherwise the resource's; empty means omit
    scopes_supported: tuple[str, ...] = ()  # the authorization server's
    token_endpoint_auth_methods: tuple[str, ...] = ()
    code_challenge_methods: tuple[str, ...] = ()
    iss_parameter_supported: bool = False
    client_id_metadata_document_supported: bool = False
    uses_legacy_defaults: bool = False
    protected_resource: Mapping[str, Any] | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    steps: tuple[Step, ...] = field(default=(), repr=False)

    @property
    def supports_pkce(self) -> bool:
        """Whether S256 is advertised; without it the specification forbids to go on."""
        return "S256" in self.code_challenge_methods


def discover(
    server_url: str,
    *,
    http: Http,
    challenge: BearerChallenge | None = None,
    issuer: str | None = None,
    allow_legacy: bool = False,
) -> Discovery:
    """Find the authorization server of the MCP server at `server_url`, in at most 30 seconds.

    `challenge` is what its 401 said. `issuer` pins one of the authorization servers (default: the first), and stands in
    for them if the server has no protected resource metadata. Without either, and only with `allow_legacy`, its origin
    is taken for its authorization server (2025-03-26), with default endpoints if it publishes no metadata either.
    Raises DiscoveryFailed; code `legacy_server` if allowing it would have found something.
    """
    walk = _Walk(http)
    with egress.deadline(TOTAL_SECONDS):
        walk.vet("server URL", server_url)
        found = _find_protected_resource(walk, server_url, challenge)
        if found is None:
            known: dict[str, Any] = {"resource": _canonical(server_url), "scopes": _select_scopes(challenge, {})}
            if issuer is not None:
                return _read_metadata(walk, _find_metadata(walk, issuer), authorization_servers=(issuer,), **known)
            return _discover_legacy(walk, server_url, allow_legacy, known)
        url, protected_resource = found
        servers = _strings(protected_resource, "authorization_servers")
        return _read_metadata(
            walk,
            _find_metadata(walk, _choose_issuer(walk, servers, issuer)),
            protected_resource=protected_resource,
            resource_metadata_url=url,
            resource=protected_resource["resource"],
            authorization_servers=servers,
            scopes=_select_scopes(challenge, protected_resource),
        )


def discover_issuer(issuer: str, *, http: Http) -> Discovery:
    """The endpoints of a known authorization server. Raises DiscoveryFailed."""
    walk = _Walk(http)
    with egress.deadline(TOTAL_SECONDS):
        return _read_metadata(walk, _find_metadata(walk, issuer), authorization_servers=(issuer,))


def covers(resource: str, server_url: str) -> bool:
    """Whether a token for `resource` is meant for `server_url`: same origin, and the same or a parent path.

    RFC 9728 §3.3 wants them identical; servers commonly name their origin, and that is as safe.
    """
    try:
        theirs, ours = urlsplit(resource), urlsplit(server_url)
        if _origin(theirs) != _origin(ours) or theirs.fragment or theirs.query not in ("", ours.query):
            return False
    except ValueError:  # a port that is none
        return False
    return f"{ours.path.rstrip('/')}/".startswith(f"{theirs.path.rstrip('/')}/")


class _Walk:
    """One discovery: asks for documents and keeps the evidence."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._steps: list[Step] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps)

    def note(self, url: str, status: int | None, outcome: str) -> None:
        self._steps.append(Step(clean_words(url), status, clean_words(outcome)))

    def failure(self, message: str, **kw: Any) -> DiscoveryFailed:
        return DiscoveryFailed(message, steps=self._steps, **kw)

    def vet(self, name: str, url: str) -> str:
        try:
            egress.check_url(url, resolve=False)
        except AsterError as error:
            self.note(url, None, f"{name} refused: {error.message}")
            raise self.failure(f"The {name} cannot be used. {error.message}", code=error.code) from None
        return url

    def fetch(self, url: str) -> dict[str, Any] | None:
        """The JSON object at `url`, or None if this is not the place: then the next candidate is due."""
        self.vet("metadata URL", url)
        try:
            answer = send(self._http, "GET", url, step="discovery", headers=_HEADERS)
        except UpstreamError as error:
            self.note(url, None, error.message)
            raise self.failure(error.message, code=error.code, retryable=error.retryable, hint=error.hint) from None
        if answer.status >= 500 or answer.status == 429:
            # Not "no": going on could find another document, and with it another authorization server.
            self.note(url, answer.status, "server error")
            raise self.failure(f"{name_host(url)} answered {answer.status} when asked for metadata.", retryable=True)
        document = read_json_object(answer.body) if answer.status == 200 else None
        if document is None:
            outcome = "not JSON" if answer.status == 200 else "redirects" if 300 <= answer.status < 400 else "not here"
            self.note(url, answer.status, outcome)
        return document


def _find_protected_resource(
    walk: _Walk, server_url: str, challenge: BearerChallenge | None
) -> tuple[str, dict[str, Any]] | None:
    pointer = challenge.resource_metadata if challenge else None
    for url in dict.fromkeys(build_protected_resource_metadata_discovery_urls(pointer, server_url)):
        document = walk.fetch(url)
        if document is None:
            continue
        resource = document.get("resource")
        if not isinstance(resource, str) or not _strings(document, "authorization_servers"):
            walk.note(url, 200, "names no resource or no authorization server")
            continue
        if not covers(resource, server_url):
            walk.note(url, 200, f"is about {resource}")
            # RFC 9728 §3.3: using it would send people's tokens to whoever wrote it.
            raise walk.failure(
                f"The metadata of {name_host(server_url)} is about another resource: {clean_words(resource)}.",
                code="resource_mismatch",
                hint="Use that URL for the server, or ask its operator to correct the metadata.",
            )
        walk.vet("resource", resource)
        walk.note(url, 200, "protected resource metadata")
        return url, document
    return None


def _choose_issuer(walk: _Walk, servers: tuple[str, ...], pinned: str | None) -> str:
    """RFC 9728 §7.6 leaves the choice to the client: the pinned one, which must still be listed, or the first."""
    if pinned is None:
        return servers[0]
    listed = next((server for server in servers if issuers_match(server, pinned)), None)
    if listed is None:
        raise walk.failure(
            f"The server names {clean_words(servers[0])} as its authorization server, not {clean_words(pinned)}.",
            code="issuer_changed",
            hint="Check with the server's operator, then choose the issuer again in the sign-in settings.",
        )
    return listed


def _find_metadata(walk: _Walk, issuer: str) -> dict[str, Any]:
    walk.vet("issuer", issuer)
    document, problem = _try_metadata(
        walk, issuer, build_oauth_authorization_server_metadata_discovery_urls(issuer, issuer)
    )
    if document is None:
        raise walk.failure(
            f"The authorization server {clean_words(issuer)} cannot be used: {problem}.", hint=_HINT_BY_HAND
        )
    return document


def _try_metadata(walk: _Walk, issuer: str, urls: Iterable[str]) -> tuple[dict[str, Any] | None, str]:
    problem = "it publishes no metadata"
    for url in urls:
        document = walk.fetch(url)
        if document is None:
            continue
        stated = document.get("issuer")
        if not isinstance(stated, str) or not issuers_match(stated, issuer):
            # RFC 8414 §3.3: must not be used. The right document may still be at the next place.
            problem = f"its metadata names the issuer {clean_words(stated) or 'of nobody'}"
        elif not (isinstance(document.get("token_endpoint"), str) and document["token_endpoint"]):
            problem = "its metadata names no token endpoint"
        else:
            walk.note(url, 200, "authorization server metadata")
            return document, ""
        walk.note(url, 200, problem)
    return None, problem


def _discover_legacy(walk: _Walk, server_url: str, allowed: bool, known: dict[str, Any]) -> Discovery:
    """The 2025-03-26 revision: the server's origin is its own authorization server."""
    parts = urlsplit(server_url)
    origin = f"{parts.scheme}://{parts.netloc.lower()}"
    urls = build_oauth_authorization_server_metadata_discovery_urls(None, server_url)
    document, problem = _try_metadata(walk, origin, urls)
    if document is not None and allowed:
        return _read_metadata(walk, document, **known)
    if document is not None:
        raise walk.failure(
            f"{name_host(server_url)} does not say who protects it, as servers of 2025-03-26 did not: it would have to "
            "be its own authorization server.",
            code="legacy_server",
            hint="If you trust it with that, allow the 2025-03-26 revision in the sign-in settings.",
        )
    if not allowed:
        raise walk.failure(
            f"{name_host(server_url)} does not say who protects it: it has no protected resource metadata, "
            f"and as an authorization server {problem}.",
            hint=_HINT_BY_HAND,
        )
    # As if it had been published, so that whoever asks again can tell these from endpoints somebody typed.
    assumed = {
        "issuer": origin,
        "authorization_endpoint": f"{origin}/authorize",
        "token_endpoint": f"{origin}/token",
        "registration_endpoint": f"{origin}/register",
        # That revision demands PKCE of every server, without announcing it.
        "code_challenge_methods_supported": ["S256"],
    }
    return replace(_read_metadata(walk, assumed, **known), uses_legacy_defaults=True)


def _read_metadata(walk: _Walk, document: dict[str, Any], **known: Any) -> Discovery:
    return Discovery(
        issuer=document["issuer"],
        token_endpoint=walk.vet("token_endpoint", document["token_endpoint"]),
        # People's browsers are sent there: `javascript:` and `data:` stop here.
        authorization_endpoint=_read_endpoint(walk, document, "authorization_endpoint"),
        registration_endpoint=_read_optional_endpoint(walk, document, "registration_endpoint"),
        revocation_endpoint=_read_optional_endpoint(walk, document, "revocation_endpoint"),
        scopes_supported=_strings(document, "scopes_supported"),
        token_endpoint_auth_methods=_strings(document, "token_endpoint_auth_methods_supported"),
        code_challenge_methods=_strings(document, "code_challenge_methods_supported"),
        iss_parameter_supported=document.get("authorization_response_iss_parameter_supported") is True,
        client_id_metadata_document_supported=document.get("client_id_metadata_document_supported") is True,
        metadata=document,
        steps=walk.steps,  # last: refused endpoints are steps, too
        **known,
    )


def _read_endpoint(walk: _Walk, document: Mapping[str, Any], name: str) -> str | None:
    url = document.get(name)
    return walk.vet(name, url) if isinstance(url, str) and url else None


def _read_optional_endpoint(walk: _Walk, document: Mapping[str, Any], name: str) -> str | None:
    """Signing in works without this one: a bad address is noted as a step and left out."""
    try:
        return _read_endpoint(walk, document, name)
    except DiscoveryFailed:
        return None


def _select_scopes(challenge: BearerChallenge | None, protected_resource: Mapping[str, Any]) -> tuple[str, ...]:
    """What to ask for: the challenge knows best, then the resource; nothing means the provider's default."""
    if challenge and challenge.scope:
        return challenge.scopes
    return scope_tokens(_strings(protected_resource, "scopes_supported"))


def _strings(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = document.get(name)
    return tuple(value for value in values if isinstance(value, str) and value) if isinstance(values, list) else ()


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _canonical(server_url: str) -> str:
    """The server's own identifier (RFC 8707 §2, MCP "canonical server URI"): no fragment, no bare slash at the end."""
    canonical = resource_url_from_server_url(server_url)
    parts = urlsplit(canonical)
    return canonical.removesuffix("/") if parts.path == "/" and not parts.query else canonical
