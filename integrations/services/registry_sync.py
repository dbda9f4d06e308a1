"""Reading MCP registries into the table, a page at a time: at once by one process only, and never half.

A pass reads the whole list, or what changed since the last one. Each page is stored with the place where the next one
begins, so that a pass that was cut short goes on there. Only a whole list that was read to its end may say that an
entry is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from aster.accounts.access import Actor
from aster.celery import enqueue
from aster.errors import AsterError, Conflict, NotFound, UpstreamError
from integrations.models import EntryStatus, RegistryEntry, RegistrySync
from integrations.registry.client import CursorRefused, Page, fetch_page
from integrations.registry.entries import Listed, packages_of, remotes_of

EVERY, AFTER_FAILURE, FULL_EVERY = timedelta(hours=1), timedelta(minutes=10), timedelta(days=1)
LEASE, RUN_SECONDS = timedelta(minutes=5), 120.0
PASS_ENDS_AFTER = timedelta(hours=6)  # cursors of yesterday may mean nothing today
OVERLAP = timedelta(minutes=1)  # whether `updated_since` includes its own moment is not documented
ONCE_PER = timedelta(minutes=1)
MOST_PAGES = 1000
GONE = "The registry does not list it any more."
_STORED = (
    *("version", "title", "description", "status", "status_message", "website", "repository"),
    *("ways", "server", "search_text", "published_at", "updated_at", "seen_at"),
)


class ClaimLost(Exception):
    """Somebody else reads this registry now: the lease ran out."""


def states() -> list[RegistrySync]:
    """How each registry of this installation was last read; one that never was has an unsaved row."""
    stored = {row.registry: row for row in RegistrySync.objects.filter(registry__in=settings.ASTER_REGISTRIES)}
    return [stored.get(registry) or RegistrySync(registry=registry) for registry in settings.ASTER_REGISTRIES]


def due_registries() -> list[str]:
    """Those to be read now. None at all until somebody has asked for it once: Aster calls nobody by itself."""
    if not RegistrySync.objects.exists():
        return []
    now = timezone.now()
    return [state.registry for state in states() if state.attempted_at is None or state.due_at <= now]


def request_sync(*, actor: Actor) -> None:
    """Have the background read every registry soon. Refused within a minute of the last time: they are not ours."""
    actor.require_admin()
    if not settings.ASTER_REGISTRIES:
        raise NotFound("This installation uses no registry. The operator can name some in ASTER_REGISTRIES.")
    now = timezone.now()
    for registry in settings.ASTER_REGISTRIES:
        RegistrySync.objects.get_or_create(registry=registry)
    rows = RegistrySync.objects.filter(registry__in=settings.ASTER_REGISTRIES)
    rested = rows.filter(Q(attempted_at=None) | Q(attempted_at__lt=now - ONCE_PER))
    # The attempt counts from the request, so that ten clicks are one.
    if not rested.update(due_at=now, attempted_at=now):
        raise Conflict("The registry was asked a moment ago. Try again in a minute.", code="too_soon")
    enqueue("integrations.tasks.sync_registries")


def sync_registry(registry: str, *, tell: Callable[[int], None] = lambda entries: None) -> RegistrySync:
    """Read as much of a registry as a run may take. What goes wrong is kept with the registry, and nothing is lost.

    `tell` hears how many entries each page brought. Raises Conflict while somebody else reads it.
    """
    row, _ = RegistrySync.objects.get_or_create(registry=registry)
    run = _Run(row, tell)
    run.claim()
    try:
        run.read()
    except ClaimLost:
        return RegistrySync.objects.get(pk=row.pk)
    except AsterError as error:
        run.fail(error)
    return run.row


class _Run:
    """One process reading one registry while its claim lasts."""

    def __init__(self, row: RegistrySync, tell: Callable[[int], None]) -> None:
        self.row, self._tell = row, tell
        self._until = time.monotonic() + RUN_SECONDS

    def claim(self) -> None:
        now = timezone.now()
        free = RegistrySync.objects.filter(pk=self.row.pk).filter(Q(claimed_until=None) | Q(claimed_until__lt=now))
        if not free.update(claimed_until=now + LEASE, attempted_at=now):
            raise Conflict(f"{self.row.registry} is being read at this moment.", code="sync_running")
        self.row.refresh_from_db()

    def read(self) -> None:
        began_anew = self._begin_pass_if_none()
        seen = {self.row.cursor}
        while True:
            try:
                page = fetch_page(self.row.registry, cursor=self.row.cursor, updated_since=self.row.since)
            except CursorRefused:
                if began_anew:
                    raise
                self.row.pass_started_at = None
                began_anew = self._begin_pass_if_none()
                seen = {""}
                continue
            if page.cursor in seen and page.cursor:
                self._give_up("It gives the same page again and again.")
            seen.add(page.cursor)
            self._store(page)
            self._tell(len(page.entries))
            if not page.cursor:
                self._finish()
                return
            if self.row.pages >= MOST_PAGES:
                self._give_up(f"Its list does not end within {MOST_PAGES} pages.")
            if time.monotonic() > self._until:
                self._save(claimed_until=None, due_at=timezone.now())  # the next run goes on here
                return

    def _begin_pass_if_none(self) -> bool:
        row, now = self.row, timezone.now()
        if row.pass_started_at and row.pass_started_at > now - PASS_ENDS_AFTER:
            return False
        is_full = row.watermark is None or row.full_at is None or row.full_at < now - FULL_EVERY
        since = None if is_full or row.watermark is None else row.watermark - OVERLAP
        self._save(pass_started_at=now, since=since, cursor="", pages=0, odd=0, newest_seen=None)
        return True

    def _store(self, page: Page) -> None:
        row, now = self.row, timezone.now()
        moments = [each.updated_at for each in page.entries if each.updated_at]
        newest = max([*moments, *filter(None, [row.newest_seen])], default=None)
        with transaction.atomic():
            self._save(
                cursor=page.cursor, pages=row.pages + 1, odd=row.odd + page.odd, newest_seen=newest,
                claimed_until=now + LEASE,
            )  # fmt: skip
            _store_entries(row.registry, page.entries, now)

    def _finish(self) -> None:
        row, now = self.row, timezone.now()
        began = row.pass_started_at or now
        done: dict[str, datetime | None] = {}
        with transaction.atomic():
            if row.since is None:
                self._bury_unseen(began)
                done["full_at"] = now
            # Its clock may be ahead of ours; what changes from now on must not be taken for old.
            if row.newest_seen:
                done["watermark"] = max(
                    filter(None, [min(row.newest_seen, began), row.watermark if row.since else None])
                )
            self._save(
                **done, problem="", succeeded_at=now, due_at=now + EVERY, odd_entries=row.odd, claimed_until=None,
                pass_started_at=None, cursor="",
            )  # fmt: skip

    def _bury_unseen(self, since: datetime) -> None:
        rows = RegistryEntry.objects.filter(registry=self.row.registry)
        unseen = rows.filter(seen_at__lt=since).exclude(status=EntryStatus.DELETED)
        if unseen.exists() and not rows.filter(seen_at__gte=since).exists():
            self._give_up("It lists nothing any more. What it listed before is kept.")
        unseen.update(status=EntryStatus.DELETED, status_message=GONE)

    def _give_up(self, words: str) -> None:
        """End the pass without a result; the next one begins anew."""
        self.row.pass_started_at = None
        raise UpstreamError(words, step="http")

    def fail(self, error: AsterError) -> None:
        words = " ".join(filter(None, (error.message, getattr(error, "hint", ""))))[:500]
        try:
            self._save(
                problem=words, claimed_until=None, due_at=timezone.now() + AFTER_FAILURE,
                pass_started_at=self.row.pass_started_at,
            )  # fmt: skip
        except ClaimLost:
            self.row.refresh_from_db()

    def _save(self, **values: object) -> None:
        """Change the row if the claim is still ours."""
        held = RegistrySync.objects.filter(pk=self.row.pk, claimed_until=self.row.claimed_until)
        if not held.update(**values):
            raise ClaimLost
        for name, value in values.items():
            setattr(self.row, name, value)


def _store_entries(registry: str, entries: list[Listed], now: datetime) -> None:
    # A registry that does not know `version=latest` lists older versions too.
    newest = {each.name: entry_row(registry, each, now) for each in entries if each.is_latest}
    RegistryEntry.objects.bulk_create(
        newest.values(), update_conflicts=True, unique_fields=["registry", "name"], update_fields=_STORED
    )


def entry_row(registry: str, entry: Listed, now: datetime) -> RegistryEntry:
    remotes = [remote.type for remote in remotes_of(entry.document)]
    packages = [package.registry_type for package in packages_of(entry.document)]
    names = ("name", "version", "title", "description", "status", "status_message", "website", "repository")
    return RegistryEntry(
        registry=registry,
        **{name: getattr(entry, name) for name in (*names, "published_at", "updated_at")},
        ways=list(dict.fromkeys([*remotes, *packages])),
        server=entry.document,
        search_text=f"{entry.name}\n{entry.title}\n{entry.description}".casefold(),
        seen_at=now,
    )
