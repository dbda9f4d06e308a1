"""Tool calls through the gateway against the same calls made directly, with the same client in the same run.

One gateway process, authentication, rules and record included; the client does next to nothing, so that what is
measured is what stands between it and the tool. Run: `make benchmark-gateway`; `--peers` measures others beside it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.http_load import Ask, Timing, load
from benchmarks.stage import await_port, bare_upstream, listen, prepare_django, upstreams

MODERN, LEGACY = "2026-07-28", "2025-11-25"
TIMES, ROUNDS = 1500, 3
META = "io.modelcontextprotocol/"
DONE = b'"done"'


def _serve_aster(bound: socket.socket) -> None:
    """As `manage.py serve` does, without worker and scheduler, and without what only DEBUG does."""
    from django.db.backends.base.base import BaseDatabaseWrapper

    from aster.serving import serve

    BaseDatabaseWrapper.queries_logged = False
    serve(bound, log_level="error")


@dataclass(frozen=True)
class Process:
    pid: int

    def cpu_seconds(self) -> float:
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        with open(f"/proc/{self.pid}/status") as status:
            return int(status.read().split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def gateway() -> Iterator[tuple[int, Process]]:
    bound = listen()
    process = multiprocessing.get_context("spawn").Process(target=_serve_aster, args=(bound,), daemon=True)
    process.start()
    await_port(bound.getsockname()[1], 60.0)
    try:
        yield bound.getsockname()[1], Process(process.pid or 0)
    finally:
        process.terminate()
        process.join(5)


class Asks:
    """What an MCP client of one era sends."""

    def __init__(self, version: str) -> None:
        self.version = version

    def call(self, url: str, tool: str, key: str = "") -> Ask:
        return self._ask(url, "tools/call", {"name": tool, "arguments": {"text": "x"}}, key, DONE)

    def list(self, url: str, key: str = "") -> Ask:
        return self._ask(url, "tools/list", {}, key, b'"inputSchema"')

    def _ask(self, url: str, method: str, params: dict[str, Any], key: str, expects: bytes) -> Ask:
        headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": self.version}
        if self.version == MODERN:
            info = {"name": "benchmark", "version": "1"}
            meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}, f"{META}clientInfo": info}
            params = {**params, "_meta": meta}
            headers |= {"Mcp-Method": method, **({"Mcp-Name": params["name"]} if "name" in params else {})}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        return Ask.post(url, body, headers, expects)


@dataclass(frozen=True)
class Compared:
    """One way beside the direct one: medians of ratios over the rounds, each measured next to its own direct one."""

    name: str
    direct: Timing
    through: Timing
    p50: float
    p95: float
    throughput: float
    cpu_per_1000: float

    def __str__(self) -> str:
        return (
            f"{self.name:44s} {self.direct.p50:6.2f} {self.through.p50:6.2f} ms  {self.p50:5.2f} ×  "
            f"p95 {self.p95:5.2f} ×  {self.through.per_second:6.0f}/s {self.throughput:5.2f} ×  "
            f"{self.cpu_per_1000:5.2f} CPU s/1000"
        )


def compare(name: str, direct: Ask, through: Ask, process: Process, *, at_once: int, times: int = TIMES) -> Compared:
    _run(through, at_once, 200)
    _run(direct, at_once, 200)
    rounds = []
    for _ in range(ROUNDS):
        plain = _run(direct, at_once, times)
        before = process.cpu_seconds()
        relayed = _run(through, at_once, times)
        rounds.append((plain, relayed, (process.cpu_seconds() - before) / times * 1000))

    def middle(of: Callable[[Timing, Timing, float], float]) -> float:
        return sorted(of(*each) for each in rounds)[len(rounds) // 2]

    plain, relayed, _ = sorted(rounds, key=lambda each: each[1].p50 / each[0].p50)[len(rounds) // 2]
    return Compared(
        name, plain, relayed,
        p50=middle(lambda a, b, _: b.p50 / a.p50),
        p95=middle(lambda a, b, _: b.p95 / a.p95),
        throughput=middle(lambda a, b, _: b.per_second / a.per_second),
        cpu_per_1000=middle(lambda a, b, cpu: cpu),
    )  # fmt: skip


def _run(ask: Ask, at_once: int, times: int) -> Timing:
    import uvloop

    return uvloop.run(load(ask, at_once=at_once, times=times))


def _make_agent(urls: list[str], name: str, *, dead: int = 0) -> tuple[str, str, str]:
    """The path of an agent with these servers, a key for it, and the name of its first tool."""
    from agents.models import Agent
    from agents.services.agents import save_agent
    from agents.services.calls import agent_tools
    from aster.accounts.access import Actor
    from aster.accounts.models import Organization
    from aster.accounts.services import create_api_key, create_organization
    from integrations.models import McpServer
    from integrations.services.servers import save_server

    organization = Organization.objects.filter(name="Benchmark").first()
    if organization is None:
        organization, _ = create_organization("Benchmark", admin_email="bench@example.test")
    user = organization.members.get()
    actor = Actor(organization, user, "admin")
    servers = [save_server(McpServer(name=f"{name} {n}", url=url), actor=actor).server for n, url in enumerate(urls)]
    for server in servers[1 : dead + 1]:
        McpServer.objects.filter(pk=server.pk).update(url="http://127.0.0.1:1/mcp")
    agent = save_agent(Agent(name=name), actor=actor, server_ids=[server.pk for server in servers])
    return agent.gateway_path, create_api_key(user, name="benchmark", actor=actor)[1], agent_tools(agent)[0].name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers", action="store_true", help="measure other gateways from PyPI beside it (installs them)"
    )
    peers = parser.parse_args().peers
    with (
        upstreams([0.0] * 2, tools=[1, 20]) as urls,
        bare_upstream(sockets_only=False) as bare,
        bare_upstream(sockets_only=True) as sockets,
    ):
        prepare_django()
        agents = {
            "one": _make_agent(urls[:1], "One"),
            "twenty": _make_agent(urls[:1] * 20, "Twenty"),
            "dead": _make_agent(urls[:1] * 2, "Dead", dead=1),
            "tools": _make_agent(urls[1:], "Tools"),
            "tools_dead": _make_agent([urls[1], urls[0]], "Tools dead", dead=1),
            "bare": _make_agent([bare], "Bare"),
            "sockets": _make_agent([sockets], "Sockets"),
        }
        _close_connections()
        with gateway() as (port, process):
            idle = process.memory_mb()
            base = f"http://127.0.0.1:{port}"
            results = _measure(urls, [bare, sockets], base, process, agents)
            print(f"\nmemory: {idle:.0f} MB idle, {_growth(base, process, agents['one']):+.1f} MB after 100,000 calls")
        if peers:
            from benchmarks import peers as others

            others.measure(urls[0])
    first, many = results["2026-07-28, 1 at a time"], results["2026-07-28, 64 at a time"]
    print(f"p50_ratio={first.p50:.2f} throughput_ratio={many.throughput:.2f} cpu_s_per_1000={first.cpu_per_1000:.2f}")


Agent = tuple[str, str, str]


def _measure(
    urls: list[str], bare: list[str], base: str, process: Process, agents: dict[str, Agent]
) -> dict[str, Compared]:
    print(f"{'':44s} direct through     p50")
    found: dict[str, Compared] = {}
    upstream, listed = urls
    # Processes that have just started are measured by nobody's first calls.
    _run(_through(Asks(MODERN), base, agents["one"]), 1, 2 * TIMES)

    def show(name: str, direct: Ask, through: Ask, at_once: int, times: int = TIMES) -> None:
        found[name] = compare(name, direct, through, process, at_once=at_once, times=times)
        print(found[name], flush=True)

    for version in (MODERN, LEGACY):
        asks = Asks(version)
        direct = asks.call(upstream, "work")
        for at_once in (1, 16, 64):
            show(f"{version}, {at_once} at a time", direct, _through(asks, base, agents["one"]), at_once)
        show(f"{version}, 20 servers assigned", direct, _through(asks, base, agents["twenty"]), 1)
        show(f"{version}, one of two servers dead", direct, _through(asks, base, agents["dead"]), 1)
        path, key, _ = agents["tools"]
        show(f"{version}, tools/list of 20", asks.list(listed), asks.list(base + path, key), 1)
        path, key, _ = agents["tools_dead"]
        show(f"{version}, tools/list of 20, a server dead", asks.list(listed), asks.list(base + path, key), 1)
    asks = Asks(MODERN)
    for name, url, agent in zip(("no SDK", "nothing but sockets"), bare, ("bare", "sockets"), strict=True):
        direct = asks.call(url, "work")
        show(f"2026-07-28, 64, upstream: {name}", direct, _through(asks, base, agents[agent]), 64)
    return found


def _through(asks: Asks, base: str, agent: Agent) -> Ask:
    path, key, tool = agent
    return asks.call(base + path, tool, key)


def _growth(base: str, process: Process, agent: Agent, times: int = 100_000) -> float:
    """How much larger the process is after many calls, by what every further 10,000 add once it is warm."""
    ask = _through(Asks(MODERN), base, agent)
    _run(ask, 16, 5_000)
    before, calls = process.memory_mb(), times // 5
    _run(ask, 16, calls)
    time.sleep(0.5)
    return (process.memory_mb() - before) * times / calls


def _close_connections() -> None:
    from django.db import connections

    connections.close_all()  # the gateway's process opens its own


if __name__ == "__main__":
    main()
