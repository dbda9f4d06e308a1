"""An agent's turn over 1, 5 and 10 servers, against the slowest of those servers alone.

A turn resolves, connects, calls one tool on every server at once, and closes. Every server answers a call after 50 ms;
the slowest takes 100 ms. The baseline is one direct SDK client that connects to the slowest server, lists, calls and
closes. Run: `make benchmark`.
"""

from __future__ import annotations

import asyncio

from benchmarks.stage import median_ms, prepare_django, upstreams

ROUNDS = 15


def main() -> None:
    with upstreams([0.1] + [0.05] * 9) as urls:
        prepare_django()
        agents, actor = _make_agents(urls)
        for line in asyncio.run(_measure(agents, actor, urls[0])):
            print(line)


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


async def _measure(agents: dict[int, object], actor: object, slowest: str) -> list[str]:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    from agents.runtime.session import AgentSession
    from aster.egress import keep_async_pool

    async def direct() -> None:
        async with httpx2.AsyncClient() as http, Client(streamable_http_client(slowest, http_client=http)) as client:
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
        lines.append(f"slowest server alone, direct: {alone:.0f} ms")
        for count, agent in agents.items():
            took = await median_ms(turn(agent), ROUNDS)  # type: ignore[arg-type]
            lines.append(f"turn over {count:2d} servers: {took:4.0f} ms  ratio={took / alone:.2f}")
    return lines


if __name__ == "__main__":
    main()
