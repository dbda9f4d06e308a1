"""Addresses in OpenAPI documents, and of them: where an API is, and where its document was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from connectors.openapi.schemas import clean_text

MAX_URL = 2000
MOST_SERVERS = 50
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def server_url(servers: Any, source_url: str = "") -> tuple[str, str]:
    """The address of an API from its `servers`, and what an admin should look at about it."""
    filled = ("", "")
    for each in servers[:MOST_SERVERS] if isinstance(servers, list) else []:
        url = each.get("url") if isinstance(each, dict) else None
        if not isinstance(url, str) or not 0 < len(url) <= MAX_URL:
            continue
        names = PLACEHOLDER.findall(url)
        whole = _absolute(_filled(url, names, each.get("variables")), source_url)
        if whole and not names:
            return whole, ""
        if any(filled):
            continue
        if not names:
            filled = "", f"The document says only {clean_text(url, 200)}, without the host: enter the whole address."
        elif "{" in whole:
            filled = "", f"The document says {clean_text(whole, 200)}: fill in what is in braces."
        elif whole:
            open_names = clean_text(", ".join(names), 100)
            filled = whole, f"The document leaves {open_names} open; this is with its defaults."
    return filled


def _filled(url: str, names: list[str], variables: Any) -> str:
    """With the defaults, each as it is: what they have in braces stands for nothing. Empty if that is too long."""
    known: Mapping[str, Any] = variables if isinstance(variables, dict) else {}
    values = {
        name: said["default"] for name in names if isinstance(said := known.get(name), dict) and "default" in said
    }
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    if sum(len(texts.get(name, "")) for name in names) > MAX_URL:
        return ""
    return PLACEHOLDER.sub(lambda match: texts.get(match[1], match[0]), url)


def _absolute(url: str, source_url: str) -> str:
    """Relative ones start where the document is (OpenAPI 3.1.1 §4.6)."""
    if not url:
        return ""
    try:
        url = urljoin(source_url, url) if source_url else url
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in ("https", "http") and parts.netloc and len(url) <= MAX_URL else ""


def without_secrets(url: str) -> str:
    """Without what keys are often given in: user, password, query and fragment. Empty for what is no address."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:MAX_URL]
