"""Carrying a plan out, all or nothing, through the services that pages and API call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from django.db import OperationalError, transaction

from aster.accounts.access import Actor
from aster.configuration.current import read_current
from aster.configuration.document import Document
from aster.configuration.plan import DELETE, Change, Plan, compare
from aster.configuration.reading import Problems
from aster.configuration.writing import Writer
from aster.errors import AsterError, Conflict
from connectors.services import disable_connector
from integrations.services.validation import vetted_urls


@contextmanager
def _transaction() -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
    except OperationalError:  # two who wait for each other, or for too long
        words = "The database is busy with the changes of somebody else. Nothing was stored; try again."
        raise Conflict(words, code="database_busy") from None


def preview(document: Document, *, actor: Actor, prune: bool = False) -> Plan:
    """What applying the file would change. It is tried and taken back, so whatever would refuse it speaks now.

    Raises Problems with all that is wrong.
    """
    actor.require_admin()
    with vetted_urls(_urls(document, actor)), _transaction():
        try:
            return _carry_out(document, actor, prune, expected=None)
        finally:
            transaction.set_rollback(True)


@dataclass
class Applied:
    """What there is to tell about an applied file. `failed`: of connectors to delete, those that are still there."""

    told: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def apply(document: Document, *, actor: Actor, expected: Plan, prune: bool = False) -> Applied:
    """Do what was shown as `expected`.

    Raises Conflict if something else was changed meanwhile and Problems if something cannot be stored: then nothing is.
    """
    actor.require_admin()
    with vetted_urls(_urls(document, actor)), _transaction():
        _carry_out(document, actor, prune, expected=expected)
    # Asks providers to revoke tokens, which no transaction can wait for or take back.
    applied = Applied()
    for change in expected.changes:
        if _is_for_later(change):
            _disable(change, actor, applied)
    return applied


def _carry_out(document: Document, actor: Actor, prune: bool, *, expected: Plan | None) -> Plan:
    current = read_current(actor, lock=True)
    plan = compare(document, current, prune=prune)
    if expected is not None and plan != expected:
        raise Conflict("Somebody else changed something meanwhile. Nothing was stored; plan again.", code="stale_plan")
    problems = Writer(document, current, actor).write([each for each in plan.changes if not _is_for_later(each)])
    if problems:
        raise Problems(problems)
    _require_settled(document, actor, prune)
    return plan


def _require_settled(document: Document, actor: Actor, prune: bool) -> None:
    """Refuse a file that would want the same change again: services complete some settings, and the file says other."""
    left = [each for each in compare(document, read_current(actor), prune=prune).changes if not _is_for_later(each)]
    problems = []
    for change in left:
        for setting in change.settings:
            told = "; ".join(setting.lines())
            words = f"Aster stores it in another way ({told}). Write it as it is stored, or leave the setting out"
            problems.append(document.say(change.kind, change.key, words))
        if not change.settings:
            problems.append(document.say(change.kind, change.key, "it cannot be stored together with the rest"))
    if problems:
        raise Problems(problems)


def _urls(document: Document, actor: Actor) -> Iterator[str]:
    """Every address that is checked when an object of the file is stored."""
    stored = read_current(actor).values
    for section, objects in document.wanted.items():
        for key, values in objects.items():
            for name, value in {**stored[section].get(key, {}), **values}.items():
                if (name == "issuer" or name.endswith("url")) and value:
                    yield value


def _is_for_later(change: Change) -> bool:
    return change.section == "connectors" and change.action == DELETE


def _disable(change: Change, actor: Actor, applied: Applied) -> None:
    try:
        applied.told.append(f"{change.title} is off. {disable_connector(change.key, actor=actor)}")
    except AsterError as error:
        applied.failed.append(f"{change.title} is still there: {error.message} Apply again.")
