"""Walk 2: connect, consent, connected; and every way a callback can be wrong."""

from __future__ import annotations

import pytest

from aster.accounts.models import AuditEvent
from aster.demo.world import DemoWorld
from integrations.models import Connection, McpServer, PendingAuthorization
from tests.conftest import Person
from tests.fakes.mcp_servers import modern_and_legacy_app, serve
from tests.walks.conftest import callback_params, consent

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]

CALLBACK = "/api/v1/oauth/callback"


def begin(person: Person, server: McpServer) -> str:
    answer = person.api().post(f"/api/v1/config/mcp-server/{server.pk}/connect").json()
    assert answer["status"] == "authorization_required"
    url: str = answer["authorization_url"]
    return url


def test_a_person_connects_and_calls_with_their_own_token(alice: Person, bob: Person, notes: McpServer) -> None:
    for person, name in ((alice, "Ada Park"), (bob, "Ben Okafor")):
        location = consent(begin(person, notes), name)
        done = person.api().get(CALLBACK, callback_params(location))
        assert done.json()["status"] == "connected"

    body = {"name": "Helper", "mcp_server_config_ids": [notes.pk]}
    path = f"/api/v1/config/agent/{alice.api().post('/api/v1/config/agent', body).json()['id']}/tools"
    for person, name in ((alice, "Ada Park"), (bob, "Ben Okafor")):
        tool = next(tool for tool in person.api().get(path).json()["results"] if tool["tool_name"] == "whoami")
        result = person.api().post(f"{path}/call", {"name": tool["name"]}).json()["result"]
        assert result["structuredContent"]["name"] == name


def test_the_browser_comes_back_to_a_page_that_says_connected(alice: Person, notes: McpServer, aster: str) -> None:
    browser = alice.browser()
    page = browser.post(f"/hub/servers/{notes.slug}/connect/").content.decode()
    url = page.split('href="http')[1].split('"')[0].replace("&amp;", "&")
    location = consent(f"http{url}")
    done = browser.get(location.path, callback_params(location), follow=True)
    assert "Connected" in done.content.decode()
    assert Connection.objects.get(user=alice.user).status == "connected"


def test_a_callback_works_once(alice: Person, notes: McpServer) -> None:
    params = callback_params(consent(begin(alice, notes)))
    assert alice.api().get(CALLBACK, params).status_code == 200
    again = alice.api().get(CALLBACK, params)
    assert (again.status_code, again.json()["code"]) == (400, "state_unknown")
    assert Connection.objects.get().generation == 1


def test_somebody_elses_callback_is_refused_and_stays_theirs(alice: Person, bob: Person, notes: McpServer) -> None:
    params = callback_params(consent(begin(alice, notes)))
    stolen = bob.api().get(CALLBACK, params)
    assert (stolen.status_code, stolen.json()["code"]) == (400, "state_foreign")
    assert alice.api().get(CALLBACK, params).status_code == 200


def test_declining_says_so_and_stores_nothing(alice: Person, notes: McpServer) -> None:
    params = callback_params(consent(begin(alice, notes), decision="deny"))
    refused = alice.api().get(CALLBACK, params)
    assert refused.status_code == 400
    assert refused.json()["code"] == "authorization_refused"
    assert not Connection.objects.exists()
    assert not PendingAuthorization.objects.exists()


def test_a_second_click_on_connect_is_harmless(alice: Person, notes: McpServer, world: DemoWorld) -> None:
    registered = len(world.authorization_server.registrations)
    first, second = begin(alice, notes), begin(alice, notes)
    assert len(world.authorization_server.registrations) == registered + 1
    assert alice.api().get(CALLBACK, callback_params(consent(second))).status_code == 200
    assert alice.api().get(CALLBACK, callback_params(consent(first))).status_code == 200
    assert Connection.objects.count() == 1


def test_disconnecting_revokes_at_the_provider(alice: Person, notes: McpServer, world: DemoWorld) -> None:
    alice.api().get(CALLBACK, callback_params(consent(begin(alice, notes))))
    token = Connection.objects.get().access_token
    assert world.authorization_server.lookup(token)
    done = alice.api().post(f"/api/v1/config/mcp-server/{notes.pk}/disconnect").json()
    assert done["revocation"]["outcome"] == "revoked"
    assert world.authorization_server.lookup(token) is None
    assert not Connection.objects.exists()
    assert AuditEvent.objects.filter(action="disconnected").exists()


def test_another_organizations_server_does_not_exist(charlie: Person, notes: McpServer) -> None:
    for path in ("", "/connect", "/tools", "/test", "/connection"):
        method = charlie.api().get if path in ("", "/tools", "/connection") else charlie.api().post
        assert method(f"/api/v1/config/mcp-server/{notes.pk}{path}").status_code == 404


def test_a_server_that_moves_elsewhere_gets_no_token_of_those_who_connected_before(
    alice: Person, notes: McpServer
) -> None:
    alice.api().get(CALLBACK, callback_params(consent(begin(alice, notes))))
    with serve(modern_and_legacy_app()) as elsewhere:
        moved = alice.api().patch(f"/api/v1/config/mcp-server/{notes.pk}", {"url": f"{elsewhere}/mcp"})
        assert moved.status_code == 200
        call = alice.api().post(f"/api/v1/config/mcp-server/{notes.pk}/tools/call", {"name": "whoami"})
        assert call.json()["code"] == "connection_required"


def test_a_second_server_with_the_same_sign_in_gets_no_token_until_the_person_consents_again(
    alice: Person, notes: McpServer
) -> None:
    alice.api().get(CALLBACK, callback_params(consent(begin(alice, notes))))
    fake = modern_and_legacy_app()
    with serve(fake) as elsewhere:
        body = {"name": "Second", "url": f"{elsewhere}/mcp", "auth_config_id": notes.auth_config_id}
        second = alice.api().post("/api/v1/config/mcp-server", body).json()
        call = alice.api().post(f"/api/v1/config/mcp-server/{second['id']}/tools/call", {"name": "whoami"})
        assert call.json()["code"] == "connection_required"
    assert not any("authorization" in seen.headers for seen in fake.requests)
