"""`manage.py mcp list | test | remove | discover-tools | validate`: an organization's servers on the command line."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from agents.services.configuration_check import check_configuration
from agents.services.tool_scopes import change_named_scopes, propose_scopes
from aster.accounts.access import Actor
from aster.cli.output import Output
from aster.cli.verbs import FAILED, Verb
from aster.errors import Conflict, UpstreamError
from integrations.bodies import show_servers
from integrations.models import McpServer, TestStatus
from integrations.services import servers
from integrations.services.consequences import lost_with

_LINE = ("slug", "name", "transport", "url", "command", "args", "auth_type", "is_enabled", "status", "error")
_MARKS = {TestStatus.OK: "ok", TestStatus.FAILED: "FAILED", TestStatus.SIGN_IN: "sign in"}


def _one_server(parser: CommandParser) -> None:
    parser.add_argument("server", help="slug or id")


# --- list -----------------------------------------------------------------------------------------------------------


def _list(actor: Actor, options: dict[str, Any], out: Output) -> None:
    rows = list(McpServer.objects.visible_to(actor).select_related("auth_config").order_by("slug"))
    shown = show_servers(rows, actor)
    out.document([{**{name: each[name] for name in (*_LINE, "tool_count")}} for each in shown])
    if not rows:
        out.say("There are no MCP servers yet.")
        return
    out.table(
        ("Server", "Address", "Sign-in", "State", "Tools"),
        [(row.slug, row.address, each["auth_type"], each["status"], each["tool_count"])
         for row, each in zip(rows, shown, strict=True)],
    )  # fmt: skip


# --- test -----------------------------------------------------------------------------------------------------------


def _test_arguments(parser: CommandParser) -> None:
    parser.add_argument("server", nargs="?", help="slug or id")
    parser.add_argument("--all", action="store_true", help="every server that is switched on")


def _test(actor: Actor, options: dict[str, Any], out: Output) -> int | None:
    if bool(options["server"]) == options["all"]:
        raise CommandError("Name a server, or say --all.")
    if options["all"]:
        enabled = McpServer.objects.usable_by(actor).select_related("auth_config", "organization")
        rows = list(enabled.order_by("slug"))
    else:
        rows = [servers.find_server(options["server"], actor=actor)]
    results: list[tuple[McpServer, servers.TestResult]] = []
    with out.progress("Testing", len(rows)) as done:
        for server in rows:
            results.append((server, servers.test_server(server, actor=actor)))
            done()
    out.document([{"slug": server.slug, **result.as_json()} for server, result in results])
    lines = [(s.slug, _MARKS[TestStatus(r.status)], f"{r.message} {r.hint}".strip()) for s, r in results]
    out.table(("Server", "Result", ""), lines)
    return FAILED if any(result.status == TestStatus.FAILED for _, result in results) else None


# --- remove ---------------------------------------------------------------------------------------------------------


def _remove_arguments(parser: CommandParser) -> None:
    _one_server(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _remove(actor: Actor, options: dict[str, Any], out: Output) -> None:
    actor.require_admin()
    server = servers.find_server(options["server"], actor=actor)
    lost = lost_with(server)
    agents = list(server.agents.order_by("slug").values_list("slug", flat=True))
    for words in lost:
        out.say(words)
    if not options["yes"]:
        _ask(server, out)
    slug, name = server.slug, server.name
    servers.delete_server(server, actor=actor)
    out.document({"removed": slug, "agents": agents})
    out.say(f"{name} was removed.")


def _ask(server: McpServer, out: Output) -> None:
    if out.as_json or not sys.stdin.isatty():
        raise Conflict(f"Nothing was removed. Add --yes to remove {server} without being asked.")
    if input(f"Remove {server.slug}? Type its name to go on: ").strip() not in (server.slug, server.name):
        raise Conflict("Nothing was removed.")


# --- discover-tools -------------------------------------------------------------------------------------------------


def _discover_arguments(parser: CommandParser) -> None:
    _one_server(parser)
    parser.add_argument("--apply", action="store_true", help="store the proposals for tools that have no scopes")


def _discover(actor: Actor, options: dict[str, Any], out: Output) -> None:
    actor.require_admin()
    server = servers.find_server(options["server"], actor=actor)
    result = servers.test_server(server, actor=actor)
    if not result.ok:
        raise UpstreamError(f"{result.message} {result.hint}".strip(), step=result.step)
    proposals = show_proposals(server, out)
    missing = {name: scopes for name, scopes in proposals.items() if name not in server.tool_scopes}
    if options["apply"] and missing:
        change_named_scopes(server, missing, actor=actor)
    applied = sorted(missing) if options["apply"] else []
    out.document({"slug": server.slug, "scopes": server.tool_scopes, "proposed": missing, "applied": applied})
    if options["apply"]:
        out.say(f"{len(applied)} tool{'' if len(applied) == 1 else 's'} got scopes.")
    elif missing:
        out.say("Nothing was stored. --apply stores what is proposed.")


def show_proposals(server: McpServer, out: Output) -> dict[str, list[str]]:
    """A table of the server's tools with the scopes they have, or that are proposed."""
    proposals = propose_scopes(server)
    lines = [
        (name, " ".join(server.tool_scopes.get(name, ())) or "–", " ".join(scopes))
        for name, scopes in proposals.items()
    ]  # fmt: skip
    out.table(("Tool", "Scopes", "Proposed"), lines)
    return proposals


# --- validate -------------------------------------------------------------------------------------------------------


def _validate(actor: Actor, options: dict[str, Any], out: Output) -> int | None:
    problems = check_configuration(actor=actor)
    out.document([problem.as_json() for problem in problems])
    if not problems:
        out.say("No problems found.")
        return None
    out.table(("", "", "Problem"), [(problem.kind, problem.slug, problem.words) for problem in problems])
    return FAILED


VERBS = (
    Verb("list", "the organization's servers, and whether they work", _list),
    Verb("test", "connect to one server or all of them; exit code 1 if one fails", _test, _test_arguments),
    Verb("remove", "delete a server; says first what is lost with it", _remove, _remove_arguments),
    Verb("discover-tools", "list a server's tools and propose scopes for them", _discover, _discover_arguments),
    Verb(
        "validate", "look for mistakes in servers and agents without asking them; exit code 1 if there are", _validate
    ),
)
