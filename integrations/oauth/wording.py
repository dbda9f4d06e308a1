"""Text from providers, made fit to be shown. Strangers wrote it: it may be long, hostile, or repeat a secret."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

MAX_SHOWN = 300
_HIDDEN = "[hidden]"
# Hiding shorter values would blank out ordinary words.
_SHORTEST_SECRET = 4


def clean_words(value: object, *, hide: Collection[str | None] = (), limit: int = MAX_SHOWN) -> str:
    """One line of at most `limit` characters, without control or direction-changing characters; "" for a non-string.

    `hide` lists secrets that we sent: a provider that echoes one does not get it onto a page or into a log.
    """
    if not isinstance(value, str):
        return ""
    text = value
    for secret in hide:  # First of all: a secret that was cut or re-spaced would no longer be recognised.
        if secret and len(secret) >= _SHORTEST_SECRET:
            for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
                text = text.replace(form, _HIDDEN)
    text = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text[: limit * 40])
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def read_error(document: Mapping[str, Any]) -> str:
    """The error word of an error body (RFC 6749 §5.2), or "" if it reports none.

    Also understands `{"error": {"code" or "type" or "status": …}}` and `{"ok": false}`, which providers use.
    """
    error = document.get("error")
    if isinstance(error, Mapping):
        error = next((error[key] for key in ("code", "type", "status") if isinstance(error.get(key), str)), "error")
    return clean_words(error, limit=80) or ("error" if error or document.get("ok") is False else "")


def describe_error(document: Mapping[str, Any], *, hide: Collection[str | None] = ()) -> str:
    """What an error body says, for people: `invalid_grant: Token has been revoked.`"""
    error = document.get("error")
    inner = error.get("message") if isinstance(error, Mapping) else None
    said = (document.get("error_description"), inner, document.get("message"))
    description = next((clean_words(text, hide=hide) for text in said if text), "")
    word = clean_words(read_error(document), hide=hide)
    return clean_words(": ".join(part for part in (word, description) if part))


def name_host(url: str) -> str:
    """The host of `url` for a message: never its path or query, which may hold a key."""
    try:
        return clean_words(urlsplit(url).hostname, limit=100) or "the provider"
    except ValueError:
        return "the provider"
