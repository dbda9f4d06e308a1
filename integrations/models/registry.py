"""What MCP registries list, and how far each was read. Of the installation: every organization sees the same."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.db import models
from django.utils import timezone


class EntryStatus(models.TextChoices):
    ACTIVE = "active", "Active"
    DEPRECATED = "deprecated", "Deprecated"
    DELETED = "deleted", "Deleted"


class RegistryEntryQuerySet(models.QuerySet["RegistryEntry"]):
    def known(self) -> RegistryEntryQuerySet:
        """Those of the registries that this installation reads, deleted ones included."""
        return self.filter(registry__in=settings.ASTER_REGISTRIES)

    def listed(self) -> RegistryEntryQuerySet:
        return self.known().exclude(status=EntryStatus.DELETED)

    def matching(self, words: Iterable[str]) -> RegistryEntryQuerySet:
        rows = self
        for word in words:
            rows = rows.filter(search_text__contains=word.casefold())
        return rows


class RegistryEntry(models.Model):
    """The newest version of one server, as a registry lists it. Rows stay when it is deleted, to explain themselves."""

    registry = models.CharField(max_length=200)
    name = models.CharField(max_length=200)
    version = models.CharField(max_length=100)
    title = models.CharField(max_length=100, blank=True)
    description = models.CharField(max_length=500, blank=True)
    status = models.CharField(max_length=10, choices=EntryStatus.choices, default=EntryStatus.ACTIVE)
    status_message = models.CharField(max_length=500, blank=True)
    website = models.CharField(max_length=500, blank=True)
    repository = models.CharField(max_length=500, blank=True)
    # How it can be reached: streamable-http, sse, npm, pypi, …
    ways = models.JSONField(default=list)
    server = models.JSONField()
    # Name, title and description in one, case-folded
    search_text = models.TextField()
    published_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(default=timezone.now)

    objects = RegistryEntryQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        verbose_name_plural = "registry entries"
        constraints = [models.UniqueConstraint(fields=["registry", "name"], name="registry_entry_once")]
        indexes = [models.Index(fields=["name", "id"], name="registry_entry_by_name")]

    def __str__(self) -> str:
        return self.title or self.name


class RegistrySync(models.Model):
    """How far a registry was read. A pass goes over the whole list (`since` empty), or over what changed."""

    registry = models.CharField(max_length=200, unique=True)
    due_at = models.DateTimeField(default=timezone.now)
    # The claim of whoever reads it now
    claimed_until = models.DateTimeField(null=True)
    # The pass that is under way
    pass_started_at = models.DateTimeField(null=True)
    since = models.DateTimeField(null=True)
    cursor = models.CharField(max_length=2000, blank=True)
    pages = models.PositiveIntegerField(default=0)
    odd = models.PositiveIntegerField(default=0)
    newest_seen = models.DateTimeField(null=True)
    # What finished passes have learned
    watermark = models.DateTimeField(null=True)
    full_at = models.DateTimeField(null=True)
    attempted_at = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=500, blank=True)
    odd_entries = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["registry"]

    def __str__(self) -> str:
        return self.registry
