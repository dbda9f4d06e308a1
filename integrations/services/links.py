"""The link that leads a person to connect an account, made for that person alone."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.core import signing
from django.urls import reverse

from aster.accounts.access import Actor
from aster.accounts.models import User
from integrations.models import McpServer

_SALT = "aster.connect-link"
LIFETIME = timedelta(days=7)


def connect_url(server: McpServer | None, actor: Actor) -> str:
    """The hub's connect page of `server` (None: the person's connections) for the acting person.

    It carries no rights: the page wants them signed in. It names them, so that a link somebody else was talked into
    opening says so instead of connecting the wrong account (MCP, URL mode elicitation, §Phishing).
    """
    query = {"organization": actor.organization.slug}
    if actor.user is not None:
        query["for"] = signing.dumps(actor.user.pk, salt=_SALT, compress=True)
    path = reverse("admin:server-connect", args=[server.slug]) if server else reverse("admin:connections")
    return f"{settings.ASTER_PUBLIC_URL}{path}?{urlencode(query)}"


def is_made_for(token: str, user: User) -> bool:
    """Whether a link with this `for` may be used by `user`; one without names nobody."""
    if not token:
        return True
    try:
        return bool(signing.loads(token, salt=_SALT, max_age=LIFETIME) == user.pk)
    except signing.BadSignature:
        return False
