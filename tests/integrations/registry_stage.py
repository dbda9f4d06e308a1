"""Entries on the stage, without a registry to read them from."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from integrations.models import RegistryEntry
from integrations.registry.entries import read_listed
from integrations.services.registry_sync import entry_row

ANYWHERE = "https://registry.acme.test"


def put(listed: dict[str, Any], registry: str = ANYWHERE) -> RegistryEntry:
    """The entry of one line of a registry's list."""
    row = entry_row(registry, read_listed(listed), timezone.now())
    row.save()
    return row
