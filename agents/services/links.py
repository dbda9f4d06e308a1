"""Where a person connects: the page a tool call points to when the caller's connection is missing."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse

from aster.accounts.models import Organization
from aster.errors import ConnectionRequired
from integrations.models import McpServer


def connect_link(missing: ConnectionRequired, organization: Organization) -> str:
    """The hub page of the server that wants a sign-in, or one's connections if it was deleted meanwhile."""
    rows = McpServer.objects.filter(organization=organization).select_related("organization")
    server = rows.filter(pk=missing.extra["server_id"]).first()
    if server:
        return server.connect_url
    return f"{settings.ASTER_PUBLIC_URL}{reverse('admin:connections')}?organization={organization.slug}"
