"""Background work. What is due is in rows; each task selects ids and calls a service, and one failure stops nothing else."""

from __future__ import annotations

import logging
from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from aster.accounts.access import Actor
from aster.errors import AsterError
from integrations.models import Connection, ConnectionStatus, McpServer, PendingAuthorization
from integrations.services import connections, refresh, servers

logger = logging.getLogger(__name__)


@shared_task(name="integrations.tasks.refresh_due_connections")
def refresh_due_connections() -> None:
    """Renew every grant whose time has come. Run by several schedulers at once, each grant is still renewed once."""
    for pk in refresh.due_connections():
        refresh_connection(pk)


@shared_task(name="integrations.tasks.refresh_connection")
def refresh_connection(pk: int) -> None:
    row = Connection.objects.select_related("auth_config__organization", "user").filter(pk=pk).first()
    if row is None or row.status != ConnectionStatus.CONNECTED:
        return
    try:
        refresh.refresh(row)
    except AsterError as error:
        logger.info("Connection %s was not renewed: %s", pk, error.code)


@shared_task(name="integrations.tasks.sync_due_servers")
def sync_due_servers() -> None:
    """Refresh the tool catalogue of every enabled server whose time has come."""
    due = McpServer.objects.filter(is_enabled=True, sync_due_at__lte=timezone.now())
    for pk in due.order_by("sync_due_at").values_list("pk", flat=True)[:100]:
        sync_server(pk)


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
    if server.needs_person:
        connected = Connection.objects.filter(auth_config=server.auth_config, status=ConnectionStatus.CONNECTED)
        latest = connected.exclude(user=None).select_related("user").order_by("-connected_at").first()
        if latest is None:
            return
        actor = Actor(server.organization, latest.user, "member", via="task")
    servers.test_server(server, actor=actor)


@shared_task(name="integrations.tasks.delete_expired")
def delete_expired() -> None:
    """Drop sign-ins nobody finished, and disconnect people who are no longer members."""
    PendingAuthorization.objects.filter(expires_at__lt=timezone.now() - timedelta(minutes=5)).delete()
    for connection in connections.former_members_connections():
        try:
            connections.disconnect(connection, actor=Actor.system(connection.auth_config.organization))
        except AsterError as error:
            logger.warning("Connection %s of a former member was not removed: %s", connection.pk, error.code)
