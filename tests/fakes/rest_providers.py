"""REST APIs that answer as Slack, Notion and GitHub document it. Each knows one token, and says what it was asked."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

TOKEN = "token-of-alice"
PAGE_ID = "b55c9c91-384d-452b-81db-d1ef79372b75"
Given = MutableMapping[str, Any]


@dataclass
class Asked:
    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]
    query: str = ""


@dataclass
class Said:
    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class RestProvider:
    """An ASGI application. `says` answers what no `next_answers` are waiting for."""

    def __init__(self, says: Callable[[Asked], Said], refused: Said) -> None:
        self._says, self._refused = says, refused
        self.tokens = {TOKEN}
        self.asked: list[Asked] = []
        self.next_answers: list[Said] = []

    async def __call__(self, scope: Given, receive: Callable[[], Awaitable[Given]], send: Any) -> None:
        if scope["type"] != "http":
            return
        content, more = b"", True
        while more:
            message = await receive()
            content, more = content + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        params = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        is_form = headers.get("content-type", "") == "application/x-www-form-urlencoded"
        sent = parse_qs(content.decode()) if is_form else json.loads(content) if content else {}
        query = scope["query_string"].decode()
        asked = Asked(scope["method"], scope["raw_path"].decode(), params, headers, sent, query)
        self.asked.append(asked)
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            said = self._refused
        else:
            said = self.next_answers.pop(0) if self.next_answers else self._says(asked)
        body = json.dumps(said.body).encode() if not isinstance(said.body, bytes) else said.body
        given = {"content-type": "application/json", "content-length": str(len(body)), **said.headers}
        raw = [(name.encode(), value.encode()) for name, value in given.items()]
        await send({"type": "http.response.start", "status": said.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def slack_api() -> RestProvider:
    """https://docs.slack.dev/reference/methods"""
    general = {"id": "C012AB3CD", "name": "general", "topic": {"value": "Company-wide"}, "is_channel": True}
    random = {"id": "C061EG9T2", "name": "random", "topic": {"value": ""}, "is_channel": True}

    def says(asked: Asked) -> Said:
        match asked.path.rpartition("/")[2]:
            case "conversations.list":
                is_first = "cursor" not in asked.params
                following = "dGVhbTpDMDYxRkE1UEI=" if is_first else ""
                listed = [general] if is_first else [random]
                return Said({"ok": True, "channels": listed, "response_metadata": {"next_cursor": following}})
            case "chat.postMessage" if asked.body.get("channel") in ("C012AB3CD", "C061EG9T2"):
                return Said({"ok": True, "channel": asked.body["channel"], "ts": "1503435956.000247", "message": {}})
            case "chat.postMessage":
                return Said({"ok": False, "error": "channel_not_found"})
            case "search.messages":
                found = {"text": "The meaning of life", "username": "roach", "ts": "1508284197.000015",
                         "channel": {"id": "C012AB3CD", "name": "general"},
                         "permalink": "https://hitchhikers.slack.com/archives/C012AB3CD/p1508284197000015"}  # fmt: skip
                paging = {"count": 1, "total": 2, "page": int(asked.params["page"]), "pages": 2}
                messages = {"matches": [found], "total": 2, "paging": paging}
                return Said({"ok": True, "query": asked.params["query"], "messages": messages})
        return Said({"ok": False, "error": "unknown_method"})

    return RestProvider(says, Said({"ok": False, "error": "invalid_auth"}))


def notion_api() -> RestProvider:
    """https://developers.notion.com/reference"""
    url = "https://www.notion.so/Tuscan-kale-598337872cf94fdf8782e53db20768a5"
    title = {"type": "title", "title": [{"plain_text": "Tuscan "}, {"plain_text": "kale"}]}
    page = {"object": "page", "id": PAGE_ID, "url": url, "properties": {"Name": title}}
    missing = {"object": "error", "status": 404, "code": "object_not_found",
               "message": "Could not find page with ID. Make sure it is shared with your integration."}  # fmt: skip

    def says(asked: Asked) -> Said:
        match asked.method, asked.path.removeprefix("/v1"):
            case "POST", "/search":
                return Said({"object": "list", "results": [page], "has_more": True, "next_cursor": "fe2cc560"})
            case "GET", path if path == f"/pages/{PAGE_ID}":
                return Said(page)
            case "GET", path if path == f"/blocks/{PAGE_ID}/children":
                kale = {"type": "paragraph", "paragraph": {"rich_text": [{"plain_text": "Lacinato kale"}]}}
                return Said(
                    {"object": "list", "results": [kale, {"type": "divider", "divider": {}}], "has_more": False}
                )
            case "POST", "/pages" if asked.body["parent"].get("page_id") == PAGE_ID:
                return Said({**page, "id": "59833787-2cf9-4fdf-8782-e53db20768a5"})
        return Said(missing, 404)

    unauthorized = {"object": "error", "status": 401, "code": "unauthorized", "message": "API token is invalid."}
    return RestProvider(says, Said(unauthorized, 401))


def github_api() -> RestProvider:
    """https://docs.github.com/en/rest"""
    repository = {"full_name": "octocat/Hello-World", "description": "This your first repo!", "private": False,
                  "html_url": "https://github.com/octocat/Hello-World", "language": None, "open_issues_count": 0,
                  "updated_at": "2011-01-26T19:14:43Z"}  # fmt: skip
    issue = {"repository_url": "https://api.github.com/repos/batterseapower/pinyin-toolkit", "number": 132,
             "title": "Line Number Indexes Beyond 20 Not Displayed", "state": "open", "user": {"login": "Nick3C"},
             "html_url": "https://github.com/batterseapower/pinyin-toolkit/issues/132"}  # fmt: skip

    def says(asked: Asked) -> Said:
        match asked.path:
            case "/user/repos":
                return Said(
                    [repository] * int(asked.params["per_page"]) if asked.params["page"] == "1" else [repository]
                )
            case "/search/issues" if asked.params["q"]:
                return Said({"total_count": 280, "incomplete_results": False, "items": [issue]})
            case "/search/issues":
                wrong = {
                    "message": "Validation Failed",
                    "errors": [{"resource": "Search", "field": "q", "code": "missing"}],
                }
                return Said(wrong, 422)
        return Said({"message": "Not Found", "documentation_url": "https://docs.github.com/rest"}, 404)

    return RestProvider(says, Said({"message": "Bad credentials"}, 401))
