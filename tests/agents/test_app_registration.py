"""Apps that nobody has met: they register themselves, or are known by a document at a URL of theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import Application
from pytest_django.fixtures import Settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agents.models import Agent, ConnectedApp
from agents.services.agents import save_agent
from aster.demo.serving import ServerThread, bind_port
from tests.agents.signing_in import App, left_for, register, url
from tests.conftest import Person

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_counted() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def agent(alice: Person) -> Agent:
    return save_agent(Agent(name="Helper"), actor=alice.actor)


# --- Registration ---------------------------------------------------------------------------------------------------


def test_an_app_registers_itself_and_is_told_what_was_stored() -> None:
    answer = register(client_name="Trial", grant_types=["authorization_code", "refresh_token", "client_credentials"])
    told = answer.json()
    assert answer.status_code == 201 and answer["Cache-Control"] == "no-store"
    assert told["grant_types"] == ["authorization_code", "refresh_token"] and told["response_types"] == ["code"]
    assert told["token_endpoint_auth_method"] == "none" and "client_secret" not in told
    assert told["client_id"] == Application.objects.get().client_id


def test_a_secret_is_told_once_and_kept_as_a_digest() -> None:
    for how in ({"token_endpoint_auth_method": "client_secret_post"}, {"token_endpoint_auth_method": None}):
        sent = {"redirect_uris": ["https://app.test/cb"], **{k: v for k, v in how.items() if v}}
        told = Client().post("/oauth/register", sent, content_type="application/json").json()
        assert told["client_secret"] and told["client_secret_expires_at"] == 0
        assert told["client_secret"] not in str(list(Application.objects.values()))


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "http://app.test/cb", "https:///cb", "ftp://a/b",
        "cursor://anysphere.cursor-mcp/oauth/callback/x", "cursor://evil/oauth/callback", "myapp://callback", "/cb", "",
        "https://app.test/cb#part", "https://user@app.test/cb", "https://app.test/a b", "https://app.test/\u00e9", 5,
        None,
        "http://localhost.evil.test/cb", "https://[::1", "http://127.0.0.1:99999/cb", "https://app.test/" + "x" * 500,
        "https://app.test/\ncb", "https://app.test/<b>",
    ],
)  # fmt: skip
def test_no_code_is_ever_sent_to_an_address_like_these(uri: object) -> None:
    answer = register(redirect_uris=["https://app.test/cb", uri])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_redirect_uri")
    assert answer.json()["error_description"] and not Application.objects.exists()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": "https://app.test/cb"}, "invalid_redirect_uri"),
        ({"redirect_uris": [f"https://app.test/{n}" for n in range(21)]}, "invalid_redirect_uri"),
        ({"client_name": 5}, "invalid_client_metadata"),
        ({"grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        ({"grant_types": "authorization_code"}, "invalid_client_metadata"),
        ({"response_types": ["token"]}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": ["none"]}, "invalid_client_metadata"),
    ],
)
def test_what_cannot_be_used_is_refused_in_the_words_of_the_rfc(changes: dict[str, Any], error: str) -> None:
    answer = register(**changes)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"[" * 50_000, b'{"a": "' + b"x" * 70_000 + b'"}', b"\xff"])
def test_a_body_that_is_no_metadata_is_refused(body: bytes) -> None:
    answer = Client().post("/oauth/register", body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
    assert Client().get("/oauth/register").status_code == 405


def test_one_address_registers_sixty_apps_in_ten_minutes_and_no_more() -> None:
    sent = {"redirect_uris": ["https://app.test/cb"], "token_endpoint_auth_method": "none"}
    one, other = Client(REMOTE_ADDR="192.0.2.1"), Client(REMOTE_ADDR="192.0.2.2")
    statuses = [one.post("/oauth/register", sent, content_type="application/json").status_code for _ in range(61)]
    assert statuses == [201] * 60 + [429]
    assert one.post("/oauth/register", sent, content_type="application/json")["Retry-After"] == "600"
    assert other.post("/oauth/register", sent, content_type="application/json").status_code == 201


# --- Metadata -------------------------------------------------------------------------------------------------------


def test_the_metadata_says_what_clients_look_for() -> None:
    answer = Client().get("/.well-known/oauth-authorization-server")
    told = answer.json()
    assert told["issuer"] == url("") and told["code_challenge_methods_supported"] == ["S256"]
    assert (
        told["authorization_response_iss_parameter_supported"] is told["client_id_metadata_document_supported"] is True
    )
    assert told["token_endpoint_auth_methods_supported"] == ["none", "client_secret_basic", "client_secret_post"]
    for name in ("authorization", "token", "registration", "revocation"):
        assert told[f"{name}_endpoint"].startswith(url("/oauth/"))
    assert answer["Access-Control-Allow-Origin"] == "*"
    asked_first = Client().options("/oauth/token", headers={"origin": "https://app.test"})
    assert asked_first.status_code == 204 and "POST" in asked_first["Access-Control-Allow-Methods"]


def test_nobody_finds_out_which_agents_there_are(agent: Agent, acme: Any) -> None:
    def shape(path: str) -> Any:
        told = Client().get(f"/.well-known/oauth-protected-resource{path}").json()
        assert told.pop("resource") == url(path)
        return told

    there = shape("/mcp/acme/helper")
    assert there == {
        "authorization_servers": [url("")],
        "scopes_supported": ["aster:call"],
        "bearer_methods_supported": ["header"],
    }
    assert shape("/mcp/acme/nobody") == shape("/mcp/nowhere/nobody/nothing") == shape("/mcp/acme/admin") == there
    for path in ("", "/", "/mcp", "/mcp/acme", "/mcp/acme/helper/", "/mcp/a/b/c/d", "/mcp/Acme/x", "/hub/agents"):
        assert Client().get(f"/.well-known/oauth-protected-resource{path}").status_code in (301, 404)


# --- Documents ------------------------------------------------------------------------------------------------------


class Documents:
    """An app's own site: what is at its URL, and how often it was asked."""

    def __init__(self) -> None:
        bound = bind_port("127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{bound.getsockname()[1]}"
        self.client_id = f"{self.origin}/oauth/client.json"
        self.document: Any = {"client_id": self.client_id, "client_name": "Documented", "redirect_uris": [self.back]}
        self.status, self.headers, self.asked = 200, dict[str, str](), 0
        routes = [Route("/oauth/client.json", self._answer), Route("/moved", self._moved)]
        self.thread = ServerThread(Starlette(routes=routes), bound)
        self.thread.start()

    back = "http://localhost/callback"

    async def _answer(self, request: Request) -> Response:
        self.asked += 1
        body = self.document if isinstance(self.document, bytes) else json.dumps(self.document).encode()
        return Response(body, self.status, self.headers, media_type="application/json")

    async def _moved(self, request: Request) -> Response:
        self.asked += 1
        return RedirectResponse(self.client_id)


@pytest.fixture
def site() -> Iterator[Documents]:
    documents = Documents()
    yield documents
    documents.thread.stop()


@pytest.fixture
def app(site: Documents) -> App:
    return App(site.client_id, redirect_uri="http://localhost:54545/callback")


def ask(app: App, agent: Agent, person: Person) -> Any:
    return person.browser().get(app.asking(agent.gateway_url))


def test_an_app_is_known_by_its_document_and_its_host_is_shown(
    agent: Agent, site: Documents, app: App, bob: Person
) -> None:
    words = ask(app, agent, bob).content.decode()
    assert "Let Documented in?" in words and f'from <span class="mono">{site.origin[7:]}</span>' in words
    assert "nobody has checked" not in words
    assert app.sign_in(bob.browser(), agent.gateway_url)["access_token"]
    assert ConnectedApp.objects.get().application.client_id == site.client_id
    assert site.asked == 1


def test_a_document_is_read_again_when_its_time_has_come_and_kept_when_it_cannot_be(
    agent: Agent, site: Documents, app: App, bob: Person
) -> None:
    site.headers = {"cache-control": "max-age=99999999"}
    ask(app, agent, bob)
    stored = Application.objects.get()
    assert timedelta(hours=23) < stored.cimd_expires_at - timezone.now() <= timedelta(days=1)
    site.document["client_name"], site.headers = "Renamed", {"cache-control": "no-store"}
    assert "Documented" in ask(app, agent, bob).content.decode() and site.asked == 1
    Application.objects.update(cimd_expires_at=timezone.now())
    assert "Renamed" in ask(app, agent, bob).content.decode() and site.asked == 2
    assert Application.objects.get().cimd_expires_at - timezone.now() > timedelta(minutes=4)
    Application.objects.update(cimd_expires_at=timezone.now())
    site.status = 500
    assert "Let Renamed in?" in ask(app, agent, bob).content.decode()
    # And it is not asked again at once.
    ask(app, agent, bob)
    assert site.asked == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"client_id": "https://claude.ai/oauth/claude-code-client-metadata"}, "is about another client"),
        ({"client_id": None}, "is about another client"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "names no redirect URI"),
        ({"redirect_uris": None}, "names no redirect URI"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "wants to prove itself"),
        ({"client_secret": "x"}, "wants to prove itself"),
        ({"grant_types": ["client_credentials"]}, "grant_types has to contain"),
    ],
)
def test_a_document_that_cannot_be_used_says_why(
    agent: Agent, site: Documents, app: App, bob: Person, change: dict[str, Any], said: str
) -> None:
    site.document |= change
    answer = ask(app, agent, bob)
    assert answer.status_code == 400 and said in answer.content.decode()
    assert not Application.objects.exists()
    assert said in ask(app, agent, bob).content.decode() and site.asked == 1


