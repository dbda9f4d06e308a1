"""The public MCP conformance suite, its scenarios one at a time against an Aster of its own: `make conformance`.

Client scenarios have Aster talk to the suite's fake servers; server scenarios talk to Aster's gateway (see gateway.py).

Fails for a check that fails without standing in exceptions.toml, and for an exception that is no longer needed. A green
client scenario counts only if a check passed and client.py's script ended as it should, a server scenario only if a
check passed and something was sent: silence proves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from conformance.client import FINISHED, REFUSED
from conformance.loopback import free_port, isolate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BIN = HERE / "node_modules" / ".bin"
EXTENSIONS = "extensions"
VERSIONS = ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28", EXTENSIONS)
# Extensions are no part of a revision; they are run on the newest wire.
EXTENSIONS_WIRE = "2026-07-28"
OLDEST_NODE = 22
SCENARIO_SECONDS = 45
# What the suite has no check for: that anything was proven, and that the script ended as it should.
NOTHING_PROVEN, SCRIPT_ENDED_WRONG = "nothing-proven", "script-ended-wrong"
CLIENT, SERVER = "client", "server"


@dataclass(frozen=True)
class Outcome:
    """What one scenario showed. `failures` holds the ids of the checks that did not pass."""

    scenario: str
    counts: Counter[str]
    failures: frozenset[str]
    messages: list[str] = field(default_factory=list)
    script: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Excuse:
    scenario: str
    version: str
    checks: frozenset[str]
    reason: str
    unsteady: bool = False


@dataclass(frozen=True)
class Expectations:
    """exceptions.toml: what may fail, by scenario and version, and with which code Aster must refuse a bad server."""

    excuses: Mapping[tuple[str, str], Excuse]
    refusals: Mapping[str, str]

    @classmethod
    def read(cls, side: str) -> Expectations:
        written = tomllib.loads((HERE / "exceptions.toml").read_text())
        excuses = [
            Excuse(
                entry["scenario"], version, frozenset(entry["checks"]), entry["reason"], entry.get("unsteady", False)
            )
            for entry in written["exception"]
            for version in entry["versions"]
            if entry.get("side", CLIENT) == side
        ]
        return cls({(excuse.scenario, excuse.version): excuse for excuse in excuses}, written["refusals"])


# --- Aster ----------------------------------------------------------------------------------------------------------


@contextmanager
def aster(data: Path, public_url: str = "") -> Iterator[dict[str, str]]:
    """A fresh installation and its environment, with an admin's key in it. Loopback is allowed (DEBUG).

    `public_url` is where people find it, if that is not where it listens.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env |= {"ASTER_REGISTRIES": ""}
    env |= {"DEBUG": "1", "PORT": str(port), "ASTER_DATA_DIR": str(data), "ASTER_PUBLIC_URL": public_url or url}
    # The client id that auth/basic-cimd compares with; nobody fetches it.
    env |= {"ASTER_CLIENT_METADATA_URL": "https://conformance-test.local/client-metadata.json"}
    # Without the background worker nothing but the script's steps reaches a scenario.
    env |= {"ASTER_EMBEDDED_WORKER": "0", "PYTHONPATH": str(ROOT), "ASTER_API": f"{url}/api/v1/"}
    manage = [sys.executable, str(ROOT / "manage.py")]
    with (data / "aster.log").open("w") as log:
        server = subprocess.Popen([*manage, "serve"], env=env, stdout=log, stderr=log)
        try:
            await_answer(f"{url}/healthz", server, log.name)
            make = [*manage, "create_org", "Conformance", "--admin", "admin@example.test", "--api-key", "--json"]
            made = subprocess.run(make, env=env, check=True, capture_output=True, text=True).stdout
            yield {**env, "ASTER_API_KEY": json.loads(made)["api_key"]}
        finally:
            server.terminate()
            server.wait(10)


