"""OpenAPI documents from an address: fetched once, and what is kept of where they were."""

from __future__ import annotations

from typing import Any

import pytest

from aster.errors import AsterError
from connectors.models import ApiDocument
from connectors.openapi.documents import fetch_document, keep_document
from connectors.openapi.services import ApiSettings, create_api_connector
from tests.conftest import Person
from tests.connectors.test_openapi_services import pets
from tests.fakes.mcp_servers import serve
from tests.fakes.rest_providers import Asked

pytestmark = pytest.mark.django_db(transaction=True)


class Site:
    """Serves what it is told to at `/openapi.json`, and says where it was asked."""

    def __init__(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.body, self.status, self.headers = body, status, headers or {}
        self.asked: list[Asked] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(Asked("GET", scope["path"], {}, {}, {}))
        at_home = scope["path"] == "/openapi.json"
        headers = [(n.encode(), v.encode()) for n, v in (self.headers if at_home else {}).items()]
        status = self.status if at_home else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def fetch(alice: Person, site: Site) -> str:
    with serve(site) as base:
        return fetch_document(f"{base}/openapi.json", actor=alice.actor)


def test_a_document_is_fetched_and_its_relative_address_starts_there(alice: Person) -> None:
    text = pets("cats", servers=[{"url": "/v2"}])
    assert fetch(alice, Site(text.encode())) == text
    draft = keep_document(text, actor=alice.actor, source_url="http://127.0.0.1:9/openapi.json")
    server = create_api_connector(draft, ApiSettings(), actor=alice.actor)
    assert server.url == "http://127.0.0.1:9/v2"


def test_a_redirect_is_followed_but_not_to_a_private_address(alice: Person) -> None:
    assert fetch(alice, Site(b"{}", 302, {"location": "/there"})) == "{}"
    with pytest.raises(AsterError, match="private address") as caught:
        fetch(alice, Site(b"{}", 302, {"location": "http://10.0.0.1/openapi.json"}))
    assert "document_url" in caught.value.fields


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (Site(b"no", 404), "HTTP status 404"),
        (Site(b"<html>", headers={"content-type": "text/html"}), "web page"),
        (Site(b"x" * (11 * 1024 * 1024)), "larger than"),
        (Site(b"", 302, {"location": "/openapi.json"}), "302"),
        (Site(b"", 302, {"location": "http://[bad"}), "redirect to what is no address"),
    ],
    ids=["missing", "page", "11 MB", "circle", "no address"],
)
def test_what_is_no_document_at_the_address_is_told_of(alice: Person, site: Site, words: str) -> None:
    with pytest.raises(AsterError, match=words) as caught:
        fetch(alice, site)
    assert "document_url" in caught.value.fields and not ApiDocument.objects.exists()


@pytest.mark.parametrize("url", ["http://10.0.0.1/openapi.json", "http://169.254.169.254/x", "file:///etc/passwd", ""])
def test_an_address_that_is_not_allowed_is_not_dialled(alice: Person, url: str) -> None:
    with pytest.raises(AsterError) as caught:
        fetch_document(url, actor=alice.actor)
    assert "document_url" in caught.value.fields


def test_keys_in_the_address_of_a_document_are_not_kept(alice: Person) -> None:
    for url in ("https://u:s3cret@pets.example/v1/openapi.json?key=s3cret#s3cret", "https://[s3cret"):
        draft = keep_document(pets("cats", servers=[{"url": "/v2"}]), actor=alice.actor, source_url=url)
        assert draft.source_url == ("https://pets.example/v1/openapi.json" if "@" in url else "")