@pytest.mark.parametrize("body", [b"nonsense", b"[]", b"{" * 9999, b'{"a": "' + b"x" * 40_000 + b'"}'])
def test_a_document_that_is_none_is_not_stored(
    agent: Agent, site: Documents, app: App, bob: Person, body: bytes
) -> None:
    site.document = body
    assert "does not describe the app" in ask(app, agent, bob).content.decode()


def test_redirect_uris_that_aster_does_not_use_do_not_spoil_the_others(
    agent: Agent, site: Documents, app: App, bob: Person
) -> None:
    site.document["redirect_uris"] = ["vscode://callback", Documents.back, 5]
    assert ask(app, agent, bob).status_code == 200
    assert Application.objects.get().redirect_uris == Documents.back


def test_no_redirect_is_followed_and_no_private_address_asked(
    agent: Agent, site: Documents, bob: Person, settings: Settings
) -> None:
    assert ask(App(f"{site.origin}/moved"), agent, bob).status_code == 400 and site.asked == 1
    for address in ("https://10.0.0.1/client.json", "https://169.254.169.254/latest", "https://[fd00::1]/x"):
        assert ask(App(address), agent, bob).status_code == 400
    settings.DEBUG = False
    assert ask(App(f"{site.client_id}?x"), agent, bob).status_code == 400 and site.asked == 1


