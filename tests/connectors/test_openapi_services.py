"""Connectors from OpenAPI documents: made, changed, called with each person's own token, disabled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent
from agents.runtime.session import call_once
from agents.services.agents import save_agent
from aster.accounts.models import AuditEvent
from aster.errors import AsterError, Conflict, ConnectionRequired, InvalidInput, NotAllowed, NotFound
from connectors.models import ApiDocument
from connectors.openapi import serving
from connectors.openapi.documents import (
    MAX_OPERATIONS,
    MOST_DRAFTS,
    document_of,
    drop_document,
    fetch_document,
    find_draft,
    keep_document,
)
from connectors.openapi.services import (
    ApiSettings,
    Choice,
    change_api_connector,
    create_api_connector,
    disable_api_connector,
    find_api_connector,
    gone_operations,
)
from connectors.openapi.sign_in import Credentials
from connectors.tasks import delete_old
from integrations.models import AuthConfig, Connection, ConnectionStatus, McpServer
from tests.conftest import Person
from tests.fakes.mcp_servers import serve
from tests.fakes.rest_providers import TOKEN, RestProvider, Said

pytestmark = pytest.mark.django_db(transaction=True)
APP = Credentials(
    sign_in="oauth", client_id="app", client_secret="s3cret", scopes=["pets"],
    authorization_url="https://pets.example/authorize", token_url="https://pets.example/token",
)  # fmt: skip
KEY = Credentials(sign_in="api_key", api_key=TOKEN)


def pets(*names: str, **more: Any) -> str:
    paths = {f"/{name}": {"get": {"operationId": name}, "post": {"operationId": f"make_{name}"}} for name in names}
    return json.dumps({"openapi": "3.1.0", "info": {"title": "Pet shop"}, "paths": paths, **more})


@pytest.fixture
def api() -> RestProvider:
    return RestProvider(lambda asked: Said({"asked": asked.path}), Said({"message": "who are you?"}, 401))


@pytest.fixture
def base(api: RestProvider) -> Iterator[str]:
    with serve(api) as base:
        yield base


def make(person: Person, base: str, credentials: Credentials = KEY, text: str = "", **given: Any) -> McpServer:
    draft = keep_document(text or pets("cats", "dogs"), actor=person.actor)
    settings = ApiSettings(url=f"{base}/v1", credentials=credentials, **given)
    return create_api_connector(draft, settings, actor=person.actor)


def call(person: Person, server: McpServer, name: str, **arguments: object) -> dict[str, Any]:
    agent = Agent.objects.first() or save_agent(Agent(name="Helper"), actor=person.actor, server_ids=[server.pk])
    serving._kept.clear()  # as in another process
    prefix = f"{server.slug.replace('-', '_')}_{server.pk}__"
    return asyncio.run(call_once(agent, f"{prefix}{name}", arguments, actor=person.actor))


def names(server: McpServer) -> list[str]:
    return [tool.name for tool in server.tools.filter(gone_at=None).order_by("name")]


def test_a_document_becomes_a_server_whose_tools_are_known_at_once(alice: Person, base: str) -> None:
    server = make(alice, base)
    assert (server.name, server.slug, server.command) == ("Pet shop", "pet-shop", "openapi")
    assert names(server) == ["pet_shop_cats", "pet_shop_dogs"]
    assert server.tool_scopes == {"pet_shop_cats": ["pet-shop:read"], "pet_shop_dogs": ["pet-shop:read"]}
    assert server.auth_config and server.auth_config.token == TOKEN
    assert [str(each.pk) for each in ApiDocument.objects.all()] == server.args  # the draft is used up


def test_a_call_goes_to_the_api_with_the_key(alice: Person, base: str, api: RestProvider) -> None:
    server = make(alice, base)
    assert call(alice, server, "pet_shop_cats")["structuredContent"] == {"asked": "/v1/cats"}
    assert api.asked[-1].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("credentials", "header", "value"),
    [
        (Credentials(sign_in="header", header="X-Shop-Key", api_key="k1"), "x-shop-key", "k1"),
        (Credentials(sign_in="basic", username="u", password="p"), "authorization", "Basic dTpw"),
        (Credentials(), "authorization", None),
    ],
    ids=["header", "basic", "none"],
)
def test_every_way_to_sign_in(
    alice: Person, base: str, api: RestProvider, credentials: Credentials, header: str, value: str | None
) -> None:
    api.tokens = {"", "Basic dTpw"}
    server = make(alice, base, credentials)
    assert call(alice, server, "pet_shop_dogs")["structuredContent"]
    assert api.asked[-1].headers.get(header) == value


def test_with_oauth_a_call_takes_the_callers_own_token(
    alice: Person, bob: Person, base: str, api: RestProvider
) -> None:
    server = make(alice, base, APP)

    def call_as_bob() -> Any:
        return call(bob, server, "pet_shop_cats")

    save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[server.pk])
    with pytest.raises(ConnectionRequired):
        call_as_bob()
    assert not api.asked and server.auth_config
    Connection.objects.create(
        auth_config=server.auth_config, user=bob.user, access_token=TOKEN, status=ConnectionStatus.CONNECTED,
        token_url=server.auth_config.token_url, origins=[server.origin], connected_at=timezone.now(),
    )  # fmt: skip
    assert call_as_bob()["structuredContent"]
    assert api.asked[-1].headers["authorization"] == f"Bearer {TOKEN}"


def test_an_admin_chooses_operations_names_and_scopes(alice: Person, base: str) -> None:
    chosen = [Choice("POST /cats", "Adopt a cat!", ["cats:adopt"]), Choice("GET /dogs", scopes=[])]
    server = make(alice, base, operations=chosen)
    assert names(server) == ["pet_shop_adopt_a_cat", "pet_shop_dogs"]
    assert server.tool_scopes == {"pet_shop_adopt_a_cat": ["cats:adopt"]}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"operations": []}, "operations"),
        ({"operations": [Choice("GET /nowhere")]}, "operations"),
        ({"operations": [Choice("GET /cats"), Choice("GET /dogs", "cats")]}, "operations"),
        ({"operations": [Choice("GET /cats"), Choice("GET /cats")]}, "operations"),
        ({"operations": [Choice("GET /cats", scopes=["Not A Scope"])]}, "tool_scopes"),
        ({"credentials": Credentials(sign_in="oauth")}, "client_id"),
        ({"credentials": Credentials(sign_in="api_key")}, "api_key"),
        ({"credentials": Credentials(sign_in="header", api_key="k")}, "header"),
        ({"credentials": Credentials(sign_in="header", api_key="k", header="Host")}, "custom_headers"),
        ({"credentials": Credentials(sign_in="basic", client_id="x")}, "client_id"),
        ({"credentials": Credentials(sign_in="magic")}, "sign_in"),
        ({"url": ""}, "url"),
        ({"url": "https://{region}.example"}, "url"),
        ({"url": "https://pets.example?key=1"}, "url"),
        ({"url": "http://10.0.0.1/v1"}, "url"),
        ({"url": "ftp://pets.example"}, "url"),
    ],
)
def test_bad_input_names_the_field_and_stores_nothing(alice: Person, given: dict[str, Any], field: str) -> None:
    draft = keep_document(pets("cats", "dogs"), actor=alice.actor)
    settings = ApiSettings(**{"url": "http://127.0.0.1:9", "credentials": KEY, **given})
    with pytest.raises(AsterError) as caught:
        create_api_connector(draft, settings, actor=alice.actor)
    assert field in caught.value.fields
    assert not McpServer.objects.exists() and not AuthConfig.objects.exists()
    assert ApiDocument.objects.get().pk == draft.pk  # to try again with


def test_more_operations_than_a_connector_takes_are_refused(alice: Person) -> None:
    draft = keep_document(pets(*(f"p{n}" for n in range(60))), actor=alice.actor)
    every = [Choice(f"{method} /p{n}") for n in range(60) for method in ("GET", "POST")]
    with pytest.raises(InvalidInput, match=f"1 to {MAX_OPERATIONS}"):
        create_api_connector(draft, ApiSettings(url="http://127.0.0.1:9", operations=every), actor=alice.actor)


def test_a_name_that_is_taken_is_a_conflict_and_the_document_stays(alice: Person, base: str) -> None:
    make(alice, base)
    with pytest.raises(Conflict, match="Pet shop"):
        make(alice, base)
    server = make(alice, base, name="Pets of the other branch")
    assert server.slug == "pet-shop-2" and names(server) == ["pet_shop_2_cats", "pet_shop_2_dogs"]


def test_a_slug_that_means_another_connector_is_never_taken(alice: Person, base: str) -> None:
    text = pets("cats", info={"title": "Slack"})
    assert make(alice, base, text=text).slug == "slack-api"


# --- Changing --------------------------------------------------------------------------------------------------------


def test_other_operations_are_another_row_and_keep_names_and_scopes(alice: Person, base: str) -> None:
    server = make(alice, base, operations=[Choice("GET /cats", "meow", ["cats:see"]), Choice("GET /dogs")])
    before = server.args
    changed = change_api_connector(
        server, ApiSettings(operations=[Choice("GET /cats"), Choice("POST /dogs")]), actor=alice.actor
    )
    assert names(changed) == ["pet_shop_make_dogs", "pet_shop_meow"] and changed.args != before
    assert changed.tool_scopes == {"pet_shop_meow": ["cats:see"], "pet_shop_make_dogs": ["pet-shop:write"]}
    assert [str(each.pk) for each in ApiDocument.objects.all()] == changed.args
    assert call(alice, changed, "pet_shop_meow")["structuredContent"] == {"asked": "/v1/cats"}


def test_what_a_newer_document_lost_is_told_of_and_goes(alice: Person, base: str) -> None:
    server = make(alice, base)
    newer = keep_document(pets("cats", "birds"), actor=alice.actor)
    assert [each.key for each in gone_operations(server, newer, actor=alice.actor)] == ["GET /dogs"]
    changed = change_api_connector(server, ApiSettings(), document=newer, actor=alice.actor)
    assert names(changed) == ["pet_shop_cats"] and ApiDocument.objects.count() == 1


def test_a_document_of_something_else_is_refused(alice: Person, base: str) -> None:
    server = make(alice, base)
    other = keep_document(pets("ships"), actor=alice.actor)
    with pytest.raises(InvalidInput, match="none of the connector's operations"):
        change_api_connector(server, ApiSettings(), document=other, actor=alice.actor)
    server.refresh_from_db()
    assert names(server) == ["pet_shop_cats", "pet_shop_dogs"] and document_of(server, actor=alice.actor)


def test_new_credentials_keep_what_was_not_given(alice: Person, base: str) -> None:
    server = make(alice, base, Credentials(sign_in="header", header="X-Key", api_key="old"))
    change_api_connector(server, ApiSettings(credentials=Credentials(header="X-Other")), actor=alice.actor)
    assert AuthConfig.objects.get().custom_headers == {"X-Other": "old"}
    change_api_connector(server, ApiSettings(credentials=Credentials(api_key="new")), actor=alice.actor)
    assert AuthConfig.objects.get().custom_headers == {"X-Other": "new"}
    with pytest.raises(InvalidInput, match="disable it"):
        change_api_connector(server, ApiSettings(credentials=Credentials(sign_in="basic")), actor=alice.actor)


def test_an_api_that_begins_to_want_a_key_gets_one(alice: Person, base: str) -> None:
    server = make(alice, base, Credentials())
    assert server.auth_config is None
    assert change_api_connector(server, ApiSettings(credentials=KEY), actor=alice.actor).auth_config


def test_a_change_that_is_refused_leaves_everything(alice: Person, base: str) -> None:
    server = make(alice, base)
    with pytest.raises(AsterError):
        change_api_connector(
            server, ApiSettings(url="http://10.0.0.1", operations=[Choice("POST /cats")]), actor=alice.actor
        )
    stored = McpServer.objects.get()
    assert [str(each.pk) for each in ApiDocument.objects.all()] == stored.args and stored.url == f"{base}/v1"


def test_switched_off_its_tools_are_gone_and_nothing_else(alice: Person, base: str) -> None:
    server = make(alice, base)
    change_api_connector(server, ApiSettings(is_enabled=False), actor=alice.actor)
    assert not McpServer.objects.get().is_enabled and ApiDocument.objects.count() == 1


# --- Ending ----------------------------------------------------------------------------------------------------------


def test_disabling_revokes_and_deletes_all_of_it(alice: Person, bob: Person, base: str) -> None:
    server = make(alice, base, APP)
    Connection.objects.create(
        auth_config=server.auth_config, user=bob.user, access_token="t", status=ConnectionStatus.CONNECTED,
        token_url="https://pets.example/token", origins=[server.origin], connected_at=timezone.now(),
    )  # fmt: skip
    outcome = disable_api_connector(server, actor=alice.actor)
    assert outcome.revoked + len(outcome.not_revoked) == 1
    for model in (McpServer, AuthConfig, Connection, ApiDocument):
        assert not model.objects.exists()  # type: ignore[attr-defined]
    assert AuditEvent.objects.filter(action="disconnected").count() == 1


def test_what_nobody_points_to_is_deleted_after_a_day(alice: Person, base: str) -> None:
    kept = make(alice, base)
    gone = make(alice, base, name="Other")
    McpServer.objects.filter(pk=gone.pk).delete()
    keep_document(pets("cats"), actor=alice.actor)
    ApiDocument.objects.update(created_at=timezone.now() - timedelta(days=2))
    young = keep_document(pets("cats"), actor=alice.actor)
    ApiDocument.objects.filter(pk=young.pk).update(created_at=timezone.now() - timedelta(hours=2))
    delete_old()
    assert {str(each.pk) for each in ApiDocument.objects.all()} == {str(young.pk), *kept.args}


def test_an_admin_who_tries_many_documents_keeps_the_last_few(alice: Person, charlie: Person) -> None:
    other = keep_document(pets("cats"), actor=charlie.actor)
    drafts = [keep_document(pets("cats"), actor=alice.actor) for _ in range(MOST_DRAFTS + 2)]
    left = {each.pk for each in ApiDocument.objects.all()}
    assert left == {other.pk, *(each.pk for each in drafts[-MOST_DRAFTS:])}


def test_a_row_that_a_server_will_point_to_in_a_moment_is_no_draft(alice: Person) -> None:
    made = keep_document(pets("cats"), actor=alice.actor)
    ApiDocument.objects.filter(pk=made.pk).update(operations=[{"key": "GET /cats"}])
    for _ in range(MOST_DRAFTS + 1):
        keep_document(pets("cats"), actor=alice.actor)
    assert ApiDocument.objects.filter(pk=made.pk).exists()
    with pytest.raises(NotFound):
        find_draft(made.pk, actor=alice.actor)


def test_a_connectors_document_makes_no_other_and_replaces_none(alice: Person, base: str) -> None:
    server, other = make(alice, base), make(alice, base, name="Other")
    document = document_of(server, actor=alice.actor)
    with pytest.raises(NotFound, match="not kept any more"):
        create_api_connector(document, ApiSettings(name="Third", url=base), actor=alice.actor)
    with pytest.raises(NotFound, match="not kept any more"):
        change_api_connector(other, ApiSettings(), document=document, actor=alice.actor)
    drop_document(document)
    assert {str(each.pk) for each in ApiDocument.objects.all()} == {*server.args, *other.args}


# --- Who -------------------------------------------------------------------------------------------------------------


def test_members_and_other_organizations_change_nothing(alice: Person, bob: Person, charlie: Person, base: str) -> None:
    server = make(alice, base)
    draft = keep_document(pets("cats"), actor=alice.actor)
    for verb in (
        lambda: keep_document(pets("cats"), actor=bob.actor),
        lambda: fetch_document(base, actor=bob.actor),
        lambda: create_api_connector(draft, ApiSettings(), actor=bob.actor),
        lambda: change_api_connector(server, ApiSettings(), actor=bob.actor),
        lambda: disable_api_connector(server, actor=bob.actor),
    ):
        with pytest.raises(NotAllowed):
            verb()
    for look in (
        lambda: find_draft(draft.pk, actor=charlie.actor),
        lambda: find_api_connector(server.slug, actor=charlie.actor),
    ):
        with pytest.raises(NotFound):
            look()


def test_a_document_that_is_gone_says_so(alice: Person, base: str, api: RestProvider) -> None:
    server = make(alice, base)
    ApiDocument.objects.all().delete()
    with pytest.raises(AsterError, match="changed just now"):
        call(alice, server, "pet_shop_cats")
    assert not api.asked
