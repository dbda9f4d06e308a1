"""What a person who lacks a connection is told, and where they are led."""

from __future__ import annotations

from aster.accounts.access import Actor
from aster.errors import ConnectionRequired
from integrations.models import McpServer
from integrations.services.links import connect_url


def connection_words(server: object, *, again: bool) -> str:
    """Said above a chat, to everybody in the same words. `again`: there was a connection, or it needs more rights."""
    todo = "reconnected" if again else "connected"
    return f"Your {server} connection needs to be {todo} before this agent can use its tools."


def connect_link(missing: ConnectionRequired, actor: Actor) -> str:
    """The connect page of the server that wants a sign-in, or one's connections if it was deleted meanwhile."""
    return connect_url(McpServer.objects.visible_to(actor).filter(pk=missing.extra["server_id"]).first(), actor)