@pytest.mark.parametrize("path", ["", "/", "/a/../client.json", "/oauth/client.json#x"])
def test_an_address_that_could_be_meant_otherwise_is_no_client(
    agent: Agent, site: Documents, bob: Person, path: str
) -> None:
    assert "does not know this app" in ask(App(f"{site.origin}{path}"), agent, bob).content.decode()
    assert site.asked == 0


@pytest.mark.parametrize("host", ["\u0430pple.test", "apple\u3002test", "apple.test\\.evil.test", "apple.test:x"])
def test_an_address_that_looks_like_another_one_is_no_client(agent: Agent, bob: Person, host: str) -> None:
    """The page shows the host of the document as the one who vouches for the app."""
    assert "does not know this app" in ask(App(f"https://{host}/client.json"), agent, bob).content.decode()


def test_strangers_make_aster_read_nothing(agent: Agent, site: Documents, app: App) -> None:
    assert Client().get(app.asking(agent.gateway_url)).status_code == 302
    assert app.exchange("made-up").status_code == 401
    assert app.refresh("made-up").status_code == 401
    assert Client().post("/oauth/revoke", {"client_id": site.client_id, "token": "x"}).status_code == 401
    assert site.asked == 0


def test_a_registered_app_cannot_be_taken_over_by_a_document(agent: Agent, site: Documents, bob: Person) -> None:
    app = App()
    Application.objects.update(client_id=site.client_id)
    app.client_id = site.client_id
    assert left_for(bob.browser().post(app.asking(agent.gateway_url), {"decision": "allow"})).startswith(
        app.redirect_uri
    )
    assert site.asked == 0
