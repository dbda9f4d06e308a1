"""Sign-ins that ended in nothing: kept in the audit trail, because no connection is left to tell of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from aster.accounts import audit
from aster.accounts.access import Actor
from aster.accounts.models import AuditEvent, User
from aster.errors import UpstreamError
from integrations.models import AuthConfig

ACTION = "sign_in_failed"
# Older ones say little about what the provider would answer now.
KEPT_IN_MIND = timedelta(days=7)


@dataclass(frozen=True)
class SignInFailure:
    """`step` is registration, auth (the consent page) or token; `error` the provider's error code, if it gave one."""

    at: datetime
    step: str
    reason: str
    error: str = ""


@contextmanager
def remembered(auth: AuthConfig, *, actor: Actor) -> Iterator[None]:
    """Note what a provider says when a sign-in at `auth` fails inside, and let the failure go on."""
    try:
        yield
    except UpstreamError as failed:
        told = {"step": failed.step, "reason": failed.message[:500], "error": getattr(failed, "error", "")}
        audit.record(actor, ACTION, auth, {name: [None, words] for name, words in told.items() if words})
        raise


def last_failure(auth: AuthConfig, *, user: User | None = None, step: str = "") -> SignInFailure | None:
    """The newest failure at `auth` (of `user`, at `step`) that nobody has changed the settings since."""
    events = AuditEvent.objects.filter(
        organization=auth.organization_id, object_type=auth._meta.model_name, object_id=str(auth.pk)
    )
    failures = events.filter(action=ACTION, at__gt=timezone.now() - KEPT_IN_MIND).order_by("-at", "-id")
    if user is not None:
        failures = failures.filter(actor=user)
    if step:
        failures = failures.filter(changes__step__1=step)
    event = failures.first()
    if event is None or events.filter(action="updated", at__gt=event.at).exists():
        return None
    told = {name: str(event.changes.get(name, [None, ""])[1]) for name in ("step", "reason", "error")}
    return SignInFailure(at=event.at, **told)
