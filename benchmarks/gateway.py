"""A tool call through the gateway, against the same call made directly with the same client.

Both clients keep their connection and know the era. Upstream answers at once, so the ratio is all Aster's: key,
assignment and switch checks, upstream call and the stored record. Run: `make benchmark`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
from typing import Any

from benchmarks.stage import await_port, listen, median_ms, prepare_django, upstreams

ROUNDS = 200


def _serve_aster(bound: socket.socket) -> None:
    import uvicorn

    from aster.asgi import application

    uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="on")).run(sockets=[bound])


def main() -> None:
    bound = listen()
    with upstreams([0.0]) as urls:
        prepare_django()
        url, key, tool = _make_agent(urls[0], bound.getsockname()[1])
        process = multiprocessing.get_context("fork").Process(target=_serve_aster, args=(bound,), daemon=True)
        process.start()
        await_port(bound.getsockname()[1])
        try:
            for mode in ("2026-07-28", "legacy"):
                direct, through = asyncio.run(_measure(urls[0], url, key, tool, mode))
                print(f"{mode:10s} direct {direct:5.1f} ms, through the gateway {through:5.1f} ms  "
                      f"ratio={through / direct:.2f}")  # fmt: skip
        finally:
            process.terminate()
            process.join(5)


def _make_agent(upstream: str, port: int) -> tuple[str, str, str]:
    from django.db import connections

    from agents.models import Agent
    from agents.services.agents import save_agent
    from agents.services.calls import agent_tools
    from aster.accounts.access import Actor
    from aster.accounts.services import create_api_key, create_organization
    from integrations.models import McpServer
    from integrations.services.servers import save_server

    organization, user = create_organization("Benchmark", admin_email="bench@example.test")
    actor = Actor(organization, user, "admin")
    server = save_server(McpServer(name="Upstream", url=upstream), actor=actor).server
    agent = save_agent(Agent(name="Agent"), actor=actor, server_ids=[server.pk])
    key = create_api_key(user, name="benchmark", actor=actor)[1]
    tool = agent_tools(agent)[0].name
    connections.close_all()  # the server process must not inherit an open connection
    return f"http://127.0.0.1:{port}{agent.gateway_path}", key, tool


async def _measure(upstream: str, gateway: str, key: str, tool: str, mode: str) -> tuple[float, float]:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async def timed(url: str, name: str, headers: dict[str, str]) -> float:
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            await client.list_tools()

            async def call() -> Any:
                result = await client.call_tool(name, {"text": "x"})
                assert not result.is_error
                return result

            return await median_ms(call, ROUNDS)

    direct = await timed(upstream, "work", {})
    through = await timed(gateway, tool, {"Authorization": f"Bearer {key}"})
    return direct, through


if __name__ == "__main__":
    main()
