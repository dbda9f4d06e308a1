"""Connect and disconnect: the two requests of an OAuth sign-in, and its end (walk 2 of docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from aster import crypto, egress
from aster.accounts import audit
from aster.accounts.access import CONNECT, Actor
from aster.accounts.models import User
from aster.celery import enqueue
from aster.errors import Conflict, InvalidInput, NotAllowed, NotFound, UpstreamError
from integrations.models import (
    AuthConfig,
    AuthType,
    Connection,
    ConnectionStatus,
    McpServer,
    PendingAuthorization,
    RefreshOutcome,
    ResourceMode,
    callback_url,
)
from integrations.oauth import authorization, token_requests, tokens
from integrations.services import grants, ledger, refresh, sign_in_failures
from integrations.services.clients import OAuthClient, client_for
from integrations.services.discovery import check_pkce, follow_provider, hydrate, needs_discovery
from integrations.services.step_up import scopes_to_request

MAX_JOURNEYS = 10
# What a provider's metadata said is asked again before a sign-in when it is older than this.
METADATA_AGE = timedelta(hours=1)


@dataclass(frozen=True)
class Begun:
    """Where to send the person, or the connection itself when nobody needs to consent.

    `state_digest` finds the journey again, for who has more to do when it ends.
    """

    authorization_url: str | None = None
    connection: Connection | None = None
    state_digest: str = ""


def begin_connection(
    auth: AuthConfig,
    *,
    actor: Actor,
    redirect_uri: str = "",
    browser: str = "",
    return_to: str = "",
    subject_token: str = "",
    subject_token_type: str = "",
) -> Begun:
    """Start a connection of the acting person at `auth`.

    `redirect_uri` is Aster's own callback unless an API caller asks for one the auth config allows. `browser` binds the
    journey to a browser session. `subject_token` is for derived sign-ins only: the token to exchange, instead of the
    person's own sign-in at the source. Raises InvalidInput or UpstreamError; nothing is left behind then.
    """
    actor.require_scope(CONNECT)
    if auth.auth_type == AuthType.CLIENT_CREDENTIALS:
        actor.require_admin()
        return Begun(connection=connect_organization(auth, actor=actor))
    if not auth.needs_person:
        raise InvalidInput(f"{auth} needs no sign-in: its credentials are shared.", code="no_sign_in_needed")
    require_may_connect(auth, actor)
    derive = auth if auth.is_derived else None
    if subject_token and derive is None:
        message = f"{auth} takes no token: people sign in to it themselves. Leave subject_token out."
        raise InvalidInput(message, fields={"subject_token": [message]})
    if derive is not None:
        if subject_token or _is_connected(derive.subject_config, actor):
            kind = subject_token_type or token_requests.ACCESS_TOKEN
            with sign_in_failures.remembered(derive, actor=actor):
                return Begun(connection=_derive_connection(derive, (subject_token, kind), actor=actor))
        auth = _source_of(derive)
    redirect_uri = redirect_uri or callback_url()
    if redirect_uri not in (callback_url(), *auth.allowed_redirect_uris):
        message = "This redirect URI is not allowed. An admin can add it to the auth config's allowed redirect URIs."
        raise InvalidInput(message, fields={"redirect_uri": [message]})
    current = Connection.objects.filter(auth_config=auth, user=actor.person).first()
    troubled = current is not None and (current.status == ConnectionStatus.ERROR or bool(current.wanted_scopes))
    discover_provider(auth, actor=actor, recheck=troubled)
    check_pkce(auth)
    with sign_in_failures.remembered(auth, actor=actor):
        client = client_for(auth, actor=actor)
    journey = PendingAuthorization(redirect_uri=redirect_uri, return_to=return_to, derive=derive)
    journey.browser = crypto.digest(browser) if browser else ""
    journey.scopes = scopes_to_request(auth, current)
    url = _set_out(journey, auth, client, actor=actor)
    return Begun(authorization_url=url, state_digest=journey.state_digest)


def require_may_connect(auth: AuthConfig, actor: Actor) -> None:
    """Whether this person may sign in at `auth` at all (features K3)."""
    if not auth.allow_end_user_auth and not actor.is_admin:
        raise NotAllowed(f"Members cannot connect accounts at {auth}. Ask an admin.", code="connecting_off")
    switches = set(auth.servers.values_list("is_enabled", flat=True))
    if switches == {False}:
        raise Conflict(f"What {auth} is for is switched off. An admin can switch it on.", code="server_disabled")


def _is_connected(auth: AuthConfig | None, actor: Actor) -> bool:
    rows = Connection.objects.filter(auth_config=auth, user=actor.person, status=ConnectionStatus.CONNECTED)
    return auth is not None and rows.exists()


def _source_of(derived: AuthConfig) -> AuthConfig:
    if derived.subject_config is None:
        raise InvalidInput(f"{derived} does not say whose sign-in it is derived from. Ask an admin to choose one.")
    return derived.subject_config


def _derive_connection(auth: AuthConfig, subject: tuple[str, str], *, actor: Actor) -> Connection:
    """A grant for the person's sign-in at the source, or for a token that a script handed in."""
    discover_provider(auth, actor=actor)
    grant = _new_grant(auth, client_for(auth, actor=actor), actor.person)
    grant.subject_token, grant.subject_token_type = subject if subject[0] else ("", "")
    source = refresh.find_subject(grant)
    with egress.deadline(2 * grants.TOKEN_REQUEST_SECONDS):
        answer = grants.request_token(auth, grant, source)
    return _store_grant(grant, answer, auth.scopes, actor=actor)


