"""An agent's turn over 1, 5 and 10 servers, against one of those servers alone; and listing ten that nobody has listed.

Every server answers a request after 50 ms, as one across the network does. A turn resolves, connects, calls one tool on
every server at once, and closes. The baseline is one direct SDK client that connects, lists, calls and closes. The
fan-out lists ten servers, of which one takes 100 ms a request; the baseline is that one alone. Run: `make benchmark`.
"""

from __future__ import annotations

import asyncio

from benchmarks.stage import median_ms, prepare_django, upstreams

ROUNDS = 15


def main() -> None:
    with upstreams([0.05] * 10 + [0.1]) as urls:
        prepare_django()
        agents, actor = _make_agents(urls[:10])
        for line in asyncio.run(_measure_turns(agents, actor, urls[0])):
            print(line)
        print(asyncio.run(_measure_listing(*_make_unlisted(urls[1:]), actor)))


def _make_agents(urls: list[str]) -> tuple[dict[int, object], object]:
    from agents.models import Agent
    from agents.services.agents import save_agent
    from aster.accounts.access import Actor
    from aster.accounts.services import create_organization
    from integrations.models import McpServer
    from integrations.services.servers import save_server

    organization, user = create_organization("Benchmark", admin_email="bench@example.test")
    actor = Actor(organization, user, "admin")
    servers = [save_server(McpServer(name=f"S{n}", url=url), actor=actor).server for n, url in enumerate(urls)]
    agents = {
        count: save_agent(Agent(name=f"A{count}"), actor=actor, server_ids=[s.pk for s in servers[:count]])
        for count in (1, 5, 10)
    }
    return agents, actor


def _make_unlisted(urls: list[str]) -> tuple[object, object]:
    """Agents over all of `urls` and over the last one, which the actor is connected to and nobody has listed."""
    from agents.models import Agent
    from agents.services.agents import save_agent
    from aster.accounts.access import Actor
    from aster.accounts.models import Organization, User
    from integrations.models import AuthConfig, AuthType, Connection, McpServer

    organization, user = Organization.objects.get(), User.objects.get()
    actor = Actor(organization, user, "admin")
    auth = AuthConfig.objects.create(organization=organization, name="ID", auth_type=AuthType.AUTHORIZATION_CODE)
    Connection.objects.create(auth_config=auth, user=user, access_token="t")
    servers = [
        McpServer.objects.create(organization=organization, name=f"U{n}", slug=f"u{n}", url=url, auth_config=auth)
        for n, url in enumerate(urls)
    ]
    ten = save_agent(Agent(name="Ten"), actor=actor, server_ids=[server.pk for server in servers])
    return ten, save_agent(Agent(name="One"), actor=actor, server_ids=[servers[-1].pk])


async def _measure_turns(agents: dict[int, object], actor: object, one: str) -> list[str]:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    from agents.runtime.session import AgentSession
    from aster.egress import keep_async_pool

    async def direct() -> None:
        async with httpx2.AsyncClient() as http, Client(streamable_http_client(one, http_client=http)) as client:
            await client.list_tools()
            await client.call_tool("work", {})

    def turn(agent: object) -> object:
        async def run() -> None:
            async with AgentSession.open(agent, actor=actor) as session:  # type: ignore[arg-type]
                await asyncio.gather(*(session.call(name, {}) for name in session.tools))

        return run

    lines = []
    async with keep_async_pool():
        alone = await median_ms(direct, ROUNDS)
        lines.append(f"one server, direct: {alone:.0f} ms")
        for count, agent in agents.items():
            took = await median_ms(turn(agent), ROUNDS)  # type: ignore[arg-type]
            lines.append(f"turn over {count:2d} servers: {took:4.0f} ms  ratio={took / alone:.2f}")
    return lines


async def _measure_listing(ten: object, one: object, actor: object) -> str:
    from agents.services.calls import learn_tools
    from aster.threads import in_waiting_thread
    from integrations.models import McpServer

    def listing(agent: object) -> object:
        async def run() -> None:
            await in_waiting_thread(_list, agent)

        return run

    def _list(agent: object) -> None:
        McpServer.objects.update(tools_synced_at=None, tested_at=None)
        learn_tools(agent, actor=actor)  # type: ignore[arg-type]

    slowest = await median_ms(listing(one), ROUNDS)  # type: ignore[arg-type]
    took = await median_ms(listing(ten), ROUNDS)  # type: ignore[arg-type]
    return (
        f"listing 10 for the first time: {took:.0f} ms, the slowest alone {slowest:.0f} ms  ratio={took / slowest:.2f}"
    )


if __name__ == "__main__":
    main()
