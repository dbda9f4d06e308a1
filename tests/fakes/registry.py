"""An MCP registry that answers as its OpenAPI document says (v0.1), and one that does not.

registry = FakeRegistry(entry("com.example/weather"))
with serve(registry) as base:
    ...
assert registry.asked[0] == {"version": "latest", "limit": "100"}
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

OFFICIAL = "io.modelcontextprotocol.registry/official"
SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
Message = MutableMapping[str, Any]


def entry(name: str, *, at: str = "2026-11-01T10:00:00Z", **more: Any) -> dict[str, Any]:
    """One line of the list. `status` and `status_message` are the registry's, everything else is server.json's."""
    meta = {"status": more.pop("status", "active"), "publishedAt": at, "updatedAt": at, "isLatest": True}
    if message := more.pop("status_message", ""):
        meta["statusMessage"] = message
    server = {"$schema": SCHEMA, "name": name, "description": f"What {name} does", "version": "1.0.0", **more}
    return {"server": server, "_meta": {OFFICIAL: meta}}


def remote(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "streamable-http", "url": url, **more}


def npm(identifier: str = "@example/weather-mcp", **more: Any) -> dict[str, Any]:
    return {
        "registryType": "npm", "registryBaseUrl": "https://registry.npmjs.org", "identifier": identifier,
        "version": "1.2.3", "transport": {"type": "stdio"}, **more,
    }  # fmt: skip


class FakeRegistry:
    """An ASGI application. `says` replaces its answers: a function of the query gives status and body."""

    def __init__(self, *entries: Any, page_size: int = 100) -> None:
        self.entries = list(entries)
        self.page_size = page_size
        self.asked: list[dict[str, str]] = []
        self.says: Callable[[dict[str, str]], tuple[int, bytes] | None] = lambda query: None

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
        if scope["type"] != "http":
            return
        query = dict(parse_qsl(scope["query_string"].decode()))
        self.asked.append(query)
        found = self.says(query)
        status, body = found if found is not None else (404, b"{}")
        if found is None and scope["path"].endswith("/v0.1/servers"):
            status, body = self._listed(query)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _listed(self, query: dict[str, str]) -> tuple[int, bytes]:
        rows = [each for each in self.entries if self._is_wanted(each, query.get("updated_since", ""))]
        cursor = query.get("cursor", "")
        if cursor and not cursor.startswith("after:"):
            return 400, b'{"error": "Invalid cursor parameter"}'
        start = int(cursor.removeprefix("after:")) if cursor else 0
        page = rows[start : start + self.page_size]
        metadata: dict[str, Any] = {"count": len(page)}
        if start + self.page_size < len(rows):
            metadata["nextCursor"] = f"after:{start + self.page_size}"
        return 200, json.dumps({"servers": page, "metadata": metadata}).encode()

    @staticmethod
    def _is_wanted(each: Any, since: str) -> bool:
        meta = each.get("_meta", {}).get(OFFICIAL, {}) if isinstance(each, dict) else {}
        if not since:
            return bool(meta.get("status") != "deleted")
        changed = meta.get("updatedAt")
        return isinstance(changed, str) and _moment(changed) >= _moment(since)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def weather(url: str = "https://weather.example.com/mcp", **more: Any) -> dict[str, Any]:
    return entry("com.example/weather", title="Example Weather", remotes=[remote(url)], **more)


def keyed(url: str) -> dict[str, Any]:
    """As the schema's examples have it: a key in a template, a region to choose, a header with a default."""
    headers = [
        {"name": "Authorization", "value": "Bearer {api_key}", "isRequired": True, "isSecret": True,
         "variables": {"api_key": {"description": "From your account page", "isRequired": True, "isSecret": True,
                                   "placeholder": "ek_…"}}},
        {"name": "X-Region", "description": "Where your data is", "default": "us-east-1",
         "choices": ["us-east-1", "eu-west-1"]},
        {"name": "X-Client", "value": "aster"},
        {"name": "X-Debug", "description": "Rarely needed"},
        {"name": "Accept", "value": "application/json"},
    ]  # fmt: skip
    return entry("com.example/keyed", title="Keyed", remotes=[remote(url, headers=headers)])


ODD: list[Any] = [
    None,
    "text",
    [],
    {"server": None},
    {"server": {"name": "no-slash", "version": "1.0.0"}},
    {"server": {"name": "com.example/" + "x" * 300, "version": "1.0.0"}},
    {"server": {"name": "com.example/no-version"}},
    {"server": {"name": "com.example/nul", "version": "1.0.0", "description": "a\x00b", "remotes": ["\x00"]}},
    {"server": {"name": "com.example/huge", "version": "1.0.0", "remotes": ["x" * 100_000]}},
]
