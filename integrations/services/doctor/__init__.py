"""The connection doctor (features S11): one run along the whole path, from the address to the tools.

Each step says what was found, shows what was asked and answered, and offers a fix where there is one. Nothing is
registered at a provider, and no token is renewed that a call would not renew as well.
"""

from __future__ import annotations

from django.utils import timezone

from aster.accounts.access import Actor
from aster.errors import Conflict
from integrations.models import McpServer
from integrations.services.doctor.address import ask_without_token, check_address
from integrations.services.doctor.apply import apply
from integrations.services.doctor.client import check_client
from integrations.services.doctor.provider import find_provider
from integrations.services.doctor.report import (
    APPLY,
    FIX_KINDS,
    STATUSES,
    TITLES,
    Diagnosis,
    Evidence,
    Fix,
    Step,
    read_diagnosis,
)
from integrations.services.doctor.run import TOTAL_SECONDS, Run
from integrations.services.doctor.sign_in import check_token
from integrations.services.doctor.talk import talk
from integrations.services.doctor.view import cleaner, seen_by
from integrations.services.targets import connection_for

__all__ = [
    "FIX_KINDS",
    "STATUSES",
    "TITLES",
    "Diagnosis",
    "Evidence",
    "Fix",
    "Step",
    "apply_fix",
    "diagnose",
    "last_diagnosis",
]

_STEPS = (check_address, ask_without_token, find_provider, check_client, check_token, talk)


def diagnose(server: McpServer, *, actor: Actor, seconds: float = TOTAL_SECONDS) -> Diagnosis:
    """Walk the path as `actor`, in at most `seconds`, and keep what was found. Returns it as `actor` may see it."""
    if not server.is_enabled and not actor.is_admin:
        raise Conflict(f"{server} is switched off.", code="server_disabled")
    before = connection_for(server, actor.user)
    run = Run(server, actor, seconds)
    for step in _STEPS:
        step(run)
    clean = cleaner(server, (before, run.connection, connection_for(server, actor.user)), run.token)
    now = timezone.now()
    diagnosis = Diagnosis(
        steps=tuple(run.steps[name].with_texts(clean) for name in TITLES),
        at=now.isoformat(timespec="seconds"),
        by=actor.user.email if actor.user else "",
        seconds=round(run.elapsed, 2),
    )
    McpServer.objects.filter(pk=server.pk).update(diagnosis=diagnosis.as_json(), diagnosed_at=now)
    return seen_by(diagnosis, server, actor)


def last_diagnosis(server: McpServer, *, actor: Actor) -> Diagnosis | None:
    """The last run, whoever started it, as `actor` may see it."""
    stored = McpServer.objects.visible_to(actor).filter(pk=server.pk).values_list("diagnosis", flat=True).first()
    return seen_by(read_diagnosis(stored), server, actor) if stored else None


def apply_fix(server: McpServer, fix_id: str, *, actor: Actor) -> Diagnosis:
    """Do what the last run offered, and look again. Admins only; what is a person's to do is refused."""
    actor.require_admin()
    last = last_diagnosis(server, actor=actor)
    fix = last.offers(fix_id) if last else None
    if fix is None:
        raise Conflict("The last run of the doctor does not offer this. Run it again.", code="fix_not_offered")
    if fix.kind != APPLY:
        raise Conflict(f"Aster cannot do this itself. {fix.text}", code="fix_by_hand")
    apply(server, fix_id, actor=actor)
    return diagnose(server, actor=actor)
