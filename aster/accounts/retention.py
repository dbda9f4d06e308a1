"""How long the record of calls and changes is kept, and its deletion in pieces that hold up nobody.

What else is kept for a while only goes where it is written; docs/operations.md lists all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from aster.accounts import audit
from aster.accounts.access import Actor
from aster.accounts.models import AuditEvent, Organization

# Rows of one statement, and statements of one run: what is left then is due an hour later.
BATCH, BATCHES = 1000, 200


@dataclass(frozen=True)
class Rule:
    """For how many days something is kept (0: for ever), and who says so."""

    days: int
    source: str

    def in_words(self, what: str) -> str:
        return f"{what} are kept {f'for {self}' if self.days else 'for ever'}."

    def __str__(self) -> str:
        return f"{self.days} day{'' if self.days == 1 else 's'}"


def calls_rule(organization: Organization) -> Rule:
    if organization.keep_calls_days:
        return Rule(organization.keep_calls_days, f"the settings of {organization}")
    return installation_rule()


def installation_rule() -> Rule:
    """For the calls of organizations that say nothing themselves."""
    return Rule(settings.ASTER_KEEP_CALLS_DAYS, "ASTER_KEEP_CALLS_DAYS")


def changes_rule(organization: Organization) -> Rule:
    return Rule(settings.ASTER_KEEP_AUDIT_DAYS, "ASTER_KEEP_AUDIT_DAYS")


def delete_old_changes() -> None:
    delete_old(AuditEvent.objects.all(), changes_rule, action="deleted_old_changes")


def delete_old(
    rows: QuerySet[Any],
    rule_of: Callable[[Organization], Rule],
    *,
    action: str,
    batch: int = BATCH,
    batches: int = BATCHES,
) -> None:
    """Delete the `rows` that are older than their organization keeps them; each organization has its turn.

    Several workers may do this at once: each row is deleted, and counted, by one of them.
    """
    rules = [(organization, rule_of(organization)) for organization in Organization.objects.all()]
    piles = [_Pile(rows, organization, rule, action) for organization, rule in rules if rule.days]
    while piles and batches:
        more = []
        for pile in piles:
            if batches and pile.delete_some(batch):
                batches -= 1
                more.append(pile)
        piles = more


class _Pile:
    """The old rows of one organization, and the one audit row that tells of their deletion."""

    def __init__(self, rows: QuerySet[Any], organization: Organization, rule: Rule, action: str) -> None:
        self.organization, self.rule, self.action = organization, rule, action
        # Whole days (UTC): one line a day in the activity, not one an hour.
        self.before = _midnight(timezone.now() - timedelta(days=rule.days))
        self.rows = rows.filter(organization=organization, at__lt=self.before)
        self.deleted = 0
        self.event: AuditEvent | None = None

    def delete_some(self, batch: int) -> bool:
        """Delete the next rows and count them in the audit row, both or neither."""
        with transaction.atomic():
            # What another worker is deleting right now is its to delete and to count.
            next_ones = self.rows.order_by("at", "pk").select_for_update(skip_locked=True)
            keys = list(next_ones.values_list("pk", flat=True)[:batch])
            count = self.rows.filter(pk__in=keys).delete()[0] if keys else 0
            if count:
                self.deleted += count
                self._tell()
        return count > 0

    def _tell(self) -> None:
        facts = {
            "deleted": [None, self.deleted],
            "older than": [None, self.before.date().isoformat()],
            "rule": [None, f"{self.rule}, by {self.rule.source}"],
        }
        if self.event is None:
            self.event = audit.record(Actor.system(self.organization), self.action, self.organization, facts)
        else:
            AuditEvent.objects.filter(pk=self.event.pk).update(changes=facts)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