def _new_grant(auth: AuthConfig, client: OAuthClient, user: User | None) -> Connection:
    """A grant to be asked for, bound to the client and endpoints of now."""
    return Connection(
        auth_config=auth,
        user=user,
        issuer=auth.issuer,
        client_id=client.client_id,
        client_secret=client.client_secret,
        token_endpoint_auth_method=client.auth_method,
        token_url=auth.token_url,
        revocation_url=auth.revocation_url,
        resource=auth.resource,
        origins=origins_of(auth),
    )


def _set_out(journey: PendingAuthorization, auth: AuthConfig, client: OAuthClient, *, actor: Actor) -> str:
    """Write down what the callback will need in the row its state leads to; returns where to send the person.

    The row is stored before anybody is redirected, with the issuer the answer must come from (RFC 9207 §2.4).
    """
    pkce = authorization.new_pkce() if auth.use_pkce else None
    state = authorization.new_state()
    supported = auth.provider_metadata.get("scopes_supported")
    scopes = authorization.add_offline_access(journey.scopes, supported if isinstance(supported, list) else ())
    journey.state_digest = crypto.digest(state)
    journey.auth_config, journey.organization, journey.user = auth, actor.organization, actor.person
    journey.verifier = pkce.verifier if pkce else ""
    journey.issuer, journey.iss_required = auth.issuer, auth.iss_required
    journey.client_id, journey.client_secret = client.client_id, client.client_secret
    journey.token_endpoint_auth_method = client.auth_method
    journey.token_url, journey.revocation_url = auth.token_url, auth.revocation_url
    journey.resource, journey.origins, journey.scopes = auth.resource, origins_of(auth), list(scopes)
    journey.expires_at = timezone.now() + PendingAuthorization.LIFETIME
    url = authorization.authorization_url(
        auth.authorization_url,
        client_id=client.client_id,
        redirect_uri=journey.redirect_uri,
        scope=" ".join(scopes) or None,
        state=state,
        code_challenge=pkce.challenge if pkce else None,
        resource=auth.resource if auth.resource and auth.resource_mode == ResourceMode.SEND else None,
        audience=auth.audience or None,
        extra=auth.extra_authorize_params,
    )
    journey.save()
    _forget_old_journeys(auth, actor)
    return url


def _forget_old_journeys(auth: AuthConfig, actor: Actor) -> None:
    """Clicking Connect over and over leaves the newest few journeys, not one for each click."""
    mine = PendingAuthorization.objects.filter(auth_config=auth, user=actor.person)
    kept = mine.order_by("-pk").values_list("pk", flat=True)[:MAX_JOURNEYS]
    mine.exclude(pk__in=list(kept)).delete()


