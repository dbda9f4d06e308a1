"""What the requests of clients mean: django-oauth-toolkit asks here whether to believe them, and what to store.

Why it is ours and not the toolkit's own: docs/decisions/0016.
"""

from __future__ import annotations

import json
import logging
import uuid
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from oauth2_provider.models import AccessToken, Application, Grant, RefreshToken
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.oauth2.rfc6749 import errors

from agents.authorization_server import redirects, tokens
from agents.authorization_server.connected_apps import forget
from agents.models import ConnectedApp
from aster.accounts.access import CALL

# Sessions of one program share a refresh token and use it at the same moment (Claude Code does).
GRACE = timedelta(seconds=60)
logger = logging.getLogger(__name__)
Request = Any  # oauthlib's: a bag of whatever was sent


class Validator(OAuth2Validator):  # type: ignore[misc]  # the toolkit has no types
    # --- Clients ----------------------------------------------------------------------------------------------------

    def _load_application(self, client_id: str, request: Request) -> Application | None:
        """Clients that are known. Documents are read where a person is asked, never for a stranger's request."""
        if isinstance(request.client, Application) and request.client.client_id == client_id:
            return request.client
        known = isinstance(client_id, str) and "\0" not in client_id
        request.client = Application.objects.filter(client_id=client_id).first() if known else None
        return request.client

    def _check_secret(self, provided_secret: str, stored_secret: str) -> bool:
        """Secrets are ours and long, so that a plain digest keeps them; a client without one proves nothing by it."""
        return bool(stored_secret) and constant_time_compare(tokens.digest(provided_secret), stored_secret)

    def validate_redirect_uri(self, client_id: str, redirect_uri: str, request: Request, *args: Any, **kw: Any) -> bool:
        return any(redirects.matches(redirect_uri, each) for each in request.client.redirect_uris.split())

    def get_default_scopes(self, client_id: str, request: Request, *args: Any, **kwargs: Any) -> list[str]:
        return [CALL]

    def validate_scopes(
        self, client_id: str, scopes: Any, client: Any, request: Request, *args: Any, **kw: Any
    ) -> bool:
        """Whatever a client asks for, the person is offered what the agent knows (RFC 6749 §3.3)."""
        return True

    # --- Codes ------------------------------------------------------------------------------------------------------

    def _create_authorization_code(self, request: Request, code: dict[str, str], expires: Any = None) -> Grant:
        return super()._create_authorization_code(request, {"code": tokens.digest(code["code"])}, expires)

    def _grant(self, code: str, client: Application | None) -> Grant | None:
        found = Grant.objects.filter(code=tokens.digest(code), application=client, expires__gt=timezone.now())
        return found.select_related("user").first()

    def validate_code(self, client_id: str, code: str, client: Any, request: Request, *args: Any, **kw: Any) -> bool:
        grant = self._grant(code, client)
        if grant is None:
            return False
        request.user, request.scopes, request.grant = grant.user, grant.scope.split(), grant
        return True

    def get_code_challenge(self, code: str, request: Request) -> str | None:
        return request.grant.code_challenge or None

    def get_code_challenge_method(self, code: str, request: Request) -> str | None:
        return request.grant.code_challenge_method or None

    def confirm_redirect_uri(
        self, client_id: str, code: str, redirect_uri: str, client: Any, *a: Any, **kw: Any
    ) -> bool:
        grant = self._grant(code, client)
        return grant is not None and grant.redirect_uri == redirect_uri

    def invalidate_authorization_code(self, client_id: str, code: str, request: Request, *a: Any, **kw: Any) -> None:
        """Spent already, in one transaction with the tokens it was exchanged for (_save_bearer_token)."""

    # --- Tokens -----------------------------------------------------------------------------------------------------

    def validate_refresh_token(self, refresh_token: str, client: Any, request: Request, *a: Any, **kw: Any) -> bool:
        row = RefreshToken.objects.filter(token_checksum=tokens.digest(refresh_token), application=client)
        stored = row.select_related("user", "application").first()
        if stored is None or stored.created < timezone.now() - ConnectedApp.IDLE:
            return False
        if _was_used_long_ago(stored):
            # Two hold this token, and nobody can tell which of them is the thief (RFC 9700 §4.14.2).
            logger.warning("A used refresh token of the client %s came back: that sign-in was ended.", client.pk)
            _end_family(stored)
            return False
        app = _app_of(stored.user_id, client, stored.resource)
        if app is None or not tokens.is_in_place(app):
            return False
        request.user, request.refresh_token, request.stored, request.app = stored.user, refresh_token, stored, app
        return True

    def get_original_scopes(self, refresh_token: str, request: Request, *args: Any, **kwargs: Any) -> list[str]:
        return list(request.app.scopes)

    def _save_bearer_token(self, token: dict[str, Any], request: Request, *args: Any, **kwargs: Any) -> None:
        """Store a pair, in a transaction: requests about one consent wait for each other, and for its revocation."""
        row = request.grant if request.grant_type == "authorization_code" else request.stored
        _check_resource(request, row.resource)
        app = _app_of(request.user.pk, request.client, row.resource, lock=True)
        family = _spend_code(row) if request.grant_type == "authorization_code" else _supersede(row)
        if app is None or family is None:
            raise errors.InvalidGrantError(request=request)
        expires = timezone.now() + timedelta(seconds=token["expires_in"])
        held = {"user": request.user, "application": request.client, "resource": row.resource}
        access = AccessToken(scope=token["scope"], expires=expires, **held)
        self._set_token_value(access, token["access_token"])
        access.save()
        refresh = RefreshToken(access_token=access, token_family=family, **held)
        self._set_token_value(refresh, token["refresh_token"])
        refresh.save()
        app.last_used_at = timezone.now()
        app.save(update_fields=["last_used_at"])
        # For the deletion of clients that nobody uses (cleaning); once a day is enough for that.
        stale = app.last_used_at - timedelta(days=1)
        Application.objects.filter(pk=request.client.pk, updated__lt=stale).update(updated=app.last_used_at)
        _tell_scopes(token, request, row)

    def revoke_token(self, token: str, token_type_hint: str, request: Request, *args: Any, **kwargs: Any) -> None:
        """The client gives a token up: everything of that sign-in ends (RFC 7009 §2.1), and nobody else's."""
        of_client = RefreshToken.objects.filter(application=request.client)
        checksum = tokens.digest(token)
        found = of_client.filter(token_checksum=checksum).first()
        found = found or of_client.filter(access_token__token_checksum=checksum).first()
        if found is not None:
            _end_family(found)


