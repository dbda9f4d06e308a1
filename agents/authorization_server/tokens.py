"""Access and refresh tokens: making them, and knowing who holds them. At rest there are only their digests."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone
from oauth2_provider.models import AccessToken, Grant, RefreshToken

from agents.authorization_server.endpoints import Endpoint
from agents.models import ConnectedApp
from aster.accounts.access import Actor

# Begins of their own, so that scanners of leaked secrets know them, and the gateway need not try them as API keys.
ACCESS, REFRESH = "aat_", "art_"


@dataclass(frozen=True)
class Holder:
    """Who acts with a token, and the one URL that they may act at with it."""

    actor: Actor
    resource: str
    expires_at: datetime
    app: ConnectedApp = field(repr=False)


def make_access_token(request: Any) -> str:
    return ACCESS + secrets.token_urlsafe(32)


def make_refresh_token(request: Any) -> str:
    return REFRESH + secrets.token_urlsafe(32)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def is_access_token(text: str) -> bool:
    return text.startswith(ACCESS)


def holders_of(texts: Collection[str]) -> dict[str, Holder]:
    """The holders of those of these access tokens that are good now: two queries however many, and nothing is written.

    Good is what has not expired and was not revoked, of an active person who is still a member, for an address where
    the very agent is that they consented to.
    """
    presented = {digest(text): text for text in texts if is_access_token(text)}
    if not presented:
        return {}
    now = timezone.now()
    rows = list(AccessToken.objects.filter(token_checksum__in=presented, expires__gt=now).defer("token"))
    apps = _apps_behind(rows) if rows else {}
    found: dict[str, Holder] = {}
    for row in rows:
        app = apps.get((row.user_id, row.application_id, *row.resource))
        if app and is_in_place(app):
            found[presented[row.token_checksum]] = Holder(_actor(app, row), app.resource, row.expires, app)
    return found


def _apps_behind(rows: Collection[AccessToken]) -> dict[tuple[Any, ...], ConnectedApp]:
    """The consents that tokens stand on, by person, client and URL."""
    apps = ConnectedApp.objects.usable().filter(
        membership__user__in={row.user_id for row in rows},
        application__in={row.application_id for row in rows},
        resource__in={url for row in rows for url in row.resource},
    )
    related = ("membership__user", "membership__organization", "application", "agent", "server")
    return {(app.membership.user_id, app.application_id, app.resource): app for app in apps.select_related(*related)}


def is_in_place(app: ConnectedApp) -> bool:
    """Whether what the person consented to is still what is found at that URL: slugs change, and are used again."""
    endpoint = Endpoint.at_url(app.resource)
    if endpoint is None or endpoint.organization != app.membership.organization.slug:
        return False
    here = endpoint.is_admin if app.agent is None else app.agent.slug == endpoint.agent
    return here and (app.server.slug if app.server else "") == endpoint.server


def _actor(app: ConnectedApp, row: AccessToken) -> Actor:
    """With what the person allows the app today; a token may have been asked for with less."""
    member = app.membership
    scopes = frozenset(row.scope.split()) & frozenset(app.scopes)
    return Actor(member.organization, member.user, member.role, via="gateway", scopes=scopes, app=app)


def note_use(holders: Collection[Holder]) -> None:
    """Remember that these were used, for the pages that say when; at most one write in five minutes each."""
    ConnectedApp.objects.all().note_use({holder.app.pk for holder in holders})


# --- Ending them ----------------------------------------------------------------------------------------------------


def access_tokens_of(app: ConnectedApp) -> QuerySet[AccessToken]:
    found: QuerySet[AccessToken] = AccessToken.objects.filter(**_held_for(app))
    return found


def refresh_tokens_of(app: ConnectedApp) -> QuerySet[RefreshToken]:
    found: QuerySet[RefreshToken] = RefreshToken.objects.filter(**_held_for(app))
    return found


def _held_for(app: ConnectedApp) -> dict[str, Any]:
    return {"user": app.membership.user_id, "application": app.application_id, "resource": [app.resource]}


def delete_tokens(app: ConnectedApp) -> None:
    """Everything that was given out for a consent, codes that nobody has exchanged yet too."""
    Grant.objects.filter(**_held_for(app)).delete()
    access_tokens_of(app).delete()
    refresh_tokens_of(app).delete()


def delete_family(token: RefreshToken) -> None:
    """End everything that came of one sign-in: its refresh tokens, used and unused, and their access tokens."""
    family = RefreshToken.objects.filter(token_family=token.token_family)
    AccessToken.objects.filter(Q(refresh_token__in=family)).delete()
    family.delete()
