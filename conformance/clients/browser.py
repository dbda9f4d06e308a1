"""A person's browser without the browser: signs in to the hub, allows what is asked for, goes back to the client.

Started with the authorization URL, as BROWSER is by clients that open one. With --print it writes down the address that
the client is to be sent back to and does not go there, for clients whose driver takes it from here.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx2

# Further than any honest sign-in goes.
MOST_PAGES = 12
LISTENING_ATTEMPTS = 50
ALLOW, DENY = ("allow", "authorize", "approve", "connect"), ("deny", "cancel", "refuse")


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    # (name, value, words) of every button
    buttons: list[tuple[str, str, str]] = field(default_factory=list)


class Sight(HTMLParser):
    """What a person has before them: forms with their buttons, or a page that leads on by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.leads_to = ""
        self._open: Form | None = None
        self._button: tuple[str, str] | None = None
        self._words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        if tag == "meta" and of.get("http-equiv") == "refresh":
            self.leads_to = of.get("content", "").partition("url=")[2]
        elif tag == "form":
            self._open = Form(of.get("action", ""), of.get("method", "get").lower())
            self.forms.append(self._open)
        elif self._open is None or "disabled" in of:
            return
        elif tag == "input" and of.get("type") == "submit":
            self._open.buttons.append((of.get("name", ""), of.get("value", ""), of.get("value", "")))
        elif tag == "input" and "name" in of and (of.get("type") not in ("checkbox", "radio") or "checked" in of):
            value = of.get("value", "on" if of.get("type") == "checkbox" else "")
            self._open.fields.setdefault(of["name"], []).append(value)
        elif tag == "button" and of.get("type", "submit") == "submit":
            self._button, self._words = (of.get("name", ""), of.get("value", "")), ""

    def handle_data(self, data: str) -> None:
        self._words += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "button" and self._button and self._open:
            self._open.buttons.append((*self._button, self._words.strip()))
            self._button = None


class Lost(Exception):
    """The way to the client does not go on here."""


def go(url: str, email: str, password: str) -> str:
    """The address that the authorization server sends the client back to."""
    home = _origin(url)
    with httpx2.Client(timeout=20, trust_env=False) as http:
        answer = http.get(url)
        for _ in range(MOST_PAGES):
            sight = Sight()
            sight.feed(answer.text)
            if target := answer.headers.get("location") or sight.leads_to:
                target = urljoin(str(answer.url), target)
                if _origin(target) != home:
                    return target
                answer = http.get(target)
            else:
                answer = _press(http, answer, sight.forms, {"email": email, "username": email, "password": password})
    raise Lost(f"No end after {MOST_PAGES} pages; the last is {answer.url}.")


def _press(http: httpx2.Client, page: httpx2.Response, forms: list[Form], typed: Mapping[str, str]) -> httpx2.Response:
    if page.is_error or not forms:
        raise Lost(f"{page.url} answered {page.status_code}: {' '.join(page.text.split())[:2000]}")
    form, data = _choose(forms, typed)
    url = urljoin(str(page.url), form.action or str(page.url))
    return http.request(form.method, url, data=data, headers={"Origin": _origin(url), "Referer": str(page.url)})


def _choose(forms: list[Form], typed: Mapping[str, str]) -> tuple[Form, dict[str, list[str]]]:
    """The sign-in form, or the one with a button that allows, and what pressing it sends."""
    for form in forms:
        if "password" in form.fields:
            return form, {name: [typed[name]] if name in typed else values for name, values in form.fields.items()}
    for form in forms:
        for name, value, words in form.buttons:
            said = f"{name} {value} {words}".lower()
            if any(word in said for word in ALLOW) and not any(word in said for word in DENY):
                return form, {**form.fields, **({name: [value]} if name else {})}
    raise Lost(f"No form here allows anything: {forms}")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def main() -> int:
    back = go(sys.argv[-1], os.environ["ASTER_EMAIL"], os.environ["ASTER_PASSWORD"])
    if "--print" in sys.argv:
        print(back)
    else:
        _come_back(back)
    return 0


def _come_back(url: str) -> None:
    """Some clients begin to listen only after they have opened the browser."""
    for attempt in range(LISTENING_ATTEMPTS):
        try:
            httpx2.get(url, timeout=20, trust_env=False)
            return
        except httpx2.ConnectError:
            if attempt + 1 == LISTENING_ATTEMPTS:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