def origins_of(auth: AuthConfig) -> list[str]:
    """Where a grant at `auth` may be sent: the servers that use it now."""
    return [] if auth._state.adding else sorted({server.origin for server in auth.servers.exclude(url="")})


def discover_provider(auth: AuthConfig, *, actor: Actor, recheck: bool = False) -> None:
    """Make sure the endpoints of `auth` are known and still true, asking the provider at most once an hour.

    `recheck` asks at once: something is wrong, and the server may have moved to another provider. One that cannot be
    asked now keeps nobody from signing in with what is known.
    """
    server = next((each for each in auth.servers.order_by("pk") if each.says_how_to_sign_in), None)
    missing = needs_discovery(auth)
    outdated = auth.discovered_at is not None and auth.discovered_at < timezone.now() - METADATA_AGE
    if server and (missing or recheck or outdated):
        result = hydrate(auth, server) if missing else follow_provider(auth, server)
        if result and result.oauth:
            audit.save_audited(auth, actor=actor, action="discovered")
        elif result and result.problem and not auth.token_url:
            raise UpstreamError(result.problem, step="discovery", hint="Ask an admin to check the server's address.")
    sends_people = auth.auth_type == AuthType.AUTHORIZATION_CODE
    if not auth.token_url or (sends_people and not auth.authorization_url):
        raise UpstreamError(
            f"Aster does not know where to sign in for {auth}.",
            step="discovery",
            code="endpoints_missing",
            hint="An admin can enter the authorization URL and token URL, or check the server's address.",
        )


def peek_pending(state: str) -> PendingAuthorization | None:
    """The journey a state belongs to, without ending it."""
    rows = PendingAuthorization.objects.select_related("auth_config__organization", "organization", "user")
    return rows.filter(state_digest=crypto.digest(state)).first() if state else None


def complete_connection(params: Mapping[str, str], *, actor: Actor, browser: str = "") -> Connection:
    """The provider's callback: check it, exchange the code once, store the grant.

    `params` is the callback's query. A state that is unknown, used, expired, somebody else's or another browser's is
    refused without touching anything; a known one is spent by one DELETE before the code is sent anywhere.
    """
    pending = _redeem(params.get("state", ""), actor=actor, browser=browser)
    auth = pending.auth_config
    with sign_in_failures.remembered(auth, actor=actor):
        code = authorization.check_callback(params, issuer=pending.issuer or None, iss_required=pending.iss_required)
        answer = _exchange_code(pending, code)
    grant = Connection(
        auth_config=auth,
        user=pending.user,
        issuer=pending.issuer,
        client_id=pending.client_id,
        client_secret=pending.client_secret,
        token_endpoint_auth_method=pending.token_endpoint_auth_method,
        token_url=pending.token_url,
        revocation_url=pending.revocation_url,
        resource=pending.resource,
        origins=pending.origins,
    )
    connection = _store_grant(grant, answer, pending.scopes, actor=actor)
    if pending.derive is not None:
        return _derive_connection(pending.derive, ("", ""), actor=actor)
    return connection


def _exchange_code(pending: PendingAuthorization, code: str) -> tokens.TokenSet:
    try:
        with egress.deadline(grants.TOKEN_REQUEST_SECONDS):
            return token_requests.exchange_code(
                grants.endpoint_of(pending.auth_config, pending),
                code=code,
                redirect_uri=pending.redirect_uri,
                code_verifier=pending.verifier or None,
                http=egress.client(),
                now=timezone.now(),
            )
    except tokens.TokenRefused as refused:
        if refused.error == "invalid_client":
            grants.forget_client(pending)
        raise


def _redeem(state: str, *, actor: Actor, browser: str) -> PendingAuthorization:
    pending = peek_pending(state)
    if pending is None or pending.expires_at <= timezone.now():
        raise InvalidInput(
            "This sign-in was already finished or took longer than ten minutes. Click Connect again.",
            code="state_unknown",
        )
    same_browser = not pending.browser or pending.browser == crypto.digest(browser)
    if pending.user != actor.user or pending.organization_id != actor.organization.pk or not same_browser:
        raise InvalidInput(
            "This sign-in was started by somebody else or in another browser. Click Connect here and try again.",
            code="state_foreign",
        )
    deleted, _ = PendingAuthorization.objects.filter(pk=pending.pk).delete()
    if not deleted:
        raise InvalidInput("This sign-in was already finished. Click Connect again.", code="state_unknown")
    return pending


