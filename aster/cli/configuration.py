"""`manage.py mcp plan|apply|export -f FILE`: an organization's configuration as one file."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from aster.accounts.access import Actor
from aster.cli.output import Output
from aster.cli.verbs import FAILED, WOULD_CHANGE, Verb
from aster.configuration.apply import Applied, apply, preview
from aster.configuration.document import Document, parse
from aster.configuration.export import as_yaml, export
from aster.configuration.plan import Plan
from aster.configuration.reading import MAX_BYTES, Problems
from aster.errors import Conflict, InvalidInput

STANDARD, STANDARD_OUTPUT = "-", "/dev/stdout"


def _file(parser: CommandParser) -> None:
    parser.add_argument("-f", "--file", required=True, metavar="FILE", help="the file; - is standard input or output")


def _yes(parser: CommandParser, help: str) -> None:
    parser.add_argument("--yes", action="store_true", help=help)


def _plan_arguments(parser: CommandParser) -> None:
    _file(parser)
    parser.add_argument("--prune", action="store_true", help="delete what a section of the file does not have")


def _apply_arguments(parser: CommandParser) -> None:
    _plan_arguments(parser)
    _yes(parser, "do not ask")


def _export_arguments(parser: CommandParser) -> None:
    _file(parser)
    _yes(parser, "overwrite a file")


def _telling(run: Callable[[Actor, dict[str, Any], Output], int | None]) -> Callable[..., int | None]:
    """Problems as a document too, for scripts."""

    def told(actor: Actor, options: dict[str, Any], out: Output) -> int | None:
        try:
            return run(actor, options, out)
        except Problems as error:
            if not out.as_json:
                raise
            out.document({"problems": error.problems})
            return FAILED

    return told


def _read(name: str) -> Document:
    try:
        if name == STANDARD:
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{name} is not UTF-8.") from None
    return parse(text)


def _show(plan: Plan, out: Output) -> None:
    styles = {"+": "green", "~": "yellow", "-": "red"}
    for line in plan.lines():
        out.say(line, style=styles.get(line[:1], ""))


def _run_plan(actor: Actor, options: dict[str, Any], out: Output) -> int | None:
    plan = preview(_read(options["file"]), actor=actor, prune=options["prune"])
    _show(plan, out)
    out.document(plan.as_json())
    return WOULD_CHANGE if plan.changes else None


def _run_apply(actor: Actor, options: dict[str, Any], out: Output) -> int | None:
    document, prune = _read(options["file"]), options["prune"]
    plan = preview(document, actor=actor, prune=prune)
    _show(plan, out)
    applied = Applied()
    if plan.changes:
        if not options["yes"] and not _agrees(out):
            raise InvalidInput("Nothing was changed.")
        applied = apply(document, actor=actor, expected=plan, prune=prune)
        for line in [*applied.told, *applied.failed, *([] if applied.failed else ["Done."])]:
            out.say(line)
    out.document({**plan.as_json(), "told": applied.told, "failed": applied.failed})
    return FAILED if applied.failed else None


def _agrees(out: Output) -> bool:
    if out.as_json or not sys.stdin.isatty():
        raise InvalidInput("Nobody can be asked here, and nothing was changed. Add --yes to apply without asking.")
    return input("Apply this? [y/N] ").strip().lower() in ("y", "yes")


def _run_export(actor: Actor, options: dict[str, Any], out: Output) -> int | None:
    document, notes = export(actor)
    text = as_yaml(document, notes, actor.organization.name)
    if options["file"] in (STANDARD, STANDARD_OUTPUT):  # where nothing else may be said besides
        out.document({"document": document, "notes": notes})
        out.write(text)
        return None
    _write(Path(options["file"]), text, overwrite=options["yes"])
    for note in notes:
        out.say(f"note: {note}")
    out.say(f"Written to {options['file']}.")
    out.document({"file": options["file"], "notes": notes})
    return None


def _write(path: Path, text: str, *, overwrite: bool) -> None:
    """The whole file or none of it, whatever happens meanwhile; what is no file (/dev/stdout, a pipe) is written to."""
    taken = Conflict(f"{path} is there already. Add --yes to overwrite it.")
    if path.exists() and not overwrite:
        raise taken
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8") as device:
                device.write(text)
        else:
            _replace(path.resolve(), text, overwrite=overwrite)  # what a link leads to, not the link
    except FileExistsError:
        raise taken from None
    except (OSError, RuntimeError) as error:
        raise InvalidInput(f"{path} cannot be written: {getattr(error, 'strerror', error)}.") from None


def _replace(path: Path, text: str, *, overwrite: bool) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask())
        if overwrite:
            os.replace(name, path)
        else:
            os.link(name, path)  # fails if somebody else wrote it meanwhile
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)  # it cannot be asked for otherwise
    os.umask(mask)
    return mask


VERBS = (
    Verb(
        "plan", "what a configuration file would change; exit code 2 if anything", _telling(_run_plan), _plan_arguments
    ),
    Verb("apply", "make the organization what a configuration file says", _telling(_run_apply), _apply_arguments),
    Verb("export", "write the organization's configuration to a file", _run_export, _export_arguments),
)
