"""Remote MCP servers of the curated list: enabled with one click, with and without a sign-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from django.core.exceptions import ImproperlyConfigured

from aster.errors import Conflict, ConnectionTestFailed
from connectors.base import Kind
from connectors.registry import all_connectors
from connectors.remote import OWN_LIST, remote_servers
from connectors.services import Settings, disable_connector, enable_connector
from integrations.models import AuthConfig, AuthType, McpServer
from integrations.services.servers import save_server
from tests.conftest import Person, body
from tests.fakes.mcp_servers import modern_and_legacy_app, serve
from tests.fakes.provider import site

pytestmark = pytest.mark.django_db(transaction=True)
Listing = Callable[..., None]


@pytest.fixture
def listing(tmp_path: Path, settings: object) -> Listing:
    """Have the installation use a list of its own with one entry."""

    def use(**about: str) -> None:
        entry = {
            "slug": "acme-mcp", "name": "Acme", "category": "Knowledge", "description": "Documents.", "sign_in": "none",
            "docs": "https://docs.example", **about,
        }  # fmt: skip
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        file.write_text(yaml.safe_dump([entry]))
        settings.ASTER_REMOTE_SERVERS_FILE = str(file)  # type: ignore[attr-defined]

    return use


@pytest.fixture
def open_server(listing: Listing) -> Iterator[str]:
    with serve(modern_and_legacy_app()) as base:
        listing(url=f"{base}/mcp")
        yield f"{base}/mcp"


def test_the_list_has_the_public_servers_of_the_first_seed_and_no_name_twice() -> None:
    urls = {each.url: each for each in remote_servers()}
    assert urls["https://hf.co/mcp"].transport == "streamable_http" and not urls["https://hf.co/mcp"].auth
    assert urls["https://docs.mcp.cloudflare.com/sse"].transport == "sse"
    slugs = [each.slug for each in all_connectors()]
    assert len(slugs) == len(set(slugs)) and OWN_LIST.exists()
    assert all(each.url.startswith("https://") and each.kind == Kind.REMOTE_MCP for each in urls.values())


def test_one_click_makes_a_server_with_its_tools(open_server: str, alice: Person) -> None:
    browser = alice.browser()
    assert "Hosted MCP servers" in browser.get("/hub/connectors/").content.decode()
    answer = browser.post("/hub/connectors/acme-mcp/", follow=True)
    assert "Acme is enabled. Assign it to agents." in answer.content.decode()
    server = McpServer.objects.get()
    assert (server.slug, server.url, server.transport, server.auth_config) == (
        *("acme-mcp", open_server, "streamable_http", None),
    )
    assert server.tools.filter(name="echo").exists() and not server.takes_changes
    assert "Settings" in browser.get("/hub/connectors/").content.decode()


def test_over_the_api_it_takes_nothing(open_server: str, alice: Person) -> None:
    api = alice.api()
    assert api.post("/api/v1/connectors/acme-mcp", {"url": "https://other.example"}).status_code == 400
    assert not McpServer.objects.exists()
    answer = api.post("/api/v1/connectors/acme-mcp", {})
    assert answer.status_code == 201 and body(answer)["kind"] == "remote_mcp" and body(answer)["server"] == "acme-mcp"
    listed = {each["slug"]: each for each in body(api.get("/api/v1/connectors"))["results"]}
    assert listed["acme-mcp"]["is_enabled"] and listed["acme-mcp"]["redirect_uri"] is None


def test_twice_is_once(open_server: str, alice: Person) -> None:
    enable_connector("acme-mcp", Settings(), actor=alice.actor)
    with pytest.raises(Conflict, match="enabled already"):
        enable_connector("acme-mcp", Settings(), actor=alice.actor)
    assert McpServer.objects.count() == 1


def test_one_with_a_sign_in_asks_the_server_how(listing: Listing, alice: Person) -> None:
    with site() as place:
        listing(url=place.mcp.url, sign_in="oauth")
        server = enable_connector("acme-mcp", Settings(), actor=alice.actor)
        auth = server.auth_config
        assert auth and auth.auth_type == AuthType.AUTHORIZATION_CODE and auth.token_url
        page = alice.browser().get("/hub/connectors/acme-mcp/").content.decode()
        assert "Members may connect their accounts" in page and "client_id" not in page
        assert str(disable_connector("acme-mcp", actor=alice.actor)) == "Nobody was connected."
    assert not McpServer.objects.exists() and not AuthConfig.objects.exists()


def test_a_dead_one_is_refused_in_words_and_nothing_is_stored(listing: Listing, alice: Person) -> None:
    listing(url="http://127.0.0.1:1/mcp", sign_in="oauth")
    with pytest.raises(ConnectionTestFailed):
        enable_connector("acme-mcp", Settings(), actor=alice.actor)
    page = alice.browser().post("/hub/connectors/acme-mcp/")
    assert page.status_code == 400 and "callout error" in page.content.decode()
    assert not McpServer.objects.exists() and not AuthConfig.objects.exists()


def test_members_do_not_enable(open_server: str, bob: Person) -> None:
    assert bob.browser().post("/hub/connectors/acme-mcp/").status_code == 403
    assert bob.api().post("/api/v1/connectors/acme-mcp", {}).status_code == 403
    assert not McpServer.objects.exists()


@pytest.mark.parametrize(
    ("about", "words"),
    [({"sign_in": "magic"}, "sign_in"), ({"url": "ftp://acme.example"}, "url"), ({"colour": "red"}, "colour")],
)
def test_a_list_of_ones_own_that_is_wrong_is_refused_by_its_place(
    listing: Listing, about: dict[str, str], words: str
) -> None:
    listing(**{"url": "https://acme.example/mcp", **about})
    with pytest.raises(ImproperlyConfigured, match=words):
        remote_servers()


def test_a_list_that_is_not_there_is_named(settings: object) -> None:
    settings.ASTER_REMOTE_SERVERS_FILE = "/nowhere/list.yaml"  # type: ignore[attr-defined]
    with pytest.raises(ImproperlyConfigured, match="nowhere/list"):
        remote_servers()


def test_a_name_that_is_taken_gets_a_number(open_server: str, alice: Person) -> None:
    save_server(McpServer(name="ACME", url=open_server), actor=alice.actor)
    assert enable_connector("acme-mcp", Settings(), actor=alice.actor).name == "Acme 2"


def test_the_catalogue_is_searched_by_name_and_purpose(alice: Person) -> None:
    browser = alice.browser()
    found = browser.get("/hub/connectors/?q=postgres").content.decode()
    assert "Neon" in found and "Slack" not in found and "Through Aster" not in found
    assert "No connector matches" in browser.get("/hub/connectors/?q=nothing+like+it").content.decode()
