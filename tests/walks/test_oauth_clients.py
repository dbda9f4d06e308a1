"""What each client people use really sends: its registration or document, its request to the browser, its token
requests, and then the tools of the agent. Seen in the vendors' documents and issues (September 2026)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from agents.authorization_server.client_documents import store_document
from agents.models import Agent, ConnectedApp
from agents.services.agents import save_agent
from aster import leases
from integrations.models import McpServer
from tests.agents.signing_in import App, answer_of, left_for
from tests.conftest import Person

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]
CURSOR = "cursor://anysphere.cursor-mcp/oauth/callback"
CHATGPT = "https://chatgpt.com/connector/oauth/0pQ3xYz"
BOTH = ["authorization_code", "refresh_token"]


@dataclass(frozen=True)
class Seen:
    """One client: how it becomes known, where it wants its code, what else it sends."""

    redirect_uri: str
    registration: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)
    asks: Mapping[str, str] = field(default_factory=dict)
    basic: bool = False


CLIENTS = {
    "Claude Code, by its document": Seen(
        "http://localhost:55611/callback",
        document={
            "client_id": "https://claude.ai/oauth/claude-code-client-metadata",
            "client_name": "Claude Code",
            "client_uri": "https://claude.ai",
            "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"],
            "grant_types": BOTH,
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        },
    ),
    "Claude Code, registered": Seen(
        "http://localhost:3118/callback",
        registration={
            "client_name": "Claude Code (helper)",
            "redirect_uris": ["http://localhost:3118/callback"],
            "grant_types": BOTH,
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "native",
        },
    ),
    "Claude.ai": Seen(
        "https://claude.ai/api/mcp/auth_callback",
        registration={
            "client_name": "Claude",
            "redirect_uris": ["https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"],
            "grant_types": BOTH,
            "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_post",
            "scope": "claudeai",
        },
        asks={"scope": "claudeai"},
    ),
    "VS Code, by its document": Seen(
        "http://127.0.0.1:49152/",
        document={
            "client_id": "https://vscode.dev/oauth/client-metadata.json",
            "client_name": "Visual Studio Code",
            "redirect_uris": ["http://127.0.0.1:33418/", "http://127.0.0.1/", "https://vscode.dev/redirect"],
            "grant_types": [*BOTH, "urn:ietf:params:oauth:grant-type:device_code"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "native",
        },
    ),
    "VS Code, registered": Seen(
        "https://vscode.dev/redirect",
        registration={
            "client_name": "Visual Studio Code",
            "client_uri": "https://code.visualstudio.com",
            "redirect_uris": [
                *("https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect"),
                *("http://127.0.0.1/", "http://127.0.0.1:33418/"),
            ],
            "grant_types": [*BOTH, "urn:ietf:params:oauth:grant-type:device_code"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "native",
        },
    ),
    "Copilot CLI": Seen(
        "http://127.0.0.1:38211",
        registration={
            "client_name": "GitHub Copilot CLI",
            "redirect_uris": ["http://127.0.0.1:33418/"],
            "token_endpoint_auth_method": "none",
        },
    ),
    "Cursor": Seen(
        CURSOR,
        registration={
            "client_name": "Cursor",
            "redirect_uris": [
                CURSOR,
                "https://www.cursor.com/agents/mcp/oauth/callback",
                "http://localhost:8787/callback",
            ],
            "grant_types": BOTH,
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "web",
        },
    ),
    "ChatGPT": Seen(
        CHATGPT,
        registration={
            "client_name": "ChatGPT",
            "redirect_uris": [CHATGPT],
            "grant_types": BOTH,
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        },
        asks={"scope": "aster:call"},
    ),
    "ChatGPT, as it was": Seen(
        "https://chatgpt.com/connector_platform_oauth_redirect",
        registration={
            "client_name": "ChatGPT",
            "redirect_uris": ["https://chatgpt.com/connector_platform_oauth_redirect"],
            "grant_types": BOTH,
            "response_types": ["code"],
        },
        basic=True,
    ),
}


@pytest.fixture
def agent(alice: Person, weather: McpServer) -> Agent:
    return save_agent(Agent(name="Helper"), actor=alice.actor, server_ids=[weather.pk])


def discover(http: httpx2.Client, agent: Agent) -> dict[str, Any]:
    """From the first refusal to the metadata of who signs people in."""
    refused = http.post(agent.gateway_url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    challenge = refused.headers["www-authenticate"]
    assert refused.status_code == 401 and challenge.startswith("Bearer ") and 'scope="aster:call"' in challenge
    resource = http.get(challenge.split('resource_metadata="')[1].split('"')[0]).json()
    assert resource["resource"] == agent.gateway_url
    (issuer,) = resource["authorization_servers"]
    told: dict[str, Any] = http.get(f"{issuer}/.well-known/oauth-authorization-server").json()
    assert told["issuer"] == issuer and "none" in told["token_endpoint_auth_methods_supported"]
    assert told["client_id_metadata_document_supported"] is True
    return told


def meet(http: httpx2.Client, server: dict[str, Any], seen: Seen) -> App:
    if seen.document:
        document = dict(seen.document)
        store_document(document["client_id"], document, timedelta(days=1), None)
        return App(document["client_id"], seen.redirect_uri)
    answer = http.post(server["registration_endpoint"], json=dict(seen.registration))
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told["redirect_uris"] == seen.registration["redirect_uris"]
    return App(told["client_id"], seen.redirect_uri, secret=told.get("client_secret", ""))


def ask_for_tokens(http: httpx2.Client, endpoint: str, app: App, seen: Seen, form: Mapping[str, str]) -> Any:
    more = {} if seen.basic else {"client_id": app.client_id}
    more |= {"client_secret": app.secret} if app.secret and not seen.basic else {}
    auth = httpx2.BasicAuth(app.client_id, app.secret) if seen.basic else None
    answer = http.post(endpoint, data={**form, **more}, **({"auth": auth} if auth else {}))
    assert answer.status_code == 200, answer.text
    return answer.json()


def list_tools(http: httpx2.Client, agent: Agent, token: str) -> list[str]:
    headers = {
        "authorization": f"Bearer {token}",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
    }
    answer = http.post(agent.gateway_url, json={"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, headers=headers)
    assert answer.status_code == 200, answer.text
    text = answer.text.split("data: ", 1)[1] if "event-stream" in answer.headers["content-type"] else answer.text
    return [tool["name"] for tool in json.loads(text)["result"]["tools"]]


@pytest.mark.parametrize("name", CLIENTS)
def test_it_signs_in_lists_the_tools_and_refreshes(
    aster: str, agent: Agent, bob: Person, weather: McpServer, name: str
) -> None:
    seen = CLIENTS[name]
    with httpx2.Client(timeout=20) as http:
        server = discover(http, agent)
        app = meet(http, server, seen)
        params = {
            "response_type": "code",
            "client_id": app.client_id,
            "code_challenge": app.challenge,
            "code_challenge_method": "S256",
            "redirect_uri": seen.redirect_uri,
            "state": app.state,
            **seen.asks,
            "resource": agent.gateway_url,
        }
        path = f"{server['authorization_endpoint'].removeprefix(aster)}?{urlencode(params)}"
        assert bob.browser().get(path).status_code == 200
        left = bob.browser().post(path, {"decision": "allow"})
        assert left_for(left).startswith(f"{seen.redirect_uri}?code=")
        answer = answer_of(left)
        assert (answer["state"], answer["iss"]) == (app.state, server["issuer"])
        form = {"grant_type": "authorization_code", "code": answer["code"], "code_verifier": app.verifier}
        form |= {"redirect_uri": seen.redirect_uri, "resource": agent.gateway_url}
        told = ask_for_tokens(http, server["token_endpoint"], app, seen, form)
        assert f"acme_weather_{weather.pk}__get_forecast" in list_tools(http, agent, told["access_token"])
        again = {"grant_type": "refresh_token", "refresh_token": told["refresh_token"], "resource": agent.gateway_url}
        told = ask_for_tokens(http, server["token_endpoint"], app, seen, again)
        assert list_tools(http, agent, told["access_token"])
    connected = ConnectedApp.objects.get()
    assert connected.scopes == ["aster:call"]
    assert connected.redirect_host == (
        seen.redirect_uri.split("/")[2] if name != "Cursor" else CURSOR.split("/oauth")[0]
    )


def test_a_token_opens_its_own_address_and_says_what_is_wrong_elsewhere(
    aster: str, agent: Agent, alice: Person, bob: Person, weather: McpServer
) -> None:
    other = save_agent(Agent(name="Other"), actor=alice.actor, server_ids=[weather.pk])
    app = App()
    token = app.sign_in(bob.browser(), agent.gateway_url)["access_token"]
    ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    with httpx2.Client(headers={"accept": "application/json, text/event-stream"}) as http:
        for sent in (token, "aat_made-up"):
            elsewhere = http.post(other.gateway_url, json=ask, headers={"authorization": f"Bearer {sent}"})
            assert elsewhere.status_code == 401
            challenge = elsewhere.headers["www-authenticate"]
            assert 'error="invalid_token"' in challenge and f"{aster}/.well-known/oauth-protected-resource" in challenge
            assert token not in elsewhere.text + challenge
        assert 'error="' not in http.post(agent.gateway_url, json=ask).headers["www-authenticate"]
        ConnectedApp.objects.update(scopes=[])
        leases.forget()  # what was changed below every service counts within a second; here at once
        weak = http.post(agent.gateway_url, json=ask, headers={"authorization": f"Bearer {token}"})
        assert weak.status_code == 403 and "This app lacks the scope aster:call" in weak.text
        assert 'error="insufficient_scope"' in weak.headers["www-authenticate"]
        assert 'scope="aster:call"' in weak.headers["www-authenticate"]
        assert "resource_metadata=" in weak.headers["www-authenticate"]
        ConnectedApp.objects.all().delete()
        leases.forget()
        gone = http.post(agent.gateway_url, json=ask, headers={"authorization": f"Bearer {token}"})
        assert gone.status_code == 401