def _was_used_long_ago(token: RefreshToken) -> bool:
    return token.revoked is not None and token.revoked <= timezone.now() - GRACE


def _end_family(token: RefreshToken) -> None:
    """End one sign-in; with the last one of its app, the app."""
    with transaction.atomic():
        app = _app_of(token.user_id, token.application, token.resource, lock=True)
        tokens.delete_family(token)
        if app and not tokens.refresh_tokens_of(app).exists():
            forget(app)


def _app_of(user_id: int, client: Application, resource: list[str], *, lock: bool = False) -> ConnectedApp | None:
    rows = ConnectedApp.objects.select_for_update(of=("self",)) if lock else ConnectedApp.objects.usable()
    rows = rows.select_related("membership__organization", "membership__user", "application", "agent", "server")
    return rows.filter(membership__user=user_id, application=client, resource__in=resource).first()


def _check_resource(request: Request, granted: list[str]) -> None:
    """A token request may name the resource again, and no other one (RFC 8707 §2.2)."""
    sent = [value for name, value in request.decoded_body or [] if name == "resource"]
    if set(sent) - set(granted):
        words = f"This sign-in was for {granted[0]} and gives no token for another resource."
        raise errors.CustomOAuth2Error("invalid_target", description=words, request=request)


def _spend_code(grant: Grant) -> uuid.UUID | None:
    """A code is exchanged once: of two requests at the same moment, one deletes it."""
    spent, _by_model = Grant.objects.filter(pk=grant.pk).delete()
    return uuid.uuid4() if spent else None


def _supersede(used: RefreshToken) -> uuid.UUID | None:
    """Mark a refresh token as used, the first time; a second time soon after is as good as the first."""
    stored = RefreshToken.objects.filter(pk=used.pk).first()
    if stored is None or _was_used_long_ago(stored):
        return None
    if stored.revoked is None:
        # Not the toolkit's revoke(): other sessions of the program still hold the access token, which ends by itself.
        RefreshToken.objects.filter(pk=stored.pk).update(revoked=timezone.now())
    family: uuid.UUID = stored.token_family
    return family


def _tell_scopes(token: dict[str, Any], request: Request, row: Any) -> None:
    """Say what was granted of what was asked (RFC 6749 §5.1). More than that, which the person may have allowed on the
    page, some clients take for an attack. At a refresh nothing has changed."""
    if request.grant_type == "refresh_token":
        del token["scope"]
        return
    asked = json.loads(row.claims or "{}").get("asked", [])
    told = [scope for scope in token["scope"].split() if not asked or scope in asked]
    token["scope"] = " ".join(told)
