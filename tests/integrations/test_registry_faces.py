"""The registry on the hub's pages, over the API and in the settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from aster.demo.world import DemoWorld
from integrations.models import AuthConfig, McpServer, RegistryEntry, RegistrySync
from tests.aster.api_contract import api
from tests.conftest import Person, body
from tests.fakes.mcp_servers import guarded, modern_and_legacy_app, serve
from tests.fakes.registry import entry, keyed, npm, remote, weather
from tests.integrations.hub import html_of, text_of
from tests.integrations.registry_stage import ANYWHERE, put

pytestmark = pytest.mark.django_db(transaction=True)
PAGE, API = "/hub/registry/", "/api/v1/registry"
KEY = "k3y-canary"


@pytest.fixture(autouse=True)
def _registries(settings: Settings) -> None:
    settings.ASTER_REGISTRIES = [ANYWHERE]


@pytest.fixture
def guarded_url() -> Iterator[str]:
    with serve(guarded(modern_and_legacy_app(), KEY)) as base:
        yield f"{base}/mcp"


def was_read(**state: object) -> None:
    RegistrySync.objects.create(registry=ANYWHERE, **{"succeeded_at": timezone.now(), **state})  # type: ignore[misc]


def seen(browser: Client, row: RegistryEntry) -> dict[str, str]:
    """What the form carries of the entry as it was shown."""
    found = re.search(r'name="seen" value="(\w+)"', html_of(browser.get(f"{PAGE}{row.pk}/")))
    assert found
    return {"way": "remote-0", "seen": found[1]}


class TestPages:
    def test_results_say_how_a_server_is_reached_and_what_is_deprecated(self, alice: Person) -> None:
        was_read()
        put(weather(packages=[npm()]))
        put(entry("com.example/old", status="deprecated"))
        put(entry("com.example/gone", status="deleted"))
        page = text_of(alice.browser().get(PAGE))
        assert "Example Weather com.example/weather" in page
        assert "Streamable HTTP" in page and "npm package" in page
        assert page.count("Deprecated") == 1 and "gone" not in page
        assert "weather" not in text_of(alice.browser().get(PAGE, {"q": "old"})).lower()

    def test_many_come_in_pages(self, alice: Person) -> None:
        was_read()
        for number in range(35):
            put(entry(f"com.example/server-{number:02}"))
        browser = alice.browser()
        assert "1–30 of 35 servers" in text_of(browser.get(PAGE))
        assert "server-34" in text_of(browser.get(PAGE, {"page": "2", "q": "server"}))
        assert browser.get(PAGE, {"page": "x"}).status_code == 200

    def test_empty_in_every_way(self, alice: Person, settings: Settings) -> None:
        browser = alice.browser()
        assert "Not read yet" in text_of(browser.get(PAGE))
        assert "Nothing found" in text_of(browser.get(PAGE, {"q": "zebra"}))
        settings.ASTER_REGISTRIES = []
        page = browser.get(PAGE)
        assert "ASTER_REGISTRIES" in text_of(page) and "Sync now" not in text_of(page)

    def test_a_registry_that_cannot_be_read_says_why_and_when_it_last_worked(self, alice: Person) -> None:
        put(weather())
        was_read(problem="Nobody answers.", succeeded_at=timezone.now() - timedelta(hours=3))
        page = text_of(alice.browser().get(PAGE))
        assert "registry.acme.test could not be read Nobody answers." in page
        assert "3 hours ago" in page and "Example Weather" in page

    def test_sync_now_once_a_minute(self, alice: Person) -> None:
        browser = alice.browser()
        assert "is being read" in text_of(browser.post(f"{PAGE}sync/", follow=True))
        assert RegistrySync.objects.get().due_at <= timezone.now()
        assert "a moment ago" in text_of(browser.post(f"{PAGE}sync/", follow=True))
        assert browser.get(f"{PAGE}sync/").status_code == 405

    def test_a_form_is_made_of_what_the_entry_asks_for(self, alice: Person, guarded_url: str) -> None:
        row = put(keyed(guarded_url))
        browser = alice.browser()
        page = html_of(browser.get(f"{PAGE}{row.pk}/"))
        assert 'type="password" name="value_0"' in page and "From your account page" in page
        assert '<option value="us-east-1" selected>' in page and "X-Client: aster" in page
        assert "Accept:" not in page  # Aster sets it itself
        form = {**seen(browser, row), "name": "Keyed", "value_0": KEY, "value_1": "eu-west-1"}
        added = browser.post(f"{PAGE}{row.pk}/", form, follow=True)
        assert "Keyed is saved. 9 tools found." in text_of(added) and "canary" not in html_of(added)
        assert AuthConfig.objects.get().token == KEY
        assert "Open the added server" in text_of(browser.get(f"{PAGE}{row.pk}/"))
        assert "Added" in text_of(browser.get(PAGE))

    def test_what_is_wrong_stands_beside_its_field_and_no_secret_is_shown_again(self, alice: Person) -> None:
        row = put(keyed("http://127.0.0.1:9/mcp"))
        browser = alice.browser()
        shown = seen(browser, row)
        missing = browser.post(f"{PAGE}{row.pk}/", {**shown, "name": "Keyed", "value_1": "mars"})
        assert missing.status_code == 400 and "This field is required" in text_of(missing)
        failed = browser.post(f"{PAGE}{row.pk}/", {**shown, "name": "Keyed", "value_0": KEY})
        assert failed.status_code == 422 and "Nobody answers" in text_of(failed)
        assert "canary" not in html_of(failed) and "Enter it again" in text_of(failed)
        assert not McpServer.objects.exists()

    def test_a_server_with_oauth_leads_straight_to_connecting(self, alice: Person, world: DemoWorld) -> None:
        row = put(weather(world.notes_url))
        browser = alice.browser()
        added = browser.post(f"{PAGE}{row.pk}/", {**seen(browser, row), "name": "Notes"})
        assert added["location"] == "/hub/servers/notes/connect/"

    def test_an_entry_that_changed_while_it_was_filled_in_gets_nothing(self, alice: Person, guarded_url: str) -> None:
        row = put(keyed(guarded_url))
        browser = alice.browser()
        shown = seen(browser, row)
        row.server["remotes"][0]["headers"].insert(0, {"name": "X-Other"})
        row.save()
        answer = browser.post(f"{PAGE}{row.pk}/", {**shown, "name": "Keyed", "value_0": KEY})
        assert "has changed meanwhile" in text_of(answer) and "canary" not in html_of(answer)
        assert not McpServer.objects.exists() and not AuthConfig.objects.exists()

    def test_a_strangers_words_stay_words(self, alice: Person) -> None:
        evil = "<script>alert(1)</script>"
        header = {"name": evil, "description": evil, "placeholder": evil, "choices": [evil]}
        row = put(entry(
            "com.example/evil", title=evil, description=evil, websiteUrl="javascript:alert(1)", status="deprecated",
            status_message=evil, remotes=[remote(f"https://a.test/{evil}", headers=[header])], packages=[npm(evil)],
            icons=[{"src": "https://evil.test/x.png"}],
        ))  # fmt: skip
        was_read()
        for address in (PAGE, f"{PAGE}{row.pk}/"):
            page = alice.browser().get(address).content.decode()
            assert evil not in page and "javascript:" not in page and "evil.test" not in page

    def test_a_deleted_entry_explains_itself_and_has_no_form(self, alice: Person) -> None:
        row = put(weather(status="deleted", status_message="Sold to Globex"))
        page = alice.browser().get(f"{PAGE}{row.pk}/")
        assert "Sold to Globex" in text_of(page) and "Add server" not in text_of(page)
        assert not McpServer.objects.exists()
        assert alice.browser().post(f"{PAGE}{row.pk}/", {"way": "remote-0", "name": "x"}).status_code == 200
        assert not McpServer.objects.exists()

    def test_packages_show_their_whole_command_and_why_not(self, alice: Person) -> None:
        row = put(entry("com.example/it", packages=[npm()]))
        page = text_of(alice.browser().get(f"{PAGE}{row.pk}/"))
        assert "npx -y @example/weather-mcp@1.2.3" in page and "Local commands are off" in page
        assert "Add server" not in page

    def test_the_server_page_tells_what_became_of_the_entry(self, alice: Person, bob: Person) -> None:
        row = put(weather())
        fields = {"name": "W", "slug": "w", "url": "https://a.test", "source": f"registry:{row.name}@0.9 ({ANYWHERE})"}
        McpServer.objects.create(organization=alice.organization, **fields)
        assert "Version 1.0.0 of com.example/weather is in the registry" in text_of(
            alice.browser().get("/hub/servers/w/")
        )
        RegistryEntry.objects.update(status="deprecated", status_message="Use the other one")
        page = text_of(bob.browser().get("/hub/servers/w/"))
        assert "Use the other one" in page and "Show the entry" not in page

    def test_the_notice_leads_to_the_entry_as_long_as_its_registry_is_read(
        self, alice: Person, settings: Settings
    ) -> None:
        row = put(weather())
        fields = {"name": "W", "slug": "w", "url": "https://a.test", "source": f"registry:{row.name}@0.9 ({ANYWHERE})"}
        McpServer.objects.create(organization=alice.organization, **fields)
        browser = alice.browser()
        assert f'href="{PAGE}{row.pk}/"' in html_of(browser.get("/hub/servers/w/"))
        settings.ASTER_REGISTRIES = []
        page = browser.get("/hub/servers/w/")
        assert "A newer version is listed" in text_of(page) and f"{PAGE}{row.pk}/" not in html_of(page)

    def test_members_do_not_get_in(self, bob: Person) -> None:
        row = put(weather())
        browser = bob.browser()
        for answer in (
            browser.get(PAGE),
            browser.get(f"{PAGE}{row.pk}/"),
            browser.post(f"{PAGE}{row.pk}/", {"way": "remote-0", "name": "x"}),
            browser.post(f"{PAGE}sync/"),
        ):
            assert answer.status_code == 403
        assert "From the registry" not in text_of(browser.get("/hub/integrations/"))

    def test_what_does_not_exist(self, alice: Person) -> None:
        assert alice.browser().get(f"{PAGE}999/").status_code == 404


class TestApi:
    def test_a_script_looks_up_and_adds(self, alice: Person, guarded_url: str) -> None:
        row = put(keyed(guarded_url))
        client = api(alice)
        found = body(client.get(API, {"search": "keyed"}))["results"]
        assert [(each["name"], each["server"]) for each in found] == [("com.example/keyed", None)]
        detail = body(client.get(f"{API}/{row.pk}"))
        assert [ask["key"] for ask in detail["ways"][0]["asks"]] == ["api_key", "X-Region", "X-Debug"]
        assert detail["ways"][0]["fixed"] == [{"name": "X-Client", "value": "aster"}]
        made = client.post(f"{API}/{row.pk}/add", {"remote": 0, "values": {"api_key": KEY}, "name": "Mine"})
        assert made.status_code == 201 and body(made)["slug"] == "mine" and "canary" not in made.content.decode()
        assert body(client.get(f"{API}/{row.pk}"))["server"] == "mine"
        assert body(client.get(API, {"search": "nothing"}))["results"] == []

    def test_bad_input_is_named_and_a_dead_server_is_not_stored(self, alice: Person) -> None:
        row, client = put(keyed("http://127.0.0.1:9/mcp")), api(alice)
        missing = client.post(f"{API}/{row.pk}/add", {"values": {"X-Region": "mars"}})
        assert missing.status_code == 400 and "values.api_key" in body(missing)["fields"]
        assert client.post(f"{API}/{row.pk}/add", {"nonsense": 1}).status_code == 400
        assert client.post(f"{API}/{row.pk}/add", {"remote": 0, "package": 0}).status_code == 400
        assert client.post(f"{API}/{row.pk}/add", {"remote": 7}).status_code == 404
        failed = client.post(f"{API}/{row.pk}/add", {"values": {"api_key": KEY}})
        assert failed.status_code == 422 and "canary" not in json.dumps(body(failed))
        private = put(weather("http://10.0.0.1/mcp"))
        assert body(client.post(f"{API}/{private.pk}/add", {}))["code"] == "forbidden_address"
        assert not McpServer.objects.exists() and not AuthConfig.objects.exists()

    def test_members_and_keys_without_the_scope(self, alice: Person, bob: Person) -> None:
        row = put(weather())
        for client in (bob.api(), alice.api("aster:read")):
            assert client.get(API).status_code == client.get(f"{API}/{row.pk}").status_code == 403
            assert client.post(f"{API}/{row.pk}/add", {}).status_code == 403
        assert alice.api().get(f"{API}/999").status_code == 404
