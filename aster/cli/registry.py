"""`manage.py mcp search | add | sync-registry`: published servers on the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from aster.accounts.access import Actor
from aster.accounts.audit import REDACTED
from aster.cli.output import Output
from aster.cli.servers import show_proposals
from aster.cli.verbs import FAILED, Verb
from aster.errors import NotFound
from integrations.models import RegistrySync
from integrations.registry_bodies import show_entries
from integrations.services import registry, registry_sync, servers
from integrations.services.registry import Draft, SignIn
from integrations.services.registry_ways import Way, find_way
from integrations.services.scope_maps import ScopeMap

SHOWN = 50


# --- search ---------------------------------------------------------------------------------------------------------


def _search_arguments(parser: CommandParser) -> None:
    parser.add_argument("words", nargs="+", help="all of them have to be found")


def _search(actor: Actor, options: dict[str, Any], out: Output) -> None:
    rows = registry.search_entries(" ".join(options["words"]), actor=actor)
    total = rows.count()
    found = list(rows[:SHOWN])
    out.document(show_entries(found, actor))
    if not found:
        out.say("Nothing found. Was the registry read? `mcp sync-registry` does it now.")
        return
    out.table(
        ("Id", "Name", "Version", "Reached by", "Description"),
        [(row.pk, f"{row.name}{' (deprecated)' if row.status == 'deprecated' else ''}", row.version,
          ", ".join(row.ways), row.description[:100]) for row in found],
    )  # fmt: skip
    if total > SHOWN:
        out.say(f"{SHOWN} of {total} are shown. More words find fewer.")


# --- add ------------------------------------------------------------------------------------------------------------


def _add_arguments(parser: CommandParser) -> None:
    parser.add_argument("entry", help="the entry's id or name, as `mcp search` shows it")
    parser.add_argument("--name", default="", help="what the server is called here; without, its title")
    parser.add_argument("--remote", type=int, metavar="N", help="which of its remotes, from 0")
    parser.add_argument("--package", type=int, metavar="N", help="or which of its packages, from 0")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="what the entry asks for. Secrets as env:VARIABLE or file:PATH, so that no history keeps them",
    )  # fmt: skip
    parser.add_argument("--token", default="", metavar="env:VARIABLE", help="a key that the entry does not ask for")
    parser.add_argument("--client-id", default="", help="of your own app at the provider")
    parser.add_argument("--client-secret", default="", metavar="env:VARIABLE")
    parser.add_argument(
        "--scopes", default="", metavar='"TOOL:SCOPE,SCOPE;TOOL:SCOPE"', help="what callers need for these tools"
    )
    parser.add_argument("--discover-scopes", action="store_true", help="propose scopes for its tools once it is added")
    parser.add_argument("--dry-run", action="store_true", help="show what would be stored, and store nothing")


def _add(actor: Actor, options: dict[str, Any], out: Output) -> None:
    row = registry.find_entry(options["entry"], actor=actor)
    scopes = read_scopes(options["scopes"])
    if options["remote"] is not None and options["package"] is not None:
        raise CommandError("Give --remote or --package, not both.")
    chosen = [f"{kind}-{options[kind]}" for kind in ("remote", "package") if options[kind] is not None]
    way = find_way(row, chosen[0] if chosen else "")
    sign_in = SignIn(
        token=_secret("--token", options["token"]),
        client_id=options["client_id"],
        client_secret=_secret("--client-secret", options["client_secret"]),
    )
    draft = registry.draft_server(
        row, way.key, _values(way, options["set"]), actor=actor, name=options["name"], sign_in=sign_in
    )
    draft.server.tool_scopes = scopes
    if row.status == "deprecated":
        out.say(f"This entry is deprecated. {row.status_message}".strip(), style="yellow")
    if options["dry_run"]:
        _show_draft(draft, way, out)
        return
    saved = servers.save_server(draft.server, actor=actor, auth=draft.auth)
    server = saved.server
    message = saved.test.message if saved.test else "Each person signs in: they connect on the Integrations page."
    out.say(f"{server} was added as {server.slug}. {message}")
    unknown = sorted(set(server.tool_scopes) - set(saved.test.tool_names)) if saved.test else []
    if unknown:
        out.say(f"It has no tool {', '.join(unknown)}: these scopes guard nothing.", style="yellow")
    proposed = show_proposals(server, out) if options["discover_scopes"] else {}
    if proposed:
        out.say(f"Nothing of this is stored yet: `mcp discover-tools {server.slug} --apply` does.")
    out.document({
        "slug": server.slug, "name": server.name, "source": server.source, "message": message,
        "tool_scopes": server.tool_scopes, "unknown_tools": unknown, "proposed_scopes": proposed,
    })  # fmt: skip


def _show_draft(draft: Draft, way: Way, out: Output) -> None:
    server, auth = draft.server, draft.auth

    def shown(values: Mapping[str, str]) -> dict[str, str]:
        """What the entry fixes is for everybody to see; what was filled in may be secret."""
        return {name: text if (name, text) in way.fixed else REDACTED for name, text in values.items()}

    facts: dict[str, Any] = {
        "name": server.name, "slug": server.slug, "source": server.source, "transport": str(server.transport),
        "url": server.url, "command": server.command, "args": server.args, "env": shown(server.env),
        "auth_type": str(server.auth_type), "headers": shown(auth.custom_headers) if auth else {},
        "token": REDACTED if auth and auth.token else "", "scopes": auth.scopes if auth else [],
        "tool_scopes": server.tool_scopes,
    }  # fmt: skip
    out.document({"would_store": facts})
    out.say("This would be stored:")
    out.table(("", ""), [(name, _line(value)) for name, value in facts.items() if value])


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_line(each)}" for name, each in value.items())
    return " ".join(value) if isinstance(value, list) else str(value)


def read_scopes(text: str) -> ScopeMap:
    """`read_file:files:read;admin_tool:files:write,system:admin`: the first colon ends the tool's name."""
    scopes: ScopeMap = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        tool, _, listed = part.partition(":")
        names = [name.strip() for name in listed.split(",") if name.strip()]
        if not tool.strip() or not names:
            raise CommandError(f"--scopes: “{part[:60]}” is not written as TOOL:SCOPE,SCOPE.")
        scopes[tool.strip()] = sorted({*scopes.get(tool.strip(), ()), *names})
    return scopes


