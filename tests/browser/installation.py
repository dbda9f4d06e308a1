"""A whole installation as `make run` starts it, in a directory of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

import tests.offline  # noqa: F401  pages are photographed without a network

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0
# Nobody is there: pages have what tests/browser/pages.py puts into the table.
REGISTRY = "http://127.0.0.1:9"


@dataclass
class Installation:
    url: str
    password: str = field(repr=False)
    key: str = field(repr=False)
    env: dict[str, str] = field(repr=False)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx2.Client(base_url=f"{self.url}/api/v1/", headers=headers, timeout=30) as http:
            answer = http.request(method, path, json=body)
        return answer.json() if answer.content else None

    def manage(self, *command: str) -> None:
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=self.env, check=True, capture_output=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def installation() -> Iterator[Installation]:
    """Serve with the demo world until the block ends; Ctrl-C is how it is stopped."""
    with tempfile.TemporaryDirectory(prefix="aster-browser-") as data:
        port = free_port()
        env = {
            **os.environ,
            **{"PORT": str(port), "ASTER_DEMO_PORT": str(free_port()), "ASTER_DATA_DIR": data, "DEBUG": "1"},
            "ASTER_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "ASTER_EMBEDDED_WORKER": "1",
            "ASTER_REGISTRIES": REGISTRY,
        }
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--demo"], cwd=ROOT, env=env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _await_health(url, process)
            password = (Path(data) / "demo-sign-in.txt").read_text().split("password ")[1].strip()
            command = ["create_api_key", "ada@acme.test", "--organization", "acme-research", "--json"]
            made = subprocess.run(
                [sys.executable, "manage.py", *command], cwd=ROOT, env=env, check=True, capture_output=True, text=True
            )
            yield Installation(url, password, json.loads(made.stdout)["api_key"], env)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)


def _await_health(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx2.get(f"{url}/healthz", timeout=1).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise RuntimeError("The installation did not start.")