def connect_organization(auth: AuthConfig, *, actor: Actor) -> Connection:
    """Client credentials: ask for a token at once; the connection belongs to the organization (RFC 6749 §4.4)."""
    discover_provider(auth, actor=actor)
    grant = _new_grant(auth, client_for(auth, actor=actor), None)
    with egress.deadline(grants.TOKEN_REQUEST_SECONDS):
        answer = grants.request_token(auth, grant)
    return _store_grant(grant, answer, auth.scopes, actor=actor)


def request_test_token(auth: AuthConfig, client: OAuthClient) -> str:
    """A client-credentials token for an auth config that is not stored yet; nothing is kept."""
    with egress.deadline(grants.TOKEN_REQUEST_SECONDS):
        return grants.request_token(auth, _new_grant(auth, client, None)).access_token


def _store_grant(grant: Connection, answer: tokens.TokenSet, asked: list[str], *, actor: Actor) -> Connection:
    """Store a new grant in the one row of this person and auth config, over whatever was there."""
    now = timezone.now()
    values: dict[str, Any] = {
        name: getattr(grant, name)
        for name in (
            *("issuer", "client_id", "client_secret", "token_endpoint_auth_method"),
            *("token_url", "revocation_url", "resource", "origins", "subject_token", "subject_token_type"),
        )
    }
    grant.refresh_token = answer.refresh_token or ""
    values |= {
        "access_token": answer.access_token,
        "refresh_token": answer.refresh_token or "",
        "id_token": answer.id_token or "",
        "expires_at": answer.expires_at,
        # An omitted scope means that all that was asked for was granted (RFC 6749 §5.1).
        "scopes": list(asked) if answer.scopes is None else answer.scopes,
        "requested_scopes": list(asked),
        "wanted_scopes": [],
        "status": ConnectionStatus.CONNECTED,
        "claim": None,
        "claimed_until": None,
        "refresh_at": refresh.next_refresh(now, answer.expires_at, can_refresh=grant.can_refresh),
        "refreshed_at": now,
        "failures": 0,
        "last_error": "",
        "last_error_at": None,
        "connected_at": now,
    }
    try:
        return _write_grant(grant, values, actor)
    except IntegrityError:
        # The same person finished two sign-ins at once; the row exists now.
        return _write_grant(grant, values, actor)


def _write_grant(grant: Connection, values: dict[str, Any], actor: Actor) -> Connection:
    with transaction.atomic():
        rows = Connection.objects.select_for_update().filter(auth_config=grant.auth_config, user=grant.user)
        # Ordered by itself: the model's ordering joins the user, and PostgreSQL locks no outer join.
        stored = rows.order_by("pk").first()
        connection = stored or Connection(auth_config=grant.auth_config, user=grant.user, generation=0)
        for name, value in values.items():
            setattr(connection, name, value)
        connection.generation += 1
        connection.save()
        audit.record(actor, "connected", connection, {"scopes": [None, connection.scopes]})
        ledger.write(connection, RefreshOutcome.SIGNED_IN, "sign-in", generation=connection.generation)
        servers = McpServer.objects.filter(auth_config=grant.auth_config, is_enabled=True)
        servers.update(sync_due_at=timezone.now())
        # Trouble from before this sign-in says nothing about now.
        servers.filter(tools_synced_at=None).update(tested_at=None)
        for pk in servers.values_list("pk", flat=True):
            enqueue("integrations.tasks.sync_server", pk)
    return connection


def find_connection(pk: int, *, actor: Actor) -> Connection:
    rows = Connection.objects.visible_to(actor).select_related("auth_config__organization", "user")
    connection = rows.filter(pk=pk).first()
    if connection is None:
        raise NotFound("There is no such connection.")
    return connection