def await_answer(url: str, server: subprocess.Popen[bytes], log: str) -> None:
    """Wait until something answers there, whatever it says."""
    for _ in range(300):
        if server.poll() is not None:
            break
        try:
            if httpx2.get(url).status_code < 500:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{url} did not answer:\n{Path(log).read_text()}")


# --- The suite ------------------------------------------------------------------------------------------------------


def suite_command() -> list[str]:
    """The suite under the Node that is locked beside it, or where there is none for this machine under its own."""
    node = str(BIN / "node") if (BIN / "node").exists() else shutil.which("node") or ""
    return [node, str(BIN / "conformance")]


def check_node() -> None:
    node = suite_command()[0]
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout if node else ""
    if not said or int(said.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        raise SystemExit(f"The conformance suite needs Node {OLDEST_NODE} or newer; found {said.strip() or 'none'}.")


def scenarios_of(version: str, side: str = CLIENT) -> list[str]:
    flags = [] if version == EXTENSIONS else ["--spec-version", version]
    command = [*suite_command(), "list", f"--{side}", *flags]
    listing = subprocess.run(command, check=True, capture_output=True, text=True)
    found = re.findall(r"^\s*- (\S+) \[(.*)\]$", listing.stdout, re.MULTILINE)
    if version == EXTENSIONS:
        found = [(name, where) for name, where in found if where == "extension"]
    if not found:
        raise SystemExit(f"The suite lists no scenarios for {version}.")
    return [name for name, _ in found]


def run_client(scenario: str, version: str, env: Mapping[str, str], results: Path, refusal: str | None) -> Outcome:
    wire = ["--spec-version", EXTENSIONS_WIRE, "--force"] if version == EXTENSIONS else ["--spec-version", version]
    client = shlex.join([sys.executable, "-m", "conformance.client"])
    command = [*suite_command(), "client", "--command", client, "--scenario", scenario, *wire]
    command += ["--timeout", str((SCENARIO_SECONDS - 5) * 1000), "--output-dir", str(results)]
    try:
        subprocess.run(command, env=dict(env), cwd=results, capture_output=True, timeout=SCENARIO_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(scenario, Counter(), frozenset({NOTHING_PROVEN}), ["The scenario took too long."])
    return read_outcome(scenario, results, refusal)


def read_outcome(scenario: str, results: Path, refusal: str | None) -> Outcome:
    """Judge by the written checks: warnings count like failures, as they do for the suite itself."""
    written = next(results.rglob("checks.json"), None)
    checks: list[dict[str, Any]] = json.loads(written.read_text()) if written else []
    script = (written.parent / "stdout.txt").read_text().splitlines() if written else []
    bad = [check for check in checks if check["status"] in ("FAILURE", "WARNING")]
    failures = {check["id"] for check in bad}
    if not any(check["status"] == "SUCCESS" for check in checks):
        failures.add(NOTHING_PROVEN)
    end = script[-1] if script else ""
    if not (end.startswith(f"{REFUSED}: {refusal}:") if refusal else end == FINISHED):
        failures.add(SCRIPT_ENDED_WRONG)
    said = [f"{check['id']}: {check.get('errorMessage') or check['description']}" for check in bad]
    counts = Counter(check["status"] for check in checks)
    return Outcome(scenario, counts, frozenset(failures), said, script)


# --- Judging --------------------------------------------------------------------------------------------------------


def judge(outcome: Outcome, excuse: Excuse | None) -> tuple[bool, str]:
    """Whether the outcome is what it should be, and the word for it. An excuse covers exactly the checks it names."""
    if excuse is None:
        return not outcome.failures, "FAILED" if outcome.failures else "passed"
    if excuse.unsteady and outcome.failures <= excuse.checks:
        return True, "excused" if outcome.failures else "passed"
    if not outcome.failures:
        return False, "PASSED, but exceptions.toml excuses it: remove that"
    if outcome.failures != excuse.checks:
        return False, f"FAILED otherwise than excused: {', '.join(sorted(outcome.failures ^ excuse.checks))}"
    return True, "excused"


def report(outcome: Outcome, good: bool, word: str, seconds: float) -> None:
    counts = outcome.counts
    numbers = f"{counts['SUCCESS']:6} {counts['FAILURE'] + counts['WARNING']:6} {counts['SKIPPED']:7}"
    print(f"  {outcome.scenario:43}{numbers} {seconds:5.1f} s  {word}", flush=True)
    if not good:
        names = [f"not passed: {name}" for name in sorted(outcome.failures)]
        print("\n".join(f"      {line}" for line in [*names, *outcome.messages, *outcome.script]))


# Runs one scenario of a version, with its results in the folder.
Run = Callable[[str, str, Path], Outcome]


def run_version(version: str, names: list[str], expected: Expectations, run: Run, results: Path) -> int:
    """Run scenarios one at a time and print their table; returns how many were not as expected."""
    print(f"\n{version}\n  {'scenario':43}passed failed skipped")
    wrong = 0
    for name in names:
        started = time.monotonic()
        place = results / version / name.replace("/", "-")
        place.mkdir(parents=True)
        outcome = run(name, version, place)
        good, word = judge(outcome, expected.excuses.get((name, version)))
        report(outcome, good, word, time.monotonic() - started)
        wrong += not good
    return wrong


def run_all(side: str, versions: list[str], part: str, run: Run, results: Path) -> tuple[int, int]:
    """Run everything of one side; returns how many scenarios ran, and how many were not as expected."""
    expected, wrong, ran = Expectations.read(side), 0, 0
    print(f"\n--- Aster as {side} ---")
    for version in versions:
        listed = scenarios_of(version, side)
        if gone := [name for name, where in expected.excuses if where == version and name not in listed]:
            print(f"\nexceptions.toml names what the suite does not have for {version}: {', '.join(gone)}")
            wrong += len(gone)
        if names := [name for name in listed if part in name]:
            wrong += run_version(version, names, expected, run, results)
            ran += len(names)
    return ran, wrong


def run_clients(versions: list[str], part: str, place: Path) -> tuple[int, int]:
    refusals = Expectations.read(CLIENT).refusals
    with aster(place / "aster") as env:

        def run(scenario: str, version: str, results: Path) -> Outcome:
            return run_client(scenario, version, env, results, refusals.get(scenario))

        return run_all(CLIENT, versions, part, run, place / "results")


def run_servers(versions: list[str], part: str, place: Path) -> tuple[int, int]:
    from conformance.gateway import gateway, run_server

    with gateway(place) as door:

        def run(scenario: str, version: str, results: Path) -> Outcome:
            return run_server(scenario, version, door, results)

        asked = [version for version in versions if version != EXTENSIONS]
        return run_all(SERVER, asked, part, run, place / "results")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="?", default="", help="only scenarios whose name contains this")
    parser.add_argument("--version", choices=VERSIONS, action="append", help="only this revision")
    parser.add_argument("--side", choices=(CLIENT, SERVER), action="append", help="only Aster as this")
    parser.add_argument("--keep", metavar="FOLDER", help="keep Aster's log and every scenario's results there")
    options = parser.parse_args()
    if options.keep and Path(options.keep).exists():
        parser.error(f"{options.keep} exists: name a folder that does not.")
    check_node()
    if not isolate("conformance.run"):
        print("No network namespace to be had here: the suite's fake servers can be reached from outside meanwhile.")
    versions, sides = options.version or list(VERSIONS), options.side or [CLIENT, SERVER]
    ran = wrong = 0
    with tempfile.TemporaryDirectory(prefix="aster-conformance-") as temporary:
        for side, run_side in ((CLIENT, run_clients), (SERVER, run_servers)):
            if side in sides:
                place = Path(options.keep or temporary).resolve() / side
                (place / "aster").mkdir(parents=True)
                these_ran, these_wrong = run_side(versions, options.scenario, place)
                ran, wrong = ran + these_ran, wrong + these_wrong
    print(f"\n{ran} runs, {wrong} not as expected.")
    return 1 if wrong or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
