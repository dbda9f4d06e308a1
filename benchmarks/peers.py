"""Other gateways from PyPI in front of the same upstream, measured with the same client: fastmcp's proxy, ContextForge.

Each gets an environment of its own in `.peers/`, and its defaults but for what a loopback upstream and an unattended
start need. One that cannot be installed or does not start is left out, with the reason.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.gateway import LEGACY, Asks, Process, compare
from benchmarks.http_load import Ask
from benchmarks.stage import listen

ROOT = Path(__file__).resolve().parent.parent
TIMES = 150
START_SECONDS = 120.0
PEERS = {"fastmcp proxy": "fastmcp>=4.1,<4.2", "ContextForge": "mcp-contextforge-gateway==1.0.7"}
_PROXY = """
import sys
from fastmcp.server import create_proxy
create_proxy(sys.argv[1]).run(
    transport="http", host="127.0.0.1", port=int(sys.argv[2]), show_banner=False, log_level="ERROR", stateless_http=True
)
"""


def measure(upstream: str) -> None:
    """Print two lines for each peer that can be had: its ratios to a direct call, in the older era (no session)."""
    ways: dict[str, Callable[[Path, str], Any]] = {"fastmcp proxy": _fastmcp, "ContextForge": _context_forge}
    for name, start in ways.items():
        try:
            python = _environment(name)
            with start(python, upstream) as (ask, process):
                direct = Asks(LEGACY).call(upstream, "work")
                print(compare(f"{name}, 1 at a time", direct, ask, process, at_once=1, times=TIMES), flush=True)
                print(compare(f"{name}, 16 at a time", direct, ask, process, at_once=16, times=TIMES), flush=True)
        except (OSError, RuntimeError, subprocess.SubprocessError, httpx2.HTTPError) as error:
            print(f"{name:44s} not measured: {str(error)[:200]}")


def _environment(name: str) -> Path:
    place = ROOT / ".peers" / name.replace(" ", "-")
    python = place / "bin" / "python"
    if not (place / ".installed").exists():
        uv = str(ROOT / ".uv" / "bin" / "uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(place)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), PEERS[name]], check=True)
        (place / ".installed").touch()
    return python


@contextmanager
def _fastmcp(python: Path, upstream: str) -> Iterator[tuple[Ask, Process]]:
    port = _free_port()
    with _running([str(python), "-c", _PROXY, upstream, str(port)], port) as process:
        yield Asks(LEGACY).call(f"http://127.0.0.1:{port}/mcp", "work"), process


@contextmanager
def _context_forge(python: Path, upstream: str) -> Iterator[tuple[Ask, Process]]:
    port, password = _free_port(), f"Xy12_{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory() as place:
        settings = {
            "DATABASE_URL": f"sqlite:///{place}/gateway.db",
            "JWT_SECRET_KEY": secrets.token_hex(24),
            "AUTH_ENCRYPTION_SECRET": secrets.token_hex(24),
            "PLATFORM_ADMIN_EMAIL": "admin@example.com",
            "PLATFORM_ADMIN_PASSWORD": password,
            "PASSWORD_CHANGE_ENFORCEMENT_ENABLED": "false",
            "SSRF_ALLOW_LOCALHOST": "true",
            "RATE_LIMITING_ENABLED": "false",
            "CACHE_TYPE": "memory",
            "LOG_LEVEL": "ERROR",
        }
        command = [str(python), "-m", "uvicorn", "mcpgateway.main:app", "--host", "127.0.0.1", "--port", str(port)]
        with _running([*command, "--log-level", "error", "--no-access-log"], port, settings, cwd=place) as process:
            base = f"http://127.0.0.1:{port}"
            key, path, tool = _set_up(base, password, upstream)
            yield Asks(LEGACY).call(base + path, tool, key), process


def _set_up(base: str, password: str, upstream: str) -> tuple[str, str, str]:
    with httpx2.Client(base_url=base, timeout=30, trust_env=False) as http:
        signed_in = http.post("/auth/login", json={"email": "admin@example.com", "password": password})
        key = signed_in.raise_for_status().json()["access_token"]
        http.headers["Authorization"] = f"Bearer {key}"
        gateway = {"name": "up", "url": upstream, "transport": "STREAMABLEHTTP"}
        http.post("/gateways", json=gateway).raise_for_status()
        tool = http.get("/tools").raise_for_status().json()[0]
        server = {"server": {"name": "benchmark", "associated_tools": [tool["id"]]}}
        made = http.post("/servers", json=server).raise_for_status().json()
    return str(key), f"/servers/{made['id']}/mcp/", str(tool["name"])


@contextmanager
def _running(
    command: list[str], port: int, settings: dict[str, str] | None = None, cwd: str | None = None
) -> Iterator[Process]:
    env = {**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, **(settings or {})}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=env, cwd=cwd, stdout=log, stderr=log)
        try:
            _await(port, process)
            yield Process(process.pid)
        finally:
            process.terminate()
            process.wait(15)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError("it ended while it started")
        try:
            httpx2.get(f"http://127.0.0.1:{port}/health", timeout=1, trust_env=False)
            return
        except httpx2.HTTPError:
            time.sleep(0.2)
    raise RuntimeError("it did not start in time")


def _free_port() -> int:
    with listen() as probe:
        return int(probe.getsockname()[1])
