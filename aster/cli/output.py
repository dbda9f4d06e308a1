"""What a command prints: tables and progress for people, one JSON document for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

# A line stays a line for grep and the like.
PIPED_WIDTH = 1000


class Output:
    """`say` and `table` reach people only, `document` scripts only; progress is drawn on a terminal only."""

    def __init__(self, stdout: TextIO, *, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout = stdout
        # What was registered elsewhere is printed as it is: no markup, no emoji names, no escape sequences.
        self._console = Console(file=stdout, markup=False, emoji=False, highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = PIPED_WIDTH

    def say(self, words: str = "", style: str = "") -> None:
        if not self.as_json:
            self._console.print(Text(printable(words), style=style))

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        if self.as_json:
            return
        table = Table(*headers, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*(Text(printable(str(cell))) for cell in row))
        self._console.print(table, soft_wrap=not self._console.is_terminal)

    def write(self, text: str) -> None:
        """A text that is a file, as it is; for people and pipes."""
        if not self.as_json:
            self._stdout.write(text)

    def document(self, value: Any) -> None:
        if self.as_json:
            self._stdout.write(printable(json.dumps(value, ensure_ascii=False, default=str)) + "\n")

    @contextmanager
    def progress(self, words: str, total: int | None) -> Iterator[Callable[[], None]]:
        """Call what this gives once for each of `total` pieces that are done; None: nobody knows how many there are."""
        console = Console(file=sys.stderr)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        is_silent = self.as_json or not console.is_terminal
        with Progress(*columns, console=console, transient=True, disable=is_silent) as bar:
            task = bar.add_task(words, total=total)
            yield lambda: bar.advance(task)


def printable(words: str) -> str:
    """What a terminal would obey, or not show, as its number (names and messages come from servers)."""
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in words)
