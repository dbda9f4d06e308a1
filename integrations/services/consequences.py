"""What goes with a server that is deleted, in words: told before anybody says yes."""

from __future__ import annotations

from integrations.models import McpServer


def lost_with(server: McpServer) -> list[str]:
    tools, auth = server.tools.count(), server.auth_config
    agents = [str(agent) for agent in server.agents.all()[:20]]
    items = [f"Its {tools} known tool{'' if tools == 1 else 's'} and the switches set for them."] if tools else []
    if agents:
        items.append(f"{', '.join(agents)} can no longer use it.")
    if auth and auth.servers.count() == 1:
        connected = auth.connections.count()
        stay = f"connection at {auth} stays" if connected == 1 else f"connections at {auth} stay"
        items.append(
            f"{connected} {stay} until people disconnect."
            if connected
            else f"The auth config {auth}, which nothing else uses."
        )
    return items or ["Nothing else depends on it."]
