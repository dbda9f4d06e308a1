"""Looking up entries, and adding servers from them: what is asked, what is refused, and where each value ends up."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from aster.demo.world import DemoWorld
from aster.errors import Conflict, ConnectionTestFailed, ForbiddenAddress, InvalidInput, NotAllowed, NotFound
from integrations.models import AuthConfig, AuthType, ClientMode, McpServer, RegistryEntry
from integrations.registry.inputs import fill
from integrations.services import registry, servers
from integrations.services.registry import SignIn, add_from_entry, draft_server, notice_of, search_entries
from integrations.services.registry_ways import Way, find_way, ways_of
from tests.conftest import Person
from tests.fakes.mcp_servers import guarded, modern_and_legacy_app, serve
from tests.fakes.registry import entry, keyed, npm, remote, weather
from tests.integrations.registry_stage import ANYWHERE, put

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "k3y-canary"
ELSEWHERE = "https://other.acme.test"


@pytest.fixture(autouse=True)
def _registries(settings: Settings) -> None:
    settings.ASTER_REGISTRIES = [ANYWHERE, ELSEWHERE]


@pytest.fixture
def guarded_url() -> Iterator[str]:
    with serve(guarded(modern_and_legacy_app(), KEY)) as base:
        yield f"{base}/mcp"


@pytest.fixture
def open_url() -> Iterator[str]:
    with serve(modern_and_legacy_app()) as base:
        yield f"{base}/mcp"


def keys(way: Way) -> list[str]:
    return [blank.key for blank in way.asks]


def remote_entry(url: str, **more: Any) -> RegistryEntry:
    return put(entry("com.example/it", remotes=[remote(url, **more)]))


class TestLookingUp:
    def test_words_are_found_in_name_title_and_description(self, alice: Person) -> None:
        put(weather())
        put(entry("com.example/files", description="Übersicht über Dateien"))
        put(entry("com.example/old-weather", status="deleted"))

        def found(words: str) -> list[str]:
            return [str(each) for each in search_entries(words, actor=alice.actor)]

        assert found("WEATHER example") == ["Example Weather"]
        assert found("übersicht") == ["com.example/files"]
        assert found("weather files") == []
        assert found("%") == []
        assert len(found("")) == 2

    def test_a_registry_that_is_not_named_any_more_is_not_searched(self, alice: Person, settings: Settings) -> None:
        row = put(weather())
        settings.ASTER_REGISTRIES = [ELSEWHERE]
        assert not search_entries("weather", actor=alice.actor)
        with pytest.raises(NotFound):
            registry.find_entry(row.pk, actor=alice.actor)

    def test_a_page_of_results_costs_two_queries(
        self, alice: Person, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(30):
            put(entry(f"com.example/server-{number}"))
        with django_assert_num_queries(2):
            page = list(search_entries("server", actor=alice.actor)[:20])
            [each.ways for each in page]
            registry.added_entries(page, actor=alice.actor)

    def test_members_may_not(self, bob: Person) -> None:
        row = put(weather())
        for call in (
            lambda: search_entries("", actor=bob.actor),
            lambda: registry.find_entry(row.pk, actor=bob.actor),
            lambda: add_from_entry(row, "", {}, actor=bob.actor),
        ):
            with pytest.raises(NotAllowed):
                call()

    def test_the_first_registry_wins_a_name(self, alice: Person) -> None:
        second, first = put(weather(version="2.0.0"), ELSEWHERE), put(weather())
        assert registry.find_entry("com.example/weather", actor=alice.actor) == first
        assert registry.find_entry(second.pk, actor=alice.actor) == second


class TestAdding:
    def test_an_open_remote_is_tested_and_stored_with_where_it_came_from(self, alice: Person, open_url: str) -> None:
        saved = add_from_entry(put(weather(open_url)), "", {}, actor=alice.actor)
        server = McpServer.objects.get()
        assert (server.name, server.slug, server.auth_config) == ("Example Weather", "example-weather", None)
        assert server.source == f"registry:com.example/weather@1.0.0 ({ANYWHERE})"
        assert saved.test and saved.test.ok
        assert registry.added_entries(RegistryEntry.objects.all(), actor=alice.actor) == {
            RegistryEntry.objects.get().pk: server
        }

    def test_the_official_registry_needs_no_address(self, settings: Settings) -> None:
        row = put(weather(), settings.OFFICIAL_REGISTRY)
        assert registry.source_of(row) == "registry:com.example/weather@1.0.0"

    def test_a_key_goes_into_the_token_and_nowhere_else(self, alice: Person, guarded_url: str) -> None:
        row = put(keyed(guarded_url))
        assert keys(find_way(row)) == ["api_key", "X-Region", "X-Debug"]
        add_from_entry(row, "", {"api_key": KEY, "X-Region": "eu-west-1"}, actor=alice.actor)
        auth = AuthConfig.objects.get()
        assert (auth.auth_type, auth.token) == (AuthType.BEARER, KEY)
        # Accept is Aster's own, and what was left out is not sent
        assert auth.custom_headers == {"X-Region": "eu-west-1", "X-Client": "aster"}
        with connection.cursor() as cursor:
            for model in (AuthConfig, McpServer):
                cursor.execute(f"SELECT * FROM {model._meta.db_table}")
                assert "canary" not in str(cursor.fetchall())

    def test_what_is_missing_or_not_offered_is_named_and_nothing_is_stored(self, alice: Person) -> None:
        row = put(keyed("http://127.0.0.1:9/mcp"))
        given = {"X-Region": "mars", "nonsense": "1"}
        with pytest.raises(InvalidInput) as refused:
            add_from_entry(row, "", given, actor=alice.actor)
        assert refused.value.fields == {
            "values.nonsense": ["The entry asks for nothing of this name."],
            "values.api_key": ["This is needed."],
            "values.X-Region": ["Choose one of us-east-1, eu-west-1."],
        }
        assert not McpServer.objects.exists() and not AuthConfig.objects.exists()

    def test_a_server_that_does_not_answer_is_not_stored(self, alice: Person) -> None:
        with pytest.raises(ConnectionTestFailed, match="Nobody answers"):
            add_from_entry(put(weather("http://127.0.0.1:9/mcp")), "", {}, actor=alice.actor)
        assert not McpServer.objects.exists()

    def test_one_that_wants_oauth_gets_a_sign_in_for_each_person(self, alice: Person, world: DemoWorld) -> None:
        add_from_entry(put(weather(world.notes_url)), "", {}, actor=alice.actor)
        auth = AuthConfig.objects.get()
        assert (auth.auth_type, auth.client_mode) == (AuthType.AUTHORIZATION_CODE, ClientMode.AUTO)
        assert auth.authorization_url and auth.scopes

    def test_one_that_wants_a_key_its_entry_does_not_mention(self, alice: Person, guarded_url: str) -> None:
        row = put(weather(guarded_url))
        with pytest.raises(ConnectionTestFailed):
            add_from_entry(row, "", {}, actor=alice.actor)
        add_from_entry(row, "", {}, actor=alice.actor, sign_in=SignIn(token=KEY))
        assert AuthConfig.objects.get().token == KEY

    def test_a_name_that_is_taken_is_refused_before_anybody_is_asked(self, alice: Person, open_url: str) -> None:
        row = put(weather(open_url))
        add_from_entry(row, "", {}, actor=alice.actor)
        with pytest.raises(Conflict, match="Choose another name"):
            add_from_entry(row, "", {}, actor=alice.actor)
        assert add_from_entry(row, "", {}, actor=alice.actor, name="Second").server.slug == "second"

    def test_a_deprecated_entry_can_be_added_and_a_deleted_one_cannot(self, alice: Person, open_url: str) -> None:
        add_from_entry(put(weather(open_url, status="deprecated")), "", {}, actor=alice.actor)
        gone = put(entry("com.example/gone", status="deleted", status_message="Bankrupt", remotes=[remote(open_url)]))
        with pytest.raises(Conflict, match="Bankrupt"):
            add_from_entry(gone, "", {}, actor=alice.actor)

    def test_a_draft_stores_nothing(self, alice: Person, open_url: str) -> None:
        draft = draft_server(put(weather(open_url)), "", {}, actor=alice.actor)
        assert draft.server.url == open_url
        assert not McpServer.objects.exists()


class TestAddresses:
    def test_a_template_is_filled_and_what_it_does_not_declare_is_asked_for(self, alice: Person, open_url: str) -> None:
        port = str(urlsplit(open_url).port)
        row = remote_entry(
            "http://{host}:{port}/{path}",
            variables={"host": {"description": "Yours", "default": "127.0.0.1"}, "path": {"value": "mcp"}},
        )
        assert keys(find_way(row)) == ["host", "port"]
        assert add_from_entry(row, "", {"port": port}, actor=alice.actor).server.url == open_url
        with pytest.raises(InvalidInput, match="port: This is needed"):
            add_from_entry(row, "", {}, actor=alice.actor, name="Another")

    @pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "127.0.0.1", "localhost", "[::1]"])
    def test_what_comes_to_a_private_address_is_refused_and_never_dialled(
        self, alice: Person, settings: Settings, host: str
    ) -> None:
        settings.DEBUG = False
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.2)
            row = remote_entry("https://{host}:{port}/mcp")
            port = str(listener.getsockname()[1])
            with pytest.raises(ForbiddenAddress):
                add_from_entry(row, "", {"host": host, "port": port}, actor=alice.actor)
            with pytest.raises(TimeoutError):
                listener.accept()
        assert not McpServer.objects.exists()

    @pytest.mark.parametrize("url", ["ftp://a.test/", "file:///etc/passwd", "//a.test", "https://a.test/ x"])
    def test_what_is_no_address_is_refused(self, alice: Person, url: str) -> None:
        with pytest.raises((InvalidInput, ForbiddenAddress)):
            add_from_entry(remote_entry(url), "", {}, actor=alice.actor)

    def test_a_secret_in_an_address_is_not_taken(self, alice: Person) -> None:
        row = remote_entry("https://a.test/{token}/mcp", variables={"token": {"isSecret": True}})
        with pytest.raises(InvalidInput, match="Its address holds a secret"):
            add_from_entry(row, "", {"token": KEY}, actor=alice.actor)

    def test_streamable_http_is_preferred_and_another_way_can_be_chosen(self) -> None:
        sse, http = {"type": "sse", "url": "https://a.test/sse"}, remote("https://a.test/mcp")
        row = put(entry("com.example/it", remotes=[sse, http], packages=[npm()]))
        assert [way.key for way in ways_of(row)] == ["remote-1", "remote-0", "package-0"]
        assert find_way(row).kind == "streamable-http" and find_way(row, "remote-0").kind == "sse"
        with pytest.raises(NotFound, match="has no remote-7"):
            find_way(row, "remote-7")
        with pytest.raises(NotFound, match="nothing to add"):
            find_way(put(entry("com.example/nothing")))


class TestTemplates:
    def test_an_entry_cannot_send_a_variable_of_asters_own_machine(
        self, alice: Person, settings: Settings, monkeypatch: pytest.MonkeyPatch, open_url: str
    ) -> None:
        settings.ASTER_ENV_VARS = ["MODEL_KEY"]
        monkeypatch.setenv("MODEL_KEY", "canary")
        stolen = "${MODEL_KEY}"
        fixed = remote_entry(open_url, headers=[{"name": "X-A", "value": stolen}])
        halves = {"a": {"default": "$"}, "b": {"default": "{MODEL_KEY}"}}
        joined = put(entry("com.example/b", remotes=[remote(open_url, headers=[
            {"name": "X-A", "value": "{a}{b}", "variables": halves}])]))  # fmt: skip
        for row in (fixed, joined):
            with pytest.raises(InvalidInput, match="a variable of Aster's own machine"):
                add_from_entry(row, "", {}, actor=alice.actor)
        assert "into X-A" in ways_of(fixed)[0].problem  # shown before anything is filled in
        suggested = put(entry("com.example/c", remotes=[remote(open_url, headers=[
            {"name": "X-A", "default": stolen, "choices": [stolen, "b"], "placeholder": stolen}])]))  # fmt: skip
        blank = find_way(suggested).asks[0]
        assert (blank.input.default, blank.choices, blank.input.placeholder) == ("", ("b",), "")

    def test_an_admin_may_name_one(self, alice: Person, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.ASTER_ENV_VARS = ["WEATHER_KEY"]
        monkeypatch.setenv("WEATHER_KEY", KEY)
        with serve(guarded(modern_and_legacy_app(), KEY)) as base:
            add_from_entry(put(keyed(f"{base}/mcp")), "", {"api_key": "${WEATHER_KEY}"}, actor=alice.actor)
        assert AuthConfig.objects.get().token == "${WEATHER_KEY}"

    def test_variables_of_the_same_name_are_told_apart(self, alice: Person, open_url: str) -> None:
        variable = {"key": {"isRequired": True, "isSecret": True}}
        headers = [
            {"name": "X-One", "value": "1 {key} {other}", "variables": variable},
            {"name": "X-Two", "value": "2 {key}", "variables": variable},
            {"name": "key"},
        ]
        row = remote_entry(open_url, headers=headers)
        assert keys(find_way(row)) == ["key", "X-Two.key", "header.key"]
        add_from_entry(row, "", {"key": "a", "X-Two.key": "b", "header.key": "c"}, actor=alice.actor)
        assert AuthConfig.objects.get().custom_headers == {"X-One": "1 a {other}", "X-Two": "2 b", "key": "c"}

    @pytest.mark.parametrize(("kind", "good", "bad"), [("number", "-2.5", "many"), ("boolean", "true", "yes")])
    def test_values_have_the_form_the_entry_asks_for(self, alice: Person, kind: str, good: str, bad: str) -> None:
        row = remote_entry("https://a.test/{n}", variables={"n": {"format": kind}})
        with pytest.raises(InvalidInput, match="n: "):
            draft_server(row, "", {"n": bad}, actor=alice.actor)
        assert fill(find_way(row).blanks, {"n": good}).values == {"n": good}

    def test_line_breaks_do_not_get_into_headers(self, alice: Person, open_url: str) -> None:
        row = remote_entry(open_url, headers=[{"name": "X-A"}])
        with pytest.raises(InvalidInput):
            add_from_entry(row, "", {"X-A": "a\r\nHost: b"}, actor=alice.actor)


class TestAfterwards:
    def test_a_server_hears_what_became_of_its_entry(self, alice: Person, open_url: str) -> None:
        row = put(weather(open_url))
        put(weather(open_url, status="deleted"), ELSEWHERE)
        server = add_from_entry(row, "", {}, actor=alice.actor).server
        assert notice_of(server) is None
        row.version = "2.0.0"
        row.save()
        notice = notice_of(server)
        assert notice and notice.has_newer and notice.added_version == "1.0.0"
        row.status, row.status_message = "deleted", "Sold"
        row.save()
        notice = notice_of(server)
        assert notice and not notice.has_newer and notice.entry.status_message == "Sold"

    def test_others_hear_nothing(self, alice: Person, settings: Settings) -> None:
        for source in ("", "catalog:weather", "registry:odd", "registry:com.example/unknown@1.0.0"):
            assert notice_of(McpServer(source=source)) is None

    def test_another_organization_has_not_added_it(self, alice: Person, charlie: Person, open_url: str) -> None:
        row = put(weather(open_url))
        add_from_entry(row, "", {}, actor=alice.actor)
        assert registry.added_entries([row], actor=charlie.actor) == {}

    def test_the_source_is_in_the_audit_trail(self, alice: Person, open_url: str) -> None:
        from aster.accounts.models import AuditEvent

        add_from_entry(put(weather(open_url)), "", {}, actor=alice.actor)
        assert "registry:com.example/weather@1.0.0" in json.dumps([e.changes for e in AuditEvent.objects.all()])
        assert servers.find_server("example-weather", actor=alice.actor)
