"""Where a person connects: the page a tool call points to when the caller's connection is missing."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from aster.accounts.models import Organization
from aster.errors import ConnectionRequired
from integrations.models import McpServer


def connect_link(missing: ConnectionRequired, organization: Organization) -> str:
    """The hub page of the server that wants a sign-in. It carries no state and no rights: the person signs in there."""
    servers = McpServer.objects.filter(organization=organization)
    pk: Any = missing.extra.get("server_id")
    auth_pk: Any = missing.extra.get("auth_config_id")
    server = servers.filter(pk=pk).first() or servers.filter(auth_config_id=auth_pk, is_enabled=True).first()
    path = f"/hub/servers/{server.slug}/connect/" if server else "/hub/connections/"
    return f"{settings.ASTER_PUBLIC_URL}{path}?organization={organization.slug}"
