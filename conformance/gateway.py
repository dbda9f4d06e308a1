"""The suite's server scenarios: it talks to Aster's gateway, behind which stands the fixture server.

The suite cannot send a key, so that a proxy adds one; Aster is told that the proxy's address is its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from conformance.fixture import SLUG
from conformance.loopback import free_port
from conformance.run import (
    NOTHING_PROVEN,
    ROOT,
    SCENARIO_SECONDS,
    Outcome,
    aster,
    await_answer,
    suite_command,
)

NOTHING_SENT = "nothing-sent"
AGENT = "suite"


@dataclass(frozen=True)
class Door:
    """The address that scenarios talk to, and the log that has a line for every request that came through it."""

    url: str
    log: Path
    env: Mapping[str, str]

    def requests(self) -> int:
        return self.log.read_text().count("POST")


@contextmanager
def gateway(place: Path) -> Iterator[Door]:
    """Aster, the fixture as the only server of an agent, and the proxy in front of both."""
    port, fixture_port = free_port(), free_port()
    public_url = f"http://127.0.0.1:{port}"
    with aster(place / "aster", public_url) as env, httpx2.Client(base_url=env["ASTER_API"], timeout=40) as http:
        http.headers["authorization"] = f"Bearer {env['ASTER_API_KEY']}"
        # The number of the fixture's row is known only once it is there, and it is the first one.
        fixture_env = {**env, "ASTER_FIXTURE_ID": "1"}
        with _running("conformance.fixture", fixture_port, fixture_env, place):
            body = {"name": "Fixture", "slug": SLUG, "url": f"http://127.0.0.1:{fixture_port}/mcp"}
            server = _made(http.post("config/mcp-server", json=body))
            agent = {"name": "Suite", "slug": AGENT, "mcp_server_config_ids": [server["id"]]}
            _made(http.post("config/agent", json=agent))
            upstream = {**env, "ASTER_UPSTREAM": f"http://127.0.0.1:{env['PORT']}"}
            with _running("conformance.proxy", port, upstream, place) as log:
                yield Door(f"{public_url}/mcp/conformance/{AGENT}/{SLUG}", log, env)


def _made(answer: httpx2.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise SystemExit(f"{answer.request.url}: {answer.status_code} {answer.text}")
    made: dict[str, Any] = answer.json()
    return made


@contextmanager
def _running(module: str, port: int, env: Mapping[str, str], place: Path) -> Iterator[Path]:
    path = place / f"{module}.log"
    command = [sys.executable, "-m", module, str(port)]
    with path.open("w") as log:
        server = subprocess.Popen(command, env={**env, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)
        try:
            await_answer(f"http://127.0.0.1:{port}/healthz", server, log.name)
            yield path
        finally:
            server.terminate()
            server.wait(10)


def run_server(scenario: str, version: str, door: Door, results: Path) -> Outcome:
    command = [*suite_command(), "server", "--url", door.url, "--scenario", scenario, "--spec-version", version]
    command += ["--timeout", str((SCENARIO_SECONDS - 5) * 1000), "--output-dir", str(results)]
    before = door.requests()
    try:
        subprocess.run(
            command, env=dict(os.environ), cwd=results, capture_output=True, timeout=SCENARIO_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome(scenario, Counter(), frozenset({NOTHING_PROVEN}), ["The scenario took too long."])
    return read_server_outcome(scenario, results, sent=door.requests() - before)


def read_server_outcome(scenario: str, results: Path, sent: int) -> Outcome:
    """Judge by the written checks: warnings count like failures, and what was not proven as nothing."""
    written = next(results.rglob("checks.json"), None)
    checks: list[dict[str, Any]] = json.loads(written.read_text()) if written else []
    bad = [check for check in checks if check["status"] in ("FAILURE", "WARNING")]
    failures = {check["id"] for check in bad}
    if not any(check["status"] == "SUCCESS" for check in checks):
        failures.add(NOTHING_PROVEN)
    if not sent:
        failures.add(NOTHING_SENT)
    said = [f"{check['id']}: {check.get('errorMessage') or check['description']}" for check in bad]
    return Outcome(scenario, Counter(check["status"] for check in checks), frozenset(failures), said)
