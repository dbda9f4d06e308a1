"""Real MCP clients, each in its own released form, against the gateway of a fresh Aster: `make clients`.

Each lists the tools of the demo's agent, calls one, and calls one of a server that nobody has connected yet, with an
API key and then signed in by OAuth; what it says is held against what Aster's API says. A line per run; the exit code
is not 0 if one of them did not get what it came for.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2

from agents.services.client_setups import KEY as PLACEHOLDER
from agents.services.client_setups import Endpoint, find_client
from conformance.clients.installation import EMAIL, ROOT, Installation, installation
from conformance.clients.recorder import Seen
from conformance.loopback import isolate

HERE = Path(__file__).resolve().parent
MODULES, DRIVERS = HERE / "node_modules", HERE / "drivers"
CLIENT_SECONDS = 60
CITY = "Oslo"
TOOL, ARGUMENTS = "__get_forecast", {"city": CITY, "days": 2}
# What the demo's other server offers until somebody has connected: a call of it is answered with the link.
LINK_TOOL = "__connect_account"
LEGACY, MODERN = "2025-11-25", "2026-07-28"
WAYS = ("key", "sign-in")
BROWSER_LOG = "browser.log"


@dataclass(frozen=True)
class Case:
    """One client: what starts it, the revision it is to speak, and whether it can sign in. A snippet only lists."""

    name: str
    version: str
    command: Callable[[Installation, Path], list[str]]
    speaks: str
    mode: str = ""
    ways: tuple[str, ...] = WAYS
    lists_only: bool = False


# --- The clients ----------------------------------------------------------------------------------------------------


def node() -> str:
    locked = MODULES / ".bin" / "node"
    return str(locked) if locked.exists() else shutil.which("node") or ""


def node_version(package: str) -> str:
    return str(json.loads((MODULES / package / "package.json").read_text())["version"])


def pinned(environment: str) -> str:
    return (HERE / f"{environment}.in").read_text().strip().partition("==")[2]


def python_in(environment: str) -> str:
    return str(HERE / ".venv" / environment / "bin" / "python")


def driver(interpreter: str, name: str) -> Callable[[Installation, Path], list[str]]:
    return lambda running, home: [interpreter, str(DRIVERS / name)]


def snippet(client: str, way: str, interpreter: str) -> Callable[[Installation, Path], list[str]]:
    """The program that the page “Use it” shows, as it is."""

    def command(running: Installation, home: Path) -> list[str]:
        setup = find_client(client).setup(Endpoint(running.url, "Research assistant", "research-assistant"))
        text = (setup.key if way == "key" else setup.sign_in).texts[-1]
        program = home / (text.title if "." in text.title else "command.sh")
        program.write_text(text.text.replace(PLACEHOLDER, running.key))
        if program.suffix == ".mjs":
            (home / "node_modules").symlink_to(MODULES)
        return [interpreter, str(program)]

    return command


def cases() -> list[Case]:
    here, js = sys.executable, node()
    inspector, client, sdk = (f"@modelcontextprotocol/{name}" for name in ("inspector", "client", "sdk"))
    v1, fast = python_in("mcp1"), python_in("fastmcp")
    v2, ts2, remote, inspect = version("mcp"), node_version(client), node_version("mcp-remote"), node_version(inspector)
    return [
        Case("Python SDK", pinned("mcp1"), driver(v1, "python_v1.py"), LEGACY),
        Case("Python SDK", v2, driver(here, "python_v2.py"), MODERN, "auto"),
        Case("Python SDK (legacy)", v2, driver(here, "python_v2.py"), LEGACY, "legacy"),
        Case("TypeScript SDK", node_version(sdk), driver(js, "typescript_v1.mjs"), LEGACY),
        Case("TypeScript SDK", ts2, driver(js, "typescript_v2.mjs"), LEGACY, "legacy"),
        Case("TypeScript SDK (auto)", ts2, driver(js, "typescript_v2.mjs"), MODERN, "auto"),
        Case("FastMCP", pinned("fastmcp"), driver(fast, "fastmcp_client.py"), MODERN, "auto"),
        Case("FastMCP (legacy)", pinned("fastmcp"), driver(fast, "fastmcp_client.py"), LEGACY, "legacy"),
        Case("mcp-remote", remote, driver(here, "mcp_remote.py"), LEGACY, "legacy"),
        Case("mcp-remote (auto)", remote, driver(here, "mcp_remote.py"), MODERN, "auto"),
        Case("Inspector", inspect, driver(here, "inspector.py"), LEGACY, "legacy"),
        Case("Inspector (modern)", inspect, driver(here, "inspector.py"), MODERN, "modern"),
        Case("Use it: Python", v2, snippet("python", "key", here), MODERN, ways=("key",), lists_only=True),
        Case("Use it: FastMCP", pinned("fastmcp"), snippet("python", "sign-in", fast), MODERN, ways=("sign-in",),
             lists_only=True),
        Case("Use it: TypeScript", ts2, snippet("typescript", "key", js), MODERN, ways=("key",), lists_only=True),
        Case("Use it: curl", "", snippet("curl", "key", "/bin/sh"), "", ways=("key",), lists_only=True),
    ]  # fmt: skip


# --- One run --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    listed: int
    called: bool
    era: str
    seen: list[Seen]
    seconds: float
    problem: str


def environment(running: Installation, case: Case, way: str, home: Path) -> dict[str, str]:
    """Nothing of ours but what a client is told; its own home, so that nobody's tokens are in it."""
    browser = home / "browser"
    start = f"PYTHONPATH={shlex.quote(str(ROOT))} {shlex.join([sys.executable, '-m', 'conformance.clients.browser'])}"
    # A browser lets go of who opened it at once; FastMCP listens for the answer only then.
    opened = f'{start} "$@" >{shlex.quote(str(home / BROWSER_LOG))} 2>&1 &'
    browser.write_text(f'#!/bin/sh\nif [ "$1" = --print ]; then {start} "$@"; else {opened}\nfi\n')
    browser.chmod(0o700)
    told = {"PATH": f"{Path(node()).parent}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8"}
    told |= {"ASTER_URL": running.url, "ASTER_TOOL": TOOL, "ASTER_ARGUMENTS": json.dumps(ARGUMENTS), "MODE": case.mode}
    told |= {"ASTER_LINK_TOOL": LINK_TOOL}
    told |= {"NODE": node(), "MCP_REMOTE": str(MODULES / ".bin" / "mcp-remote"), "NO_COLOR": "1"}
    told |= {"INSPECTOR": str(MODULES / ".bin" / "mcp-inspector"), "MCP_AUTO_OPEN_ENABLED": "true"}
    told |= {"MCP_INSPECTOR_SECRET_STORE": "file"}
    if way == "key":
        return told | {"ASTER_API_KEY": running.key}
    return told | {"BROWSER": str(browser), "ASTER_EMAIL": EMAIL, "ASTER_PASSWORD": running.password}


