"""What every request passes before and after its view: refusals outside views, the request id, and the log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from tests.conftest import Person


@pytest.fixture
def console() -> Iterator[io.StringIO]:
    """What the operator's console gets: the handler of the settings, writing here meanwhile."""
    handlers = [each for each in logging.getLogger().handlers if type(each) is logging.StreamHandler]
    assert len(handlers) == 1
    told = io.StringIO()
    before = handlers[0].setStream(told)
    yield told
    handlers[0].setStream(before)


@pytest.mark.parametrize("path", ["/hub/members/?q=%00", "/hub/agent/%00/", "/api/v1/members?cursor=%00"])
def test_an_address_with_a_null_character_is_refused_in_the_callers_language(alice: Person, path: str) -> None:
    refused = alice.browser().get(path)
    assert refused.status_code == 400
    assert refused["X-Request-Id"] and "default-src 'none'" in refused["Content-Security-Policy"]
    assert refused["Content-Type"].startswith("application/json" if path.startswith("/api/") else "text/html")


def test_a_host_name_that_is_not_ours_is_refused_in_the_callers_language(settings: Settings) -> None:
    settings.DEBUG = False
    client = Client(headers={"host": "evil.test"})
    assert client.get("/api/v1/members").json()["code"] == "bad_request"
    assert "Bad request" in client.get("/hub/members/").content.decode()


def test_the_end_of_the_api_is_json_and_the_end_of_the_hub_a_page() -> None:
    missing = Client().get("/api/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert "text/html" in Client().get("/nothing")["Content-Type"]
    assert Client().get("/api/docs")["Location"] == "/api/docs/"


def test_a_refusal_is_one_line_on_the_console_and_a_bug_has_its_traceback(bob: Person, console: io.StringIO) -> None:
    browser = bob.browser()
    assert browser.get("/hub/accounts/user/").status_code == 403
    Client(headers={"host": "evil.test"}).get("/hub/members/")
    refusals = console.getvalue()
    assert "Forbidden (Permission denied): /hub/accounts/user/" in refusals and "evil.test" in refusals
    assert "Traceback" not in refusals
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        logging.getLogger("django.request").exception("failed", extra={"status_code": 500})
    assert "ZeroDivisionError" in console.getvalue()
