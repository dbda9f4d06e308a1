"""What the tests of the integrations pages share: servers on the stage, and reading a page like a person."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any, cast

import pytest
from django.http.response import HttpResponseBase

from integrations.models import AuthConfig, AuthType, McpServer
from integrations.services.servers import save_server
from tests.conftest import Person

NOWHERE = "http://127.0.0.1:9/mcp"
MakeServer = Callable[..., McpServer]


@pytest.fixture
def make_server(alice: Person) -> MakeServer:
    """Adds a server of Acme without asking it anything."""

    def make(name: str = "Docs", auth: AuthConfig | None = None, **fields: Any) -> McpServer:
        server = McpServer(name=name, **{"url": NOWHERE, **fields})
        return save_server(server, actor=alice.actor, auth=auth, test=False).server

    return make


@pytest.fixture
def notes_at_nowhere(make_server: MakeServer) -> McpServer:
    """A server that each person signs in to, with a provider nobody has to reach."""
    return make_server("Acme Notes", auth=oauth_config())


def oauth_config(name: str = "Acme ID", **fields: Any) -> AuthConfig:
    known = {"authorization_url": "http://127.0.0.1:9/authorize", "token_url": "http://127.0.0.1:9/token"}
    return AuthConfig(name=name, auth_type=AuthType.AUTHORIZATION_CODE, **{**known, **fields})


def auth_of(server: McpServer) -> AuthConfig:
    assert server.auth_config
    return server.auth_config


def text_of(response: HttpResponseBase) -> str:
    """The words of a page, without its tags."""
    html = re.sub(r"<(script|svg)\b.*?</\1>", " ", cast(Any, response).content.decode(), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def html_of(response: HttpResponseBase) -> str:
    return unescape(cast(Any, response).content.decode())


def server_fields(**changes: Any) -> dict[str, Any]:
    """The add form as a browser sends it."""
    return {
        "server": "", "name": "Docs", "description": "", "transport": "streamable_http", "url": NOWHERE,
        "auth_type": AuthType.NONE, "client_mode": "dynamic", "resource_mode": "send", "use_pkce": "on",
        "timeout_seconds": "30", "retry_attempts": "1", **changes,
    }  # fmt: skip
