"""How a run of the real clients is judged, and the browser that has no browser; the run itself is `make clients`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Route

from conformance.clients.browser import Lost, go
from conformance.clients.installation import Installation
from conformance.clients.recorder import Recorder, serving
from conformance.clients.run import Case, judge
from conformance.loopback import free_port

TOOLS = ["a__get_forecast", "a__list_cities"]
RUNNING = Installation("http://127.0.0.1/mcp/a/b", "", "", Recorder(""), TOOLS)
LINK = {"isError": True, "content": [{"type": "text", "text": "Open http://127.0.0.1/hub/servers/notes/connect/"}]}
GOOD = {"structuredContent": {"city": "Oslo"}, "content": [{"type": "text", "text": "Oslo: sun"}]}


def case(*, lists_only: bool = False) -> Case:
    return Case("A client", "1", lambda running, home: [], "2026-07-28", lists_only=lists_only)


@pytest.mark.parametrize(
    ("said", "listed", "called"),
    [
        ({}, 2, True),
        ({"tools": TOOLS[:1]}, 1, False),
        ({"result": {**GOOD, "isError": True}}, 2, False),
        ({"result": {**GOOD, "structuredContent": None}}, 2, False),
        ({"result": {**GOOD, "content": []}}, 2, False),
        ({"result": GOOD, "link": GOOD}, 2, True),
        ("It works!", 0, False),
        ("", 0, False),
    ],
)
def test_a_client_is_believed_only_with_every_tool_and_whole_answers(said: Any, listed: int, called: bool) -> None:
    answer = {"tools": TOOLS[::-1], "result": GOOD, "link": LINK}
    text = said if isinstance(said, str) else f"some banner\n{json.dumps({**answer, **said})}\n"
    found = judge(case(), RUNNING, text)
    assert found[:2] == (listed, called) and bool(found[2]) is (said != {})


def test_a_snippet_is_believed_if_it_shows_every_tool() -> None:
    assert judge(case(lists_only=True), RUNNING, "\n".join(TOOLS)) == (2, False, "")
    assert judge(case(lists_only=True), RUNNING, TOOLS[0])[2]


SIGN_IN = """<form method="post" action="/login/?next=x"><input type="hidden" name="token" value="t">
<input name="email"><input type="password" name="password"><button>Sign in</button></form>"""
CONSENT = """<form method="post"><button name="theme" value="dark">Dark</button></form>
<form method="post" action=""><input type="hidden" name="state" value="s"><input type="checkbox" name="a" checked>
<input type="checkbox" name="b">
<input type="checkbox" name="a" value="also" checked><input name="off" value="1" disabled>
<button name="allow" value="">Do not allow, cancel</button>
<button name="allow" value="yes"><b>Allow</b></button></form>"""


@contextmanager
def server(consent: str) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """An authorization server that asks for a sign-in first, behind a Recorder, which is tried with it."""
    sent: list[dict[str, list[str]]] = []

    async def words(request: Request) -> dict[str, list[str]]:
        return parse_qs((await request.body()).decode(), keep_blank_values=True)

    async def authorize(request: Request) -> Any:
        if request.cookies.get("session") != "1":
            return RedirectResponse("/login/?next=x")
        if request.method == "POST":
            sent.append(await words(request))
            if "leave" in consent:
                return HTMLResponse(
                    '<meta http-equiv="refresh" content="0; url=http://localhost:1/callback?a=b&amp;code=c">'
                )
            return RedirectResponse("http://localhost:1/callback?a=b&code=c", 302)
        return HTMLResponse(consent)

    async def login(request: Request) -> Any:
        if request.method == "GET":
            return HTMLResponse(SIGN_IN)
        sent.append(await words(request))
        answer = RedirectResponse("/authorize", 302)
        answer.set_cookie("session", "1")
        return answer

    async def broken(request: Request) -> Any:
        return PlainTextResponse("No client.", 400)

    methods = ["GET", "POST"]
    routes = [Route("/authorize", authorize, methods=methods), Route("/login/", login, methods=methods)]
    app = Starlette(routes=[*routes, Route("/broken", broken)])
    behind, front = free_port(), free_port()
    recorder = Recorder(f"http://127.0.0.1:{behind}")
    with serving(app, behind), serving(recorder, front):
        yield f"http://127.0.0.1:{front}", sent
    assert recorder.seen and all(each.status for each in recorder.seen)


@pytest.mark.parametrize("consent", [CONSENT, f"{CONSENT}leave"])
def test_the_browser_signs_in_allows_and_comes_back(consent: str) -> None:
    with server(consent) as (url, sent):
        assert go(f"{url}/authorize", "ada@acme.test", "secret") == "http://localhost:1/callback?a=b&code=c"
        assert httpx2.get(f"{url}/authorize").headers["location"].startswith("/login/"), (
            "the recorder keeps nobody's cookies"
        )
    assert sent == [
        {"token": ["t"], "email": ["ada@acme.test"], "password": ["secret"]},
        {"state": ["s"], "a": ["on", "also"], "allow": ["yes"]},
    ]


@pytest.mark.parametrize(
    ("path", "consent"), [("/broken", CONSENT), ("/authorize", "<p>No.</p>"), ("/authorize", SIGN_IN)]
)
def test_the_browser_says_where_it_got_lost(path: str, consent: str) -> None:
    with server(consent) as (url, _), pytest.raises(Lost):
        go(f"{url}{path}", "ada@acme.test", "secret")
