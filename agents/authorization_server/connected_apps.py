"""Verbs on connected apps: allow one, see them, revoke them."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import Application

from agents.authorization_server import redirects, tokens
from agents.authorization_server.targets import Target
from agents.models import ConnectedApp, ConnectedAppQuerySet
from aster.accounts import audit
from aster.accounts.access import CONNECT, MANAGE, Actor
from aster.accounts.models import Membership
from aster.errors import NotFound


def allow(
    target: Target, client: Application, *, scopes: Iterable[str], redirect_uri: str, actor: Actor
) -> ConnectedApp:
    """Store the consent of the acting person. Asked again for the same, the later answer holds for all its tokens."""
    held = {"scopes": sorted(scopes), "redirect_host": redirects.host_of(redirect_uri), "last_used_at": timezone.now()}
    with transaction.atomic():
        # Two windows with the same question: the second waits here, and then changes what the first stored.
        membership = Membership.objects.select_for_update().get(organization=actor.organization, user=actor.person)
        app = ConnectedApp.objects.filter(
            membership=membership, application=client, resource=target.endpoint.url
        ).first()
        before = app.scopes if app else None
        if app is None or not is_for(app, target):
            app = _begin(app, membership, client, target)
        for name, value in held.items():
            setattr(app, name, value)
        app.save()
        facts = {"scopes": [before, app.scopes], "for": [None, str(target)], "sends_to": [None, app.redirect_host]}
        audit.record(actor, "allowed", app, facts)
    return app


def is_for(app: ConnectedApp, target: Target) -> bool:
    """Whether the earlier consent was for this agent, and not for one that had its name before."""
    agent, server = target.agent, target.server
    return app.agent_id == (agent.pk if agent else None) and app.server_id == (server.pk if server else None)


def _begin(old: ConnectedApp | None, membership: Membership, client: Application, target: Target) -> ConnectedApp:
    if old is not None:
        old.delete()
    app = ConnectedApp(membership=membership, application=client, resource=target.endpoint.url)
    app.agent, app.server = target.agent, target.server
    # What was left of an earlier consent must not come to life again with this one.
    tokens.delete_tokens(app)
    return app


def visible_apps(actor: Actor) -> ConnectedAppQuerySet:
    related = ("membership__user", "membership__organization", "application", "agent", "server")
    return ConnectedApp.objects.visible_to(actor).select_related(*related)


def used_by(app: ConnectedApp) -> str:
    """What an app uses, in words."""
    if app.agent is None:
        return f"the administration of {app.membership.organization}"
    return f"{app.server} of {app.agent}" if app.server else str(app.agent)


def find_app(pk: int, *, actor: Actor) -> ConnectedApp:
    app = visible_apps(actor).filter(pk=pk).first()
    if app is None:
        raise NotFound("There is no such connected app.")
    return app


def revoke(app: ConnectedApp, *, actor: Actor) -> None:
    """Lock an app out at once. Its own person may, and admins. Twice is the same as once."""
    own = app.membership.user_id == actor.person.pk
    if own and not (actor.is_admin and actor.holds(MANAGE)):
        actor.require_scope(CONNECT)
    elif not own:
        actor.require_admin()
    with transaction.atomic():
        locked = ConnectedApp.objects.select_for_update(of=("self",)).filter(pk=app.pk).first()
        if locked is not None:
            _end(app, actor)


def forget(app: ConnectedApp) -> None:
    """Its last token is gone: the app gave it up, or had to lose it."""
    member = app.membership
    _end(app, Actor(member.organization, member.user, member.role, via="gateway", app=app))


def _end(app: ConnectedApp, actor: Actor) -> None:
    facts = {"for": [app.resource, None], "person": [app.membership.user.email, None], "scopes": [app.scopes, None]}
    audit.record(actor, "revoked", app, facts)
    tokens.delete_tokens(app)
    Application.objects.filter(pk=app.application_id).update(updated=timezone.now())
    app.delete()
