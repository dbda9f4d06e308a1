"""Secrets planted in every secret field appear in no answer, no log and no message of an error."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from joserfc import jwk
from starlette.responses import JSONResponse

from aster.demo.records import Client as ProviderClient
from aster.demo.world import DemoWorld
from integrations.models import Connection
from tests.aster.api_contract import ContractClient
from tests.conftest import Person
from tests.fakes.mcp_servers import broken_app, guarded, modern_and_legacy_app, serve, unused_url
from tests.fakes.provider import site
from tests.walks.conftest import callback_params, consent

pytestmark = pytest.mark.django_db(transaction=True)
CANARY = "canary-7f3c9a"
# No word fits into a key; its id holds one, and a JWT's header shows it to the provider only.
KEY = json.dumps({**jwk.generate_key("EC", "P-256").as_dict(private=True), "kid": CANARY})
SERVERS = "/api/v1/config/mcp-server"

AUTHS: list[dict[str, Any]] = [
    {"auth_type": "NONE", "custom_headers": {"X-Key": CANARY}},
    {"auth_type": "BEARER", "token": CANARY, "custom_headers": {"X-Key": CANARY}},
    {"auth_type": "BASIC", "username": "u", "password": CANARY},
    {
        "auth_type": "CLIENT_CREDENTIALS", "client_id": "c", "client_secret": CANARY,
        "token_url": "http://127.0.0.1:9/token", "extra_token_params": {"assertion": CANARY},
    },
    {
        "auth_type": "AUTHORIZATION_CODE", "client_id": "c", "client_secret": CANARY,
        "authorization_url": "http://127.0.0.1:9/authorize", "token_url": "http://127.0.0.1:9/token",
        "extra_token_params": {"assertion": CANARY},
    },
    {
        "auth_type": "CLIENT_CREDENTIALS", "client_id": "c", "client_private_key": KEY,
        "token_url": "http://127.0.0.1:9/token",
    },
]  # fmt: skip


class Listener(ContractClient):
    """Keeps every answer it gets."""

    def __init__(self, person: Person) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.credentials(HTTP_X_API_KEY=person.key())

    def request(self, **kwargs: Any) -> Any:
        response = super().request(**kwargs)
        self.heard.append(response.content.decode())
        return response


def use_everything(client: Listener, url: str, auth: dict[str, Any]) -> None:
    """Create, read, change wrongly and rightly, test, call and delete."""
    body = {"name": "Secret", "slug": "secret", "url": url, "auth_config": auth}
    client.post(f"{SERVERS}/test", {"url": url, "auth_config": auth})
    client.post(SERVERS, body)
    client.put(f"{SERVERS}/secret", {**body, "test_connection": False})
    for wrong in (
        {"custom_headers": {"Host": CANARY}},
        {"custom_headers": {"X": f"{CANARY}\n"}},
        {"token": [CANARY]},
        {"client_private_key": f"{CANARY}\n"},
        {"client_private_key": [CANARY]},
    ):
        client.patch(f"{SERVERS}/secret", {"auth_config": wrong})
    client.post("/api/v1/config/agent", {"name": "Bot", "mcp_server_config_ids": ["secret"]})
    for path in ("", "/tools", "/connection"):
        client.get(f"{SERVERS}/secret{path}")
    for verb in ("test", "connect", "tools/refresh"):
        client.post(f"{SERVERS}/secret/{verb}")
    client.post(f"{SERVERS}/secret/tools/call", {"name": "echo", "arguments": {"text": "hello"}})
    for path in (SERVERS, "/api/v1/auth_configs", "/api/v1/connections", "/api/v1/audit_events", "/api/v1/tool_calls"):
        client.get(path)
    client.delete(f"{SERVERS}/secret")
    client.get("/api/v1/audit_events")


@pytest.mark.parametrize("auth", AUTHS, ids=lambda auth: "-".join(auth)[:60])
@pytest.mark.parametrize("kind", ["works", "refuses", "fails", "is down"])
def test_what_is_planted_is_never_seen_again(
    alice: Person, caplog: pytest.LogCaptureFixture, auth: dict[str, Any], kind: str
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("django.db.backends").setLevel(logging.INFO)  # SQL with its parameters is for developers
    client = Listener(alice)
    apps = {
        "works": modern_and_legacy_app(),
        "refuses": guarded(modern_and_legacy_app(), "x"),
        "fails": broken_app("html"),
    }
    if kind == "is down":
        use_everything(client, unused_url(), auth)
    else:
        with serve(apps[kind]) as base:
            use_everything(client, f"{base}/mcp", auth)
    assert len(client.heard) > 15
    assert [text[:300] for text in client.heard if CANARY in text] == []
    assert [record.getMessage() for record in caplog.records if CANARY in str(vars(record))] == []


def test_tokens_codes_and_states_are_never_seen_either(
    alice: Person, world: DemoWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("django.db.backends").setLevel(logging.INFO)
    client = Listener(alice)
    body = {"name": "Notes", "url": world.notes_url, "auth_config": {"auth_type": "AUTHORIZATION_CODE"}}
    client.post(SERVERS, body)
    url = client.post(f"{SERVERS}/notes/connect").json()["authorization_url"]
    begun = client.heard.pop()
    params = callback_params(consent(url))
    caplog.clear()  # the tests' own browser has talked
    client.get("/api/v1/oauth/callback", params)
    stored = Connection.objects.get()
    for path in (f"{SERVERS}/notes/tools", "/api/v1/connections", "/api/v1/audit_events"):
        client.get(path)
    client.post(f"{SERVERS}/notes/tools/call", {"name": "whoami"})
    client.post(f"{SERVERS}/notes/disconnect")
    assert stored.access_token and stored.refresh_token and "state=" in begun
    for secret in (stored.access_token, stored.refresh_token, params["code"], params["state"]):
        assert not any(secret in text for text in client.heard)
        ours = [record for record in caplog.records if not record.name.startswith(("asyncio", "sse_starlette"))]
        assert [record.getMessage() for record in ours if secret in record.getMessage()] == []


def test_tokens_that_are_exchanged_are_never_seen_either(alice: Person, caplog: pytest.LogCaptureFixture) -> None:
    """ID tokens and handed-in tokens, whether the providers take them, refuse them, or repeat them in their refusal."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("django.db.backends").setLevel(logging.INFO)
    client = Listener(alice)
    with site() as idp, site() as there:
        idp.mcp.scopes_supported = ("read", "openid")
        idp.provider.names_elsewhere = {there.origin: "derived"}
        there.provider.trusts = {idp.origin: idp.provider.key}
        there.provider.add_client(ProviderClient.with_secret("derived", CANARY))
        portal = {"name": "Portal", "url": idp.mcp.url, "auth_config": {"auth_type": "AUTHORIZATION_CODE"}}
        source = client.post(SERVERS, portal).json()["auth_config_id"]
        url = client.post(f"{SERVERS}/portal/connect").json()["authorization_url"]
        client.heard.pop()
        params = callback_params(consent(url))
        caplog.clear()  # the tests' own browser has talked
        client.get("/api/v1/oauth/callback", params)
        id_token = Connection.objects.get().id_token
        derived = {"auth_type": "ID_JAG", "client_id": "derived", "client_secret": CANARY, "subject_config_id": source}
        client.post(SERVERS, {"name": "Files", "url": there.mcp.url, "auth_config": derived})
        handed_in = {"subject_token": id_token, "subject_token_type": "urn:ietf:params:oauth:token-type:id_token"}
        assert client.post(f"{SERVERS}/files/connect", handed_in).json()["status"] == "connected"
        assertions = [form["assertion"] for form in there.provider.forms]
        for path in ("/tools", "/connection"):
            client.get(f"{SERVERS}/files{path}")
        for provider in (there.provider, idp.provider):
            provider.answers["token"] = lambda form: JSONResponse({"error": "invalid_grant", "message": str(form)}, 400)
            assert client.post(f"{SERVERS}/files/connect", handed_in).status_code == 502
            provider.answers.clear()
        assert client.post(f"{SERVERS}/portal/connect", handed_in).status_code == 400
        for path in ("/api/v1/connections", "/api/v1/audit_events"):
            client.get(path)
    assert id_token and assertions
    for secret in (id_token, *assertions, CANARY):
        assert [text[:300] for text in client.heard if secret in text] == []
        ours = [record for record in caplog.records if not record.name.startswith(("asyncio", "sse_starlette"))]
        assert [record.getMessage()[:300] for record in ours if secret in record.getMessage()] == []
