"""Background work. What is due is in rows; a task selects ids and calls a service, and no failure stops the rest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from celery import Task, shared_task
from celery.worker import state as worker_state
from django.db import close_old_connections
from django.utils import timezone

from aster.accounts.access import Actor
from aster.errors import AsterError
from integrations.models import Connection, ConnectionStatus, McpServer, PendingAuthorization
from integrations.services import disconnection, ledger, refresh_many, registry_sync, servers

worker: Any = worker_state
logger = logging.getLogger(__name__)
Key = TypeVar("Key", int, str)

# A run of the catalogue ends before the next one starts; what is left stays due.
SYNC_RUN_SECONDS = 45.0


@shared_task(name="integrations.tasks.refresh_due_connections", bind=True)
def refresh_due_connections(self: Task[[], None]) -> None:
    """Renew every grant whose time has come. Run by several schedulers at once, each grant is still renewed once."""
    refresh_many.refresh_due(stopping=_stopping(self))


def _stopping(task: Task[[], None]) -> Callable[[], bool]:
    """Whether the worker that runs this task was told to stop: a grant that is not asked for cannot get lost."""
    if task.request.called_directly:
        return lambda: False
    # An exit code once the worker should end, and that may be 0.
    return lambda: worker.should_stop is not None and worker.should_stop is not False


@shared_task(name="integrations.tasks.sync_due_servers")
def sync_due_servers() -> None:
    """Refresh the tool catalogue of every enabled server whose time has come."""
    until = time.monotonic() + SYNC_RUN_SECONDS
    due = McpServer.objects.filter(is_enabled=True, sync_due_at__lte=timezone.now())
    for pk in due.order_by("sync_due_at").values_list("pk", flat=True)[:100]:
        if time.monotonic() < until:
            _attempt(sync_server, pk)


@shared_task(name="integrations.tasks.sync_server")
def sync_server(pk: int) -> None:
    """Test one server and take in its tools, as the organization or as the person who connected last."""
    now = timezone.now()
    # Compare-and-set: whoever moves the due time does the work.
    rows = McpServer.objects.filter(pk=pk, is_enabled=True, sync_due_at__lte=now)
    if not rows.update(sync_due_at=now + servers.SYNC_EVERY):
        return
    server = McpServer.objects.select_related("auth_config", "organization").get(pk=pk)
    actor = Actor.system(server.organization)
    if not server.lists_to_anybody:
        connected = Connection.objects.filter(auth_config=server.auth_config, status=ConnectionStatus.CONNECTED)
        # Somebody who left the organization may still be connected for some minutes.
        members = connected.filter(user__memberships__organization=server.organization, user__is_active=True)
        latest = members.select_related("user").order_by("-connected_at").first()
        if latest is None:
            return
        actor = Actor(server.organization, latest.user, "member", via="task")
    servers.test_server(server, actor=actor)


@shared_task(name="integrations.tasks.sync_registries")
def sync_registries() -> None:
    """Read each MCP registry whose time has come."""
    for registry in registry_sync.due_registries():
        _attempt(registry_sync.sync_registry, registry)


@shared_task(name="integrations.tasks.delete_expired")
def delete_expired() -> None:
    """Drop sign-ins nobody finished and old lines of ledgers, and disconnect people who are no longer members."""
    ledger.delete_old()
    PendingAuthorization.objects.filter(expires_at__lt=timezone.now() - timedelta(minutes=5)).delete()
    for connection in disconnection.former_members_connections():
        _attempt(_disconnect, connection.pk)


def _disconnect(pk: int) -> None:
    connection = Connection.objects.select_related("auth_config__organization", "user").get(pk=pk)
    disconnection.disconnect(connection, actor=Actor.system(connection.auth_config.organization))


def _attempt(work: Callable[[Key], Any], pk: Key) -> bool:
    """Do one piece of a run. Whatever goes wrong with it is logged, and the rest of the run goes on."""
    try:
        work(pk)
    except AsterError as error:
        logger.warning("%s of %s failed: %s", work.__name__.strip("_"), pk, error.code)
        return False
    except Exception:
        logger.exception("%s of %s failed", work.__name__.strip("_"), pk)
        # A database connection that broke must not take the rest with it.
        close_old_connections()
        return False
    return True
