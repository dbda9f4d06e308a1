"""Where a refused call leads the person."""

from __future__ import annotations

from aster.accounts.access import Actor
from aster.errors import ConnectionRequired
from integrations.models import McpServer
from integrations.services.links import connect_url


def connect_link(missing: ConnectionRequired, actor: Actor) -> str:
    """The connect page of the server that wants a sign-in, or one's connections if it was deleted meanwhile."""
    return connect_url(McpServer.objects.visible_to(actor).filter(pk=missing.extra["server_id"]).first(), actor)
