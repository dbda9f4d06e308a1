"""Which server a refused call was about, so that its link leads to the right connect page."""

from __future__ import annotations

from typing import Any

from aster.accounts.access import Actor
from aster.errors import ConnectionRequired
from integrations.models import McpServer
from integrations.services.links import connect_url


def connect_link(missing: ConnectionRequired, actor: Actor) -> str:
    """Where the acting person connects what the call was missing."""
    servers = McpServer.objects.visible_to(actor)
    pk: Any = missing.extra.get("server_id")
    auth_pk: Any = missing.extra.get("auth_config_id")
    server = servers.filter(pk=pk).first() or servers.filter(auth_config_id=auth_pk, is_enabled=True).first()
    return connect_url(server, actor)
