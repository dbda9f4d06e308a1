"""Background work of connectors."""

from __future__ import annotations

from celery import shared_task

from connectors.openapi import documents


@shared_task(name="connectors.tasks.delete_old")
def delete_old() -> None:
    documents.delete_old()
