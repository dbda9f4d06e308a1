"""What goes by itself: codes and tokens that have ended, consents nobody uses, and clients nobody let in."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F, Q, QuerySet
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, Grant, RefreshToken

from agents.models import ConnectedApp

# A used refresh token is remembered for so long, to know it again when it comes back (RFC 9700 §4.14.2).
REMEMBERED = timedelta(days=30)
# Registered, and nobody has let it in; or let in once, and long gone.
NEVER_USED, UNUSED = timedelta(days=3), ConnectedApp.IDLE
BATCH, BATCHES = 1000, 50


def delete_old() -> None:
    now = timezone.now()
    _delete(Grant.objects.filter(expires__lt=now))
    _delete(RefreshToken.objects.filter(Q(created__lt=now - ConnectedApp.IDLE) | Q(revoked__lt=now - REMEMBERED)))
    _delete(AccessToken.objects.filter(expires__lt=now))
    # Each renewal is noted, so that these have no refresh token left.
    _delete(ConnectedApp.objects.filter(last_used_at__lt=now - ConnectedApp.IDLE))
    _delete(_unused_clients())


def _unused_clients() -> QuerySet[Application]:
    """Clients without a consent. One whose consent was revoked may come back with the id it was given for a while."""
    now, made = timezone.now(), Application.RegistrationSource
    of_their_own = Application.objects.filter(registration_source__in=[made.DCR, made.CIMD], connected_apps=None)
    never = Q(created__lt=now - NEVER_USED, updated__lt=F("created") + timedelta(minutes=1))
    found: QuerySet[Application] = of_their_own.filter(never | Q(updated__lt=now - UNUSED), grant=None)
    return found


def _delete(rows: QuerySet[AccessToken]) -> None:
    """In pieces that hold up nobody; what is left then is due an hour later."""
    for _ in range(BATCHES):
        keys = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
        if not keys:
            return
        rows.model.objects.filter(pk__in=keys).delete()
