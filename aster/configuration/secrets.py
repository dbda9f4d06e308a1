"""Secrets in the file are references: where the value comes from, never the value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 100_000
STORED = "stored"
HOW = "write env:NAME or file:/path"


@dataclass(frozen=True, repr=False)
class Secret:
    """A value that is compared and stored, and never shown."""

    text: str

    def __repr__(self) -> str:
        return "[secret]"

    __str__ = __repr__


NONE = Secret("")


class Unresolved(Exception):
    """Says what is wrong with a reference, in words without any value."""


def resolve(reference: str, *, may_be_plain: bool = False, environ: Mapping[str, str] | None = None) -> Secret | None:
    """The value that a reference stands for; None for `stored`. Raises Unresolved.

    `plain:TEXT` says that a value among secrets is none; it is taken for values of maps only.
    """
    kind, _, rest = reference.partition(":")
    if reference == STORED:
        return None
    if kind == "env" and rest:
        value = (os.environ if environ is None else environ).get(rest, "")
        if not value:
            raise Unresolved(f"the environment variable {rest[:100]} is not set or empty")
        return Secret(value)
    if kind == "file" and rest.startswith("/"):
        return Secret(_read(rest))
    if kind == "plain" and may_be_plain:
        return Secret(rest)
    if kind == "file":
        raise Unresolved("a file is named by its whole path: file:/path")
    # What was written may be the secret itself: it is not repeated.
    plain = ", or plain:TEXT for what is no secret" if may_be_plain else ""
    raise Unresolved(f"a secret does not stand in this file: {HOW}, or {STORED} to keep what is stored{plain}")


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode().rstrip("\r\n")
    except (OSError, ValueError):
        raise Unresolved(f"the file {path[:200]} cannot be read as text") from None
    if len(raw) > MAX_BYTES:
        raise Unresolved(f"the file {path[:200]} is larger than {MAX_BYTES // 1000} kB")
    if not text:
        raise Unresolved(f"the file {path[:200]} is empty")
    return text
