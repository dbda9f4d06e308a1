"""An Aster with its demo world behind a Recorder: what the clients are let loose on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from conformance.clients.recorder import Recorder, serving
from conformance.loopback import free_port

ROOT = Path(__file__).resolve().parents[2]
EMAIL, ORGANIZATION, AGENT = "ada@acme.test", "acme-research", "research-assistant"


@dataclass
class Installation:
    """`url` is the gateway's address of the agent, as clients are given it."""

    url: str
    key: str = field(repr=False)
    password: str = field(repr=False)
    recorder: Recorder = field(repr=False)
    tools: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return self.url.partition("/mcp/")[0]


@contextmanager
def installation(data: Path) -> Iterator[Installation]:
    """Serve until the block ends. Loopback is allowed (DEBUG), the address clients see is the recorder's."""
    port, inner, demo = free_port(), free_port(), free_port()
    origin = f"http://127.0.0.1:{port}"
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env |= {"ASTER_REGISTRIES": ""}
    env |= {"DEBUG": "1", "PORT": str(inner), "ASTER_DEMO_PORT": str(demo), "ASTER_PUBLIC_URL": origin}
    env |= {"ASTER_DATA_DIR": str(data), "ASTER_EMBEDDED_WORKER": "1"}
    manage = [sys.executable, str(ROOT / "manage.py")]
    with (data / "aster.log").open("w") as log:
        server = subprocess.Popen([*manage, "serve", "--demo"], env=env, stdout=log, stderr=log)
        try:
            _await(f"http://127.0.0.1:{inner}/healthz", server, Path(log.name))
            make = [*manage, "create_api_key", EMAIL, "--organization", ORGANIZATION, "--json"]
            made = subprocess.run(make, env=env, check=True, capture_output=True, text=True).stdout
            password = (data / "demo-sign-in.txt").read_text().split("password ")[1].strip()
            recorder = Recorder(f"http://127.0.0.1:{inner}")
            running = Installation(
                f"{origin}/mcp/{ORGANIZATION}/{AGENT}", json.loads(made)["api_key"], password, recorder
            )
            with serving(recorder, port):
                running.tools = _tools(running)
                yield running
        finally:
            server.terminate()
            server.wait(20)


def _tools(running: Installation) -> list[str]:
    """What the agent offers, by the API: what every client is to find."""
    headers = {"Authorization": f"Bearer {running.key}"}
    with httpx2.Client(base_url=f"{running.origin}/api/v1/", headers=headers, timeout=30, trust_env=False) as http:
        agent: Any = http.get("config/agent").raise_for_status().json()["results"][0]
        listed: Any = http.get(f"config/agent/{agent['id']}/tools").raise_for_status().json()["results"]
    return sorted(tool["name"] for tool in listed)


def _await(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(400):
        if server.poll() is not None:
            break
        try:
            if httpx2.get(url, trust_env=False).is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise SystemExit(f"Aster did not start:\n{log.read_text()}")
