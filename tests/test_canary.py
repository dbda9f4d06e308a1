"""No secret leaves: not in pages, API bodies, logs, task messages, audit rows, reprs or error reports.

Every secret field holds a word of its own; then every page and list a person can reach is read, as admin and as member.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from html import unescape

import pytest
from celery.signals import before_task_publish
from django.conf import settings
from django.core import serializers
from django.db import connection as database
from django.test import Client
from joserfc import jwk
from rest_framework.test import APIClient

from agents.models import Agent, EmbeddedSignIn, LlmConfig, SessionTicket, ToolCall
from agents.services.agents import save_agent, save_llm_config
from aster.accounts.models import AuditEvent
from aster.demo.world import DemoWorld
from integrations.models import (
    AuthConfig,
    AuthType,
    ClientRegistration,
    Connection,
    McpServer,
    PendingAuthorization,
    RefreshAttempt,
    Transport,
)
from integrations.services import ledger
from integrations.services.doctor import diagnose
from integrations.services.servers import save_server
from integrations.services.targets import build_target
from integrations.tasks import refresh_due_connections, sync_due_servers
from tests.agents.admin_mcp import client_of, words
from tests.conftest import Person
from tests.walks.conftest import callback_params, consent

pytestmark = pytest.mark.django_db(transaction=True)

KEY = jwk.generate_key("EC", "P-256").as_dict(private=True)
CANARY = re.compile(r"canary-[a-z-]+-[0-9]+")
LINK = re.compile(r'(?:href|action|hx-get)="(/[^"#]*)')
TICKETS = (SessionTicket, EmbeddedSignIn)
NEVER_VISITED = ("/logout", "/static/", "/export", "/api/mcp/", "/delete")


def word(name: str) -> str:
    return f"canary-{name}-4711"


@pytest.fixture
def tokens(alice: Person, world: DemoWorld) -> Iterator[set[str]]:
    """Everything in Acme that holds a secret; yields the real tokens of a real connection, which are canaries too."""
    settings.ASTER_STDIO_COMMANDS.append("/bin/true")
    save_server(
        McpServer(name="Keyed", url="http://127.0.0.1:1/mcp"),
        auth=AuthConfig(
            name="Keyed", auth_type=AuthType.BEARER, token=word("token"), custom_headers={"X-Key": word("header")}
        ),
        actor=alice.actor,
        test=False,
    )
    save_server(
        McpServer(name="Basic", url="http://127.0.0.1:1/mcp"),
        auth=AuthConfig(name="Basic", auth_type=AuthType.BASIC, username="ada", password=word("password")),
        actor=alice.actor,
        test=False,
    )
    save_server(
        McpServer(name="Local", transport=Transport.STDIO, command="/bin/true", env={"KEY": word("env")}),
        actor=alice.actor,
        test=False,
    )
    save_server(
        McpServer(name="Machine", url="http://127.0.0.1:1/mcp"),
        auth=AuthConfig(
            name="Machine", auth_type=AuthType.CLIENT_CREDENTIALS, client_id="machine", client_secret=word("secret"),
            token_url="http://127.0.0.1:1/token", extra_token_params={"assertion_key": word("extra")},
        ),
        actor=alice.actor,
        test=False,
    )  # fmt: skip
    _add_key_client(alice)
    sign_in = AuthConfig(name="Acme ID", auth_type=AuthType.AUTHORIZATION_CODE, organization=alice.organization)
    notes = save_server(McpServer(name="Notes", url=world.notes_url), auth=sign_in, actor=alice.actor).server
    registration = ClientRegistration.objects.create(
        auth_config=sign_in, issuer="https://old.example", client_id="old", client_secret=word("registered"),
        token_endpoint_auth_method="client_secret_basic",
    )  # fmt: skip
    assert registration.pk
    llm = LlmConfig(
        organization=alice.organization, name="Model", base_url="http://127.0.0.1:1/v1", model="m", api_key=word("llm")
    )
    save_llm_config(llm, actor=alice.actor)
    save_agent(
        Agent(name="Helper", llm_config=llm),
        actor=alice.actor,
        server_ids=McpServer.objects.values_list("pk", flat=True),
    )
    begun = alice.api().post(f"/api/v1/config/mcp-server/{notes.pk}/connect").json()
    alice.api().get("/api/v1/oauth/callback", callback_params(consent(begun["authorization_url"])))
    alice.api().post(f"/api/v1/config/mcp-server/{notes.pk}/connect")  # leaves a pending journey with a verifier
    connection = Connection.objects.get(user=alice.user)
    Connection.objects.filter(pk=connection.pk).update(id_token=word("id-token"))
    _derive(notes, alice)
    pending = PendingAuthorization.objects.get()
    yield {connection.access_token, connection.refresh_token, pending.verifier, *_let_a_page_in(alice)}
    settings.ASTER_STDIO_COMMANDS.remove("/bin/true")


def _let_a_page_in(alice: Person) -> set[str]:
    """A session ticket, and a sign-in that was begun with it on a page of another app."""
    body = {"agents": ["helper"], "scopes": ["aster:connect", "aster:call"], "origin": "https://app.example"}
    ticket: str = alice.api().post("/api/v1/session-tickets", body).json()["ticket"]
    page = APIClient()
    page.credentials(HTTP_AUTHORIZATION=f"Bearer {ticket}", HTTP_ORIGIN="https://app.example")
    invited = page.post("/api/v1/session/agents/helper/servers/notes/connect").json()
    assert page.get("/api/v1/session/agents/helper/servers").status_code == 200
    return {ticket, invited["proof"], invited["url"].partition("code=")[2]}


def _add_key_client(alice: Person) -> None:
    """A client with a private key: no word can stand in it, so its secret number is the canary."""
    auth = AuthConfig(
        name="Keyed client", auth_type=AuthType.CLIENT_CREDENTIALS, client_id="keyed",
        client_private_key=json.dumps(KEY), token_url="http://127.0.0.1:1/token",
    )  # fmt: skip
    save_server(
        McpServer(name="Robot", url="http://127.0.0.1:1/mcp", retry_attempts=0),
        auth=auth,
        actor=alice.actor,
        test=False,
    )


def _derive(source: McpServer, alice: Person) -> None:
    """A sign-in that is derived from another one, with a token that a script handed in."""
    auth = AuthConfig(
        name="Derived", auth_type=AuthType.TOKEN_EXCHANGE, client_id="derived", client_secret=word("derived"),
        token_url="http://127.0.0.1:1/token", subject_config=source.auth_config,
    )  # fmt: skip
    save_server(
        McpServer(name="Files", url="http://127.0.0.1:1/mcp", retry_attempts=0),
        auth=auth,
        actor=alice.actor,
        test=False,
    )
    derived = Connection.objects.create(
        auth_config=auth, user=alice.user, access_token=word("access"), subject_token=word("subject"),
        subject_token_type="urn:ietf:params:oauth:token-type:access_token", client_id="derived",
        client_secret=word("bound"), token_endpoint_auth_method="client_secret_basic", token_url=auth.token_url,
    )  # fmt: skip
    ledger.write(derived, "postponed", "call", generation=1, detail="The provider did not answer.")


def leaks(text: str, tokens: set[str]) -> list[str]:
    tokens = {*tokens, KEY["d"]}
    return [*CANARY.findall(text), *(token[:6] + "…" for token in tokens if token in text)]


def crawl(browser: Client, start: str, limit: int = 300) -> dict[str, str]:
    """Every page that links reach from `start`, with its text."""
    queue, seen = [start], dict[str, str]()
    while queue and len(seen) < limit:
        path = queue.pop(0)
        if path in seen or any(part in path for part in NEVER_VISITED):
            continue
        response = browser.get(path, follow=True)
        text = b"".join(response) if response.streaming else response.content
        seen[path] = text.decode(errors="replace")
        assert response.status_code in (200, 405), (path, response.status_code)
        if "text/html" in response.headers["content-type"]:
            queue += [unescape(link) for link in LINK.findall(seen[path]) if link.startswith("/hub/")]
    return seen


@pytest.mark.timeout(180)
def test_no_page_shows_a_secret(alice: Person, bob: Person, tokens: set[str]) -> None:
    visited: set[str] = set()
    for person in (alice, bob):
        for path, text in crawl(person.browser(), "/hub/").items():
            assert not leaks(text, tokens), path
            visited.add(path.split("?")[0])
    for page in ("/hub/integrations/", "/hub/agents/", "/hub/connections/", "/hub/activity/", "/hub/members/"):
        assert page in visited
    assert len(visited) > 25


def test_no_api_body_shows_a_secret(alice: Person, tokens: set[str]) -> None:
    api = alice.api()
    lists = ("auth_configs", "config/mcp-server", "connections", "config/agent", "config/llm", "members", "api_keys")
    for path in (*lists, "audit_events", "tool_calls", "organization", "session-tickets"):
        body = api.get(f"/api/v1/{path}")
        assert body.status_code == 200
        assert not leaks(body.content.decode(), tokens), path
        for row in body.json().get("results", []):
            if path not in ("audit_events", "tool_calls"):
                assert not leaks(api.get(f"/api/v1/{path}/{row['id']}").content.decode(), tokens)
            if path == "connections":
                assert not leaks(api.get(f"/api/v1/{path}/{row['id']}/refreshes").content.decode(), tokens)


def test_no_admin_tool_shows_a_secret(aster: str, alice: Person, tokens: set[str]) -> None:
    """Every tool that reads, for everything there is; and those that try a server, which may fail on it."""
    admin = client_of(alice, aster)
    servers = [server.slug for server in McpServer.objects.all()]
    per_server = ("get_server", "list_server_tools", "test_server", "diagnose_server", "connect_server")
    done = [admin.call(name, server=slug) for name in per_server for slug in servers]
    done += [admin.call("update_server", server=slug, description="seen") for slug in servers]
    done += [admin.call(name, agent="helper") for name in ("get_agent", "list_agent_tools")]
    done += [admin.call("explain_access", agent="helper", tool=f"{slug}:x") for slug in servers]
    lists = [tool.name for tool in admin.tools() if not tool.input_schema.get("required")]
    assert {"list_servers", "list_agents", "list_connections", "list_api_keys", "list_audit_events"} <= {*lists}
    done += [admin.call(name, limit=100) for name in lists]
    for row in Connection.objects.all():
        tokens |= {token for token in (row.access_token, row.refresh_token) if token}
    done += [admin.call("remove_server", server=slug, confirm=slug) for slug in servers]
    for result in done:
        assert not leaks(words(result) + str(result.structured_content), tokens)
    assert sum(not result.is_error for result in done) > 30


def test_no_log_line_or_task_message_holds_a_secret(
    alice: Person, tokens: set[str], world: DemoWorld, caplog: pytest.LogCaptureFixture
) -> None:
    messages: list[str] = []

    def note(body: object = None, headers: object = None, **_: object) -> None:
        messages.append(f"{body} {headers}")

    before_task_publish.connect(note)
    try:
        with caplog.at_level(logging.DEBUG):
            Connection.objects.update(refresh_at="2020-01-01T00:00:00Z")
            McpServer.objects.update(sync_due_at="2020-01-01T00:00:00Z")
            refresh_due_connections()
            sync_due_servers()
            for server in McpServer.objects.all():
                alice.api().post(f"/api/v1/config/mcp-server/{server.pk}/test")
                alice.api().post(f"/api/v1/config/mcp-server/{server.pk}/diagnose")
                alice.api().post(f"/api/v1/config/mcp-server/{server.pk}/tools/call", {"name": "x"})
                for enabled in (False, True):
                    alice.api().patch(f"/api/v1/config/mcp-server/{server.pk}", {"is_enabled": enabled})
    finally:
        before_task_publish.disconnect(note)
    connection = Connection.objects.get(user=alice.user, auth_config__name="Acme ID")
    tokens |= {connection.access_token, connection.refresh_token}
    aster_logs = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith(("django.db", "aster.demo")))
    assert not leaks(aster_logs, tokens)
    assert messages
    assert not leaks(" ".join(messages), tokens)


def test_no_stored_record_but_the_encrypted_one_holds_a_secret(alice: Person, tokens: set[str]) -> None:
    for server in McpServer.objects.select_related("auth_config"):
        diagnose(server, actor=alice.actor)
    learned = McpServer.objects.values("last_test", "diagnosis")
    rows = [*AuditEvent.objects.values(), *ToolCall.objects.values(), *RefreshAttempt.objects.values(), *learned]
    assert not leaks(str(rows), tokens)
    for model in (AuthConfig, McpServer, Connection, ClientRegistration, PendingAuthorization, LlmConfig, *TICKETS):
        assert not leaks(serializers.serialize("json", model._default_manager.all()), tokens)
        assert not leaks(repr(list(model._default_manager.all())), tokens)


def test_no_table_holds_a_secret_in_the_clear(alice: Person, tokens: set[str]) -> None:
    with database.cursor() as cursor:
        for table in database.introspection.table_names():
            cursor.execute(f"SELECT * FROM {database.ops.quote_name(table)}")  # the names are the database's own
            assert not leaks(str(cursor.fetchall()), tokens), table


def test_what_reaches_a_server_does_not_print_its_credentials(alice: Person, tokens: set[str]) -> None:
    for server in McpServer.objects.select_related("auth_config"):
        assert not leaks(repr(build_target(server, token_of=lambda rejected: word("token"))), tokens)


def test_an_error_report_shows_no_local_variables_or_form_values(alice: Person, tokens: set[str]) -> None:
    from django.test import RequestFactory
    from django.views.debug import technical_500_response

    request = RequestFactory().post("/hub/servers/add/", {"token": word("token")})
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {word('bearer')}"
    try:
        secret = word("local")
        raise RuntimeError(f"went wrong with {len(secret)}")
    except RuntimeError as error:
        report = technical_500_response(request, type(error), error, error.__traceback__).content.decode()
    assert "went wrong with" in report
    source_free = "\n".join(line for line in report.splitlines() if "word(" not in line)
    assert not leaks(source_free, tokens)
