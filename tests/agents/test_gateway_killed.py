"""A gateway process that is killed in the middle of a call: what is lost, and that others go on. Real processes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx2
import pytest

from agents.models import Agent, ToolCall
from agents.services.agents import save_agent
from integrations.models import McpServer
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.databases import environment_of_children
from tests.fakes.mcp_servers import FakeServer, modern_and_legacy_app, serve

pytestmark = pytest.mark.django_db(transaction=True)

_GATEWAY = """
import socket, sys
import uvicorn
from aster.asgi import application
bound = socket.socket(fileno=int(sys.argv[1]))
uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="on")).run(sockets=[bound])
"""
LOSABLE_SECONDS = 0.25


@contextmanager
def gateway() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A process of its own on this database, that writes the record behind."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(16)
        env = {**environment_of_children(), "ASTER_CALLS_WRITTEN_THROUGH": "0"}
        command = [sys.executable, "-c", _GATEWAY, str(bound.fileno())]
        process = subprocess.Popen(command, env=env, pass_fds=[bound.fileno()])
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}", process
        finally:
            process.kill()
            process.wait(10)


def call(base: str, agent: Agent, key: str, tool: str, timeout: float = 30, **arguments: Any) -> dict[str, Any]:
    name = f"fake_{agent.servers.get().pk}__{tool}"
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    headers = {
        "accept": "application/json, text/event-stream",
        "authorization": f"Bearer {key}",
        "mcp-protocol-version": "2025-11-25",
    }
    answer = httpx2.post(f"{base}{agent.gateway_path}", json=message, headers=headers, timeout=timeout)
    result: dict[str, Any] = answer.raise_for_status().json()["result"]
    return result


def call_that_breaks_off(base: str, agent: Agent, key: str) -> None:
    with pytest.raises(httpx2.HTTPError):
        call(base, agent, key, "slow", seconds=30)


def wait_for(condition: Any) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends


def test_a_killed_process_loses_the_last_quarter_of_a_second_and_no_more(alice: Person) -> None:
    fake: FakeServer = modern_and_legacy_app()
    with serve(fake) as url:
        server = save_server(McpServer(name="Fake", url=f"{url}/mcp"), actor=alice.actor).server
        agent, key = save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk]), alice.key()
        answered: list[float] = []
        with gateway() as (base, process):
            for number in range(5):
                assert not call(base, agent, key, "echo", text=str(number)).get("isError")
                answered.append(time.time())
            slow = Thread(target=call_that_breaks_off, args=(base, agent, key))
            slow.start()
            wait_for(lambda: "slow" in fake.calls())
            killed = time.time()
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            slow.join(10)
        kept = ToolCall.objects.filter(tool_name="echo", outcome="ok").count()
        assert kept >= sum(killed - each > LOSABLE_SECONDS for each in answered)
        assert not ToolCall.objects.filter(tool_name="slow").exists(), "nobody is left who could tell how it ended"
        with gateway() as (base, process):
            assert not call(base, agent, key, "echo", text="on").get("isError")
            process.terminate()
            process.wait(20)
        assert ToolCall.objects.filter(tool_name="echo", outcome="ok").count() == kept + 1, "stopping stores what waits"