def run_case(running: Installation, case: Case, way: str, home: Path) -> Outcome:
    home.mkdir(parents=True)
    env, before, started = environment(running, case, way, home), len(running.recorder.seen), time.monotonic()
    try:
        done = subprocess.run(
            case.command(running, home), env=env, cwd=home, capture_output=True, text=True, timeout=CLIENT_SECONDS,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said, problem = done.stdout, f"exit code {done.returncode}\n{done.stderr}" if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        said, problem = "", f"did not end within {CLIENT_SECONDS} s\n{(late.stderr or b'').decode()}"
    if problem and (browsed := home / BROWSER_LOG).exists():
        problem += f"\nThe browser said:\n{browsed.read_text()}"
    seconds, seen = time.monotonic() - started, running.recorder.seen[before:]
    listed, called, found = judge(case, running, said) if not problem else (0, False, "")
    era = next((each.version for each in reversed(seen) if each.message == "tools/list"), "")
    if not (problem or found) and era != case.speaks:
        found = f"spoke {era or 'no revision'}, not {case.speaks}"
    return Outcome(listed, called, era, seen, seconds, problem or found)


def judge(case: Case, running: Installation, said: str) -> tuple[int, bool, str]:
    """How many tools the client found, whether its call came back, and what is wrong with either."""
    if case.lists_only:
        missing = [name for name in running.tools if name not in said]
        return len(running.tools) - len(missing), False, f"did not show {missing}\n{said}" if missing else ""
    try:
        answer: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        tools, result, link = sorted(answer["tools"]), answer["result"], answer["link"]
    except (ValueError, IndexError, KeyError):
        return 0, False, f"said something else:\n{said}"
    if tools != running.tools:
        return len(tools), False, f"listed {tools}, not {running.tools}"
    city = (result.get("structuredContent") or {}).get("city")
    if result.get("isError") or city != CITY or CITY not in _text(result):
        return len(tools), False, f"the call came back as {result}"
    led = link.get("isError") and f"{running.origin}/hub/" in _text(link)
    return len(tools), True, "" if led else f"no link to connect: {link}"


def _text(result: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in result.get("content", []))


# --- All of them ----------------------------------------------------------------------------------------------------


def report(case: Case, way: str, outcome: Outcome, verbose: bool) -> None:
    did = f"listed {outcome.listed}" + (", called" if outcome.called else "")
    refused = [each for each in outcome.seen if each.status >= 400]
    word = "FAILED" if outcome.problem else "ok"
    print(
        f"  {case.name:22} {case.version:8} {way:8} {outcome.era or '–':11} {did:17} {len(outcome.seen):3} requests, "
        f"{len(refused)} refused {outcome.seconds:5.1f} s  {word}",
        flush=True,
    )
    if outcome.problem or verbose:
        for each in outcome.seen:
            print(f"      {each}" + (f" {each.answer[:300]!r}" if each.status >= 400 else ""))
    if outcome.problem:
        print("\n".join(f"      {line}" for line in outcome.problem.splitlines()[-40:]), flush=True)


def can_sign_in(running: Installation) -> bool:
    """Whether this Aster says who may sign clients in (RFC 9728)."""
    path = running.url.removeprefix(running.origin)
    return httpx2.get(f"{running.origin}/.well-known/oauth-protected-resource{path}", trust_env=False).is_success


def run_all(part: str, ways: Mapping[str, bool], place: Path, verbose: bool) -> int:
    ran = wrong = 0
    with installation(place) as running:
        for way in [way for way, wanted in ways.items() if wanted]:
            if way == "sign-in" and not can_sign_in(running):
                print("  This Aster has no metadata of a protected resource: nobody can sign in to its gateway.")
                wrong += 1
                continue
            for number, case in enumerate(cases()):
                if way not in case.ways or part.lower() not in case.name.lower():
                    continue
                outcome = run_case(running, case, way, place / f"{way}-{number}")
                report(case, way, outcome, verbose)
                ran, wrong = ran + 1, wrong + bool(outcome.problem)
    print(f"\n{ran} runs, {wrong} wrong.")
    return 1 if wrong or not ran else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", nargs="?", default="", help="only clients whose name contains this")
    parser.add_argument("--way", choices=WAYS, help="only with a key, or only signed in")
    parser.add_argument("--verbose", action="store_true", help="print every request")
    parser.add_argument("--keep", metavar="FOLDER", help="keep Aster's log and what clients left at home there")
    options = parser.parse_args()
    if not isolate("conformance.clients.run"):
        print("No network namespace to be had here: the clients could reach other machines.")
    with tempfile.TemporaryDirectory(prefix="aster-clients-") as temporary:
        place = Path(options.keep or temporary).resolve()
        place.mkdir(parents=True, exist_ok=True)
        return run_all(options.client, {way: options.way in (None, way) for way in WAYS}, place, options.verbose)


if __name__ == "__main__":
    sys.exit(main())