def _values(way: Way, pairs: list[str]) -> dict[str, str]:
    secret = {blank.key for blank in way.asks if blank.input.is_secret}
    values: dict[str, str] = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found:
            # What stands there may be a secret: it is not repeated.
            raise CommandError("--set wants NAME=VALUE.")
        is_elsewhere = value.startswith(("env:", "file:"))
        values[name] = _secret(f"--set {name}", value) if name in secret or is_elsewhere else value
    return values


def _secret(option: str, given: str) -> str:
    """The secret at `env:VARIABLE` or `file:PATH`. Written out it would stay in the shell's history."""
    kind, _, where = given.partition(":")
    if not given:
        return ""
    if kind == "env":
        if where not in os.environ:
            raise CommandError(f"{option}: the environment has no variable {where[:60]}.")
        return os.environ[where].strip()
    if kind == "file":
        try:
            return Path(where).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{option}: the file cannot be read ({type(error).__name__}).") from None
    raise CommandError(f"{option} is a secret: give it as env:VARIABLE or file:PATH, so that no history keeps it.")


# --- sync-registry --------------------------------------------------------------------------------------------------


def _sync(actor: Actor, options: dict[str, Any], out: Output) -> int | None:
    actor.require_admin()
    if not settings.ASTER_REGISTRIES:
        raise NotFound("This installation uses no registry. Name some in ASTER_REGISTRIES.")
    results: list[tuple[RegistrySync, int]] = []
    for address in settings.ASTER_REGISTRIES:
        with out.progress(f"Reading {address}", None) as done:
            results.append(_read(address, done))
    out.document([
        {"registry": state.registry, "entries_read": read, "problem": state.problem, "odd_entries": state.odd_entries}
        for state, read in results
    ])  # fmt: skip
    lines = [(state.registry, entries, state.odd_entries, state.problem or "–") for state, entries in results]
    out.table(("Registry", "Entries read", "Left out", "Problem"), lines)
    return FAILED if any(state.problem for state, _ in results) else None


def _read(address: str, done: Any) -> tuple[RegistrySync, int]:
    """The whole pass: a run takes only so long, and the next one goes on where it was."""
    read: list[int] = []

    def tell(entries: int) -> None:
        read.append(entries)
        done()

    while True:
        state = registry_sync.sync_registry(address, tell=tell)
        if state.problem or state.pass_started_at is None:
            return state, sum(read)


VERBS = (
    Verb("search", "look up published servers", _search, _search_arguments),
    Verb("add", "add a server from an entry of the registry", _add, _add_arguments),
    Verb("sync-registry", "read the registries now; exit code 1 if one cannot be read", _sync),
)
